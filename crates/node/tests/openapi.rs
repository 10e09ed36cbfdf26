//! The OpenAPI document that a node serves, and whether the node keeps to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/schema.rs"]
mod schema;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::{Answer, PATIENCE, get, send, start_cluster};
use schema::Document;
use serde_json::{Value, json};

async fn document(address: SocketAddr) -> Document {
    let answer = get(address, "/v1/openapi.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Document(answer.body)
}

/// Every operation: path, method, and what is said of it.
fn operations(document: &Document) -> Vec<(&str, &str, &Value)> {
    let paths = document.0["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods
                .iter()
                .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

/// All references in a value.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members
                .values()
                .for_each(|member| references(member, found));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let document = document(servers[0].address).await;
    assert_eq!(document.0["openapi"], "3.1.0");

    let mut found = BTreeSet::new();
    references(&document.0, &mut found);
    for reference in &found {
        document.resolve(reference);
    }
    let schemas = document.0["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        let reference = format!("#/components/schemas/{name}");
        assert!(found.contains(reference.as_str()), "nothing uses {name}");
    }

    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "two operations are called {name}");
        assert!(operation["summary"].is_string(), "{method} {path}");
        let parameters = operation["parameters"].as_array();
        let parameters = parameters.map_or(&[][..], Vec::as_slice);
        for parameter in parameters {
            assert!(
                parameter["description"].is_string() || parameter["schema"]["$ref"].is_string(),
                "{path}: {parameter}"
            );
        }
        let declared: Vec<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let parts = path.split('{').skip(1);
        let in_path: Vec<&str> = parts.map(|part| part.split_once('}').unwrap().0).collect();
        assert_eq!(declared, in_path, "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{method} {path}"
        );
    }
}

/// A node, its document, and the operations that it was asked for.
struct Check {
    address: SocketAddr,
    document: Document,
    asked: BTreeSet<String>,
}

