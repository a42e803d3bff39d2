//! Over TCP: with the token, or not at all.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use xvs::control::api::{Settings, Token};

use super::http::{Answer, HUNG, ask, request, rest};
use super::served::Served;

const SECRET: &str = "correct horse battery staple";

fn over_tcp(address: SocketAddr, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HUNG)).unwrap();
    stream.write_all(&request("GET", "/v1/info", headers, b"")).unwrap();
    Answer::parse(&rest(&mut stream))
}

#[test]
fn only_who_shows_the_token_is_answered_and_the_socket_needs_none() {
    let token = SECRET.replace(' ', "-");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings =
        Settings { listen: Some(address), token: Some(Token::new(&token).unwrap()), ..Settings::default() };
    let served = Served::with(0, settings);
    assert_eq!(over_tcp(address, &format!("Authorization: Bearer {token}\r\n")).status, 200);
    let (wrong, basic) =
        (format!("Authorization: Bearer {token}x\r\n"), format!("Authorization: Basic {token}\r\n"));
    for headers in ["", &wrong, &basic, "Authorization:\r\n"] {
        let answer = over_tcp(address, headers);
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{headers}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(ask(&served.socket, "GET", "/v1/info", "").status, 200);
}
