//! The OpenAPI document against the handlers: the same paths, the same statuses, the same bodies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use xvs::control::api::document;
use xvs::control::command::Code;

use super::http::{Answer, ask, exchange, request};
use super::served::Served;

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// Statuses that every operation may have; tests of their own provoke them.
const ALWAYS: [&str; 4] = ["401", "408", "413", "503"];

struct Document(Value);

impl Document {
    fn new() -> Self {
        Self(serde_json::to_value(document()).unwrap())
    }

    fn paths(&self) -> &serde_json::Map<String, Value> {
        self.0["paths"].as_object().unwrap()
    }

    /// The template that a path was made from.
    fn template(&self, path: &str) -> &str {
        let path: Vec<&str> = path.split('?').next().unwrap().split('/').collect();
        let fits = |template: &&String| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == path.len()
                && parts.iter().zip(&path).all(|(part, text)| part.starts_with('{') || part == text)
        };
        self.paths().keys().find(fits).unwrap_or_else(|| panic!("{path:?} is not in the document"))
    }

    /// Fails unless `value` fits `schema`.
    fn validate(&self, schema: &Value, value: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}\nin {value:#}");
    }

    /// Fails unless the answer is one that the operation may give.
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let operation = &self.paths()[self.template(path)][method.to_lowercase()];
        let response = &operation["responses"][answer.status.to_string()];
        let said = format!("{method} {path}: {} `{}`", answer.status, answer.body.escape_ascii());
        assert!(response.is_object(), "not in the document: {said}");
        let Some(content) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "a body that is not in the document: {said}");
            return;
        };
        let media = answer.header("content-type");
        let schema =
            &content.get(media).unwrap_or_else(|| panic!("{media} is not in the document: {said}"))["schema"];
        match media {
            "application/json" => self.validate(schema, &answer.json()),
            "application/x-ndjson" => {
                for line in answer.body.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                    self.validate(schema, &serde_json::from_slice(line).unwrap());
                }
            }
            _ => self.validate(schema, &String::from_utf8(answer.body.clone()).unwrap().into()),
        }
    }

    fn check_request(&self, method: &str, path: &str, body: &str) {
        let operation = &self.paths()[self.template(path)][method.to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} takes no body");
        self.validate(schema, &serde_json::from_str(body).unwrap());
    }
}

