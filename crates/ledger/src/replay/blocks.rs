//! Carrying out again what blocks record.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use folio_raft::Applied;
use folio_store::{Database, Durability, ReadTransaction};
use serde::Serialize;

use super::Difference;
use super::explain::{
    StoredBlock, Touched, altered_transaction, first_field, hash_of, is_of_the_state, locate,
    record_differs, touched_by, transactions_differ,
};
use super::rows::{Scope, bucket_of, compare};
use crate::apply::{CarriedOut, Expiry, Ledger, Recorded, RecordedAction};
use crate::block::BlockHeader;
use crate::command::Command;
use crate::digest::Digest;
use crate::error::Result;
use crate::history::least_log_index_after;
use crate::limits::MAX_PAGE;
use crate::read::{LedgerView, VaultInfo};
use crate::record::Record;
use crate::tables::{Counters, counter};

/// The commands of a log entry, for somebody who has the log that far back.
pub type CommandsOf<'c> = dyn FnMut(u64) -> Option<Vec<Command>> + 'c;

/// What was carried out again, and what came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlockReplay {
    /// Vaults in the stored ledger.
    pub vaults: u64,
    /// Log entries that were carried out again.
    pub entries: u64,
    /// Blocks that came of them.
    pub blocks: u64,
    /// Transactions in these blocks.
    pub transactions: u64,
    /// Whether vaults were deleted: see [the module](super).
    pub vaults_deleted: bool,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// Carries out what the blocks of `stored` record, and compares. `scratch` is empty, or holds an earlier state of the same
/// ledger, from which the replay goes on; nothing of what is done there is made durable. `commands` is asked when a
/// transaction was altered, to tell which. `progress` gets what is being done, how much of it is done, and of how much.
pub fn replay_blocks(
    stored: &ReadTransaction,
    scratch: &Database,
    commands: &mut CommandsOf<'_>,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<BlockReplay> {
    let mut replay = Replay::new(stored, scratch)?;
    if replay.begin()?.is_none() {
        while let Some(step) = replay.step(commands)? {
            progress("blocks", replay.report.blocks, replay.total);
            if step.is_break() {
                return Ok(replay.report);
            }
        }
        replay.finish(progress)?;
    }
    Ok(replay.report)
}

struct Replay<'r> {
    stored: &'r ReadTransaction,
    scratch: &'r Database,
    vaults: BTreeMap<u64, VaultInfo>,
    /// The next block of each vault: log index, vault, height.
    next: BinaryHeap<Reverse<(u64, u64, u64)>>,
    total: u64,
    /// A block that came out differently, while it is being found out where.
    suspect: Option<Suspect>,
    report: BlockReplay,
}

struct Suspect {
    difference: Difference,
    touched: Touched,
}

type Flow = std::ops::ControlFlow<()>;

fn missing(vault: u64, height: u64) -> Difference {
    Difference::new(vault, height, "the block", "missing", "there")
}

impl<'r> Replay<'r> {
    fn new(stored: &'r ReadTransaction, scratch: &'r Database) -> Result<Self> {
        let mut vaults = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = LedgerView::new(stored).vaults(after, MAX_PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.vault;
            vaults.extend(page.into_iter().map(|info| (info.vault, info)));
        }
        let given_out = stored
            .table::<Counters>()?
            .get(counter::VAULT)?
            .unwrap_or(0);
        Ok(Replay {
            stored,
            scratch,
            next: BinaryHeap::new(),
            total: 0,
            suspect: None,
            report: BlockReplay {
                vaults: vaults.len() as u64,
                vaults_deleted: given_out != vaults.len() as u64,
                ..BlockReplay::default()
            },
            vaults,
        })
    }

