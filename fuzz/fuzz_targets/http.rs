//! Requests to a node: every operation of its OpenAPI document, with anything in paths, queries, headers and bodies. Whatever
//! they are, they are answered, and never with 500.
//!
//! Run with `cargo +nightly fuzz run http -- -max_total_time=60`: what is written stays until the run is over.
#![no_main]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request};
use folio_node::access::Access;
use folio_node::{Limits, Node, NodeOptions, api};
use folio_raft::Config;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Left out: what waits for a node that is not there.
const LEFT_OUT: [&str; 2] = ["add_member", "enter"];

#[derive(Arbitrary, Debug)]
struct Case {
    operation: u8,
    /// What stands for the parameters of the path.
    places: Vec<Text>,
    query: Vec<(u8, Text)>,
    header: Option<(u8, Vec<u8>)>,
    body: Content,
}

#[derive(Arbitrary, Debug)]
enum Text {
    Number(u64),
    /// A vault that is there.
    One,
    Bytes(Vec<u8>),
    /// As it is, without percents.
    Raw(String),
    /// The token of the last page.
    Token {
        altered: Option<(u8, u8)>,
    },
}

#[derive(Arbitrary, Debug)]
enum Content {
    Nothing,
    Bytes(Vec<u8>),
    Transaction {
        conditions: Vec<(Key, Json)>,
        operations: Vec<Operation>,
        /// Whether in one that is open, and its place there.
        session: Option<(bool, u8)>,
    },
    Json(Json),
}

#[derive(Arbitrary, Debug)]
enum Key {
    Text(String),
    Bytes(Vec<u8>),
    Json(Json),
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Set(Key, Key, Option<u64>),
    Delete(Key),
    Relate(String, String, String),
    Unrelate(String, String, String),
    Json(Json),
}

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(i64),
    Float(f64),
    Text(String),
    /// One of the names that the document has.
    Name(u16),
    List(Vec<Json>),
    Object(Vec<(u16, Json)>),
}

struct World {
    runtime: tokio::runtime::Runtime,
    router: Router,
    /// Method, path, and the names of the parameters in the query.
    operations: Vec<(Method, String, Vec<String>)>,
    /// The names of members in the document.
    names: Vec<String>,
    token: String,
    /// The id of a session.
    session: String,
    _directory: tempfile::TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = folio_fuzz::runtime();
        let directory = tempfile::tempdir().expect("a directory");
        let router = runtime.block_on(router(directory.path()));
        let ask = |method: &str, path: &str, body: Value| {
            let request = Request::builder().method(method).uri(path);
            let request = request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string()))
                .expect("a request");
            let answering = async {
                let answer = router.clone().oneshot(request).await.expect("answered");
                let body = to_bytes(answer.into_body(), usize::MAX)
                    .await
                    .expect("whole");
                serde_json::from_slice::<Value>(&body).expect("JSON")
            };
            runtime.block_on(answering)
        };
        ask("POST", "/v1/vaults", json!({ "name": "v", "retention": 3 }));
        let set = |key: &str| json!({ "set": { "key": key, "value": "x" } });
        let two = json!({ "operations": [set("a"), set("b")] });
        ask("POST", "/v1/vaults/1/transactions", two);
        let page = ask("GET", "/v1/vaults/1/entities?limit=1", Value::Null);
        let token = page["next"].as_str().expect("there is more").to_owned();
        let opened = ask("POST", "/v1/sessions", Value::Null);
        let session = opened["session"].as_str().expect("an id").to_owned();
        let document = ask("GET", "/v1/openapi.json", Value::Null);
        let mut names = Vec::new();
        member_names(&document["components"], &mut names);
        names.sort();
        names.dedup();
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let id = operation["operationId"].as_str().expect("a name");
                if LEFT_OUT.contains(&id) {
                    continue;
                }
                let parameters = operation["parameters"].as_array();
                let named = parameters
                    .into_iter()
                    .flatten()
                    .filter(|p| p["in"] == "query");
                let named = named.filter_map(|p| Some(p["name"].as_str()?.to_owned()));
                let method = method.to_uppercase().parse().expect("a method");
                operations.push((method, path.clone(), named.collect()));
            }
        }
        World {
            runtime,
            router,
            operations,
            names,
            token,
            session,
            _directory: directory,
        }
    })
}

async fn router(directory: &std::path::Path) -> Router {
    let options = NodeOptions {
        id: 1,
        file: directory.join("node.folio"),
        cluster: "fuzz".to_owned(),
        peer_listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        cache_bytes: folio_node::DEFAULT_CACHE_BYTES,
        raft: Config::default(),
    };
    let node = Node::start(options).await.expect("started");
    let members = [(1, node.peer_address().to_string())].into();
    node.form_cluster(members).await.expect("new");
    let leads = node.ledger().wait_for_leader(Duration::from_secs(60)).await;
    leads.expect("it leads");
    api::router(node, BTreeMap::new(), Access::open(), &Limits::default())
}

