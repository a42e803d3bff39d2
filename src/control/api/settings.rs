//! How the API is reached, and the secret of those who come over TCP.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use subtle::ConstantTimeEq;

/// Where the socket is if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/xvs/xvs.sock";

/// Who may use the socket if nobody says otherwise: its owner and its group.
pub const DEFAULT_MODE: u32 = 0o660;

/// How the API is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Unix socket. Its directory is made if it is not there.
    pub socket: PathBuf,
    /// Permissions of the socket, 0..=0o777.
    pub mode: u32,
    /// The socket's group, by name; without it that of the process.
    pub group: Option<String>,
    /// Address and port for clients over TCP; without it there are none. Needs a token.
    pub listen: Option<SocketAddr>,
    /// What clients over TCP have to show.
    pub token: Option<Token>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), mode: DEFAULT_MODE, group: None, listen: None, token: None }
    }
}

/// A secret that clients over TCP show as `Authorization: Bearer ...`. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that is not fit to be a token. It is not repeated: it is meant to be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has {least} to {most} visible ASCII characters without blanks; `openssl rand -hex 32` makes one",
    least = Token::LEAST,
    most = Token::MOST
)]
pub struct UnfitToken;

impl Token {
    /// Least characters: 128 bits in hexadecimal digits would be 32, in Base64 22.
    pub const LEAST: usize = 16;

    /// Most characters: a header has to hold it.
    pub const MOST: usize = 1024;

    /// The token with this text, blanks and line ends around it left out.
    ///
    /// # Errors
    /// It is too short, too long or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, UnfitToken> {
        let text = text.trim();
        let fits = (Self::LEAST..=Self::MOST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(UnfitToken) }
    }

    /// True if an `Authorization` header with this value shows the token (RFC 6750). How long it takes tells
    /// nothing but the token's length.
    pub fn is_shown_by(&self, authorization: &[u8]) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        authorization.split_at_checked(SCHEME.len()).is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case(SCHEME) && bool::from(shown.ct_eq(self.0.as_bytes()))
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is_shown_by(b"Bearer 0123456789abcdef"));
        assert!(token.is_shown_by(b"bearer 0123456789abcdef"));
        for wrong in [
            &b"Bearer 0123456789abcdeF"[..],
            b"Bearer 0123456789abcde",
            b"Bearer 0123456789abcdef0",
            b"Bearer  0123456789abcdef",
            b"Basic 0123456789abcdef",
            b"0123456789abcdef",
            b"Bearer ",
            b"",
        ] {
            assert!(!token.is_shown_by(wrong), "{}", wrong.escape_ascii());
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn what_is_guessed_or_breaks_a_header_is_no_token() {
        for unfit in ["", "secret", "0123456789 abcdef0", "0123456789abcdef\u{e9}", &"x".repeat(1025)] {
            assert_eq!(Token::new(unfit), Err(UnfitToken), "{unfit}");
        }
    }
}
