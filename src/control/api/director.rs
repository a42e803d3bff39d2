//! The director as a whole: what it did, and its configuration file.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Error, ErrorBody};
use super::json::{Json, Query};
use super::plane::Shared;
use super::services::perform;
use crate::control::command::Command;
use crate::control::view::{CountersView, DriftView, DropView, InfoView, InterfaceView};

/// Version, uptime and size.
#[utoipa::path(get, path = "/v1/info", tag = "director",
    responses((status = 200, description = "The director", body = InfoView)))]
pub(super) async fn info(State(plane): State<Shared>) -> Json<InfoView> {
    Json(plane.lock().info())
}

/// Totals and rates, and what each worker did.
#[utoipa::path(get, path = "/v1/counters", tag = "director",
    responses((status = 200, description = "The counters", body = CountersView)))]
pub(super) async fn counters(State(plane): State<Shared>) -> Json<CountersView> {
    Json(plane.lock().counters())
}

/// Zeroes the totals of all services, as `ipvsadm -Z` does.
#[utoipa::path(post, path = "/v1/counters/zero", tag = "director",
    responses((status = 204, description = "They are zero")))]
pub(super) async fn zero(State(plane): State<Shared>) -> Result<StatusCode, Error> {
    perform(&mut *plane.lock(), Command::Zero { service: None })?;
    Ok(StatusCode::NO_CONTENT)
}

/// How often frames were dropped, by reason.
#[utoipa::path(get, path = "/v1/drops", tag = "director",
    responses((status = 200, description = "Every reason that occurred", body = Vec<DropView>)))]
pub(super) async fn drops(State(plane): State<Shared>) -> Json<Vec<DropView>> {
    Json(plane.lock().drops())
}

/// Interfaces with their receive queues.
#[utoipa::path(get, path = "/v1/interfaces", tag = "director",
    responses((status = 200, description = "The interfaces", body = Vec<InterfaceView>)))]
pub(super) async fn interfaces(State(plane): State<Shared>) -> Json<Vec<InterfaceView>> {
    Json(plane.lock().interfaces())
}

/// How a reload is done.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReloadQuery {
    /// Only tells what would change.
    #[serde(default)]
    dry_run: bool,
}

/// What a reload changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// One line for each change: `+ service ...`, `- server ...`, `~ server ... weight 1 -> 2`.
    pub changes: Vec<String>,
}

/// Makes the running state that of the configuration file.
#[utoipa::path(post, path = "/v1/reload", tag = "configuration", params(ReloadQuery),
    responses(
        (status = 200, description = "What changed, or with `dry_run` would change", body = Reloaded),
        (status = 400, description = "The query is wrong", body = ErrorBody),
        (status = 422, description = "The file is wrong: nothing has changed", body = ErrorBody),
        (status = 500, description = "The host refused: nothing has changed", body = ErrorBody),
    ))]
pub(super) async fn reload(
    State(plane): State<Shared>,
    Query(query): Query<ReloadQuery>,
) -> Result<Json<Reloaded>, Error> {
    let changes = plane.lock().reload(query.dry_run)?;
    Ok(Json(Reloaded { changes }))
}

/// How the running state and the configuration file disagree.
#[utoipa::path(get, path = "/v1/drift", tag = "configuration",
    responses(
        (status = 200, description = "What a reload would change", body = DriftView),
        (status = 422, description = "The file is wrong", body = ErrorBody),
        (status = 500, description = "The file cannot be read", body = ErrorBody),
    ))]
pub(super) async fn drift(State(plane): State<Shared>) -> Result<Json<DriftView>, Error> {
    Ok(Json(plane.lock().drift()?))
}

/// The running state as a configuration file.
#[utoipa::path(get, path = "/v1/config", tag = "configuration",
    responses((status = 200, description = "TOML that reloads to this state", body = String,
        content_type = "application/toml")))]
pub(super) async fn config(State(plane): State<Shared>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "application/toml")], plane.lock().save())
}
