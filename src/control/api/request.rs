//! One request: who asks, the whole of it within its limits, and the answer.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;
use tower::ServiceExt;

use super::error::Error;
use super::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, STREAM_BYTES};
use super::seats::Place;
use super::settings::Token;
use super::watched::Answer;

/// Answers one request of the client at this place. `token`: what it has to show, if it has to.
pub(super) async fn answer(
    request: Request<Incoming>,
    place: &Place,
    router: Router,
    token: Option<&Token>,
) -> Response<Answer> {
    place.seat.begin_request();
    let only_looks = request.method().is_safe();
    let mut response = match whole(request, place, token).await {
        Ok(request) => match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(error) => {
            // What is left of the request is not read.
            let mut response = error.into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    };
    let bytes =
        response.body().size_hint().exact().map_or(STREAM_BYTES, |n| n.try_into().unwrap_or(usize::MAX));
    if !place.hold(bytes) {
        if only_looks {
            response = Error::too_busy().into_response();
        } else {
            // Something was changed: the client has to know.
            place.hold_anyway(bytes);
        }
    }
    place.seat.begin_answer();
    response.map(|body| Answer::new(body, place.seat.clone()))
}

/// The request with the whole of its body.
async fn whole(
    request: Request<Incoming>,
    place: &Place,
    token: Option<&Token>,
) -> Result<Request<Body>, Error> {
    let shown = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    if token.is_some_and(|token| !token.is_shown_by(shown)) {
        return Err(Error::unauthorized());
    }
    let (head, body) = request.into_parts();
    let body = if body.is_end_stream() { Bytes::new() } else { read(body, place).await? };
    Ok(Request::from_parts(head, Body::from(body)))
}

async fn read(body: Incoming, place: &Place) -> Result<Bytes, Error> {
    let too_large = || {
        Error::too_large(format!(
            "the request's body is larger than {MAX_BODY_BYTES} bytes: divide it into several requests"
        ))
    };
    let announced = body.size_hint().upper().unwrap_or(MAX_BODY_BYTES as u64);
    if announced > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    if !place.hold(usize::try_from(announced).unwrap_or(usize::MAX)) {
        return Err(Error::too_busy());
    }
    let all = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
    match all.await.map_err(|_| Error::too_slow(BODY_TIMEOUT.as_secs()))? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Error::bad_request(format!("the request's body is broken: {error}"))),
    }
}
