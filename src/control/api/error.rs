//! Refusals as HTTP sees them: a status, and in JSON a code for programs and a message for people.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::Json;
use crate::control::command::{Code, Refusal};

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorView,
}

/// Why a request was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    /// For programs: a code of a refusal (`no-service`, ...), or of the API itself: `bad-request`, `no-such-path`,
    /// `no-such-method`, `unauthorized`, `too-slow`, `too-large`, `too-busy`.
    pub code: String,
    /// For people: the thing, the value, the limit and the cure.
    pub message: String,
    /// With `"mode": "all"`: the number of the command that was refused, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    view: ErrorView,
}

impl Error {
    fn new(status: StatusCode, code: &str, message: String) -> Self {
        Self { status, view: ErrorView { code: code.to_owned(), message, index: None } }
    }

    /// The request is not understood.
    pub(super) fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message.to_string())
    }

    pub(super) fn no_such_path(path: &str) -> Self {
        let message = format!("there is no {path}: GET /v1/openapi.json tells what there is");
        Self::new(StatusCode::NOT_FOUND, "no-such-path", message)
    }

    pub(super) fn no_such_method(method: &str, path: &str) -> Self {
        let message = format!("{path} cannot be asked to {method}: the header Allow names what it can");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "over TCP the header `Authorization: Bearer TOKEN` has to show xvs's token".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn too_slow(seconds: u64) -> Self {
        let message = format!("the request's body did not arrive within {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", message)
    }

    pub(super) fn too_large(message: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    pub(super) fn too_busy() -> Self {
        let message =
            "other clients' requests and answers take all the memory there is for them: try again".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-busy", message)
    }

    /// The refusal of one of several commands.
    pub(super) fn of_command(index: usize, refusal: Refusal) -> Self {
        let mut error = Self::from(refusal);
        error.view.index = Some(index);
        error
    }
}

/// The code as it stands in JSON.
fn name(code: Code) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::NoService | Code::NoServer | Code::NotFound => StatusCode::NOT_FOUND,
            Code::ServiceExists | Code::ServerExists => StatusCode::CONFLICT,
            Code::NoScheduler | Code::OutOfRange | Code::Invalid | Code::Family => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Code::Full => StatusCode::INSUFFICIENT_STORAGE,
            Code::Host => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, &name(refusal.code), refusal.message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.view })).into_response();
        let more = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        response
            .headers_mut()
            .extend(more.map(|(name, value)| (name, value.parse().expect("a plain value"))));
        response
    }
}