fn member_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(properties) = members.get("properties").and_then(Value::as_object) {
                names.extend(properties.keys().cloned());
            }
            for constant in members
                .get("enum")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                names.extend(constant.as_str().map(str::to_owned));
            }
            members
                .values()
                .for_each(|member| member_names(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| member_names(item, names)),
        _ => {}
    }
}

impl Text {
    fn write(&self, token: &str, to: &mut String) {
        let encoded = |bytes: &[u8], to: &mut String| {
            for byte in bytes {
                write!(to, "%{byte:02x}").expect("it is a string");
            }
        };
        match self {
            Text::Number(number) => to.push_str(&number.to_string()),
            Text::One => to.push('1'),
            Text::Bytes(bytes) => encoded(bytes, to),
            Text::Raw(text) => to.push_str(text),
            Text::Token { altered } => {
                let mut token = token.as_bytes().to_vec();
                if let Some((at, byte)) = altered {
                    let at = usize::from(*at) % token.len();
                    token[at] = *byte;
                }
                encoded(&token, to);
            }
        }
    }
}

impl Json {
    fn value(&self, names: &[String]) -> Value {
        let name = |number: &u16| names[usize::from(*number) % names.len()].clone();
        match self {
            Json::Null => Value::Null,
            Json::Bool(value) => (*value).into(),
            Json::Number(value) => (*value).into(),
            Json::Float(value) => (*value).into(),
            Json::Text(value) => value.clone().into(),
            Json::Name(number) => name(number).into(),
            Json::List(items) => items.iter().map(|item| item.value(names)).collect(),
            Json::Object(members) => {
                let members = members.iter();
                let members = members.map(|(number, value)| (name(number), value.value(names)));
                Value::Object(members.collect())
            }
        }
    }
}

impl Key {
    fn value(&self, names: &[String]) -> Value {
        use base64::Engine;

        match self {
            Key::Text(text) => text.clone().into(),
            Key::Bytes(bytes) => {
                json!({ "base64": base64::prelude::BASE64_STANDARD.encode(bytes) })
            }
            Key::Json(value) => value.value(names),
        }
    }
}

impl Content {
    fn bytes(&self, names: &[String], open: &str) -> Vec<u8> {
        let value = match self {
            Content::Nothing => return Vec::new(),
            Content::Bytes(bytes) => return bytes.clone(),
            Content::Json(value) => value.value(names),
            Content::Transaction {
                conditions,
                operations,
                session,
            } => {
                let conditions = conditions.iter();
                let conditions = conditions.map(
                    |(key, must)| json!({ "entity": key.value(names), "must": must.value(names) }),
                );
                let relation = |r: &str, l: &str, s: &str| json!({ "resource": r, "relation": l, "subject": s });
                let operations = operations.iter().map(|operation| match operation {
                    Operation::Set(key, value, end) => json!({
                        "set": { "key": key.value(names), "value": value.value(names), "expires_at": end }
                    }),
                    Operation::Delete(key) => json!({ "delete": { "key": key.value(names) } }),
                    Operation::Relate(r, l, s) => json!({ "relate": relation(r, l, s) }),
                    Operation::Unrelate(r, l, s) => json!({ "unrelate": relation(r, l, s) }),
                    Operation::Json(value) => value.value(names),
                });
                let session = session.map(|(opened, sequence)| {
                    let id = if opened { open } else { "none" };
                    json!({ "id": id, "sequence": sequence })
                });
                json!({
                    "conditions": conditions.collect::<Vec<_>>(),
                    "operations": operations.collect::<Vec<_>>(),
                    "session": session,
                })
            }
        };
        value.to_string().into_bytes()
    }
}

fuzz_target!(|case: Case| {
    let world = world();
    let operation = usize::from(case.operation) % world.operations.len();
    let (method, path, parameters) = &world.operations[operation];
    let mut target = String::new();
    let mut places = case.places.iter();
    let mut parts = path.split('{');
    target.push_str(parts.next().unwrap_or_default());
    for part in parts {
        places
            .next()
            .unwrap_or(&Text::One)
            .write(&world.token, &mut target);
        target.push_str(part.split_once('}').expect("it ends").1);
    }
    for (number, (name, value)) in case.query.iter().enumerate() {
        target.push(if number == 0 { '?' } else { '&' });
        let known = parameters.get(usize::from(*name) % (parameters.len() + 1));
        target.push_str(known.map_or("other", |name| name));
        target.push('=');
        value.write(&world.token, &mut target);
    }
    let request = Request::builder().method(method).uri(&target);
    let mut request = request.header("content-type", "application/json");
    if let Some((which, value)) = &case.header
        && let Ok(value) = HeaderValue::from_bytes(value)
    {
        let names = [
            "last-event-id",
            "authorization",
            "content-length",
            "content-type",
        ];
        let name = names[usize::from(*which) % names.len()];
        request = request.header(HeaderName::from_static(name), value);
    }
    let body = Body::from(case.body.bytes(&world.names, &world.session));
    // What is no URI at all does not get to a router.
    let Ok(request) = request.body(body) else {
        return;
    };
    let answer = world
        .runtime
        .block_on(world.router.clone().oneshot(request));
    let status = answer.expect("it is answered").status();
    assert!(status.as_u16() != 500, "{method} {target}: {status}");
});