/// What is asked, one after the other, and the status it has.
fn asked() -> Vec<(&'static str, String, String, u16)> {
    let service = |port: u16| json!({"service": format!("tcp:192.0.2.10:{port}")}).to_string();
    let server = |n: u16| {
        json!({"address": format!("10.0.0.{n}:80"), "forward": "tun", "tunnel": {"type": "gue", "port": 6080}}).to_string()
    };
    let heavy = json!({"address": "10.0.0.1:80", "weight": 70_000}).to_string();
    let odd = json!({"service": "tcp:192.0.2.10:81", "scheduler": "odd"}).to_string();
    let full = json!({"service": "tcp:192.0.2.10:81", "scheduler": "rr", "scheduler_flags": ["flag-1"], "one_packet": false,
        "persistence": {"timeout_s": 300, "netmask": "255.255.255.0"}})
    .to_string();
    let mark = |mark: u32| {
        json!({"mark": mark, "protocol": "tcp", "destination": "192.0.2.0/24", "port_first": 80, "source": "10.0.0.0/8"}).to_string()
    };
    let upside_down =
        json!({"mark": 1, "protocol": "tcp", "destination": "192.0.2.0/24", "port_first": 2, "port_last": 1})
            .to_string();
    let batch = |mode: &str, commands: Value| json!({"mode": mode, "commands": commands}).to_string();
    let there = json!([{"command": "zero"}, {"command": "add-service", "service": "tcp:192.0.2.10:81"}]);
    let missing = json!([{"command": "delete-service", "service": "fwm:5"}]);
    let none = String::new;

    let s81 = "/v1/services/tcp:192.0.2.10:81";
    let s82 = "/v1/services/tcp%3A192.0.2.10%3A82";
    let s9 = "/v1/services/fwm:9";
    let mut list = Vec::new();
    let mut add = |method: &'static str, path: &str, body: String, status: u16| {
        list.push((method, path.to_owned(), body, status));
    };
    for path in [
        "info",
        "services",
        "connections",
        "counters",
        "drops",
        "interfaces",
        "tunables",
        "timeouts",
        "marks",
        "drift",
        "config",
    ] {
        add("GET", &format!("/v1/{path}"), none(), 200);
    }
    add("GET", "/v1/openapi.json", none(), 200);
    add("GET", "/v1/connections?limit=0", none(), 400);
    add("GET", "/v1/connections?state=x", none(), 400);
    add("GET", "/v1/connections?clients=x", none(), 400);
    add("GET", "/v1/connections?limit=2&client=10.0.0.0/24&state=established", none(), 200);

    add("POST", "/v1/services", service(81), 201);
    add("POST", "/v1/services", service(81), 409);
    add("POST", "/v1/services", odd.clone(), 422);
    add("POST", "/v1/services", "{".into(), 400);
    add("POST", "/v1/services", service(90) + "x", 400);
    add("GET", s81, none(), 200);
    add("GET", s9, none(), 404);
    add("GET", "/v1/services/nonsense", none(), 400);
    add("GET", "/v1/services/%ff", none(), 400);
    add("PUT", s81, full, 200);
    add("PUT", s81, service(82), 400);
    add("PUT", s81, odd, 422);
    add("PUT", s82, service(82), 201);
    add("POST", "/v1/services", service(83), 201);
    add("POST", "/v1/services", service(84), 507);
    add("PUT", "/v1/services/tcp:192.0.2.10:84", service(84), 507);
    add("DELETE", "/v1/services/tcp:192.0.2.10:83", none(), 204);
    add("DELETE", "/v1/services/tcp:192.0.2.10:83", none(), 404);
    add("DELETE", "/v1/services/x", none(), 400);

    let servers = format!("{s81}/servers");
    let one = |n: u16| format!("{servers}/10.0.0.{n}:80");
    add("POST", &servers, server(1), 201);
    add("POST", &servers, server(1), 409);
    add("POST", &servers, heavy.clone(), 422);
    add("POST", &servers, "[]".into(), 400);
    add("POST", &format!("{s9}/servers"), server(1), 404);
    add("GET", &one(1), none(), 200);
    add("GET", &one(2), none(), 404);
    add("GET", &format!("{servers}/x"), none(), 400);
    add("GET", s81, none(), 200);
    add("GET", "/v1/services", none(), 200);
    add("GET", "/v1/services?server_traffic=false", none(), 200);
    add("GET", "/v1/services?server_traffic=1", none(), 400);
    add("PUT", &one(1), server(1), 200);
    add("PUT", &one(1), heavy, 422);
    add("PUT", &one(2), server(1), 400);
    add("PUT", &one(2), server(2), 201);
    add("PUT", &format!("{s9}/servers/10.0.0.1:80"), server(1), 404);
    add("POST", &servers, server(3), 201);
    add("POST", &servers, server(4), 507);
    add("PUT", &one(4), server(4), 507);
    add("POST", &format!("{}/drain", one(1)), none(), 202);
    add("POST", &format!("{}/drain", one(2)), json!({"deadline_s": 5}).to_string(), 202);
    add("POST", &format!("{}/drain", one(2)), json!({"deadline": 5}).to_string(), 400);
    add("POST", &format!("{}/drain", one(9)), none(), 404);
    let state = |n| format!("{}/state", one(n));
    add("PUT", &state(1), json!({"state": "drain", "drain_timeout_s": 5}).to_string(), 200);
    add("PUT", &state(1), json!({"state": "up"}).to_string(), 200);
    add("PUT", &state(1), json!({"state": "gone"}).to_string(), 400);
    add("PUT", &state(9), json!({"state": "down"}).to_string(), 404);
    add("PUT", &state(1), json!({"state": "drain", "drain_timeout_s": 2_678_401}).to_string(), 422);
    add("DELETE", &one(1), none(), 204);
    add("DELETE", &one(1), none(), 404);
    add("DELETE", &format!("{servers}/10.0.0.1"), none(), 400);

    let all = json!([
        {"command": "clear"},
        {"command": "add-service", "service": "fwm6:7", "scheduler": "rr"},
        {"command": "edit-service", "service": "fwm6:7"},
        {"command": "add-server", "service": "fwm6:7", "server": {"address": "[2001:db8::1]:80"}},
        {"command": "edit-server", "service": "fwm6:7", "server": {"address": "[2001:db8::1]:80", "tunnel": {"type": "gre", "checksum": "full"}, "forward": "tun"}},
        {"command": "drain-server", "service": "fwm6:7", "server": "[2001:db8::1]:80", "deadline_s": 9},
        {"command": "set-server-state", "service": "fwm6:7", "server": "[2001:db8::1]:80", "state": "down"},
        {"command": "set-switch", "service": "fwm6:7", "name": "slow_start_s", "value": "30"},
        {"command": "delete-server", "service": "fwm6:7", "server": "[2001:db8::1]:80"},
        {"command": "zero", "service": "fwm6:7"},
        {"command": "set-timeouts", "tcp_s": 0, "tcp_fin_s": 0, "udp_s": 0},
        {"command": "set-tunable", "name": "sloppy_tcp", "value": 1},
        {"command": "add-mark", "mark": 7, "protocol": "udp", "destination": "2001:db8::/64"},
        {"command": "delete-mark", "mark": 7, "protocol": "udp", "destination": "2001:db8::/64"},
        {"command": "delete-service", "service": "fwm6:7"},
        {"command": "add-service", "service": "tcp:192.0.2.10:81"},
    ]);
    add("POST", "/v1/commands", batch("all", all), 200);
    add("POST", "/v1/commands", batch("each", there.clone()), 200);
    add("POST", "/v1/commands", batch("all", there), 409);
    add("POST", "/v1/commands", batch("all", missing), 404);
    add(
        "POST",
        "/v1/commands",
        batch("all", json!([{"command": "set-tunable", "name": "sloppy_tcp", "value": 9}])),
        422,
    );
    let many: Vec<_> =
        (0..4).map(|n| json!({"command": "add-service", "service": format!("fwm:{}", n + 1)})).collect();
    add("POST", "/v1/commands", batch("all", many.into()), 507);
    add("POST", "/v1/commands", batch("some", json!([])), 400);

    add("POST", "/v1/counters/zero", none(), 204);
    add("PUT", "/v1/tunables/sloppy_tcp", json!({"value": 1}).to_string(), 200);
    add("PUT", "/v1/tunables/sloppy_tcp", json!({"value": 2}).to_string(), 422);
    add("PUT", "/v1/tunables/sloppy_tcp", json!({"value": "1"}).to_string(), 400);
    add("PUT", "/v1/tunables/sloppy", json!({"value": 1}).to_string(), 404);
    add("PUT", "/v1/timeouts", json!({"tcp_s": 1, "tcp_fin_s": 2, "udp_s": 3}).to_string(), 200);
    add("PUT", "/v1/timeouts", json!({"tcp_s": 2_000_000, "tcp_fin_s": 2, "udp_s": 3}).to_string(), 422);
    add("PUT", "/v1/timeouts", json!({"tcp_s": 1}).to_string(), 400);
    for n in 1..=3 {
        add("POST", "/v1/marks", mark(n), 201);
    }
    add("POST", "/v1/marks", mark(4), 507);
    add("POST", "/v1/marks", mark(0), 400);
    add("POST", "/v1/marks", upside_down, 422);
    add("GET", "/v1/marks", none(), 200);
    let rule = "/v1/marks?mark=1&protocol=tcp&destination=192.0.2.0/24&port_first=80&source=10.0.0.0%2F8";
    add("DELETE", rule, none(), 204);
    add("DELETE", rule, none(), 404);
    add("DELETE", "/v1/marks?mark=1", none(), 400);
    add("POST", "/v1/reload", none(), 200);
    add("POST", "/v1/reload?dry_run=true", none(), 200);
    add("POST", "/v1/reload?dry_run=maybe", none(), 400);
    list
}

