//! The HTTP API, over a socket.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use common::{
    Answer, PATIENCE, Server, applied, delete, free_port, get, leader, open_session, post, post_as,
    send, serve, start_cluster, start_cluster_with, start_node,
};
use folio_node::access::Access;
use folio_raft::Config;
use serde_json::{Value, json};

/// A one-node cluster with a vault, number 1.
async fn with_vault(directory: &tempfile::TempDir) -> SocketAddr {
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    let created = post(address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!(
        (created.status, &created.body["vault"]),
        (201, &json!(1)),
        "{created:?}"
    );
    address
}

async fn submit(address: SocketAddr, body: Value) -> Answer {
    post(address, "/v1/vaults/1/transactions", &body).await
}

fn keys(answer: &Answer) -> Vec<&str> {
    let items = answer.body["items"].as_array().expect("a page");
    items
        .iter()
        .map(|item| item["key"].as_str().expect("the key is text"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_for_a_snapshot_has_a_shorter_log_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config {
        log_entries_kept: 0,
        ..Config::default()
    };
    let servers = start_cluster_with(directory.path(), 1, true, &config).await;
    let address = servers[0].address;
    post(address, "/v1/vaults", &json!({ "name": "first" })).await;
    // As many as are purged at a time.
    for _ in 0..256 {
        let set = json!({ "operations": [{ "set": { "key": "a", "value": "b" } }] });
        submit(address, set).await;
    }
    let before = get(address, "/v1/status").await;
    assert!(before.body["purged"].as_u64() < Some(256), "{before:?}");
    let accepted = post(address, "/v1/snapshot", &Value::Null).await;
    assert_eq!((accepted.status, &accepted.body["node"]), (202, &json!(1)));
    let taken = async {
        while get(address, "/v1/status").await.body["purged"].as_u64() < Some(256) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .expect("it is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_sets_can_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;

    let done = submit(
        address,
        json!({
            "conditions": [{ "entity": "a/b", "must": "not_exist" }],
            "operations": [
                { "set": { "key": "a/b", "value": "blue" } },
                { "set": { "key": { "base64": "/wA=" }, "value": { "base64": "/w==" } } },
                { "relate": { "resource": "car:1", "relation": "owner", "subject": "user:7" } },
            ],
        }),
    )
    .await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body["height"], 1);
    assert_eq!(done.body["outcomes"][2]["outcome"], "relationship_created");

    let entity = get(address, "/v1/vaults/1/entities/a/b").await;
    assert_eq!(
        (entity.status, entity.body),
        (200, json!({ "key": "a/b", "value": "blue", "version": 1 }))
    );
    let bytes = get(address, "/v1/vaults/1/entities/%ff%00?read=local").await;
    assert_eq!(
        bytes.body["value"],
        json!({ "base64": "/w==" }),
        "{bytes:?}"
    );

    let of_car = get(address, "/v1/vaults/1/relationships?resource=car:1").await;
    let owner = json!({ "resource": "car:1", "relation": "owner", "subject": "user:7" });
    assert_eq!(of_car.body, json!({ "items": [owner] }));
    assert_eq!(
        get(
            address,
            "/v1/vaults/1/relationships?subject=user:7&relation=owner"
        )
        .await
        .body,
        of_car.body
    );
    let none = get(
        address,
        "/v1/vaults/1/relationships?subject=user:7&relation=driver",
    )
    .await;
    assert_eq!(none.body, json!({ "items": [] }));

    let vault = get(address, "/v1/vaults/1").await;
    let block = get(address, "/v1/vaults/1/blocks/1").await;
    assert_eq!(block.body["hash"], vault.body["block_hash"], "{block:?}");
    assert_eq!(block.body["header"]["state_root"], vault.body["state_root"]);
    assert_eq!(
        block.body["transactions"][0]["operations"][0]["set"]["key"],
        "a/b"
    );
    assert_eq!(
        get(address, "/v1/vaults").await.body["items"][0],
        vault.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_that_join_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let set = |key: &str| json!({ "set": { "key": key, "value": "" } });
    let relate = |subject: &str| json!({ "relate": { "resource": "r", "relation": "l", "subject": subject } });
    let operations = [
        set("p:1"),
        set("p:2"),
        set("p:3"),
        set("q"),
        relate("s1"),
        relate("s2"),
        relate("s3"),
    ];
    assert_eq!(
        submit(address, json!({ "operations": operations }))
            .await
            .status,
        200
    );

    let first = get(address, "/v1/vaults/1/entities?prefix=p:&limit=2").await;
    assert_eq!(keys(&first), ["p:1", "p:2"]);
    let next = first.body["next"].as_str().expect("there is more");
    let second = get(
        address,
        &format!("/v1/vaults/1/entities?prefix=p:&limit=2&after={next}"),
    )
    .await;
    assert_eq!(
        (keys(&second), &second.body["next"]),
        (vec!["p:3"], &Value::Null)
    );

    let first = get(address, "/v1/vaults/1/relationships?resource=r&limit=2").await;
    let next = first.body["next"].as_str().expect("there is more");
    let second = get(
        address,
        &format!("/v1/vaults/1/relationships?resource=r&limit=2&after={next}"),
    )
    .await;
    assert_eq!(second.body["items"][0]["subject"], "s3", "{second:?}");
    assert_eq!(second.body["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_transaction_happens_once_in_a_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let session = open_session(address).await;
    let body = |sequence: u64| {
        json!({
            "session": { "id": session, "sequence": sequence },
            "operations": [{ "set": { "key": "a", "value": "b" } }],
        })
    };
    let first = submit(address, body(1)).await;
    let again = submit(address, body(1)).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_eq!(
        get(address, "/v1/vaults/1/entities/a").await.body["version"],
        1
    );
    assert_eq!(
        submit(address, body(2)).await.body["outcomes"][0]["version"],
        2
    );
    assert_eq!(submit(address, body(1)).await.code(), "stale_sequence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_fails_is_named_and_nothing_is_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let refused = submit(address, json!({
        "conditions": [{ "entity": "a", "must": "not_exist" }, { "entity": "a", "must": { "have_version": 2 } }],
        "operations": [{ "set": { "key": "a", "value": "b" } }],
    }))
    .await;
    assert_eq!((refused.status, refused.code()), (409, "condition_failed"));
    assert_eq!(refused.body["condition"], 1, "{refused:?}");
    assert_eq!(
        get(address, "/v1/vaults/1/entities/a").await.code(),
        "entity_not_found"
    );
    assert_eq!(get(address, "/v1/vaults/1").await.body["height"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_gets_a_problem_with_its_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    for (path, status, code) in [
        ("/nowhere", 404, "route_not_found"),
        ("/v1/vaults/2", 404, "vault_not_found"),
        ("/v1/vaults/x", 400, "malformed_request"),
        ("/v1/vaults/1/entities/a", 404, "entity_not_found"),
        ("/v1/vaults/2/entities/a", 404, "vault_not_found"),
        ("/v1/vaults/1/entities/%f", 400, "malformed_request"),
        ("/v1/vaults/2/entities", 404, "vault_not_found"),
        ("/v1/vaults/1/entities?limit=0", 400, "malformed_request"),
        (
            "/v1/vaults/1/entities?limit=100000",
            400,
            "malformed_request",
        ),
        ("/v1/vaults/1/entities?after=%25", 400, "malformed_request"),
        ("/v1/vaults/1/entities?read=lucky", 400, "malformed_request"),
        ("/v1/vaults/1/entities?prefx=a", 400, "malformed_request"),
        (
            "/v1/vaults/1/relationships?order=up",
            400,
            "malformed_request",
        ),
        (
            "/v1/vaults/1/relationships?resource=a&subject=b",
            400,
            "malformed_request",
        ),
        ("/v1/vaults/1/blocks/7", 404, "block_not_found"),
        ("/v1/vaults/2/blocks/0", 404, "vault_not_found"),
        ("/v1/vaults/1/transactions", 405, "method_not_allowed"),
    ] {
        let answer = get(address, path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{path}: {answer:?}"
        );
    }
    for (body, status, code) in [
        ("", 400, "malformed_request"),
        ("{\"operations\": [", 400, "malformed_request"),
        ("{\"operations\": 1}", 400, "malformed_request"),
        ("{\"operations\": []}", 422, "invalid_command"),
        (
            "{\"operations\": [{\"delete\": {\"key\": \"\"}}]}",
            422,
            "invalid_command",
        ),
        (
            "{\"operations\": [{\"delete\": {\"key\": \"a\"}}], \"session\": {\"id\": \"AAAA\", \"sequence\": 1}}",
            404,
            "session_unknown",
        ),
    ] {
        let answer = post_as(
            address,
            "/v1/vaults/1/transactions",
            "application/json",
            body,
        )
        .await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{body}: {answer:?}"
        );
    }
    let good = "{\"operations\": [{\"delete\": {\"key\": \"a\"}}]}";
    let plain = post_as(address, "/v1/vaults/1/transactions", "text/plain", good).await;
    assert_eq!(
        (plain.status, plain.code()),
        (415, "unsupported_media_type")
    );
    let elsewhere = post_as(
        address,
        "/v1/vaults/2/transactions",
        "application/json",
        good,
    )
    .await;
    assert_eq!(
        (elsewhere.status, elsewhere.code()),
        (404, "vault_not_found")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_read_no_further_than_one_may_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let operation = json!({ "delete": { "key": "a" } });
    let condition = json!({ "entity": "a", "must": "not_exist" });
    let lists = |operations, conditions| {
        let operations = vec![operation.clone(); operations];
        (operations, vec![condition.clone(); conditions])
    };
    let (operations, conditions) = lists(1024, 1024);
    let largest = json!({ "operations": operations, "conditions": conditions });
    let done = submit(address, largest).await;
    assert_eq!(done.status, 200, "{done:?}");
    for (mut operations, mut conditions) in [lists(1025, 0), lists(1, 1025)] {
        let longer = match operations.len() > conditions.len() {
            true => &mut operations,
            false => &mut conditions,
        };
        longer.push(json!("nobody sees that this is none"));
        let body = json!({ "operations": operations, "conditions": conditions });
        let refused = submit(address, body).await;
        assert_eq!((refused.status, refused.code()), (400, "malformed_request"));
        let detail = refused.body["detail"].as_str().expect("it says why");
        assert!(detail.contains("a list of 1024 at most"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_by_its_length() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let length = folio_node::api::MAX_BODY_BYTES + 1;
    let announced = format!(
        "POST /v1/vaults HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{{"
    );
    let refused = send(address, &announced).await;
    assert_eq!((refused.status, refused.code()), (413, "too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_values_go_through_several_in_a_transaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let value = "x".repeat(folio_ledger::limits::MAX_VALUE_BYTES);
    let set = |key: &str| json!({ "set": { "key": key, "value": value } });
    let three = json!({ "operations": [set("a"), set("b"), set("c")] });
    let done = submit(address, three).await;
    assert_eq!(done.status, 200, "{:?}", done.body["detail"]);
    let found = get(address, "/v1/vaults/1/entities/b").await;
    assert!(
        found.body["value"] == value,
        "the value came back as it was"
    );
    let four = json!({ "operations": [set("a"), set("b"), set("c"), set("d")] });
    let refused = submit(address, four).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_command"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outside_any_cluster_says_that_there_is_no_leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start_node(directory.path(), 1).await;
    let address = serve(free_port().await, &node, BTreeMap::new(), Access::open());
    for answer in [
        get(address, "/v1/health/ready").await,
        post(address, "/v1/vaults", &json!({ "name": "" })).await,
    ] {
        assert_eq!((answer.status, answer.code()), (503, "no_leader"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let status = get(address, "/v1/status").await;
    assert_eq!(
        (status.status, &status.body["leader"]),
        (200, &Value::Null),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_while_it_knows_a_leader_and_stays_and_lives_as_long_as_it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start_node(directory.path(), 1).await;
    let address = serve(free_port().await, &node, BTreeMap::new(), Access::open());
    let health = async || {
        let mut codes = Vec::new();
        for kind in ["started", "live", "ready"] {
            let answer = get(address, &format!("/v1/health/{kind}")).await;
            codes.push(match answer.status {
                200 => answer.body["status"]
                    .as_str()
                    .expect("it is one")
                    .to_owned(),
                _ => answer.code().to_owned(),
            });
        }
        codes
    };
    assert_eq!(health().await, ["started", "live", "no_leader"]);
    let members = [(1, node.peer_address().to_string())].into();
    node.form_cluster(members).await.expect("a new cluster");
    let leads = node.ledger().wait_for_leader(PATIENCE).await;
    leads.expect("it leads");
    assert_eq!(health().await, ["started", "live", "ready"]);
    node.leave();
    assert_eq!(health().await, ["started", "live", "shutting_down"]);
    assert_eq!(get(address, "/v1/vaults").await.status, 200);
    node.ledger().shutdown().await.expect("it stops");
    let stopped = health().await;
    assert_eq!(stopped[0], stopped[1]);
    assert!(
        stopped
            .iter()
            .all(|code| ["node_stopped", "shutting_down"].contains(&&**code)),
        "{stopped:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_state_lives_and_is_not_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    // The log alone does not bring the state back.
    let config = Config {
        snapshot_after_entries: 1,
        log_entries_kept: 0,
        ..Config::default()
    };
    let servers = start_cluster_with(directory.path(), 3, true, &config).await;
    let leader = leader(&servers).await;
    let waiting = follower(&servers, leader);
    let compacted = async {
        while waiting.node.ledger().status().purged.is_none() {
            post(leader.address, "/v1/vaults", &json!({ "name": "any" })).await;
        }
    };
    let compacted = tokio::time::timeout(PATIENCE, compacted).await;
    compacted.expect("the log is compacted");
    for other in &servers {
        if other.node.id() != waiting.node.id() {
            other.node.ledger().shutdown().await.expect("it stops");
        }
    }
    let address = waiting.address;
    let given_up = post(address, "/v1/rebuild", &Value::Null).await;
    assert_eq!(given_up.status, 202, "{given_up:?}");
    let ready = get(address, "/v1/health/ready").await;
    assert_eq!((ready.status, ready.code()), (503, "rebuilding"));
    for kind in ["started", "live"] {
        let answer = get(address, &format!("/v1/health/{kind}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_counters_that_grow_with_what_was_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let number = async |name: &str| -> f64 {
        let answer = get(address, "/metrics").await;
        let text = answer.body.as_str().expect("it is text").to_owned();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("it is listed").parse().expect("a number")
    };
    let before = number("folio_append_seconds_count").await;
    for key in ["a", "b"] {
        let operations = json!({ "operations": [{ "set": { "key": key, "value": "x" } }] });
        submit(address, operations).await;
    }
    assert_eq!(number("folio_append_seconds_count").await, before + 2.0);
    assert_eq!(number("folio_leader").await, 1.0);
    assert!(number("folio_fdatasyncs_total").await >= before + 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_takes_no_writes_says_so_and_goes_on_answering_reads() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config {
        disk_reserve: u64::MAX,
        ..Config::default()
    };
    let servers = start_cluster_with(directory.path(), 1, true, &config).await;
    let address = servers[0].address;
    let refused = post(address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!((refused.status, refused.code()), (507, "disk_full"));
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");

    let status = get(address, "/v1/status").await.body;
    let reason = status["disk_full"].as_str().expect("it says why");
    assert!(reason.contains("bytes are left"), "{reason}");
    assert_eq!(status["error"], Value::Null);
    assert_eq!(get(address, "/v1/health/ready").await.status, 200);
    let vaults = get(address, "/v1/vaults").await;
    assert_eq!((vaults.status, &vaults.body["items"]), (200, &json!([])));
}

/// One that does not lead.
fn follower<'a>(servers: &'a [Server], leader: &Server) -> &'a Server {
    let id = leader.node.id();
    let found = servers.iter().find(|server| server.node.id() != id);
    found.expect("there are three")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sends_the_client_to_the_leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 3, true).await;
    let leader = leader(&servers).await;
    let following = follower(&servers, leader);
    let refused = post(
        following.address,
        "/v1/vaults?x=1",
        &json!({ "name": "first" }),
    )
    .await;
    assert_eq!((refused.status, refused.code()), (307, "not_leader"));
    assert_eq!(
        refused.headers["location"],
        format!("http://{}/v1/vaults?x=1", leader.address)
    );
    assert_eq!(refused.body["leader"]["node"], leader.node.id());

    let created = post(leader.address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let index = created.body["log_index"].as_u64().expect("an index");
    applied([following], index).await;
    let local = get(following.address, "/v1/vaults/1?read=local").await;
    assert_eq!((local.status, &local.body["name"]), (200, &json!("first")));
    assert_eq!(get(following.address, "/v1/vaults/1").await.status, 307);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_know_the_leaders_api_names_the_leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 3, false).await;
    let leader = leader(&servers).await;
    let following = follower(&servers, leader);
    let refused = post(following.address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!((refused.status, refused.code()), (421, "not_leader"));
    assert_eq!(
        refused.body["leader"]["peer_address"],
        leader.node.peer_address().to_string()
    );
    assert!(!refused.headers.contains_key("location"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_started_again_stays_in_its_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let server = &servers[0];
    assert_eq!(
        post(server.address, "/v1/vaults", &json!({ "name": "first" }))
            .await
            .status,
        201
    );
    server.node.ledger().shutdown().await.expect("a clean end");

    let again = start_node(directory.path(), 1).await;
    again
        .form_cluster([(1, again.peer_address().to_string())].into())
        .await
        .expect("it is in one already");
    again
        .ledger()
        .wait_for_leader(PATIENCE)
        .await
        .expect("it leads itself");
    let vault = again
        .ledger()
        .read(folio_raft::ReadLevel::Linearizable, |view| {
            folio_ledger::LedgerView::new(view).vault(1)
        })
        .await;
    let vault = vault
        .expect("it leads")
        .expect("the rows are sound")
        .expect("the vault is there");
    assert_eq!(vault.name, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_verifies_its_file_while_it_serves() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let (node, address) = (servers[0].node.clone(), servers[0].address);
    let path = "/v1/verification";
    assert_eq!(get(address, path).await.body["state"], "none");
    assert_eq!(
        post(address, &format!("{path}?rate=1"), &json!({}))
            .await
            .status,
        202
    );
    let second = post(address, path, &json!({})).await;
    assert_eq!(
        (second.status, second.code()),
        (409, "verification_running")
    );
    assert_eq!(get(address, path).await.body["state"], "running");
    // It is in nobody's way.
    let created = post(address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let stop = format!("DELETE {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(send(address, &stop).await.body["state"], "stopped");

    assert_eq!(post(address, path, &json!({})).await.status, 202);
    let report = loop {
        let report = get(address, path).await.body;
        if report["state"] != "running" {
            break report;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(report["state"], "sound", "{report}");
    assert!(report["rows"].as_u64() > Some(0), "{report}");
    let wrong = post(address, &format!("{path}?speed=1"), &json!({})).await;
    assert_eq!((wrong.status, wrong.code()), (400, "malformed_request"));

    // Nor does one keep the node from stopping, or its file locked afterwards.
    assert_eq!(
        post(address, &format!("{path}?rate=1"), &json!({}))
            .await
            .status,
        202
    );
    node.ledger().shutdown().await.expect("it stops");
    let file = directory.path().join("node-1.folio");
    let database = folio_store::Database::open(file).expect("nobody has it");
    assert_eq!(database.verify(|_, _| {}).expect("readable").problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_no_entry_has_yet_is_no_fault_of_the_node() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let answer = get(address, "/v1/vaults/1?read=at_least:1000000").await;
    assert_eq!((answer.status, answer.code()), (409, "not_yet_applied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_successor_keeps_the_leadership() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let answer = post(address, "/v1/leader", &json!({})).await;
    assert_eq!((answer.status, answer.code()), (409, "handover_failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_a_session_is_for_one_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = with_vault(&directory).await;
    let session = open_session(address).await;
    let place = json!({ "id": session, "sequence": 1 });
    let vault = json!({ "name": "second", "session": place });
    assert_eq!(post(address, "/v1/vaults", &vault).await.status, 201);
    let numbers = json!({ "counter": "user", "session": place });
    let set = json!({ "operations": [{ "set": { "key": "a", "value": "b" } }], "session": place });
    for answer in [
        post(address, "/v1/numbers", &numbers).await,
        submit(address, set).await,
        delete(address, &format!("/v1/sessions/{session}?sequence=1")).await,
        delete(
            address,
            &format!("/v1/vaults/1?session={session}&sequence=1"),
        )
        .await,
    ] {
        assert_eq!((answer.status, answer.code()), (409, "sequence_used"));
    }
}
