//! `/v1/services/{service}/servers`: the servers of one service.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Error, ErrorBody};
use super::json::{Json, Name, from_json};
use super::plane::{Plane, Shared};
use super::services::{self, created, perform};
use crate::control::command::{Command, Refusal, ServerSpec};
use crate::control::view::ServerView;
use crate::director::draft::Refused;
use crate::director::name::ServiceKey;
use crate::director::service::ServerState;

/// How a server is drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// Seconds after which it is deleted even with connections; none: when they are gone.
    #[serde(default)]
    deadline_s: Option<u32>,
}

/// What a server does, whatever its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Standing {
    /// What it does from now on.
    state: ServerState,
    /// Seconds after which it counts as down when it is drained, 0: never; none: as it has been.
    #[serde(default)]
    drain_timeout_s: Option<u32>,
}

fn find(plane: &dyn Plane, service: &ServiceKey, address: SocketAddr) -> Result<Option<ServerView>, Error> {
    let servers = services::view(plane, service)?.servers;
    Ok(servers.into_iter().find(|server| server.address == address))
}

fn view(plane: &dyn Plane, service: &ServiceKey, address: SocketAddr) -> Result<ServerView, Error> {
    let missing = Refused::NoServer { service: *service, server: address };
    find(plane, service, address)?.ok_or_else(|| Refusal::from(missing).into())
}

/// Adds a server.
#[utoipa::path(post, path = "/v1/services/{service}/servers", tag = "servers", request_body = ServerSpec,
    params(("service" = ServiceKey, Path, description = "The service's name")),
    responses(
        (status = 201, description = "It was added", body = ServerView),
        (status = 400, description = "The path names no service, or the body is not a server", body = ErrorBody),
        (status = 404, description = "There is no such service", body = ErrorBody),
        (status = 409, description = "It is there already", body = ErrorBody),
        (status = 422, description = "A value is out of its range, or they contradict each other", body = ErrorBody),
        (status = 507, description = "There is no room for more servers", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(plane): State<Shared>,
    Name(service): Name<ServiceKey>,
    Json(server): Json<ServerSpec>,
) -> Result<(StatusCode, Json<ServerView>), Error> {
    let mut plane = plane.lock();
    let address = server.address;
    perform(&mut *plane, Command::AddServer { service, server })?;
    Ok((StatusCode::CREATED, Json(view(&*plane, &service, address)?)))
}

/// One server.
#[utoipa::path(get, path = "/v1/services/{service}/servers/{address}", tag = "servers",
    params(
        ("service" = ServiceKey, Path, description = "The service's name"),
        ("address" = String, Path, description = "The server's address and port", example = "10.0.0.1:80"),
    ),
    responses(
        (status = 200, description = "The server", body = ServerView),
        (status = 400, description = "The path names no service or no server", body = ErrorBody),
        (status = 404, description = "There is no such service or server", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(plane): State<Shared>,
    Name((service, address)): Name<(ServiceKey, SocketAddr)>,
) -> Result<Json<ServerView>, Error> {
    view(&*plane.lock(), &service, address).map(Json)
}

/// Makes a server what the body says: adds it, or changes all of its settings.
#[utoipa::path(put, path = "/v1/services/{service}/servers/{address}", tag = "servers", request_body = ServerSpec,
    params(
        ("service" = ServiceKey, Path, description = "The service's name"),
        ("address" = String, Path, description = "The server's address and port, as in the body"),
    ),
    responses(
        (status = 200, description = "It was changed", body = ServerView),
        (status = 201, description = "It was added", body = ServerView),
        (status = 400, description = "The body is not this server", body = ErrorBody),
        (status = 404, description = "There is no such service", body = ErrorBody),
        (status = 422, description = "A value is out of its range, or they contradict each other", body = ErrorBody),
        (status = 507, description = "There is no room for more servers", body = ErrorBody),
    ))]
pub(super) async fn put(
    State(plane): State<Shared>,
    Name((service, address)): Name<(ServiceKey, SocketAddr)>,
    Json(server): Json<ServerSpec>,
) -> Result<(StatusCode, Json<ServerView>), Error> {
    if server.address != address {
        let message = format!("the path names server {address} and the body server {}", server.address);
        return Err(Error::bad_request(message));
    }
    let mut plane = plane.lock();
    let was_there = find(&*plane, &service, address)?.is_some();
    let command = match was_there {
        true => Command::EditServer { service, server },
        false => Command::AddServer { service, server },
    };
    perform(&mut *plane, command)?;
    Ok((created(was_there), Json(view(&*plane, &service, address)?)))
}

/// Deletes a server at once.
#[utoipa::path(delete, path = "/v1/services/{service}/servers/{address}", tag = "servers",
    params(
        ("service" = ServiceKey, Path, description = "The service's name"),
        ("address" = String, Path, description = "The server's address and port"),
    ),
    responses(
        (status = 204, description = "It was deleted"),
        (status = 400, description = "The path names no service or no server", body = ErrorBody),
        (status = 404, description = "There is no such service or server", body = ErrorBody),
    ))]
pub(super) async fn delete(
    State(plane): State<Shared>,
    Name((service, server)): Name<(ServiceKey, SocketAddr)>,
) -> Result<StatusCode, Error> {
    perform(&mut *plane.lock(), Command::DeleteServer { service, server })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drains a server: no new connections from now on, deleted once those it has are gone or the deadline passes.
///
/// The body may be left out.
#[utoipa::path(post, path = "/v1/services/{service}/servers/{address}/drain", tag = "servers",
    request_body = Option<Drain>,
    params(
        ("service" = ServiceKey, Path, description = "The service's name"),
        ("address" = String, Path, description = "The server's address and port"),
    ),
    responses(
        (status = 202, description = "It is being drained"),
        (status = 400, description = "The path names no server, or the body is wrong", body = ErrorBody),
        (status = 404, description = "There is no such service or server", body = ErrorBody),
    ))]
pub(super) async fn drain(
    State(plane): State<Shared>,
    Name((service, server)): Name<(ServiceKey, SocketAddr)>,
    body: Bytes,
) -> Result<StatusCode, Error> {
    let Drain { deadline_s } = if body.is_empty() { Drain::default() } else { from_json(&body)? };
    perform(&mut *plane.lock(), Command::DrainServer { service, server, deadline_s })?;
    Ok(StatusCode::ACCEPTED)
}

/// Has a server take connections, drain or be down. Its weight stays, and so does the server.
#[utoipa::path(put, path = "/v1/services/{service}/servers/{address}/state", tag = "servers",
    request_body = Standing,
    params(
        ("service" = ServiceKey, Path, description = "The service's name"),
        ("address" = String, Path, description = "The server's address and port"),
    ),
    responses(
        (status = 200, description = "It does so", body = ServerView),
        (status = 400, description = "The path names no server, or the body is wrong", body = ErrorBody),
        (status = 404, description = "There is no such service or server", body = ErrorBody),
        (status = 422, description = "The time is out of its range", body = ErrorBody),
    ))]
pub(super) async fn set_state(
    State(plane): State<Shared>,
    Name((service, server)): Name<(ServiceKey, SocketAddr)>,
    Json(Standing { state, drain_timeout_s }): Json<Standing>,
) -> Result<Json<ServerView>, Error> {
    let mut plane = plane.lock();
    perform(&mut *plane, Command::SetServerState { service, server, state, drain_timeout_s })?;
    view(&*plane, &service, server).map(Json)
}
