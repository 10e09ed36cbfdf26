//! The histories that the recordings were made with.

use folio_ledger::command::{Action, Command, Counter, TokenKey};
use folio_ledger::limits::SESSION_LIFETIME_ENTRIES;
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::{Requirement, Transaction};
use folio_raft::Applied;
use folio_store::storage::SplitMix64;

/// A history.
pub struct Script {
    pub what: &'static str,
    pub entries: Vec<Entry>,
}

pub struct Entry {
    pub at: Applied,
    pub commands: Vec<Command>,
}

impl Script {
    fn new(what: &'static str) -> Self {
        Script {
            what,
            entries: Vec::new(),
        }
    }

    /// Where the last entry stands.
    fn last(&self) -> Applied {
        self.entries.last().map_or(
            Applied {
                index: 0,
                term: 1,
                position: 0,
                time: 1_700_000_000_000_000,
            },
            |entry| entry.at,
        )
    }

    /// An entry, a millisecond after the one before.
    fn entry(&mut self, commands: Vec<Command>) {
        let last = self.last();
        let at = Applied {
            index: last.index + 1,
            time: last.time + 1000,
            ..last
        };
        self.entries.push(Entry { at, commands });
    }

    fn submit(&mut self, transaction: Transaction) {
        self.entry(vec![Command::submit(transaction)]);
    }
}

fn viewer(document: u64, user: u64) -> Relationship {
    Relationship::new(format!("doc:{document}"), "viewer", format!("üser:{user}"))
}

/// Every kind of command, condition, operation and refusal; sessions that are repeated, closed, unknown and forgotten;
/// entities that expire; a vault that grows to several hundred items and shrinks to a handful; vaults that keep past
/// versions and vaults that are deleted.
pub fn everything() -> Script {
    let mut script = Script::new(
        "every kind of command and answer, expiry, growth and shrinking, past versions, deleted vaults",
    );
    script.entry(vec![
        Command::create_vault("accounts"),
        Command::create_vault(""),
        Command::open_session(),
        Command::open_session(),
        Command::open_session(),
    ]);
    script.entry(vec![]);
    refusals(&mut script);
    conditions(&mut script);
    sessions(&mut script);
    expiry(&mut script);
    growth(&mut script);
    mixture(&mut script);
    vaults(&mut script);
    script
}

/// The first key for page tokens stays.
pub fn token_key() -> Script {
    let mut script = Script::new("a key for page tokens, and another one");
    for byte in [1, 2] {
        script.entry(vec![Command::set_token_key(TokenKey([byte; 32]))]);
    }
    script
}

/// Commands that no state could accept.
fn refusals(script: &mut Script) {
    let change = || Transaction::new(1).set(b"k", b"v");
    let many = (0..1025).fold(Transaction::new(1), |t, _| t.delete([1]));
    script.entry(vec![
        Command::submit(Transaction::new(1)),
        Command::submit(Transaction::new(1).set([7; 257], b"")),
        Command::submit(Transaction::new(1).delete(b"")),
        Command::submit(Transaction::new(1).relate(Relationship::new("r", "l\u{85}", "s"))),
        Command::submit(Transaction::new(1).relate(Relationship::new("r", "l".repeat(65), "s"))),
        Command::submit(many),
        Command::submit(change().require_relationship(viewer(1, 1), Requirement::VersionIs(1))),
        Command::submit(change()).in_session(1, 0),
        Command::open_session().in_session(1, 1),
        Command::new(Action::CloseSession),
        Command::create_vault("\n"),
        Command::allocate_numbers(Counter::User, 0),
        Command::submit(Transaction::new(3).set(b"k", b"v")),
    ]);
}