    /// Finds the first block of each vault that is to be carried out. Something is returned if the replay cannot go on
    /// from where it is to start.
    fn begin(&mut self) -> Result<Option<()>> {
        let start = self.scratch.begin_read()?;
        let start = LedgerView::new(&start);
        for (&vault, info) in &self.vaults.clone() {
            let mut first = 0;
            if let Some(before) = start.vault(vault)? {
                if before.height > info.height {
                    return self.end(
                        Difference::new(
                            vault,
                            info.height,
                            "the height of the last block",
                            info.height,
                            before.height,
                        )
                        .note("what the replay starts from is later than this file"),
                    );
                }
                for height in (0..=before.height).rev() {
                    let (stored, earlier) =
                        (self.header(vault, height)?, start.block(vault, height)?);
                    if stored == earlier {
                        break;
                    }
                    // The first height that differs is the last that is looked at.
                    self.report.difference = Some(
                        Difference::new(
                            vault,
                            height,
                            "the header",
                            hash_of(stored),
                            hash_of(earlier),
                        )
                        .note("what the replay starts from is not an earlier state of this file"),
                    );
                }
                if self.report.difference.is_some() {
                    return Ok(Some(()));
                }
                first = before.height.saturating_add(1);
            }
            let blocks = info.height.saturating_add(1).saturating_sub(first);
            self.total = self.total.saturating_add(blocks);
            let before = match first.checked_sub(1) {
                Some(height) => self.header(vault, height)?,
                None => None,
            };
            if self.push(vault, first, before.as_ref())?.is_break() {
                return Ok(Some(()));
            }
        }
        Ok(None)
    }

    fn header(&self, vault: u64, height: u64) -> Result<Option<BlockHeader>> {
        LedgerView::new(self.stored).block(vault, height)
    }

    /// Queues the block at `height`, if the vault is that high. `before` is the block before it.
    fn push(&mut self, vault: u64, height: u64, before: Option<&BlockHeader>) -> Result<Flow> {
        if self
            .vaults
            .get(&vault)
            .is_none_or(|info| height > info.height)
        {
            return Ok(Flow::Continue(()));
        }
        let Some(header) = self.header(vault, height)? else {
            self.end(missing(vault, height))?;
            return Ok(Flow::Break(()));
        };
        let least = before.map_or(0, least_log_index_after);
        if header.log_index < least {
            let what = "the log index in the header";
            let should = format!("{least} or later");
            self.end(Difference::new(
                vault,
                height,
                what,
                header.log_index,
                should,
            ))?;
            return Ok(Flow::Break(()));
        }
        self.next.push(Reverse((header.log_index, vault, height)));
        Ok(Flow::Continue(()))
    }

    /// Notes the difference, unless there is an earlier one.
    fn end(&mut self, difference: Difference) -> Result<Option<()>> {
        let first = self.suspect.take().map(|suspect| suspect.difference);
        self.report
            .difference
            .get_or_insert(first.unwrap_or(difference));
        Ok(Some(()))
    }

    /// Carries out one log entry: `None` when there is none left.
    fn step(&mut self, commands: &mut CommandsOf<'_>) -> Result<Option<Flow>> {
        let Some(&Reverse((index, ..))) = self.next.peek() else {
            return Ok(None);
        };
        let mut blocks = Vec::new();
        while let Some(&Reverse((of, vault, height))) = self.next.peek()
            && of == index
        {
            self.next.pop();
            let Some(block) = self.stored_block(vault, height)? else {
                return Ok(Some(Flow::Break(())));
            };
            let next = height.saturating_add(1);
            if self.push(vault, next, Some(&block.header))?.is_break() {
                return Ok(Some(Flow::Break(())));
            }
            blocks.push(block);
        }
        if self.suspect.is_none() {
            let mut altered = blocks
                .iter()
                .filter(|block| block.is_referred_to() && !block.has_its_records());
            if let Some(altered) = altered.next()
                && let Some(difference) = altered_transaction(altered, commands(index))
            {
                self.end(difference)?;
                return Ok(Some(Flow::Break(())));
            }
        }
        self.carry_out(&blocks).map(Some)
    }

