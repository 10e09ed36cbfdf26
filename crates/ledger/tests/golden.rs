//! Logs that were recorded once, and what they gave then: every later version has to give the same.
//!
//! A recording is a file of JSON lines in `golden`. Its first line says what it is, each line after that is a log entry:
//!
//! | field | what it is |
//! |---|---|
//! | `index`, `term`, `time` | where the entry stands, and its proposer's time |
//! | `commands` | its commands as the log holds them (postcard), in hexadecimal |
//! | `responses` | the answers as a session remembers them (postcard), in hexadecimal |
//! | `blocks` | the blocks that the entry adds: vault, height, block hash, state root |
//!
//! A recording is never changed. A change of the format that keeps old logs readable adds one: write a script for it in
//! `golden/scripts.rs`, list it in `RECORDINGS` with an empty checksum, and run this test. It says where it has written
//! what this version gives; look at it, move it to `golden`, and put its checksum, which the test names, into the list. A
//! change after which old logs give something else breaks every ledger that exists. Before version 1.0 it may be made
//! nevertheless; then the old recording and its line in the list go, in the commit that says why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "golden/scripts.rs"]
mod scripts;

use std::path::{Path, PathBuf};

use common::Replica;
use folio_ledger::command::{Command, Invalid};
use folio_ledger::digest::Digest;
use folio_ledger::response::{Outcome, Rejection, Response};
use folio_ledger::verify::{verify_chain, verify_shared, verify_state};
use folio_ledger::{Ledger, LedgerView};
use folio_raft::Applied;
use scripts::{Entry, Script};
use serde::{Deserialize, Serialize};

const RECORDINGS: &[Recording] = &[
    Recording {
        name: "2-everything",
        checksum: "46b7f1eae4d238d215dbdb4537fbe6fef9cb72d87806f0808dbb9c3b285a9967",
        script: scripts::everything,
    },
    Recording {
        name: "3-token-key",
        checksum: "3dc85041c3bb3a1edd18e404961892a1668c4c2c8bb40fabdf73a8bfb80d050e",
        script: scripts::token_key,
    },
];

struct Recording {
    name: &'static str,
    /// The SHA-256 of the file.
    checksum: &'static str,
    /// What it was made with.
    script: fn() -> Script,
}

