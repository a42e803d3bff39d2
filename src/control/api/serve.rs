//! Clients' connections from accept to close.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{interval, sleep, timeout};

use super::limits::{LINGER, LOOK, MAX_HEAD_BYTES, MAX_HEADERS};
use super::listener::Listener;
use super::plane::Shared;
use super::request::answer;
use super::router::router;
use super::seats::{Place, Seats};
use super::settings::Token;
use super::watched::Watched;

/// How long to wait when the kernel refuses a client, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection of a client, over a Unix socket or TCP.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Serves clients until `shutdown` comes back; then finishes the answers that are on their way, which takes a second
/// at most, and removes the socket. Runs on the runtime that it is called on, which has I/O and time.
///
/// # Errors
/// The runtime cannot take the sockets.
pub async fn serve(listener: Listener, plane: Shared, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let unix = UnixListener::from_std(listener.unix.try_clone()?)?;
    let tcp = match &listener.tcp {
        Some((tcp, token)) => Some((TcpListener::from_std(tcp.try_clone()?)?, Arc::new(token.clone()))),
        None => None,
    };
    let seats = Arc::new(Seats::default());
    let router = router(plane);
    let accepting = async {
        loop {
            let accepted = tokio::select! {
                client = accept_unix(&unix) => client.map(|stream| (stream, None)),
                client = accept_tcp(&tcp) => client.map(|(stream, token)| (stream, Some(token))),
            };
            match accepted {
                Ok((stream, token)) => {
                    let place = seats.take().await;
                    tokio::spawn(client(stream, place, router.clone(), token));
                }
                Err(error) => {
                    tracing::debug!("a client of the API could not be accepted: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    let sweeping = async {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            seats.sweep();
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = accepting => {}
        () = sweeping => {}
    }
    drop((unix, tcp, listener));
    seats.close(true);
    if timeout(LINGER, seats.empty()).await.is_err() {
        seats.close(false);
        seats.empty().await;
    }
    Ok(())
}

async fn accept_unix(listener: &UnixListener) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(listener.accept().await?.0))
}

async fn accept_tcp(
    listener: &Option<(TcpListener, Arc<Token>)>,
) -> io::Result<(Box<dyn Stream>, Arc<Token>)> {
    let Some((listener, token)) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((Box::new(stream), token.clone()))
}

/// Serves one client until it leaves or has to.
async fn client(stream: Box<dyn Stream>, place: Place, router: Router, token: Option<Arc<Token>>) {
    let (place, token) = (&place, token.as_deref());
    let service = service_fn(move |request| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(request, place, router, token).await) }
    });
    let mut http = http1::Builder::new();
    // The seat watches the time.
    http.timer(TokioTimer::new()).header_read_timeout(None);
    http.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES).half_close(true);
    let connection = http.serve_connection(TokioIo::new(Watched::new(stream, place.seat.clone())), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!("a client of the API is gone: {error}");
        },
        () = place.seat.told_to_leave() => {}
    }
}
