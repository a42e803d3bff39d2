//! One HTTP connection over the socket: requests out, whole answers or lines in, and errors with their cure.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::SOCKET_VARIABLE;
use crate::control::api::ErrorBody;
use crate::control::command::{Code, Refusal};

/// How long an answer may take to begin: a restore of ten thousand lines behind a few others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait for a place among the clients.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often to ask for one: the kernel does not tell when there is one (unix(7), EAGAIN).
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// xvs refused; the number of the command if it was one of several.
    Refused(Option<usize>, Refusal),
    /// Everything else.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(_, refusal) => io::Error::other(refusal),
            Failure::Io(error) => error,
        }
    }
}

/// One HTTP connection.
#[derive(Debug)]
pub(super) struct Transport {
    socket: PathBuf,
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Transport {
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let sender = runtime.block_on(open(socket))?;
        Ok(Self { socket: socket.to_owned(), runtime, sender })
    }

    /// The whole answer to a request.
    pub(super) fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, Failure> {
        let Self { socket, runtime, sender } = self;
        runtime.block_on(async {
            let answer = ask(socket, sender, method, path, "application/json", body).await?;
            whole(socket, answer).await
        })
    }

    /// Hands `take` every line of the answer, while they come.
    pub(super) fn lines(
        &mut self,
        path: &str,
        media: &str,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { socket, runtime, sender } = self;
        runtime.block_on(async {
            let mut answer = ask(socket, sender, Method::GET, path, media, None).await?.into_body();
            let mut rest = Vec::new();
            while let Some(frame) = answer.frame().await {
                let frame = frame.map_err(|e| broken(socket, &e))?;
                let mut lines = frame.data_ref().map_or(&[][..], |bytes| bytes);
                while let Some(end) = lines.iter().position(|&byte| byte == b'\n') {
                    let (line, others) = (&lines[..end], &lines[end + 1..]);
                    if rest.is_empty() {
                        take(line)?;
                    } else {
                        rest.extend_from_slice(line);
                        take(&rest)?;
                        rest.clear();
                    }
                    lines = others;
                }
                rest.extend_from_slice(lines);
            }
            if rest.is_empty() { Ok(()) } else { take(&rest) }
        })
    }
}

async fn open(socket: &Path) -> io::Result<SendRequest<Full<Bytes>>> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(unreachable(socket, &error)),
        }
    };
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broken(socket, &e))?;
    tokio::spawn(async move {
        // What goes wrong is the request's error too.
        let _known = connection.await;
    });
    Ok(sender)
}

/// The answer to a request, once it begins, if it is a success.
async fn ask(
    socket: &Path,
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    media: &str,
    body: Option<Vec<u8>>,
) -> Result<Response<Incoming>, Failure> {
    // xvs closes connections that are idle for long, or after an error: that is no reason to fail. Nothing ran here
    // since the last answer: the first yield lets the runtime hear of a close, the second lets the connection end.
    for _ in 0..2 {
        yield_now().await;
    }
    if sender.ready().await.is_err() {
        *sender = open(socket).await?;
    }
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(ACCEPT, media)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.unwrap_or_default()))
        .map_err(io::Error::other)?;
    let answer = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await.map_err(|_| {
        let message =
            format!("xvs at {} did not answer within {} s", socket.display(), ANSWER_TIMEOUT.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, message)
    })?;
    let answer = answer.map_err(|e| broken(socket, &e))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let bytes = whole(socket, answer).await?;
    let Ok(ErrorBody { error }) = serde_json::from_slice(&bytes) else {
        let message = format!("{} answers like no xvs: {status}", socket.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
    };
    let code = serde_json::from_value::<Code>(error.code.into());
    Err(match code {
        Ok(code) => Failure::Refused(error.index, Refusal::new(code, error.message)),
        Err(_) => io::Error::other(error.message).into(),
    })
}

async fn whole(socket: &Path, answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let collected = answer.into_body().collect().await;
    collected.map(|body| body.to_bytes()).map_err(|e| broken(socket, &e).into())
}

fn unreachable(socket: &Path, error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("is `xvs run` running? If it has another socket, set {SOCKET_VARIABLE} to that")
        }
        io::ErrorKind::PermissionDenied => {
            "run this as root or as a member of the socket's group ([api] group)".to_owned()
        }
        io::ErrorKind::WouldBlock => "too many clients wait for xvs: try again".to_owned(),
        _ => format!("set {SOCKET_VARIABLE} to the socket of a running xvs"),
    };
    io::Error::new(error.kind(), format!("cannot reach xvs at {}: {error}: {cure}", socket.display()))
}

fn broken(socket: &Path, error: &hyper::Error) -> io::Error {
    let message =
        format!("xvs at {} ended the connection before its answer's end: {error}", socket.display());
    io::Error::new(io::ErrorKind::ConnectionAborted, message)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_connection_that_was_closed_between_two_requests_is_opened_again() {
        const ROUNDS: usize = 50;
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("xvs.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (closed, is_closed) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                let (mut stream, _) = listener.accept().unwrap();
                let _the_request = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                drop(stream);
                closed.send(()).unwrap();
            }
        });
        let mut transport = Transport::connect(&socket).unwrap();
        for round in 0..ROUNDS {
            let answer = transport.call(Method::POST, "/v1/commands", None);
            assert!(matches!(&answer, Ok(body) if **body == *b"{}"), "round {round}: {answer:?}");
            is_closed.recv().unwrap();
        }
        server.join().unwrap();
    }
}