#[derive(Serialize, Deserialize)]
struct Head {
    folio_recording: u32,
    what: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Line {
    index: u64,
    term: u64,
    time: u64,
    commands: String,
    responses: String,
    blocks: Vec<Block>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Block {
    vault: u64,
    height: u64,
    hash: Digest,
    state_root: Digest,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect()
}

/// What this version gives for an entry.
fn play(replica: &Replica, at: Applied, commands: &[Command]) -> (Line, Vec<Response>) {
    let txn = replica.database.begin_write().unwrap();
    let responses = Ledger.apply_entry(&txn, at, commands).unwrap();
    txn.commit().unwrap();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let vaults = ledger.vaults(0, 100).unwrap();
    let mut blocks = Vec::new();
    for info in vaults {
        let header = ledger.block(info.vault, info.height).unwrap().unwrap();
        if header.log_index == at.index {
            blocks.push(Block {
                vault: info.vault,
                height: info.height,
                hash: info.block_hash,
                state_root: info.state_root,
            });
        }
    }
    let line = Line {
        index: at.index,
        term: at.term,
        time: at.time,
        commands: hex(&postcard::to_allocvec(commands).unwrap()),
        responses: hex(&postcard::to_allocvec(&responses).unwrap()),
        blocks,
    };
    (line, responses)
}

fn record(script: &Script) -> String {
    let replica = Replica::new();
    let head = Head {
        folio_recording: 1,
        what: script.what.to_owned(),
    };
    let mut text = serde_json::to_string(&head).unwrap() + "\n";
    for Entry { at, commands } in &script.entries {
        let (line, _) = play(&replica, *at, commands);
        text += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    text
}

/// Where somebody finds what this version gives.
fn set_aside(name: &str, script: &Script) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
    std::fs::write(&path, record(script)).unwrap();
    path
}

#[test]
fn every_recorded_log_gives_the_recorded_blocks_and_answers() {
    for &Recording {
        name,
        checksum,
        script,
    } in RECORDINGS
    {
        let script = script();
        let path = directory().join(format!("{name}.jsonl"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            let written = set_aside(name, &script);
            panic!(
                "there is no recording {name}; this version's is {}",
                written.display()
            );
        };
        let found = Digest::of(&[text.as_bytes()]).to_string();
        assert_eq!(
            found, checksum,
            "the recording {name} was changed; a recording never is"
        );
        let replica = Replica::new();
        let mut lines = text.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(head.folio_recording, 1);
        let mut entries = 0;
        for (line, expected) in lines.zip(&script.entries) {
            let recorded: Line = serde_json::from_str(line).unwrap();
            let commands: Vec<Command> = postcard::from_bytes(&unhex(&recorded.commands)).unwrap();
            assert_eq!(
                commands, expected.commands,
                "{name}: the log no longer reads as it was written"
            );
            let at = Applied {
                index: recorded.index,
                term: recorded.term,
                time: recorded.time,
                position: 0,
            };
            let (line, responses) = play(&replica, at, &commands);
            if line != recorded {
                let before: Result<Vec<Response>, _> =
                    postcard::from_bytes(&unhex(&recorded.responses));
                panic!(
                    "{name}, entry {}: {commands:#?}\nwas answered with {before:#?}\nand is now with {responses:#?}\n\
                     {recorded:#?} was recorded, this version gives {line:#?}; all of its recording is {}",
                    at.index,
                    set_aside(name, &script).display()
                );
            }
            entries += 1;
        }
        assert_eq!(entries, script.entries.len(), "{name}");
        let view = replica.view();
        for info in LedgerView::new(&view).vaults(0, 100).unwrap() {
            verify_chain(&view, info.vault, &mut |_, _| ()).unwrap();
            verify_state(&view, info.vault, &mut |_, _| ()).unwrap();
        }
        verify_shared(&view).unwrap();
    }
}

#[test]
fn no_recording_is_forgotten() {
    let mut found: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "scripts.rs")
        .collect();
    found.sort();
    let listed: Vec<_> = RECORDINGS
        .iter()
        .map(|recording| format!("{}.jsonl", recording.name))
        .collect();
    assert_eq!(found, listed);
}

/// What a list of answers has in it, one word for each kind.
fn kinds(responses: &[Response], kinds: &mut std::collections::BTreeSet<String>) {
    for response in responses {
        let kind = match response {
            Response::Committed(receipt) => {
                for outcome in &receipt.outcomes {
                    kinds.insert(first_word(format!("{outcome:?}")));
                }
                "Committed".to_owned()
            }
            Response::Rejected(Rejection::Invalid(invalid)) => first_word(format!("{invalid:?}")),
            Response::Rejected(Rejection::ConditionFailed {
                requirement, found, ..
            }) => {
                let kind = first_word(format!("{requirement:?}"));
                format!("{kind} but {}", first_word(format!("{found:?}")))
            }
            Response::Rejected(rejection) => first_word(format!("{rejection:?}")),
            other => first_word(format!("{other:?}")),
        };
        kinds.insert(kind);
    }
}

fn first_word(text: String) -> String {
    text.split([' ', '(', '{']).next().unwrap().to_owned()
}

#[test]
fn the_recordings_have_every_kind_of_answer_and_grow_and_shrink() {
    let mut seen = std::collections::BTreeSet::new();
    let (mut largest, mut after_largest) = (0, u64::MAX);
    for Recording { script, .. } in RECORDINGS {
        let replica = Replica::new();
        for Entry { at, commands } in &script().entries {
            kinds(&play(&replica, *at, commands).1, &mut seen);
            for info in LedgerView::new(&replica.view()).vaults(0, 100).unwrap() {
                let items = info.entities + info.relationships;
                if items > largest {
                    (largest, after_largest) = (items, items);
                }
                after_largest = after_largest.min(items);
            }
        }
    }
    // Buckets of eight split five times one below the other on the way there, and join on the way back.
    assert!(largest > 8 << 5, "{largest} items at most");
    assert!(after_largest < 9, "never fewer than {after_largest}");
    let invalid = [
        Invalid::NoOperations,
        Invalid::SequenceZero,
        Invalid::SessionToOpen,
        Invalid::NoSessionToClose,
    ];
    let mut expected: Vec<String> = invalid.iter().map(|kind| format!("{kind:?}")).collect();
    expected.extend(
        [
            "TooLong",
            "Empty",
            "ControlCharacter",
            "TooMany",
            "RelationshipContent",
            "UnknownVault",
            "SessionExpired",
            "SessionUnknown",
            "StaleSequence",
            "SessionOpened",
            "SessionClosed",
            "VaultCreated",
            "VaultDeleted",
            "RetentionSet",
            "NumbersAllocated",
            "TokenKeySet",
            "NoNumbers",
            "Committed",
            "EntityUpdated",
            "EntityDeleted",
            "MustExist but Nothing",
            "MustNotExist but Entity",
            "MustNotExist but Relationship",
            "VersionIs but Nothing",
            "VersionIs but Entity",
            "ValueIs but Nothing",
            "ValueIs but Entity",
        ]
        .map(str::to_owned),
    );
    expected.extend(
        [
            Outcome::EntityCreated,
            Outcome::RelationshipCreated,
            Outcome::RelationshipDeleted,
            Outcome::Unchanged,
        ]
        .map(|outcome| format!("{outcome:?}")),
    );
    for kind in expected {
        assert!(seen.contains(&kind), "{kind} is not in {seen:?}");
    }
}
