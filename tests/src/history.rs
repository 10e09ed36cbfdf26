//! Random histories of a ledger, as Raft's log has them.

use folio_ledger::Ledger;
use folio_ledger::command::{Command, Counter};
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::{Requirement, Transaction};
use folio_raft::{Batch, Entry, LogId};
use folio_store::storage::SplitMix64;
use openraft::{CommittedLeaderId, EntryPayload};

const VAULTS: u64 = 3;
const START: u64 = 1_000_000;

/// `length` entries with the indexes from 0 on: vaults and sessions first, then any mixture of
/// everything, with retries, refusals, expiries in masses, terms that end, stamps that run
/// backwards, and entries that are Raft's own.
pub fn random(seed: u64, length: u64) -> Vec<Entry<Ledger>> {
    let mut random = SplitMix64::new(seed);
    let (mut term, mut time) = (1, START);
    let mut entries = Vec::new();
    for index in 0..length {
        term += u64::from(random.one_in(20));
        time += random.below(2_000);
        let payload = if index == 0 {
            let vaults = (0..VAULTS).map(|number| Command::create_vault(format!("vault {number}")));
            let sessions = (0..4).map(|_| Command::open_session());
            normal(time, vaults.chain(sessions).collect())
        } else if random.one_in(15) {
            EntryPayload::Blank
        } else {
            let commands = (0..random.below(6)).map(|_| command(&mut random, time));
            let commands = commands.collect();
            normal(time.saturating_sub(random.below(1_500)), commands)
        };
        entries.push(Entry::<Ledger> {
            log_id: LogId::new(CommittedLeaderId::new(term, 1), index),
            payload,
        });
    }
    entries
}

fn normal(time: u64, commands: Vec<Command>) -> EntryPayload<folio_raft::TypeConfig<Ledger>> {
    EntryPayload::Normal(Batch { time, commands })
}

fn command(random: &mut SplitMix64, time: u64) -> Command {
    let command = match random.below(40) {
        0 => return Command::open_session(),
        1 => return Command::close_session(1 + random.below(6), 1 + random.below(60)),
        2 => Command::create_vault_retaining("another", random.below(4)),
        4 => Command::set_retention(1 + random.below(VAULTS + 2), random.below(8)),
        5 if random.one_in(2) => Command::delete_vault(2 + random.below(VAULTS + 2)),
        6 => Command::allocate_numbers(Counter::User, random.below(3) as u32),
        3 => Command::submit(masses(random, time)),
        _ => Command::submit(transaction(random, time)),
    };
    if random.one_in(2) {
        // Few numbers, so that retries and stale ones are among them.
        return command.in_session(1 + random.below(8), 1 + random.below(60));
    }
    command
}

/// More entities that expire together than one entry removes.
fn masses(random: &mut SplitMix64, time: u64) -> Transaction {
    let expiry = time + random.below(20_000);
    (0..300_u16).fold(Transaction::new(1), |transaction, number| {
        transaction.set_until(number.to_be_bytes(), [], expiry)
    })
}

fn transaction(random: &mut SplitMix64, time: u64) -> Transaction {
    // The last one never exists.
    let mut transaction = Transaction::new(1 + random.below(VAULTS + 1));
    for _ in 0..=random.below(4) {
        let key = format!("key {}", random.below(40)).into_bytes();
        let relationship = Relationship::new(
            format!("resource {}", random.below(8)),
            "related",
            format!("subject {}", random.below(8)),
        );
        let length = if random.one_in(10) { 9_000 } else { 20 };
        let value = vec![random.below(256) as u8; length];
        transaction = match random.below(8) {
            0 | 1 => transaction.set(key, value),
            2 => transaction.set_until(key, value, time + random.below(10_000)),
            3 => transaction.delete(key),
            4 | 5 => transaction.relate(relationship),
            6 => transaction.unrelate(relationship),
            _ => {
                let version = Requirement::VersionIs(1 + random.below(3));
                transaction
                    .require_entity(key.clone(), version)
                    .set(key, value)
            }
        };
    }
    transaction
}
