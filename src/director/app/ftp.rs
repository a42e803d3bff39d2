//! FTP (RFC 959, RFC 2428): where data connections go is said on the control connection (`ip_vs_ftp`).
//!
//! The client asks `PASV` or `EPSV` and is told where the server waits, or it says itself where it waits, by `PORT` or
//! `EPRT`. Only whole lines are read. Numbers are bounded before they are added up, so that no text means an address
//! that it does not say.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use arrayvec::ArrayVec;

use super::{Address, Helper, Meeting};

/// The helper of FTP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ftp;

/// Bytes of the longest text of an IPv6 address.
const MAX_IPV6_LEN: usize = 45;

/// What the client asked for last: what an answer of the server's is read as.
const PASSIVE: u32 = 1;
const EXTENDED_PASSIVE: u32 = 2;

impl Helper for Ftp {
    fn client_says(&self, text: &[u8], asked: &mut u32, is_v4: bool) -> Option<SocketAddr> {
        // By its number in RFC 2428.
        let epsv: &[u8] = if is_v4 { b"EPSV 1" } else { b"EPSV 2" };
        for line in lines(text) {
            let line = &text[line];
            if is_v4 && line.eq_ignore_ascii_case(b"PASV") {
                *asked = PASSIVE;
            } else if line.eq_ignore_ascii_case(b"EPSV") || line.eq_ignore_ascii_case(epsv) {
                *asked = EXTENDED_PASSIVE;
            } else if let Some(address) = port_command(line).filter(|address| address.is_ipv4() == is_v4) {
                *asked = 0;
                return Some(address);
            }
        }
        None
    }

    fn server_says(&self, text: &[u8], asked: u32, server: IpAddr) -> Option<Meeting> {
        lines(text).find_map(|line| {
            let mut rest = Reader { text: text.get(..line.end)?, at: line.start };
            match asked {
                PASSIVE => {
                    rest.word(b"227 ")?;
                    // The bracket before is usual, not required (RFC 1123, 4.1.2.6).
                    rest.skip_to(|byte| byte.is_ascii_digit());
                    let start = rest.at;
                    let address = rest.six_numbers()?.into();
                    Some(Meeting { address, shown: Some(start..rest.at) })
                }
                EXTENDED_PASSIVE => {
                    rest.word(b"229 ")?;
                    rest.skip_to(|byte| byte == b'(');
                    rest.word(b"(")?;
                    let bar = rest.bar()?;
                    rest.word(&[bar, bar])?;
                    let port = rest.port()?;
                    rest.word(&[bar])?;
                    Some(Meeting { address: SocketAddr::new(server, port), shown: None })
                }
                _ => None,
            }
        })
    }

    fn show(&self, address: SocketAddrV4) -> Address {
        let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
        let mut text = ArrayVec::new();
        // Six numbers of three digits and five commas are 23 bytes.
        let _fits = write!(text, "{a},{b},{c},{d},{high},{low}");
        text
    }
}

/// The whole lines of a text, without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = text.get(at..)?.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let line = at..at + len;
        at = line.end + 1;
        Some(line)
    })
}

/// `PORT 10,0,1,1,4,1`, or `EPRT |1|10.0.1.1|1025|` and `EPRT |2|fd00::1|1025|`.
fn port_command(line: &[u8]) -> Option<SocketAddr> {
    let mut rest = Reader { text: line, at: 0 };
    let address = if rest.word(b"PORT ").is_some() {
        rest.skip_to(|byte| byte != b' ');
        rest.six_numbers()?.into()
    } else {
        rest.word(b"EPRT ")?;
        rest.skip_to(|byte| byte != b' ');
        let bar = rest.bar()?;
        let ip = match rest.byte()? {
            1 => {
                rest.word(&[bar])?;
                rest.four_numbers()?.into()
            }
            2 => {
                rest.word(&[bar])?;
                rest.ipv6(bar)?.into()
            }
            _ => return None,
        };
        rest.word(&[bar])?;
        let port = rest.port()?;
        rest.word(&[bar])?;
        SocketAddr::new(ip, port)
    };
    rest.skip_to(|byte| byte != b' ');
    (rest.at == line.len()).then_some(address)
}

