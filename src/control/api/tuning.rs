//! Tunables, timeouts and the rules that give firewall marks.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Error, ErrorBody};
use super::json::{Json, Name, Query};
use super::plane::Shared;
use super::services::perform;
use crate::control::command::{Code, Command, Refusal};
use crate::control::view::{TimeoutsView, TunableView};
use crate::director::marks::MarkRule;

/// The value of a tunable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    /// The value.
    value: u32,
}

/// Every tunable with its value, limits and what it does.
#[utoipa::path(get, path = "/v1/tunables", tag = "tuning",
    responses((status = 200, description = "The tunables", body = Vec<TunableView>)))]
pub(super) async fn tunables(State(plane): State<Shared>) -> Json<Vec<TunableView>> {
    Json(plane.lock().tunables())
}

/// Sets a tunable.
#[utoipa::path(put, path = "/v1/tunables/{name}", tag = "tuning", request_body = Value,
    params(("name" = String, Path, description = "The sysctl's name", example = "expire_nodest_conn")),
    responses(
        (status = 200, description = "It was set", body = TunableView),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 404, description = "There is no such tunable", body = ErrorBody),
        (status = 422, description = "The value is out of its range", body = ErrorBody),
    ))]
pub(super) async fn set_tunable(
    State(plane): State<Shared>,
    Name(name): Name<String>,
    Json(Value { value }): Json<Value>,
) -> Result<Json<TunableView>, Error> {
    let mut plane = plane.lock();
    perform(&mut *plane, Command::SetTunable { name: name.clone(), value })?;
    let missing = || Refusal::new(Code::NotFound, format!("there is no tunable {name}"));
    let tunable = plane.tunables().into_iter().find(|tunable| tunable.name == name);
    Ok(Json(tunable.ok_or_else(missing)?))
}

/// The timeouts of `ipvsadm -L --timeout`.
#[utoipa::path(get, path = "/v1/timeouts", tag = "tuning",
    responses((status = 200, description = "The timeouts", body = TimeoutsView)))]
pub(super) async fn timeouts(State(plane): State<Shared>) -> Json<TimeoutsView> {
    Json(plane.lock().timeouts())
}

/// Sets the timeouts as `ipvsadm --set` does: 0 keeps what is.
#[utoipa::path(put, path = "/v1/timeouts", tag = "tuning", request_body = TimeoutsView,
    responses(
        (status = 200, description = "They were set", body = TimeoutsView),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 422, description = "A value is out of its range", body = ErrorBody),
    ))]
pub(super) async fn set_timeouts(
    State(plane): State<Shared>,
    Json(timeouts): Json<TimeoutsView>,
) -> Result<Json<TimeoutsView>, Error> {
    let mut plane = plane.lock();
    perform(&mut *plane, Command::SetTimeouts(timeouts))?;
    Ok(Json(plane.timeouts()))
}

/// The rules that give firewall marks, in their order.
#[utoipa::path(get, path = "/v1/marks", tag = "tuning",
    responses((status = 200, description = "The rules", body = Vec<MarkRule>)))]
pub(super) async fn marks(State(plane): State<Shared>) -> Json<Vec<MarkRule>> {
    Json(plane.lock().marks())
}

/// Adds a rule after those there are.
#[utoipa::path(post, path = "/v1/marks", tag = "tuning", request_body = MarkRule,
    responses(
        (status = 201, description = "It was added", body = MarkRule),
        (status = 400, description = "The body is not a rule", body = ErrorBody),
        (status = 422, description = "The rule contradicts itself", body = ErrorBody),
        (status = 507, description = "There is no room for more rules", body = ErrorBody),
    ))]
pub(super) async fn add_mark(
    State(plane): State<Shared>,
    Json(rule): Json<MarkRule>,
) -> Result<(StatusCode, Json<MarkRule>), Error> {
    perform(&mut *plane.lock(), Command::AddMark(rule))?;
    Ok((StatusCode::CREATED, Json(rule)))
}

/// Deletes the rule that is equal to the query.
#[utoipa::path(delete, path = "/v1/marks", tag = "tuning",
    params(
        ("mark" = u32, Query, description = "The mark", minimum = 1),
        ("protocol" = String, Query, description = "`tcp`, `udp` or `sctp`"),
        ("destination" = String, Query, description = "A network, as 192.0.2.10/32"),
        ("port_first" = Option<u16>, Query, description = "The first port; 0 if left out"),
        ("port_last" = Option<u16>, Query, description = "The last port; 65535 if left out"),
        ("source" = Option<String>, Query, description = "A network"),
    ),
    responses(
        (status = 204, description = "It was deleted"),
        (status = 400, description = "The query is not a rule", body = ErrorBody),
        (status = 404, description = "There is no such rule", body = ErrorBody),
    ))]
pub(super) async fn delete_mark(
    State(plane): State<Shared>,
    Query(rule): Query<MarkRule>,
) -> Result<StatusCode, Error> {
    perform(&mut *plane.lock(), Command::DeleteMark(rule))?;
    Ok(StatusCode::NO_CONTENT)
}
