//! Changing who belongs to a cluster, and who leads it, over HTTP.

mod common;

use std::net::SocketAddr;

use common::{delete, get, leader, patch, post, start_cluster, start_node};
use serde_json::{Value, json};

/// Members as pairs of id and vote.
async fn members(address: SocketAddr) -> Vec<(u64, bool)> {
    let answer = get(address, "/v1/members").await;
    let pair = |member: &Value| (member["id"].as_u64(), member["votes"].as_bool());
    let list = answer.body["members"].as_array().expect("a list");
    list.iter()
        .map(|member| match pair(member) {
            (Some(id), Some(votes)) => (id, votes),
            _ => panic!("{member}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_as_a_learner_gets_a_vote_takes_a_place_and_leaves() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 3, true).await;
    let leader = leader(&servers).await;
    let at = leader.address;
    let fourth = start_node(directory.path(), 4).await;
    let joining = json!({"id": 4, "address": fourth.peer_address().to_string(), "votes": false});
    let joined = post(at, "/v1/members", &joining).await;
    assert_eq!(joined.body["done"], true, "{joined:?}");
    assert_eq!(
        members(at).await,
        [(1, true), (2, true), (3, true), (4, false)]
    );

    // The same again, with a vote: what is done is not done twice.
    let voting = json!({"id": 4, "address": fourth.peer_address().to_string()});
    let joined = post(at, "/v1/members", &voting).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    assert_eq!(
        members(at).await,
        [(1, true), (2, true), (3, true), (4, true)]
    );

    // A fifth in the place of one that does not lead.
    let old = (1..=3).find(|id| *id != leader.node.id());
    let old = old.expect("only one leads");
    let fifth = start_node(directory.path(), 5).await;
    let replacing = json!({"id": 5, "address": fifth.peer_address().to_string(), "replaces": old});
    let replaced = post(at, "/v1/members", &replacing).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let removed = delete(at, "/v1/members/4").await;
    assert_eq!(removed.status, 200, "{removed:?}");
    let mut left: Vec<_> = [1, 2, 3, 5].into_iter().filter(|id| *id != old).collect();
    left.sort_unstable();
    let expected: Vec<_> = left.into_iter().map(|id| (id, true)).collect();
    assert_eq!(members(at).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_moves_to_another_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let at = servers[0].address;
    let moved = patch(at, "/v1/members/1", &json!({"address": "localhost:9"})).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let listed = get(at, "/v1/members").await;
    assert_eq!(listed.body["members"][0]["address"], "localhost:9");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_goes_to_the_one_that_was_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 3, true).await;
    let leader = leader(&servers).await;
    let successor = leader.node.id() % 3 + 1;
    let given = post(leader.address, "/v1/leader", &json!({"id": successor})).await;
    assert_eq!(
        (given.status, &given.body["leader"]),
        (200, &json!(successor))
    );
    // Who does not lead has nothing to give, and says who has.
    let refused = post(leader.address, "/v1/leader", &json!({})).await;
    assert_eq!((refused.status, refused.code()), (307, "not_leader"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_makes_no_sense_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let at = servers[0].address;
    let new = |id: u64| json!({"id": id, "address": "127.0.0.1:9"});
    let with = |id: u64, member: &str, value: Value| {
        let mut body = new(id);
        body[member] = value;
        body
    };
    for (body, status, code, word) in [
        (new(0), 400, "malformed_request", "begin with 1"),
        (new(1), 409, "membership_unchanged", "set its address"),
        (
            with(2, "replaces", json!(7)),
            409,
            "membership_unchanged",
            "node 7 does not vote",
        ),
        (
            json!({"id": 2, "address": "127.0.0.1:9", "replaces": 1, "votes": false}),
            400,
            "malformed_request",
            "leave out",
        ),
        (with(2, "rank", json!(1)), 400, "malformed_request", "rank"),
    ] {
        let refused = post(at, "/v1/members", &body).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{body}");
        let detail = refused.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "{detail}");
    }
    for path in ["/v1/members/9", "/v1/members/1"] {
        let refused = delete(at, path).await;
        assert_eq!(
            refused.code(),
            "membership_unchanged",
            "{path}: {refused:?}"
        );
    }
    assert_eq!(members(at).await, [(1, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_makes_nobody_node_0() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let at = servers[0].address;
    let found = json!({ "address": "127.0.0.1:9", "api": at.to_string() });
    let moved = patch(at, "/v1/members/1", &found).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let invited = post(at, "/v1/invitations", &json!({})).await;
    let newcomer = json!({ "invitation": invited.body["invitation"], "address": "127.0.0.1:9" });
    let refused = post(at, "/v1/join/0", &newcomer).await;
    assert_eq!((refused.status, refused.code()), (400, "malformed_request"));
    assert_eq!(members(at).await, [(1, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_place_to_reach_it_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    for wrong in [
        "",
        "localhost",
        ":7101",
        "a b:1",
        "a:0",
        "a:70000",
        "http://a:1",
    ] {
        let learner = json!({ "id": 2, "address": wrong, "votes": false });
        let added = post(address, "/v1/members", &learner).await;
        assert_eq!(
            (added.status, added.code()),
            (400, "malformed_request"),
            "{wrong}"
        );
        let moved = patch(address, "/v1/members/1", &json!({ "address": wrong })).await;
        assert_eq!(
            (moved.status, moved.code()),
            (400, "malformed_request"),
            "{wrong}"
        );
    }
    let members = get(address, "/v1/members").await;
    assert_eq!(members.body["members"].as_array().map(Vec::len), Some(1));
}