/// Every requirement, held and not, of what is there and of what is not.
fn conditions(script: &mut Script) {
    script.submit(
        Transaction::new(1)
            .set(b"\x00\xff", b"")
            .set(b"a", b"first")
            .set(b"a", b"second")
            .relate(viewer(1, 1))
            .relate(viewer(1, 1))
            .unrelate(viewer(1, 2)),
    );
    let requirements = [
        Requirement::MustExist,
        Requirement::MustNotExist,
        Requirement::VersionIs(2),
        Requirement::VersionIs(3),
        Requirement::ValueIs(b"second".to_vec()),
        Requirement::ValueIs(b"first".to_vec()),
    ];
    for key in [&b"a"[..], b"absent"] {
        let commands = requirements.iter().map(|requirement| {
            let condition = Transaction::new(1).require_entity(key, requirement.clone());
            Command::submit(condition.set(b"checked", key))
        });
        script.entry(commands.collect());
    }
    for relationship in [viewer(1, 1), viewer(1, 2)] {
        let commands = requirements[..2].iter().map(|requirement| {
            let condition =
                Transaction::new(1).require_relationship(relationship.clone(), requirement.clone());
            Command::submit(condition.relate(viewer(2, 2)))
        });
        script.entry(commands.collect());
    }
    // What undoes itself, a new life after a deletion, and two vaults in one entry.
    script.entry(vec![
        Command::submit(
            Transaction::new(1)
                .relate(viewer(3, 3))
                .unrelate(viewer(3, 3)),
        ),
        Command::submit(
            Transaction::new(1)
                .delete(b"a")
                .set(b"a", b"third")
                .delete(b"nothing"),
        ),
        Command::submit(Transaction::new(2).set(b"a", [5; 300])),
    ]);
}

fn sessions(script: &mut Script) {
    let set = |value: u8| Command::submit(Transaction::new(1).set(b"s", [value]));
    let refused = || {
        Command::submit(
            Transaction::new(1)
                .require_entity(b"t", Requirement::MustExist)
                .delete(b"t"),
        )
    };
    script.entry(vec![
        set(1).in_session(1, 1),
        set(1).in_session(1, 1),
        set(2).in_session(1, 5),
    ]);
    script.entry(vec![
        set(2).in_session(1, 5),
        set(3).in_session(1, 4),
        set(4).in_session(9, 1),
    ]);
    script.entry(vec![refused().in_session(2, 1)]);
    script.submit(Transaction::new(1).set(b"t", b""));
    script.entry(vec![refused().in_session(2, 1), refused().in_session(2, 2)]);
    script.entry(vec![
        Command::create_vault("in a session").in_session(2, 3),
        Command::create_vault("in a session").in_session(2, 3),
        Command::close_session(2, 4),
        Command::close_session(2, 4),
        set(5).in_session(2, 5),
    ]);
    // Session 1 is used while session 3 falls out of memory.
    let last = script.last();
    for (ahead, term) in [
        (SESSION_LIFETIME_ENTRIES / 2, 2),
        (SESSION_LIFETIME_ENTRIES, 3),
    ] {
        let at = Applied {
            index: last.index + ahead,
            term,
            ..last
        };
        let commands = [set(6).in_session(1, 5 + term), set(7).in_session(3, 1)];
        script.entries.push(Entry {
            at,
            commands: commands[..term as usize - 1].to_vec(),
        });
    }
    script.entry(vec![set(8).in_session(3, 1), Command::open_session()]);
}

/// More entities that expire together than one entry removes, expiries that are replaced, lifted and deleted.
fn expiry(script: &mut Script) {
    let soon = script.last().time + 10_000;
    let masses = (0..300_u16).fold(Transaction::new(2), |t, number| {
        t.set_until(number.to_be_bytes(), [], soon)
    });
    script.submit(masses);
    script.submit(
        Transaction::new(1)
            .set_until(b"replaced", b"1", soon)
            .set_until(b"replaced", b"2", soon + 1_000_000)
            .set_until(b"lifted", b"1", soon)
            .set_until(b"deleted", b"1", soon)
            .set_until(b"over", b"1", 0),
    );
    script.submit(Transaction::new(1).set(b"lifted", b"2").delete(b"deleted"));
    let last = script.last();
    for (time, commands) in [
        (soon - 1, vec![]),
        (
            soon,
            vec![Command::submit(Transaction::new(2).set(b"late", b""))],
        ),
        (soon, vec![]),
        (soon + 2_000_000, vec![]),
    ] {
        let at = Applied {
            index: script.last().index + 1,
            time,
            ..last
        };
        script.entries.push(Entry { at, commands });
    }
}

