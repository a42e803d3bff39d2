//! The OpenAPI document: made from the handlers, finished here.

use std::sync::LazyLock;

use axum::http::header::{CONTENT_TYPE, HeaderName};
use bytes::Bytes;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;

/// Answers that any request may get: they are in the document at every operation.
const ALWAYS: &[(&str, &str)] = &[
    ("401", "Over TCP: the token was not shown"),
    ("408", "The body did not arrive in time"),
    ("413", "The body, or what it asks for, is larger than its limit"),
    ("503", "Other clients take all the memory there is for requests and answers: try again"),
];

/// The document before there are paths in it.
pub(super) fn empty() -> OpenApi {
    let info = InfoBuilder::new()
        .title("xvs")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The XDP Virtual Server: its services, servers and connections, and what it did. Fields and parameters that \
             are not in this document are refused.",
        ));
    OpenApiBuilder::new().info(info.build()).build()
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "director",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn show() -> ([(HeaderName, &'static str); 1], Bytes) {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        serde_json::to_vec(&super::router::document()).expect("the document has names for keys").into()
    });
    ([(CONTENT_TYPE, "application/json")], TEXT.clone())
}

/// Says at every operation what any request may be answered, and lets schemas be parts of others.
pub(super) fn finish(document: &mut OpenApi) {
    for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
        // A command is a service and a word: neither could be if each allowed nothing but its own.
        if let RefOr::T(Schema::Object(object)) = schema {
            object.additional_properties = None;
        }
    }
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten();
        operations.for_each(say_what_always_holds);
    }
}

fn say_what_always_holds(operation: &mut Operation) {
    for (status, description) in ALWAYS {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response =
            ResponseBuilder::new().description(*description).content("application/json", body).build();
        operation.responses.responses.entry((*status).to_owned()).or_insert(RefOr::T(response));
    }
}

// The director's own types are written as text or as they stand; it does not know of this document.

impl PartialSchema for ServiceKey {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "A service's name: protocol, virtual address and port, or a firewall mark (fwm6: of IPv6 packets)",
            ))
            .pattern(Some("^((tcp|udp|sctp):.+:[0-9]+|fwm6?:[0-9]+)$"))
            .examples(["tcp:192.0.2.10:80", "udp:[2001:db8::1]:53", "fwm:5"])
            .into()
    }
}

impl ToSchema for ServiceKey {}

/// [`MarkRule`] as it stands in JSON.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Rule {
    /// The mark, as `ipvsadm -f` names it.
    #[schema(minimum = 1)]
    mark: u32,
    /// `tcp`, `udp` or `sctp`.
    protocol: String,
    /// Where packets go, as a network.
    #[schema(example = "192.0.2.10/32")]
    destination: String,
    /// The first of the ports they go to; 0 if left out.
    port_first: Option<u16>,
    /// The last of the ports they go to; 65535 if left out.
    port_last: Option<u16>,
    /// Where they come from, as a network; anywhere if left out.
    source: Option<String>,
}

impl PartialSchema for MarkRule {
    fn schema() -> RefOr<Schema> {
        Rule::schema()
    }
}

impl ToSchema for MarkRule {}
