//! JSON in and out, paths and queries: read with errors that say where, and never as a bare text page.

use std::fmt::Display;
use std::str::FromStr;

use axum::RequestPartsExt;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;

/// A value in JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    /// Whatever the header `Content-Type` says: JSON is all that there is.
    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = Bytes::from_request(request, state).await.map_err(Error::bad_request)?;
        from_json(&bytes).map(Self)
    }
}

/// Reads a body; the error names the place.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| Error::bad_request(format!("the body is wrong at `{}`: {}", e.path(), e.inner())))?;
    reader.end().map_err(|e| Error::bad_request(format!("the body goes on after its end: {e}")))?;
    Ok(value)
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let bytes = serde_json::to_vec(&self.0).expect("views have names for keys");
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
    }
}

/// The part of the path after `services/` and the one after `servers/`, read from their texts.
#[derive(Debug)]
pub(super) struct Name<T>(pub(super) T);

async fn texts<T: DeserializeOwned + Send + 'static>(parts: &mut Parts) -> Result<T, Error> {
    parts.extract::<Path<T>>().await.map(|Path(texts)| texts).map_err(|e| Error::bad_request(e.body_text()))
}

fn read<T: FromStr<Err: Display>>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|e| Error::bad_request(format!("{what} `{text}`: {e}")))
}

impl<S: Send + Sync> FromRequestParts<S> for Name<crate::director::name::ServiceKey> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        read("service", &texts::<String>(parts).await?).map(Name)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name<(crate::director::name::ServiceKey, std::net::SocketAddr)> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let (service, server) = texts::<(String, String)>(parts).await?;
        Ok(Name((read("service", &service)?, read("server", &server)?)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name<String> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        texts(parts).await.map(Name)
    }
}

/// The part of the address after `?`.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|q| Self(q.0)).map_err(|e| Error::bad_request(e.body_text()))
    }
}
