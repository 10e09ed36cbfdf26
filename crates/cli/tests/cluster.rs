//! Three nodes as processes of their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;

use common::served::{Served, Three};

#[test]
fn a_leader_that_is_told_to_stop_hands_over_before_it_waits_for_open_requests() {
    let mut three = Three::start(None);
    let leader = three.leader(Served::post);
    let mut old = three.nodes.remove(&leader).unwrap();
    // A request whose body does not come: the node waits for it, but not for ever.
    let mut open = old.connect();
    let head = "POST /v1/vaults HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    open.write_all(head.as_bytes()).unwrap();
    old.terminate();
    three.leader(Served::post);

    assert_eq!(old.process.try_wait().unwrap(), None, "it waits still");
    old.terminate();
    let ended = old.process.wait().unwrap();
    assert_eq!(ended.code(), Some(1), "the second signal ends it at once");
}
