//! Three nodes as processes of their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::path::Path;

use common::served::Served;
use common::text;

/// Nodes 1 to 3. Each has a loopback address of its own, which is nobody else's while this process lives.
fn three(directory: &Path) -> [Served; 3] {
    let process = std::process::id();
    let host = |id: u64| format!("127.{}.{}.{id}", process >> 8 & 0xff, process & 0xff);
    let all = |port: u16| {
        [1, 2, 3]
            .map(|id| format!("{id}={}:{port}", host(id)))
            .join(",")
    };
    [3, 2, 1].map(|id| {
        let file = directory.join(format!("{id}.folio"));
        let (api, peer) = (format!("{}:7001", host(id)), format!("{}:7101", host(id)));
        let id_text = id.to_string();
        let (apis, peers) = (all(7001), all(7101));
        let mut arguments = vec!["--id", &id_text, "--file", text(&file), "--apis", &apis];
        arguments.extend(["--listen", &api, "--peer-listen", &peer]);
        if id == 1 {
            arguments.extend(["--init", "--peers", &peers]);
        }
        Served::start(arguments)
    })
}

/// The number among `nodes` of one that carries a write out.
fn leading(nodes: &[&Served]) -> usize {
    loop {
        for (number, node) in nodes.iter().enumerate() {
            let answer = node.post("/v1/vaults", r#"{"name": "any"}"#);
            if answer.starts_with("HTTP/1.1 201") {
                return number;
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_before_it_waits_for_open_requests() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = three(directory.path());
    let leader = leading(&nodes.each_ref());
    // A request whose body does not come: the node waits for it, but not for ever.
    let mut open = nodes[leader].connect();
    let head = "POST /v1/vaults HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    open.write_all(head.as_bytes()).unwrap();
    nodes[leader].terminate();
    let others: Vec<_> = (0..3).filter(|number| *number != leader).collect();
    leading(&[&nodes[others[0]], &nodes[others[1]]]);

    assert_eq!(
        nodes[leader].process.try_wait().unwrap(),
        None,
        "it waits still"
    );
    nodes[leader].terminate();
    let ended = nodes[leader].process.wait().unwrap();
    assert_eq!(ended.code(), Some(1), "the second signal ends it at once");
}