/// Reads a line from left to right.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    /// These bytes, in capitals or not.
    fn word(&mut self, word: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..)?.get(..word.len())?;
        found.eq_ignore_ascii_case(word).then(|| self.at += word.len())
    }

    fn skip_to(&mut self, is_it: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|&byte| !is_it(byte)) {
            self.at += 1;
        }
    }

    /// The byte that RFC 2428 has between the parts: any that can be seen, but no digit.
    fn bar(&mut self) -> Option<u8> {
        let bar = *self.text.get(self.at)?;
        self.at += 1;
        (bar.is_ascii_graphic() && !bar.is_ascii_digit()).then_some(bar)
    }

    /// A number of at most so many digits.
    fn number(&mut self, most_digits: usize) -> Option<u32> {
        let digits = self.text.get(self.at..)?.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.take(most_digits + 1).count();
        let text = self.text.get(self.at..self.at + digits)?;
        self.at += digits;
        let number = text.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        (1..=most_digits).contains(&digits).then_some(number)
    }

    fn byte(&mut self) -> Option<u8> {
        u8::try_from(self.number(3)?).ok()
    }

    fn port(&mut self) -> Option<u16> {
        u16::try_from(self.number(5)?).ok().filter(|&port| port != 0)
    }

    fn four_numbers(&mut self) -> Option<[u8; 4]> {
        let mut octets = [0; 4];
        for (place, octet) in octets.iter_mut().enumerate() {
            if place > 0 {
                self.word(b".")?;
            }
            *octet = self.byte()?;
        }
        Some(octets)
    }

    /// An address that ends where there is a bar.
    fn ipv6(&mut self, bar: u8) -> Option<Ipv6Addr> {
        let rest = self.text.get(self.at..)?;
        let text = rest.get(..rest.iter().take(MAX_IPV6_LEN + 1).position(|&byte| byte == bar)?)?;
        self.at += text.len();
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    fn six_numbers(&mut self) -> Option<SocketAddrV4> {
        let mut numbers = [0; 6];
        for (place, number) in numbers.iter_mut().enumerate() {
            if place > 0 {
                self.word(b",")?;
            }
            *number = self.byte()?;
        }
        let [a, b, c, d, high, low] = numbers;
        let port = u16::from_be_bytes([high, low]);
        (port != 0).then(|| SocketAddrV4::new([a, b, c, d].into(), port))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 11));

    fn client(text: &str) -> (u32, Option<String>) {
        let mut asked = 9;
        let found = Ftp.client_says(text.as_bytes(), &mut asked, true);
        (asked, found.map(|address| address.to_string()))
    }

    fn client_v6(text: &str) -> (u32, Option<String>) {
        let mut asked = 9;
        let found = Ftp.client_says(text.as_bytes(), &mut asked, false);
        (asked, found.map(|address| address.to_string()))
    }

    /// What the client is told, and the text after it has been rewritten to 192.0.2.100.
    fn server(asked: u32, text: &str) -> Option<(String, String)> {
        let Meeting { address, shown } = Ftp.server_says(text.as_bytes(), asked, SERVER)?;
        let vip = Ftp.show(SocketAddrV4::new([192, 0, 2, 100].into(), address.port()));
        let mut rewritten = text.to_owned();
        if let Some(shown) = shown {
            rewritten.replace_range(shown, std::str::from_utf8(&vip).unwrap());
        }
        Some((address.to_string(), rewritten))
    }

    #[test]
    fn commands_of_clients() {
        let address = |text: &str| Some(text.to_owned());
        assert_eq!(client("PASV\r\n"), (PASSIVE, None));
        assert_eq!(client("TYPE I\r\npasv\r\n"), (PASSIVE, None));
        assert_eq!(client("EPSV\r\n"), (EXTENDED_PASSIVE, None));
        assert_eq!(client("EPSV 1\r\n"), (EXTENDED_PASSIVE, None));
        assert_eq!(client("PORT 10,0,1,1,4,1\r\n"), (0, address("10.0.1.1:1025")));
        assert_eq!(client("port  10,0,1,1,0,20 \n"), (0, address("10.0.1.1:20")));
        assert_eq!(client("EPRT |1|10.0.1.1|6275|\r\n"), (0, address("10.0.1.1:6275")));
        assert_eq!(client("EPRT !1!10.0.1.1!6275!\r\n"), (0, address("10.0.1.1:6275")));
        assert_eq!(client_v6("EPRT |2|fd00::1:1|6275|\r\n"), (0, address("[fd00::1:1]:6275")));
        let longest = "EPRT |2|0000:0000:0000:0000:0000:ffff:255.255.255.255|1025|\r\n";
        assert_eq!(client_v6(longest), (0, address("[::ffff:255.255.255.255]:1025")));
        for nothing in
            ["2|10.0.1.1", "1|fd00::1", "1|10.0.1.1", "3|fd00::1", "2|fd00::1%3", "2|", "2|fd00::g"]
        {
            assert_eq!(client_v6(&format!("EPRT |{nothing}|6275|\r\n")), (9, None), "{nothing}");
        }
        assert_eq!(
            [client_v6("EPSV\r\n"), client_v6("EPSV 2\r\n")],
            [(EXTENDED_PASSIVE, None), (EXTENDED_PASSIVE, None)]
        );
        for other in ["PASV\r\n", "EPSV 1\r\n", "PORT 10,0,1,1,4,1\r\n"] {
            assert_eq!(client_v6(other), (9, None), "of IPv4: {other}");
        }
        assert_eq!(client("EPRT |2|fd00::1:1|6275|\r\n"), (9, None));
        // The one asked for last counts.
        assert_eq!(client("PASV\r\nPORT 10,0,1,1,4,1\r\n"), (0, address("10.0.1.1:1025")));
        for nothing in [
            "",
            "PASV",
            "PASV 1\r\n",
            "XPASV\r\n",
            "EPSV 2\r\n",
            "EPSV ALL\r\n",
            "PORT 10,0,1,1,4,1",
            "PORT 10,0,1,1,4\r\n",
            "PORT 10,0,1,1,4,1,2\r\n",
            "PORT 10,0,1,1,0,0\r\n",
            "PORT 256,0,1,1,4,1\r\n",
            "PORT 0010,0,1,1,4,1\r\n",
            "PORT 10,0,1,,4,1\r\n",
            "PORT 10.0.1.1.4.1\r\n",
            "PORT\r\n10,0,1,1,4,1\r\n",
            "EPRT |2|2001:db8::1|6275|\r\n",
            "EPRT |1|10.0.1|6275|\r\n",
            "EPRT |1|10.0.1.1|65536|\r\n",
            "EPRT |1|10.0.1.1|0|\r\n",
            "EPRT |1|10.0.1.1|99999999999999999999|\r\n",
            "EPRT |1|10.0.1.1!6275|\r\n",
            "EPRT 111110.0.1.11627511\r\n",
        ] {
            assert_eq!(client(nothing), (9, None), "{nothing:?}");
        }
    }

    #[test]
    fn answers_of_servers() {
        let told = |text: &str, rewritten: &str| {
            let (address, got) = server(PASSIVE, text).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!((address.as_str(), got.as_str()), ("10.1.0.11:1025", rewritten));
        };
        let usual = |address: &str| format!("227 Entering Passive Mode ({address}).\r\n");
        told(&usual("10,1,0,11,4,1"), &usual("192,0,2,100,4,1"));
        told(&usual("010,001,000,011,004,001"), &usual("192,0,2,100,4,1"));
        told("227 =10,1,0,11,4,1\r\n", "227 =192,0,2,100,4,1\r\n");
        told("200 ok\r\n227 (10,1,0,11,4,1)\r\n150 x", "200 ok\r\n227 (192,0,2,100,4,1)\r\n150 x");
        let extended = "229 Entering Extended Passive Mode (|||6446|)\r\n";
        assert_eq!(server(EXTENDED_PASSIVE, extended), Some(("10.1.0.11:6446".into(), extended.into())));
        for (asked, nothing) in [
            (0, usual("10,1,0,11,4,1").as_str()),
            (EXTENDED_PASSIVE, &usual("10,1,0,11,4,1")),
            (PASSIVE, extended),
            (PASSIVE, "227 Entering Passive Mode (10,1,0,11,4,1"),
            (PASSIVE, "227 Entering Passive Mode (10,1,0,\r\n11,4,1).\r\n"),
            (PASSIVE, "227-(10,1,0,11,4,1)\r\n"),
            (PASSIVE, " 227 (10,1,0,11,4,1)\r\n"),
            (PASSIVE, "227 (10,1,0,11,0,0)\r\n"),
            (PASSIVE, "227 nothing\r\n"),
            (EXTENDED_PASSIVE, "229 |||6446|\r\n"),
            (EXTENDED_PASSIVE, "229 (||6446|)\r\n"),
            (EXTENDED_PASSIVE, "229 (|||6446)\r\n"),
            (EXTENDED_PASSIVE, "229 (|||0|)\r\n"),
            (EXTENDED_PASSIVE, "229 (||||)\r\n"),
        ] {
            assert_eq!(server(asked, nothing), None, "{nothing:?}");
        }
    }

    /// Text that is nearly FTP.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            prop::sample::select(vec![
                "PORT ",
                "EPRT ",
                "PASV",
                "EPSV",
                "227 ",
                "229 ",
                "(",
                ")",
                "|",
                "|1|",
                "|||",
                ",",
                ".",
                "\r\n",
                "\n",
                " ",
                "10,1,0,11,4,1",
                "10.1.0.11",
                "99999999999999999999",
                "255",
                "0",
            ])
            .prop_map(|word| word.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
    }

    proptest! {
        /// No text fails, and what is to be rewritten says the address that was found.
        #[test]
        fn any_text_is_read(text in hostile(), asked in 0u32..4) {
            let mut mode = asked;
            let _any = Ftp.client_says(&text, &mut mode, text.len().is_multiple_of(2));
            if let Some(Meeting { address, shown }) = Ftp.server_says(&text, asked, SERVER) {
                prop_assert_ne!(address.port(), 0);
                if let Some(shown) = shown {
                    let numbers = std::str::from_utf8(&text[shown.clone()]).unwrap();
                    let octets: Vec<u8> = numbers.split(',').map(|n| n.parse().unwrap()).collect();
                    let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
                    let said = [&ip.octets()[..], &address.port().to_be_bytes()].concat();
                    prop_assert_eq!(octets, said);
                    prop_assert!(shown.len() <= 23);
                }
            }
        }

        /// Every address is shown as it is read.
        #[test]
        fn what_is_shown_is_read_back(ip: u32, port in 1u16..) {
            let address = SocketAddrV4::new(ip.into(), port);
            let shown = Ftp.show(address);
            let numbers = std::str::from_utf8(&shown).unwrap();
            prop_assert_eq!(client(&format!("PORT {numbers}\r\n")), (0, Some(address.to_string())));
            prop_assert_eq!(client(&format!("EPRT |1|{}|{port}|\r\n", address.ip())), (0, Some(address.to_string())));
            let told = server(PASSIVE, &format!("227 ({numbers})\r\n")).unwrap();
            prop_assert_eq!(told.0, address.to_string());
        }
    }
}