/// Every operation with its statuses, but for those that all have.
fn documented(document: &Document) -> BTreeMap<String, BTreeSet<u16>> {
    let statuses = |operation: &Value| {
        let all = operation["responses"].as_object().unwrap().keys();
        all.filter(|status| !ALWAYS.contains(&status.as_str()))
            .map(|status| status.parse().unwrap())
            .collect()
    };
    let operations = document.paths().iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| Some((format!("{method} {path}"), item.get(method)?)))
    });
    operations.map(|(name, operation)| (name, statuses(operation))).collect()
}

#[test]
fn every_answer_is_one_that_the_document_has_and_every_one_it_has_is_given() {
    let served = Served::new(20);
    let document = Document::new();
    let mut given: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let mut note = |method: &str, path: &str, answer: &Answer| {
        document.check(method, path, answer);
        let name = format!("{} {}", method.to_lowercase(), document.template(path));
        given.entry(name).or_default().insert(answer.status);
    };
    for (method, path, body, status) in asked() {
        let answer = ask(&served.socket, method, &path, &body);
        assert_eq!(answer.status, status, "{method} {path} {body}: `{}`", answer.body.escape_ascii());
        note(method, &path, &answer);
        if status < 300 && !body.is_empty() {
            document.check_request(method, &path, &body);
        }
    }
    for (code, status) in [(Code::Invalid, 422), (Code::Host, 500)] {
        served.plane.lock().unwrap().file_is = Some(code);
        for (method, path) in [("POST", "/v1/reload"), ("GET", "/v1/drift")] {
            let answer = ask(&served.socket, method, path, "");
            assert_eq!(answer.status, status);
            note(method, path, &answer);
        }
    }
    let lines = request("GET", "/v1/connections", "Accept: text/html, application/x-ndjson;q=0.9\r\n", b"");
    let lines = Answer::parse(&exchange(&served.socket, &lines));
    assert_eq!(lines.body.iter().filter(|&&b| b == b'\n').count(), 20);
    note("GET", "/v1/connections", &lines);
    assert_eq!(given, documented(&document));
}

