//! `folio proof`: from a node and from its file, checked with a hash and nothing else.

mod common;

use std::path::Path;

use common::served::{Served, alone};
use common::{Run, folio, text};

fn get(from: &[&str], claim: &[&str]) -> Run {
    folio(
        ["proof", "get", "--vault", "1"]
            .iter()
            .chain(from)
            .chain(claim),
    )
}

fn verify(proof: &Path, trusted: [&str; 2]) -> Run {
    folio(["proof", "verify", text(proof), trusted[0], trusted[1]])
}

const CLAIMS: [&[&str]; 7] = [
    &["--entity", "key 3/ü"],
    &["--entity", "nothing"],
    &["--relationship", "doc 1", "viewer", "user&2"],
    &["--relationship", "doc 1", "viewer", "nobody"],
    &["--transaction", "4", "0"],
    &["--block", "2"],
    &["--extends", "3"],
];

#[test]
fn what_a_node_and_its_file_prove_is_the_same_and_is_checked_by_a_hash() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let mut served = Served::start(alone(&file));
    served.create_vault();
    for n in 0..9 {
        let body = format!(
            r#"{{"operations": [{{"set": {{"key": "key {n}/ü", "value": "v"}}}},
                {{"relate": {{"resource": "doc 1", "relation": "viewer", "subject": "user&{n}"}}}}]}}"#
        );
        let answer = served.post("/v1/vaults/1/transactions", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let node = format!("http://{}", served.address);
    let of_node = CLAIMS.map(|claim| {
        let run = get(&["--node", &node], claim);
        assert_eq!(run.code, Some(0), "{claim:?}: {run:?}");
        run.json()
    });
    let missing = get(&["--node", &node], &["--block", "99"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    served.terminate();
    served.process.wait().expect("it ends");

    let vault = folio(["stat", text(&file), "--format", "json"]).json()["vaults"][0].clone();
    let hash = vault["block_hash"].as_str().expect("a hash");
    let root = vault["state_root"].as_str().expect("a hash");
    let proof = directory.path().join("proof.json");
    for (claim, of_node) in CLAIMS.iter().zip(of_node) {
        let run = get(&[text(&file), "--out", text(&proof)], claim);
        assert_eq!(run.code, Some(0), "{claim:?}: {run:?}");
        let written = std::fs::read_to_string(&proof).expect("it was written");
        let document: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(document, of_node, "{claim:?}");

        let proved = verify(&proof, ["--block", hash]);
        assert_eq!(proved.code, Some(0), "{claim:?}: {proved:?}");
        assert!(proved.stdout.contains("Proved."), "{proved:?}");
        let by_root = verify(&proof, ["--state-root", root]);
        let of_state = claim[0] == "--entity" || claim[0] == "--relationship";
        assert_eq!(
            by_root.code,
            Some(if of_state { 0 } else { 3 }),
            "{claim:?}: {by_root:?}"
        );
        // The state root is no hash of a block, nor the other way round.
        for wrong in [
            ["--block", root],
            ["--state-root", hash],
            ["--earlier", hash],
        ] {
            let refused = verify(&proof, wrong);
            assert_eq!(refused.code, Some(3), "{claim:?}: {refused:?}");
            assert!(refused.stderr.contains("not proved"), "{refused:?}");
        }
        if claim[0] == "--extends" {
            let earlier = get(&[text(&file)], &["--block", "3"]).json();
            let header = &earlier["claim"]["block"]["block"];
            assert_eq!(&document["claim"]["extension"]["earlier"], header);
        }
        std::fs::remove_file(&proof).expect("it is there");
    }

    let nothing = get(&[text(&file)], &["--transaction", "4", "9"]);
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    let ambiguous = get(&[text(&file)], &["--block", "2", "--extends", "3"]);
    assert_eq!(ambiguous.code, Some(2), "{ambiguous:?}");
    std::fs::write(&proof, "Dear reader").expect("writable");
    let letter = verify(&proof, ["--block", hash]);
    assert_eq!(letter.code, Some(1), "{letter:?}");
    let no_hash = verify(&proof, ["--block", "abc"]);
    assert_eq!(no_hash.code, Some(2), "{no_hash:?}");
}
