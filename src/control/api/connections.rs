//! `/v1/connections`: page by page, or all of them as a stream.
//!
//! A stream is made while the client takes it, piece by piece: neither side ever holds all connections, and a client
//! that takes nothing has nothing made for it.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{Error, ErrorBody};
use super::json::{Json, Query};
use super::limits::{DEFAULT_PAGE, MAX_PAGE, SLOTS_AT_ONCE};
use super::plane::Shared;
use crate::control::connections::{Endpoint, Filter, Listing, Network, StateName};
use crate::control::view::{ConnectionView, ConnectionsPage};
use crate::director::Director;
use crate::director::conn::SlotId;
use crate::director::name::ServiceKey;

/// The media type of JSON values each on a line of its own.
pub const NDJSON: &str = "application/x-ndjson";

/// Which connections, and from where on.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConnectionsQuery {
    /// Where the page begins: `next` of the page before; 0 if left out.
    #[serde(default)]
    from: SlotId,
    /// Most connections of the page; a stream has no limit.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<usize>,
    /// Of clients with this address or in this network.
    #[param(value_type = Option<String>)]
    client: Option<Network>,
    /// Of this service.
    service: Option<ServiceKey>,
    /// Of this server: an address, or address and port.
    #[param(value_type = Option<String>)]
    server: Option<Endpoint>,
    /// In this state, by the name that listings show.
    #[param(value_type = Option<String>, example = "ESTABLISHED")]
    state: Option<StateName>,
}

/// Connections and templates of persistence, in no order.
///
/// A page of them as JSON, or with `Accept: application/x-ndjson` all of them, each on a line of its own. Those that come
/// or go meanwhile may be missed; every other is there once.
#[utoipa::path(get, path = "/v1/connections", tag = "connections", params(ConnectionsQuery),
    responses(
        (status = 200, description = "A page, or the stream", content(
            (ConnectionsPage = "application/json"),
            (ConnectionView = "application/x-ndjson"),
        )),
        (status = 400, description = "The query is wrong", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(plane): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<ConnectionsQuery>,
) -> Result<Response, Error> {
    let ConnectionsQuery { from, limit, client, service, server, state } = query;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Error::bad_request(format!("limit = {limit} is outside of 1..={MAX_PAGE}")));
    }
    let director = plane.lock().director().clone();
    let listing = Listing::new(&director, Filter { client, service, server, state });
    let pieces = Pieces { plane, director, listing, next: Some(from) };
    Ok(if wants_lines(&headers) {
        ([(CONTENT_TYPE, NDJSON)], Body::from_stream(stream::unfold(pieces, Pieces::lines))).into_response()
    } else {
        Json(pieces.page(limit).await).into_response()
    })
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    types.any(|media| media.trim().eq_ignore_ascii_case(NDJSON))
}

/// What is left of a listing.
struct Pieces {
    plane: Shared,
    director: Arc<Director>,
    listing: Listing,
    next: Option<SlotId>,
}

/// Pieces looked through for one page, about a million places: with a filter that few pass a page may be short, or
/// empty, and yet not the last.
const PIECES_MAX: usize = 512;

impl Pieces {
    /// The next piece. Everybody else has had their turn before.
    async fn piece(&mut self, from: SlotId, slots: usize, take: impl FnMut(ConnectionView)) {
        tokio::task::yield_now().await;
        let now = self.plane.lock().now();
        self.next = self.listing.piece(&self.director, now, from, slots, take);
    }

    async fn page(mut self, limit: usize) -> ConnectionsPage {
        let mut connections = Vec::new();
        let mut pieces = 0..PIECES_MAX;
        while let Some(from) = self.next
            && connections.len() < limit
            && pieces.next().is_some()
        {
            // Each slot is one connection at most: the page never has more than its limit.
            let slots = SLOTS_AT_ONCE.min(limit - connections.len());
            self.piece(from, slots, |connection| connections.push(connection)).await;
        }
        ConnectionsPage { connections, next: self.next.map(u64::from) }
    }

    /// The next lines, if any are left.
    async fn lines(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut lines = BytesMut::new();
        while let Some(from) = self.next
            && lines.is_empty()
        {
            let line = |connection| {
                let mut writer = (&mut lines).writer();
                serde_json::to_writer(&mut writer, &connection).expect("a buffer takes all that is written");
                writer.get_mut().put_u8(b'\n');
            };
            self.piece(from, SLOTS_AT_ONCE, line).await;
        }
        (!lines.is_empty()).then(|| (Ok(lines.freeze()), self))
    }
}