    /// Reads a block. `None` if that cannot be done, which is then the difference.
    fn stored_block(&mut self, vault: u64, height: u64) -> Result<Option<StoredBlock>> {
        let ledger = LedgerView::new(self.stored);
        let Some(header) = ledger.block(vault, height)? else {
            self.end(missing(vault, height))?;
            return Ok(None);
        };
        let encoded = ledger.encoded_records(vault, height)?;
        let mut records = Vec::with_capacity(encoded.len());
        for (position, row) in encoded.iter().enumerate() {
            let wrong = match Record::decode(row) {
                Ok(record) if record.transaction.vault == vault => {
                    records.push(record);
                    continue;
                }
                Ok(record) => format!("of vault {}", record.transaction.vault),
                Err(error) => format!("no record: {error}"),
            };
            let what = format!("transaction {position}");
            let difference = Difference::new(vault, height, what, wrong, "a record of this vault");
            self.end(difference)?;
            return Ok(None);
        }
        let Some(info) = self.vaults.get(&vault) else {
            return Ok(None);
        };
        let referred = match height < info.height {
            true => ledger.block(vault, height + 1)?.map(|next| next.previous),
            false => Some(info.block_hash),
        };
        Ok(Some(StoredBlock {
            vault,
            height,
            header,
            encoded,
            records,
            referred: referred.unwrap_or(Digest::ZERO),
        }))
    }

    fn carry_out(&mut self, blocks: &[StoredBlock]) -> Result<Flow> {
        let Some(first) = blocks.first() else {
            return Ok(Flow::Continue(()));
        };
        let at = Applied {
            index: first.header.log_index,
            term: first.header.log_term,
            position: 0,
            time: first.header.time,
        };
        let recorded: Vec<Recorded<'_>> = blocks.iter().map(|block| self.recorded(block)).collect();
        let expiry = match self.report.vaults_deleted {
            true => Expiry::AsRecorded,
            false => Expiry::AsAnyEntry,
        };
        let mut txn = self.scratch.begin_write()?;
        txn.set_durability(Durability::Eventual);
        let carried_out = Ledger.apply_recorded(&txn, at, &recorded, expiry)?;
        let expired_in = match carried_out {
            CarriedOut::Whole { expired_in } => expired_in,
            CarriedOut::Refused {
                vault,
                position,
                reason,
            } => {
                txn.abort();
                let height = blocks.iter().find(|block| block.vault == vault);
                let height = height.map_or(0, |block| block.height);
                let what = format!("transaction {position}");
                let refused = format!("refused: {reason}");
                let difference = Difference::new(vault, height, what, "carried out", refused);
                self.end(difference)?;
                return Ok(Flow::Break(()));
            }
        };
        txn.commit()?;
        self.report.entries += 1;
        self.report.blocks += blocks.len() as u64;
        self.report.transactions += blocks
            .iter()
            .map(|block| block.records.len() as u64)
            .sum::<u64>();
        self.check(blocks, &expired_in)
    }

    fn recorded<'b>(&'b self, block: &'b StoredBlock) -> Recorded<'b> {
        let name = self
            .vaults
            .get(&block.vault)
            .map_or("", |info| &info.name[..]);
        Recorded {
            vault: block.vault,
            action: match block.height {
                0 => RecordedAction::Create { name },
                _ => RecordedAction::Records(&block.records),
            },
        }
    }

    /// Compares the blocks that came of an entry.
    fn check(&mut self, blocks: &[StoredBlock], expired_in: &[u64]) -> Result<Flow> {
        if self.suspect.is_some() {
            return Ok(Flow::Continue(()));
        }
        let replayed = self.scratch.begin_read()?;
        let ours = LedgerView::new(&replayed);
        let without = |vault: &&u64| blocks.iter().all(|block| block.vault != **vault);
        if let (Some(&vault), Some(first)) = (expired_in.iter().find(without), blocks.first()) {
            let height = ours.vault(vault)?.map_or(0, |info| info.height);
            let index = first.header.log_index;
            let stored = format!("none of log entry {index}");
            let made = format!("one of log entry {index}, in which entities expire");
            let mut difference = Difference::new(vault, height, "the block", stored, made);
            let touched = touched_by(&ours.records(vault, height)?);
            difference.key = touched.into_iter().next().map(|(key, _)| key);
            self.end(difference)?;
            return Ok(Flow::Break(()));
        }
        for block in blocks {
            let records = ours.encoded_records(block.vault, block.height)?;
            let longest = records.len().max(block.encoded.len());
            let place = (0..longest).find(|&at| records.get(at) != block.encoded.get(at));
            if let Some(place) = place {
                let record = records.get(place).map(Vec::as_slice);
                let mut difference = record_differs(block, place, record);
                if let Some(key) = &difference.key {
                    difference.bucket = Some(bucket_of(&replayed, block.vault, key)?);
                }
                self.end(difference)?;
                return Ok(Flow::Break(()));
            }
            // Which record it is shows at the end, if what it leads to is another state.
            let altered = block.is_referred_to() && !block.has_its_records();
            let found = match altered {
                true => Some(transactions_differ(block)),
                false => {
                    let header = ours.block(block.vault, block.height)?;
                    self.compare_header(block, header.as_ref())?
                }
            };
            let Some(found) = found else {
                continue;
            };
            // A chain that goes on from another state: which key it is shows at the end.
            if altered || (block.is_referred_to() && is_of_the_state(&found)) {
                self.suspect = Some(Suspect {
                    difference: found,
                    touched: touched_by(&block.records),
                });
                return Ok(Flow::Continue(()));
            }
            self.end(found)?;
            return Ok(Flow::Break(()));
        }
        Ok(Flow::Continue(()))
    }