/// From a handful of items to four hundred in steps of all sizes, and back.
fn growth(script: &mut Script) {
    let key = |number: u64| format!("key {number}").into_bytes();
    let mut number = 0;
    for step in [1, 1, 2, 5, 9, 30, 2, 100, 50] {
        let part = number..number + step;
        number += step;
        script.submit(part.fold(Transaction::new(1), |t, n| {
            t.set(key(n), n.to_be_bytes()).relate(viewer(n % 20, n))
        }));
    }
    for step in [1, 90, 3, 60, 30, 10, 5, 1] {
        let part = number - step..number;
        number -= step;
        script.submit(part.fold(Transaction::new(1), |t, n| {
            t.delete(key(n)).unrelate(viewer(n % 20, n))
        }));
    }
    let rest = ["\0\u{ff}", "a", "checked", "s", "t", "lifted"];
    let rest = rest.iter().fold(Transaction::new(1), |t, key| {
        t.delete(key.chars().map(|c| c as u8).collect::<Vec<u8>>())
    });
    script.submit(rest.unrelate(viewer(1, 1)).unrelate(viewer(2, 2)));
}

/// Past versions that are kept, trimmed in several steps and given up; vaults that are deleted with more rows than an
/// entry removes, and whose entities expire meanwhile; numbers.
fn vaults(script: &mut Script) {
    script.entry(vec![
        Command::allocate_numbers(Counter::Organization, 1),
        Command::allocate_numbers(Counter::User, 1_000),
        Command::allocate_numbers(Counter::User, 2).in_session(4, 50),
        Command::allocate_numbers(Counter::User, 2).in_session(4, 50),
        Command::create_vault_retaining("with a past", 40),
        Command::set_retention(2, 3),
    ]);
    let vault = 4;
    let soon = script.last().time + 40_000;
    for round in 0..6_u8 {
        let all = (0..250_u16).fold(Transaction::new(vault), |t, number| {
            t.set_until(number.to_be_bytes(), [round], soon)
        });
        script.entry(vec![
            Command::submit(all),
            Command::submit(Transaction::new(vault).relate(viewer(round.into(), 1))),
            Command::submit(Transaction::new(2).set(b"now and then", [round])),
        ]);
    }
    script.entry(vec![
        Command::set_retention(vault, 1),
        Command::set_retention(9, 1),
    ]);
    script.entry(vec![Command::submit(
        Transaction::new(vault).delete([0, 0]).delete([0, 1]),
    )]);
    script.entry(vec![
        Command::submit(Transaction::new(vault).set(b"last", b"")),
        Command::delete_vault(vault).in_session(4, 51),
        Command::delete_vault(vault).in_session(4, 51),
        Command::submit(Transaction::new(vault).set(b"too late", b"")),
        Command::delete_vault(9),
    ]);
    script.entry(vec![Command::create_vault("after it")]);
    let last = script.last();
    let at = Applied {
        index: last.index + 1,
        time: soon,
        ..last
    };
    script.entries.push(Entry {
        at,
        commands: vec![Command::set_retention(2, 0)],
    });
    for _ in 0..4 {
        script.entry(vec![]);
    }
}

/// Sixty entries drawn from a seed.
fn mixture(script: &mut Script) {
    let mut random = SplitMix64::new(6);
    for _ in 0..60 {
        let mut commands = Vec::new();
        for _ in 0..random.below(4) {
            let mut transaction = Transaction::new(1 + random.below(3));
            for _ in 0..=random.below(4) {
                let key = vec![random.below(24) as u8];
                let (document, user) = (random.below(5), random.below(5));
                transaction = match random.below(6) {
                    0 | 1 => transaction
                        .set(key, vec![random.below(256) as u8; random.below(9) as usize]),
                    2 => {
                        let expiry = script.last().time + random.below(20_000);
                        transaction.set_until(key, b"!", expiry)
                    }
                    3 => transaction.delete(key),
                    4 => transaction.relate(viewer(document, user)),
                    _ => transaction.unrelate(viewer(document, user)),
                };
            }
            let mut command = Command::submit(transaction);
            if random.one_in(3) {
                command = command.in_session(4, 1 + random.below(40));
            }
            commands.push(command);
        }
        script.entry(commands);
    }
}
