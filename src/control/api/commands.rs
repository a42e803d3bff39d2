//! `/v1/commands`: many changes in one request.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Error, ErrorBody};
use super::json::Json;
use super::limits::MAX_COMMANDS;
use super::plane::Shared;
use crate::control::command::{Command, Refusal};

/// What becomes of the others if a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are performed: each command by itself.
    Each,
    /// None is: all or nothing.
    All,
}

/// Changes that are performed in their order and published at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// What becomes of the others if one is refused.
    pub mode: Mode,
    /// The commands, at most 10,000.
    pub commands: Vec<Command>,
}

/// What became of the commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// In the order of the commands: null, or why it was refused.
    pub results: Vec<Option<Refusal>>,
}

/// Performs commands in their order.
///
/// With mode `each`, those that are refused change nothing and the others are performed; with mode `all`, a refusal is
/// the answer, and nothing has changed.
#[utoipa::path(post, path = "/v1/commands", tag = "commands", request_body = Batch,
    responses(
        (status = 200, description = "They were performed, or with mode `each` refused", body = Results),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 404, description = "Mode `all`: something is not there", body = ErrorBody),
        (status = 409, description = "Mode `all`: something is there already", body = ErrorBody),
        (status = 422, description = "Mode `all`: a value is out of its range", body = ErrorBody),
        (status = 507, description = "Mode `all`: there is no room for more", body = ErrorBody),
    ))]
pub(super) async fn perform(
    State(plane): State<Shared>,
    Json(Batch { mode, commands }): Json<Batch>,
) -> Result<Response, Error> {
    if commands.len() > MAX_COMMANDS {
        let message = format!("{} commands are more than the {MAX_COMMANDS} of one request", commands.len());
        return Err(Error::too_large(message));
    }
    let mut plane = plane.lock();
    let results = match mode {
        Mode::Each => plane.apply_each(&commands).into_iter().map(Result::err).collect(),
        Mode::All => {
            plane.apply_all(&commands).map_err(|(index, refusal)| Error::of_command(index, refusal))?;
            vec![None; commands.len()]
        }
    };
    Ok(Json(Results { results }).into_response())
}