    fn compare_header(
        &self,
        block: &StoredBlock,
        replayed: Option<&BlockHeader>,
    ) -> Result<Option<Difference>> {
        let stored = &block.header;
        let (vault, height) = (block.vault, block.height);
        let Some(replayed) = replayed else {
            let nothing = "none: nothing changes in that entry";
            return Ok(Some(Difference::new(
                vault,
                height,
                "the block",
                "there",
                nothing,
            )));
        };
        let found = first_field(stored, replayed);
        if let Some((what, of_stored, of_replayed)) = found {
            let difference = Difference::new(vault, height, what, of_stored, of_replayed);
            return Ok(Some(if replayed.hash() == block.referred {
                difference.note("the rest of the chain is built on the replayed header: the stored one was altered")
            } else {
                difference
            }));
        }
        if block.is_referred_to() {
            return Ok(None);
        }
        let last = self
            .vaults
            .get(&vault)
            .is_none_or(|info| info.height == height);
        if last {
            let what = "the hash of the last block in the record of the vault";
            return Ok(Some(Difference::new(
                vault,
                height,
                what,
                block.referred,
                stored.hash(),
            )));
        }
        // Either this header was altered where a replay takes it at its word, or the next one is.
        let next = self.header(vault, height + 1)?.map(|header| header.hash());
        let after = match self
            .vaults
            .get(&vault)
            .filter(|info| info.height > height + 1)
        {
            Some(_) => self
                .header(vault, height + 2)?
                .map(|header| header.previous),
            None => self.vaults.get(&vault).map(|info| info.block_hash),
        };
        if next == after {
            let what = "the log index, the term or the time in the header";
            let difference = Difference::new(vault, height, what, stored.hash(), block.referred);
            return Ok(Some(
                difference.note("the next block refers to a header with another hash"),
            ));
        }
        Ok(None)
    }

    /// Compares what the vaults hold in the end.
    fn finish(&mut self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<()> {
        let replayed = self.scratch.begin_read()?;
        if let Some(suspect) = self.suspect.take() {
            let Suspect {
                difference,
                touched,
            } = suspect;
            let sides = (self.stored, &replayed);
            let difference = locate(sides, difference, &touched, progress)?;
            self.report.difference = Some(difference);
            return Ok(());
        }
        for info in self.vaults.values() {
            let (vault, height) = (info.vault, info.height);
            let Some(ours) = LedgerView::new(&replayed).vault(vault)? else {
                let what = "the vault";
                self.report.difference =
                    Some(Difference::new(vault, height, what, "there", "missing"));
                return Ok(());
            };
            let record = |info: &VaultInfo| {
                format!(
                    "block {} of time {}, state root {}, {} entities, {} relationships",
                    info.block_hash, info.time, info.state_root, info.entities, info.relationships
                )
            };
            let (stored, replayed) = (record(info), record(&ours));
            if stored != replayed {
                let what = "the record of the vault";
                self.report.difference =
                    Some(Difference::new(vault, height, what, stored, replayed));
                return Ok(());
            }
        }
        let mut rows = |done, total| progress("rows", done, total);
        let found = compare(self.stored, &replayed, Scope::Blocks, 1, &mut rows)?;
        self.report.difference = found.into_iter().next();
        Ok(())
    }
}
