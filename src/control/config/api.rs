//! `[api]`: where the director is asked and told.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Field, Table};
use super::report::Problems;
use super::value::{mistyped, text};

/// Default of `socket`.
pub const SOCKET: &str = "/run/xvs/xvs.sock";
/// Default of `mode`: for the owner and the group.
pub const SOCKET_MODE: u32 = 0o660;

/// Longest path of a Unix socket in bytes: the kernel's `sun_path` less the closing zero.
const MAX_SOCKET_PATH: usize = 107;
/// Longest path of a file in bytes: the kernel's `PATH_MAX` less the closing zero.
const MAX_PATH: usize = 4095;
/// Longest name of a group in bytes, as `groupadd` has it.
const MAX_GROUP_NAME: usize = 32;

/// Where the director is asked and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Absolute path of the Unix socket.
    pub socket: PathBuf,
    /// The socket's permissions, 0..=0o777. Who may write may change the services.
    pub mode: u32,
    /// The group that the socket belongs to; `None`: the process's.
    pub group: Option<String>,
    /// Where it listens on TCP besides.
    pub listen: Option<SocketAddr>,
    /// Absolute path of the file with the token that TCP asks for; there if `listen` is.
    pub token_file: Option<PathBuf>,
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: SOCKET.into(), mode: SOCKET_MODE, group: None, listen: None, token_file: None }
    }
}

/// Reads `[api]`.
pub(super) fn api(mut table: Table<'_, '_>) -> Option<Api> {
    let default = Api::default();
    let socket = table.or("socket", default.socket, path(MAX_SOCKET_PATH, "/run/xvs/xvs.sock"));
    let mode = table.or("mode", default.mode, mode);
    let group = table.optional("group", group);
    let listen = table.optional("listen", listen);
    let token_file = table.optional("token_file", path(MAX_PATH, "/etc/xvs/token"));

    match (&listen, &token_file) {
        (Some(Some(listen)), Some(None)) => {
            table
                .problems
                .error(listen.span(), "listen needs a token_file: whoever reaches the port may change services")
                .cure("put a long random text into a file of mode 0600 and name it: token_file = \"/etc/xvs/token\"");
        }
        (Some(None), Some(Some(token))) => {
            table
                .problems
                .warning(token.span(), "token_file has no effect without listen")
                .cure("the socket asks for no token: leave it out, or add listen = \"127.0.0.1:PORT\"");
        }
        _ => {}
    }
    table.finish();
    Some(Api {
        socket: socket?,
        mode: mode?,
        group: group?.map(Spanned::into_inner),
        listen: listen?.map(Spanned::into_inner),
        token_file: token_file?.map(Spanned::into_inner),
    })
}

/// An absolute path of at most `most` bytes.
fn path(most: usize, example: &'static str) -> impl Fn(&Field<'_>, &mut Problems) -> Option<PathBuf> {
    move |field, problems| {
        let given = text(field, problems)?;
        let reason = if !given.starts_with('/') {
            "is no absolute path"
        } else if given.contains(char::is_control) {
            "has control characters in it"
        } else if given.ends_with('/') {
            "is a directory"
        } else if given.len() > most {
            "is too long"
        } else {
            return Some(given.into());
        };
        problems
            .error(field.span.clone(), format!("{} = \"{given}\" {reason}", field.key))
            .cure(format!("give a path of up to {most} bytes such as \"{example}\""));
        None
    }
}

/// Permissions as `chmod` takes them, in octal digits.
fn mode(field: &Field<'_>, problems: &mut Problems) -> Option<u32> {
    if let DeValue::Integer(_) = field.value {
        return mistyped(field, "octal digits in quotes, for example \"0660\"", problems);
    }
    let given = text(field, problems)?;
    let is_octal = (3..=4).contains(&given.len()) && given.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let Some(mode) = u32::from_str_radix(given, 8).ok().filter(|mode| is_octal && *mode <= 0o777) else {
        problems
            .error(field.span.clone(), format!("mode = \"{given}\" is not a socket's permissions"))
            .cure("give octal digits from \"0000\" to \"0777\", for example \"0660\"");
        return None;
    };
    if mode & 0o002 != 0 {
        problems
            .warning(
                field.span.clone(),
                format!("mode = \"{given}\": everyone on this machine may change services"),
            )
            .cure("give \"0660\", and name those who may by `group`");
    }
    Some(mode)
}

fn group(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    let given = text(field, problems)?;
    let forbidden = |c: char| matches!(c, ':' | ',' | '/') || c.is_whitespace() || c.is_control();
    if given.is_empty() || given.len() > MAX_GROUP_NAME || given.contains(forbidden) {
        problems
            .error(field.span.clone(), format!("\"{given}\" cannot be the name of a group"))
            .cure(format!("give a name of up to {MAX_GROUP_NAME} characters, as `getent group` lists them"));
        return None;
    }
    Some(given.to_owned())
}

/// An address of this machine, of either family: this is the kernel's TCP, not what xvs balances.
fn listen(field: &Field<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let given = text(field, problems)?;
    let Some(address) = given.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
        problems
            .error(field.span.clone(), format!("listen = \"{given}\" is no address and port"))
            .cure("write \"ADDRESS:PORT\" with a port from 1 to 65_535, for example \"127.0.0.1:8080\"");
        return None;
    };
    if !address.ip().is_loopback() {
        problems
            .warning(
                field.span.clone(),
                format!("listen = \"{given}\": token and answers cross the network unencrypted"),
            )
            .cure("listen on 127.0.0.1, and let a proxy with TLS stand before it");
    }
    Some(address)
}
