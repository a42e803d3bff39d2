//! `/v1/services`: each service with its servers.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{Error, ErrorBody};
use super::json::{Json, Name, Query};
use super::plane::{Plane, Shared};
use crate::control::command::{Command, Refusal, ServiceSpec};
use crate::control::view::ServiceView;
use crate::director::draft::Refused;
use crate::director::name::ServiceKey;

/// Performs one command.
pub(super) fn perform(plane: &mut dyn Plane, command: Command) -> Result<(), Error> {
    plane.apply_all(&[command]).map_err(|(_, refusal)| refusal.into())
}

/// The service, which must be there.
pub(super) fn view(plane: &dyn Plane, key: &ServiceKey) -> Result<ServiceView, Error> {
    plane.service(key).ok_or_else(|| Refusal::from(Refused::NoService(*key)).into())
}

/// 201 if it was not there before.
pub(super) fn created(was_there: bool) -> StatusCode {
    if was_there { StatusCode::OK } else { StatusCode::CREATED }
}

/// How much of the services.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServicesQuery {
    /// Whether statistics and rates of each server are wanted: they are half of a long list.
    #[serde(default = "yes")]
    #[param(default = true)]
    server_traffic: bool,
}

const fn yes() -> bool {
    true
}

/// Every service with its servers, in the order they were added.
#[utoipa::path(get, path = "/v1/services", tag = "services", params(ServicesQuery),
    responses(
        (status = 200, description = "The services", body = Vec<ServiceView>),
        (status = 400, description = "The query is wrong", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(plane): State<Shared>,
    Query(query): Query<ServicesQuery>,
) -> Json<Vec<ServiceView>> {
    let mut services = plane.lock().services();
    if !query.server_traffic {
        for server in services.iter_mut().flat_map(|service| &mut service.servers) {
            (server.statistics, server.rates) = (None, None);
        }
    }
    Json(services)
}

/// Adds a service without servers.
#[utoipa::path(post, path = "/v1/services", tag = "services", request_body = ServiceSpec,
    responses(
        (status = 201, description = "It was added", body = ServiceView),
        (status = 400, description = "The body is not a service", body = ErrorBody),
        (status = 409, description = "It is there already", body = ErrorBody),
        (status = 422, description = "A value is out of its range, or they contradict each other", body = ErrorBody),
        (status = 507, description = "There is no room for more services", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(plane): State<Shared>,
    Json(spec): Json<ServiceSpec>,
) -> Result<(StatusCode, Json<ServiceView>), Error> {
    let mut plane = plane.lock();
    let key = spec.service;
    perform(&mut *plane, Command::AddService(spec))?;
    Ok((StatusCode::CREATED, Json(view(&*plane, &key)?)))
}

/// One service with its servers.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "services",
    params(("service" = ServiceKey, Path, description = "The service's name")),
    responses(
        (status = 200, description = "The service", body = ServiceView),
        (status = 400, description = "The path names no service", body = ErrorBody),
        (status = 404, description = "There is no such service", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(plane): State<Shared>,
    Name(key): Name<ServiceKey>,
) -> Result<Json<ServiceView>, Error> {
    view(&*plane.lock(), &key).map(Json)
}

/// Makes a service what the body says, its servers left alone: adds it, or changes all of its settings.
#[utoipa::path(put, path = "/v1/services/{service}", tag = "services", request_body = ServiceSpec,
    params(("service" = ServiceKey, Path, description = "The service's name, as in the body")),
    responses(
        (status = 200, description = "It was changed", body = ServiceView),
        (status = 201, description = "It was added", body = ServiceView),
        (status = 400, description = "The body is not this service", body = ErrorBody),
        (status = 422, description = "A value is out of its range, or they contradict each other", body = ErrorBody),
        (status = 507, description = "There is no room for more services", body = ErrorBody),
    ))]
pub(super) async fn put(
    State(plane): State<Shared>,
    Name(key): Name<ServiceKey>,
    Json(spec): Json<ServiceSpec>,
) -> Result<(StatusCode, Json<ServiceView>), Error> {
    if spec.service != key {
        let message = format!("the path names service {key} and the body service {}", spec.service);
        return Err(Error::bad_request(message));
    }
    let mut plane = plane.lock();
    let was_there = plane.service(&key).is_some();
    let command = if was_there { Command::EditService(spec) } else { Command::AddService(spec) };
    perform(&mut *plane, command)?;
    Ok((created(was_there), Json(view(&*plane, &key)?)))
}

/// Deletes a service with its servers.
#[utoipa::path(delete, path = "/v1/services/{service}", tag = "services",
    params(("service" = ServiceKey, Path, description = "The service's name")),
    responses(
        (status = 204, description = "It was deleted"),
        (status = 400, description = "The path names no service", body = ErrorBody),
        (status = 404, description = "There is no such service", body = ErrorBody),
    ))]
pub(super) async fn delete(
    State(plane): State<Shared>,
    Name(service): Name<ServiceKey>,
) -> Result<StatusCode, Error> {
    perform(&mut *plane.lock(), Command::DeleteService { service })?;
    Ok(StatusCode::NO_CONTENT)
}
