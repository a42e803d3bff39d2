//! All paths put together: from a whole request to an answer.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::Error;
use super::plane::Shared;
use super::{commands, connections, director, document as openapi, servers, services, tuning};

fn paths() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(director::info))
        .routes(routes!(services::list, services::add))
        .routes(routes!(services::show, services::put, services::delete))
        .routes(routes!(servers::add))
        .routes(routes!(servers::show, servers::put, servers::delete))
        .routes(routes!(servers::drain))
        .routes(routes!(servers::set_state))
        .routes(routes!(commands::perform))
        .routes(routes!(connections::list))
        .routes(routes!(director::counters))
        .routes(routes!(director::zero))
        .routes(routes!(director::drops))
        .routes(routes!(director::interfaces))
        .routes(routes!(tuning::tunables))
        .routes(routes!(tuning::set_tunable))
        .routes(routes!(tuning::timeouts, tuning::set_timeouts))
        .routes(routes!(tuning::marks, tuning::add_mark, tuning::delete_mark))
        .routes(routes!(director::reload))
        .routes(routes!(director::drift))
        .routes(routes!(director::config))
        .routes(routes!(openapi::show))
}

/// The OpenAPI document of the API.
pub fn document() -> OpenApi {
    let (_, mut document) = paths().split_for_parts();
    openapi::finish(&mut document);
    document
}

/// Answers whole requests: bodies are read and limited before.
pub(super) fn router(plane: Shared) -> Router {
    let (router, _) = paths().split_for_parts();
    router
        .fallback(async |uri: Uri| Error::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Error::no_such_method(method.as_str(), uri.path())
        })
        .layer(DefaultBodyLimit::disable())
        .with_state(plane)
}