#[test]
fn what_is_not_there_is_answered_with_what_is_to_be_done() {
    let served = Served::new(0);
    let missing = |path: &str| {
        let answer = ask(&served.socket, "GET", path, "");
        (answer.status, answer.json()["error"]["message"].as_str().unwrap().to_owned())
    };
    let (status, message) = missing("/v1/services/fwm:77");
    assert!(status == 404 && message.contains("fwm:77: add it first"), "{message}");
    let services = ask(&served.socket, "POST", "/v1/services", r#"{"service": "fwm:77"}"#);
    assert_eq!(services.status, 201);
    let (status, message) = missing("/v1/services/fwm:77/servers/10.0.0.1:0");
    assert!(status == 404 && message.contains("10.0.0.1:0 in service fwm:77: add it first"), "{message}");
}

#[test]
fn every_path_is_in_the_document_and_nothing_else_is_served() {
    let served = Served::new(0);
    let document = Document::new();
    for (path, item) in document.paths() {
        let path =
            path.replace("{service}", "fwm:5").replace("{address}", "10.0.0.1:80").replace("{name}", "x");
        let answer = ask(&served.socket, "PATCH", &path, "");
        assert_eq!((answer.status, answer.code().as_str()), (405, "no-such-method"), "{path}");
        let allowed: BTreeSet<String> = answer
            .header("allow")
            .split(',')
            .map(|m| m.trim().to_lowercase())
            .filter(|m| m != "head")
            .collect();
        let documented: BTreeSet<String> =
            METHODS.iter().filter(|m| item.get(m).is_some()).map(ToString::to_string).collect();
        assert_eq!(allowed, documented, "{path}");
    }
    for path in
        ["/", "/v1", "/v1/", "/v2/info", "/v1/services/", "/v1/info/more", "/v1/../v1/info", "//v1/info"]
    {
        let answer = ask(&served.socket, "GET", path, "");
        assert_eq!((answer.status, answer.code().as_str()), (404, "no-such-path"), "{path}");
    }
}

/// axum does not tell its routes: all are added in a way that puts them into the document.
#[test]
fn no_route_goes_past_the_document() {
    let router = include_str!("../../src/control/api/router.rs");
    for past in [".route(", ".route_service(", ".nest", ".merge(", ".fallback_service("] {
        assert!(!router.contains(past), "{past}");
    }
    assert!(router.contains(".routes(routes!("));
}

#[test]
fn the_document_says_what_errors_look_like_everywhere() {
    let document = Document::new();
    assert!(document.0["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document.paths() {
        for operation in METHODS.iter().filter_map(|method| item.get(method)) {
            assert!(operation["summary"].is_string(), "{path} {operation}");
            for status in ALWAYS {
                let body = &operation["responses"][status]["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(body, "#/components/schemas/ErrorBody", "{path}");
            }
        }
    }
}