impl Check {
    /// Sends a request and holds the answer against what the document says of operation `name`.
    async fn ask(&mut self, name: &str, request: &str, body: Option<Value>) -> Answer {
        let (method, target) = request.split_once(' ').unwrap();
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let kind = match body.is_empty() {
            true => "",
            false => "Content-Type: application/json\r\n",
        };
        let length = body.len();
        let answer = send(self.address, &format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.hold(name, &answer);
        let (path, said, _) = self.operation(name);
        assert_eq!(said, method.to_lowercase(), "{name}");
        let template: Vec<&str> = path.split('/').collect();
        let sent = target.split('?').next().unwrap();
        for (part, sent) in template.iter().zip(sent.splitn(template.len(), '/')) {
            assert!(
                part.starts_with('{') || *part == sent,
                "{name} is not {request}"
            );
        }
        self.asked.insert(name.to_owned());
        answer
    }

    fn operation(&self, name: &str) -> (&str, &str, &Value) {
        let named = |(_, _, operation): &(&str, &str, &Value)| operation["operationId"] == name;
        let found = operations(&self.document).into_iter().find(named);
        found.unwrap_or_else(|| panic!("the document has no operation {name}"))
    }

    fn hold(&self, name: &str, answer: &Answer) {
        let (_, _, operation) = self.operation(name);
        let response = &operation["responses"][answer.status.to_string()];
        assert!(
            response.is_object(),
            "{name}: no status {}: {answer:?}",
            answer.status
        );
        let kind = answer.headers["content-type"].split(';').next().unwrap();
        let content = &response["content"][kind];
        assert!(
            content.is_object(),
            "{name}: no {kind} with {}",
            answer.status
        );
        let checked = self.document.check(&content["schema"], &answer.body);
        assert!(checked.is_ok(), "{name}: {}", checked.unwrap_err());
        if let Some(codes) = content["x-codes"].as_array() {
            assert!(codes.contains(&answer.body["code"]), "{name}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    let mut node = Check {
        address,
        document: document(address).await,
        asked: BTreeSet::new(),
    };

    let opened = node.ask("open_session", "POST /v1/sessions", None).await;
    let session = opened.body["session"].as_str().unwrap();
    let place = |sequence: u64| json!({ "id": session, "sequence": sequence });
    let body = json!({ "name": "first", "retention": 10, "session": place(1) });
    node.ask("create_vault", "POST /v1/vaults", Some(body))
        .await;
    node.ask(
        "create_vault",
        "POST /v1/vaults",
        Some(json!({ "name": "second" })),
    )
    .await;
    node.ask(
        "create_vault",
        "POST /v1/vaults",
        Some(json!({ "name": "x".repeat(256) })),
    )
    .await;
    node.ask("list_vaults", "GET /v1/vaults?limit=1", None)
        .await;
    node.ask("list_vaults", "GET /v1/vaults?limit=0", None)
        .await;
    node.ask("get_vault", "GET /v1/vaults/1?read=lease", None)
        .await;
    node.ask("get_vault", "GET /v1/vaults/7", None).await;
    node.ask("get_vault", "GET /v1/vaults/x", None).await;
    let names = json!({ "resource": "car:1", "relation": "owner", "subject": "user:7" });
    let body = json!({
        "session": place(2),
        "conditions": [
            { "entity": "a/b", "must": "not_exist" },
            { "relationship": names, "must": "not_exist" },
        ],
        "operations": [
            { "set": { "key": "a/b", "value": { "base64": "/w==" }, "expires_at": 4_000_000_000_000_000u64 } },
            { "set": { "key": { "base64": "/wA=" }, "value": "blue" } },
            { "delete": { "key": "c" } },
            { "relate": names },
            { "unrelate": { "resource": "r", "relation": "l", "subject": "s" } },
        ],
    });
    let submit = "POST /v1/vaults/1/transactions";
    node.ask("submit", submit, Some(body.clone())).await;
    node.ask("submit", submit, Some(json!({ "operations": [] })))
        .await;
    let failing = json!({
        "conditions": [{ "entity": "a/b", "must": { "have_version": 7 } }],
        "operations": [{ "set": { "key": "a/b", "value": "" } }],
    });
    let failed = node.ask("submit", submit, Some(failing)).await;
    assert_eq!(failed.code(), "condition_failed");
    node.ask("submit", submit, Some(json!({ "operation": [] })))
        .await;
    let unknown =
        json!({ "session": { "id": "none", "sequence": 1 }, "operations": body["operations"] });
    node.ask("submit", submit, Some(unknown)).await;
    let set = json!({ "operations": [{ "set": { "key": "a/b", "value": "c" } }] });
    node.ask("submit", submit, Some(set)).await;

    for request in [
        "GET /v1/vaults/1/entities?limit=1",
        "GET /v1/vaults/1/entities?prefix=a&read=local",
        "GET /v1/vaults/1/entities?after=nonsense",
        "GET /v1/vaults/1/entities?read=nonsense",
    ] {
        node.ask("list_entities", request, None).await;
    }
    for request in [
        "GET /v1/vaults/1/entities/a/b",
        "GET /v1/vaults/1/entities/%ff%00",
        "GET /v1/vaults/1/entities/a%2Fb?height=1",
        "GET /v1/vaults/1/entities/a%2Fb?height=9",
        "GET /v1/vaults/1/entities/none",
    ] {
        node.ask("get_entity", request, None).await;
    }
    node.ask("entity_history", "GET /v1/vaults/1/history/a%2Fb", None)
        .await;
    node.ask(
        "list_relationships",
        "GET /v1/vaults/1/relationships?resource=car:1&order=backwards",
        None,
    )
    .await;
    node.ask(
        "list_relationships",
        "GET /v1/vaults/1/relationships?resource=a&subject=b",
        None,
    )
    .await;
    node.ask("get_block", "GET /v1/vaults/1/blocks/1?limit=1", None)
        .await;
    node.ask("get_block", "GET /v1/vaults/1/blocks/0", None)
        .await;
    node.ask("get_block", "GET /v1/vaults/1/blocks/9", None)
        .await;
    for request in [
        "GET /v1/vaults/1/proofs/entities/a%2Fb",
        "GET /v1/vaults/1/proofs/entities/none",
    ] {
        node.ask("prove_entity", request, None).await;
    }
    let names = "resource=car:1&relation=owner&subject=user:7";
    node.ask(
        "prove_relationship",
        &format!("GET /v1/vaults/1/proofs/relationships?{names}"),
        None,
    )
    .await;
    node.ask(
        "prove_transaction",
        "GET /v1/vaults/1/proofs/transactions/1/0",
        None,
    )
    .await;
    node.ask(
        "prove_transaction",
        "GET /v1/vaults/1/proofs/transactions/1/7",
        None,
    )
    .await;
    node.ask("prove_block", "GET /v1/vaults/1/proofs/blocks/1", None)
        .await;
    node.ask(
        "prove_block",
        "GET /v1/vaults/1/proofs/blocks/1?head=0",
        None,
    )
    .await;
    node.ask(
        "prove_extension",
        "GET /v1/vaults/1/proofs/extensions?from=0",
        None,
    )
    .await;
    node.ask(
        "prove_extension",
        "GET /v1/vaults/1/proofs/extensions?from=9",
        None,
    )
    .await;
    node.ask(
        "change_vault",
        "PATCH /v1/vaults/1",
        Some(json!({ "retention": 3 })),
    )
    .await;
    // A copy is no JSON; `tests/backup.rs` has some.
    node.ask("get_backup", "GET /v1/backup?since=nonsense", None)
        .await;
    node.ask("delete_vault", "DELETE /v1/vaults/2", None).await;
    node.ask("delete_vault", "DELETE /v1/vaults/2?session=1", None)
        .await;
    node.ask("get_vault", "GET /v1/vaults/2", None).await;
    // A vault that is gone has a feed that is refused; what events hold, the next test checks.
    node.ask("changes", "GET /v1/vaults/2/changes", None).await;
    node.ask(
        "allocate_numbers",
        "POST /v1/numbers",
        Some(json!({ "counter": "user", "count": 3 })),
    )
    .await;
    node.ask(
        "allocate_numbers",
        "POST /v1/numbers",
        Some(json!({ "counter": "user", "count": 0 })),
    )
    .await;
    node.ask("last_numbers", "GET /v1/numbers", None).await;
    let close = format!("DELETE /v1/sessions/{session}?sequence=3");
    for _ in 0..2 {
        node.ask("close_session", &close, None).await;
    }

    node.ask("list_members", "GET /v1/members", None).await;
    let nobody = json!({ "id": 0, "address": "127.0.0.1:1" });
    node.ask("add_member", "POST /v1/members", Some(nobody))
        .await;
    let learner = json!({ "id": 2, "address": "127.0.0.1:1", "votes": false });
    node.ask("add_member", "POST /v1/members", Some(learner))
        .await;
    node.ask(
        "change_member",
        "PATCH /v1/members/2",
        Some(json!({ "address": "127.0.0.1:2" })),
    )
    .await;
    node.ask("get_status", "GET /v1/status", None).await;
    node.ask("remove_member", "DELETE /v1/members/2", None)
        .await;
    // No member says where its API is, so nobody could use an invitation.
    node.ask("invite", "POST /v1/invitations", Some(json!({})))
        .await;
    let moved = json!({ "address": "127.0.0.1:9", "api": "127.0.0.1:7001" });
    node.ask("change_member", "PATCH /v1/members/1", Some(moved))
        .await;
    let invited = node
        .ask("invite", "POST /v1/invitations", Some(json!({})))
        .await;
    let invitation = &invited.body["invitation"];
    for (invitation, expected) in [(invitation.clone(), 201), (json!("made up"), 403)] {
        let asked = json!({ "invitation": invitation });
        let answer = node
            .ask("ask_for_id", "POST /v1/join", Some(asked.clone()))
            .await;
        assert_eq!(answer.status, expected, "{answer:?}");
        let newcomer = json!({ "invitation": invitation, "address": "nowhere" });
        node.ask("enter", "POST /v1/join/3", Some(newcomer)).await;
    }
    node.ask(
        "transfer_leadership",
        "POST /v1/leader",
        Some(json!({ "id": 7 })),
    )
    .await;
    node.ask("get_started", "GET /v1/health/started", None)
        .await;
    node.ask("get_live", "GET /v1/health/live", None).await;
    node.ask("get_ready", "GET /v1/health/ready", None).await;
    servers[0].node.leave();
    node.ask("get_ready", "GET /v1/health/ready", None).await;
    node.ask("get_metrics", "GET /metrics", None).await;
    node.ask("start_verification", "POST /v1/verification", None)
        .await;
    node.ask("get_verification", "GET /v1/verification", None)
        .await;
    node.ask("stop_verification", "DELETE /v1/verification", None)
        .await;
    node.ask("take_snapshot", "POST /v1/snapshot", None).await;
    node.ask("rebuild", "POST /v1/rebuild", None).await;
    node.ask("get_page", "GET /", None).await;
    node.ask("get_openapi", "GET /v1/openapi.json", None).await;

    let all: BTreeSet<String> = operations(&node.document)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(node.asked, all, "each operation was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_feed_are_what_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    let document = document(address).await;
    common::post(address, "/v1/vaults", &json!({ "name": "first" })).await;
    let set = json!({ "operations": [{ "set": { "key": "a", "value": "b" } }] });
    common::post(address, "/v1/vaults/1/transactions", &set).await;
    let deleted = "DELETE /v1/vaults/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

    let mut feed = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /v1/vaults/1/changes HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut feed, request.as_bytes())
        .await
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(feed));
    let operation = &document.0["paths"]["/v1/vaults/{vault}/changes"]["get"];
    let content = &operation["responses"]["200"]["content"]["text/event-stream"];
    let (mut kind, mut seen) = (String::new(), BTreeSet::new());
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
    {
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name.to_owned();
        }
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let data = serde_json::from_str(data).unwrap();
        let checked = document.check(&content["x-events"][&kind], &data);
        assert!(checked.is_ok(), "{kind}: {}", checked.unwrap_err());
        if kind == "block" && data["header"]["height"] == 1 {
            assert_eq!(send(address, deleted).await.status, 200);
        }
        seen.insert(kind.clone());
    }
    assert_eq!(
        seen,
        ["block", "transaction", "vault_deleted"]
            .map(str::to_owned)
            .into()
    );
}
