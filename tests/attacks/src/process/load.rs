//! What is written: a pure function of a seed, so that whoever knows how far a lane came knows every byte of its rows.
//!
//! A lane is a row of transactions, the steps, over tables of its own. Each step records in its own transaction how far
//! the lane has come and how far it saw the other lanes of its group come, so that a state which is not one of those that
//! were published, or which misses an earlier commit, is told apart from every right one.

use std::collections::BTreeMap;

use folio_store::{
    Database, Group, GroupSet, ReadTransaction, Result, Table, TableDefinition, WriteTransaction,
    storage::SplitMix64,
};

/// The lanes.
pub const LANES: usize = 5;
/// A log that is appended to durably, cut at both ends at times.
pub const LOG: usize = 0;
/// A log whose appends are waited for later.
pub const TICKETS: usize = 1;
/// A state that is made durable by checkpoints; some of its transactions are much larger than a small cache.
pub const STATE: usize = 2;
/// Transactions over two groups.
pub const PAIR: usize = 3;
/// Anything.
pub const CHURN: usize = 4;

const TABLES: usize = 6;
const TABLE_NAMES: [&str; TABLES] = ["log", "tickets", "state", "left", "right", "churn"];
const TABLE_GROUPS: [u8; TABLES] = [1, 1, 2, 1, 3, 0];
const GROUPS: usize = 4;
const PROGRESS_NAMES: [&str; GROUPS] = ["progress 0", "progress 1", "progress 2", "progress 3"];

/// How far each lane has come.
pub type Progress = [u64; LANES];

struct Rows<const TABLE: usize>;

impl<const TABLE: usize> Table for Rows<TABLE> {
    const NAME: &'static str = TABLE_NAMES[TABLE];
    const GROUP: Group = Group::new(TABLE_GROUPS[TABLE]);
    type Key = &'static [u8];
    type Value = &'static [u8];
}

struct ProgressOf<const GROUP: usize>;

impl<const GROUP: usize> Table for ProgressOf<GROUP> {
    const NAME: &'static str = PROGRESS_NAMES[GROUP];
    const GROUP: Group = Group::new(GROUP as u8);
    type Key = &'static [u8];
    type Value = &'static [u8];
}

fn progress_table(group: usize) -> TableDefinition {
    match group {
        0 => TableDefinition::of::<ProgressOf<0>>(),
        1 => TableDefinition::of::<ProgressOf<1>>(),
        2 => TableDefinition::of::<ProgressOf<2>>(),
        _ => TableDefinition::of::<ProgressOf<3>>(),
    }
}

fn tables_of(lane: usize) -> &'static [usize] {
    match lane {
        LOG => &[0],
        TICKETS => &[1],
        STATE => &[2],
        PAIR => &[3, 4],
        _ => &[5],
    }
}

/// The groups that a lane writes to.
#[must_use]
pub fn groups_of(lane: usize) -> GroupSet {
    tables_of(lane)
        .iter()
        .map(|&table| Group::new(TABLE_GROUPS[table]))
        .collect()
}

/// One change of a step.
#[derive(Clone, Copy, Debug)]
enum Change {
    Put(usize, u64),
    Remove(usize, u64),
    /// From the first key up to the second one.
    RemoveRange(usize, u64, u64),
}

/// What a seed and a page size stand for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Of everything.
    pub seed: u64,
    /// In bytes; values are up to several pages long.
    pub page_size: usize,
}

fn mixed(parts: [u64; 4]) -> SplitMix64 {
    let sum = parts.into_iter().fold(0x51_7C_C1_B7, |sum, part| {
        SplitMix64::new(sum ^ part).next_u64()
    });
    SplitMix64::new(sum)
}

fn prefix(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

impl Load {
    /// Random decisions that are the same for whoever knows the step.
    #[must_use]
    pub fn random(&self, lane: usize, step: u64) -> SplitMix64 {
        mixed([self.seed, lane as u64, step, 1])
    }

    fn key(&self, table: usize, key: u64) -> Vec<u8> {
        let mut random = mixed([self.seed, table as u64, key, 2]);
        let mut bytes = prefix(key).to_vec();
        for _ in 0..random.below(40) {
            bytes.push(random.next_u64() as u8);
        }
        bytes
    }

    fn value(&self, table: usize, key: u64, step: u64) -> Vec<u8> {
        let mut random = mixed([self.seed, table as u64, key, step]);
        let page = self.page_size as u64;
        let longest = match random.below(100) {
            0..60 => 120,
            60..86 => 900,
            86..98 => 4 * page / 3,
            _ => 5 * page,
        };
        let length = random.below(longest + 1) as usize;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&random.next_u64().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn changes(&self, lane: usize, step: u64) -> Vec<Change> {
        let mut random = self.random(lane, step);
        let tables = tables_of(lane);
        let mut changes = Vec::new();
        match lane {
            LOG | TICKETS => {
                let table = tables[0];
                if random.one_in(50) {
                    changes.push(Change::RemoveRange(table, 0, step.saturating_sub(60) * 4));
                }
                if random.one_in(30) {
                    let from = step.saturating_sub(1 + random.below(6)) * 4;
                    changes.push(Change::RemoveRange(table, from, u64::MAX));
                }
                let rows = 1 + random.below(4);
                changes.extend((0..rows).map(|row| Change::Put(table, step * 4 + row)));
            }
            _ => {
                let (keys, most) = match lane {
                    STATE if random.one_in(60) => (1_200, 300),
                    STATE => (1_200, 16),
                    PAIR => (200, 6),
                    _ => (500, 12),
                };
                // One stretch in four shrinks what the others grew.
                let shrinks = step / 150 % 4 == 3;
                for &table in tables {
                    for _ in 0..1 + random.below(most) {
                        let key = random.below(keys);
                        let put = if shrinks { 20 } else { 70 };
                        changes.push(match random.below(100) {
                            roll if roll < put => Change::Put(table, key),
                            roll if roll < 97 => Change::Remove(table, key),
                            _ => {
                                let width = random.below(keys / 4);
                                Change::RemoveRange(table, key, key + width)
                            }
                        });
                    }
                }
            }
        }
        changes
    }

    /// Makes the changes of a step, and records it.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn write(&self, transaction: &WriteTransaction, lane: usize, step: u64) -> Result<()> {
        for change in self.changes(lane, step) {
            self.change(transaction, change, step)?;
        }
        for group in groups_of(lane) {
            let group = usize::from(group.index());
            let mut table = transaction.untyped(&progress_table(group))?;
            let mut seen = [0; LANES * 8];
            for other in 0..LANES {
                let step = match table.get([other as u8].as_slice())? {
                    _ if other == lane => step,
                    Some(row) => recorded(&row, other),
                    None => 0,
                };
                seen[other * 8..][..8].copy_from_slice(&step.to_le_bytes());
            }
            table.insert([lane as u8].as_slice(), seen.as_slice())?;
        }
        Ok(())
    }

    /// Makes changes that are no step, for a transaction that will not be committed.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn write_in_vain(
        &self,
        transaction: &WriteTransaction,
        lane: usize,
        step: u64,
    ) -> Result<()> {
        for change in self.changes(lane, step ^ 1 << 40) {
            self.change(transaction, change, step ^ 1 << 40)?;
        }
        Ok(())
    }

    fn change(&self, transaction: &WriteTransaction, change: Change, step: u64) -> Result<()> {
        let table = match change {
            Change::Put(table, _) | Change::Remove(table, _) | Change::RemoveRange(table, ..) => {
                table
            }
        };
        match table {
            0 => self.change_in::<0>(transaction, change, step),
            1 => self.change_in::<1>(transaction, change, step),
            2 => self.change_in::<2>(transaction, change, step),
            3 => self.change_in::<3>(transaction, change, step),
            4 => self.change_in::<4>(transaction, change, step),
            _ => self.change_in::<5>(transaction, change, step),
        }
    }

    fn change_in<const TABLE: usize>(
        &self,
        transaction: &WriteTransaction,
        change: Change,
        step: u64,
    ) -> Result<()> {
        let mut rows = transaction.table::<Rows<TABLE>>()?;
        match change {
            Change::Put(_, key) => {
                let value = self.value(TABLE, key, step);
                rows.insert(&self.key(TABLE, key)[..], &value[..])?;
            }
            Change::Remove(_, key) => {
                rows.remove(&self.key(TABLE, key)[..])?;
            }
            Change::RemoveRange(_, from, to) => {
                rows.remove_range(&prefix(from)[..]..&prefix(to.max(from))[..])?;
            }
        }
        Ok(())
    }

    /// Removes every row of every table, in transactions of a few rows each and durably: what somebody does whose disk
    /// is full. Gives back how many rows there were.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn clear(&self, database: &Database) -> Result<u64> {
        let mut removed = 0;
        for (name, group) in TABLE_NAMES.iter().zip(TABLE_GROUPS) {
            let mut definition = TableDefinition::of::<Rows<0>>();
            (definition.name, definition.group) = ((*name).into(), Group::new(group));
            loop {
                let transaction = database.begin_write()?;
                let mut rows = transaction.untyped(&definition)?;
                let keys = rows.iter()?.take(20).map(|row| row.map(|(key, _)| key));
                let keys: Vec<Vec<u8>> = keys.collect::<Result<_>>()?;
                for key in &keys {
                    rows.remove(key.as_slice())?;
                }
                drop(rows);
                transaction.commit()?;
                removed += keys.len() as u64;
                if keys.is_empty() {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

fn recorded(row: &[u8], lane: usize) -> u64 {
    let bytes = row.get(lane * 8..lane * 8 + 8);
    bytes.map_or(0, |bytes| {
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    })
}

/// Reads how far each lane has come, and fails if the state is not one that was published: the groups of one lane
/// disagree, or a commit is there without one that came before it.
///
/// # Errors
///
/// Those of the engine.
///
/// # Panics
///
/// If it is not.
pub fn read_progress(view: &ReadTransaction) -> Result<Progress> {
    let mut progress = [None; LANES];
    for group in 0..GROUPS {
        let table = view.untyped(&progress_table(group))?;
        let members = |lane: &usize| groups_of(*lane).contains(Group::new(group as u8));
        let mut rows = vec![None; LANES];
        for lane in (0..LANES).filter(members) {
            let row = table.get([lane as u8].as_slice())?;
            let step = row.as_ref().map_or(0, |row| recorded(row, lane));
            let before = progress[lane].replace(step);
            assert!(
                before.is_none_or(|before| before == step),
                "a transaction over two groups is torn: lane {lane} is at step {before:?} in one and at {step} in group {group}"
            );
            rows[lane] = row;
        }
        for (lane, row) in rows.iter().enumerate() {
            for other in (0..LANES).filter(members) {
                let saw = row.as_ref().map_or(0, |row| recorded(row, other));
                assert!(
                    progress[other] >= Some(saw),
                    "lane {lane} in group {group} saw step {saw} of lane {other}, which is at {:?}",
                    progress[other]
                );
            }
        }
    }
    Ok(progress.map(|step| step.unwrap_or(0)))
}

/// What is in the tables when the lanes have come as far as `progress` says: for each key the step that set it.
#[derive(Clone, Debug)]
pub struct Model {
    load: Load,
    progress: Progress,
    tables: [BTreeMap<u64, u64>; TABLES],
}

impl Model {
    /// Of an empty database.
    #[must_use]
    pub fn new(load: Load) -> Self {
        Self {
            load,
            progress: [0; LANES],
            tables: Default::default(),
        }
    }

    /// What is written.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// How far the lanes have come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Goes on to another state.
    ///
    /// # Panics
    ///
    /// If a lane would go back.
    pub fn advance(&mut self, to: Progress) {
        for (lane, &step) in to.iter().enumerate() {
            let from = self.progress[lane];
            assert!(step >= from, "lane {lane} went back from {from} to {step}");
            for step in from + 1..=step {
                self.step(lane, step);
            }
        }
        self.progress = to;
    }

    /// The rows are gone, by no step.
    pub fn clear(&mut self) {
        self.tables = Default::default();
    }

    /// Where the database is, if it is not further than this model.
    ///
    /// # Panics
    ///
    /// If it is.
    pub fn assert_at(&self, progress: Progress) {
        assert_eq!(self.progress, progress, "nothing was published since");
    }

    /// Goes on to another step of one lane.
    ///
    /// # Panics
    ///
    /// If it would go back.
    pub fn advance_lane(&mut self, lane: usize, step: u64) {
        let mut to = self.progress;
        to[lane] = step;
        self.advance(to);
    }

    fn step(&mut self, lane: usize, step: u64) {
        for change in self.load.changes(lane, step) {
            match change {
                Change::Put(table, key) => drop(self.tables[table].insert(key, step)),
                Change::Remove(table, key) => drop(self.tables[table].remove(&key)),
                Change::RemoveRange(table, from, to) => {
                    self.tables[table].retain(|key, _| !(from..to).contains(key));
                }
            }
        }
    }

    /// Compares every row of every table, forwards and backwards, byte by byte. Gives back how many there are.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    ///
    /// # Panics
    ///
    /// If a row is missing, wrong, or one too many.
    pub fn compare(&self, view: &ReadTransaction) -> Result<u64> {
        let mut rows = 0;
        for (table, expected) in self.tables.iter().enumerate() {
            let mut definition = TableDefinition::of::<Rows<0>>();
            definition.name = TABLE_NAMES[table].into();
            definition.group = Group::new(TABLE_GROUPS[table]);
            let found = view.untyped(&definition)?;
            self.compare_rows(table, expected.iter(), found.iter()?)?;
            self.compare_rows(table, expected.iter().rev(), found.iter()?.rev())?;
            assert_eq!(found.len()?, expected.len() as u64, "the count of rows");
            rows += expected.len() as u64;
        }
        let known = view.tables()?.into_iter().all(|table| {
            let name = table.name.as_str();
            TABLE_NAMES.contains(&name) || PROGRESS_NAMES.contains(&name)
        });
        assert!(known, "there is a table that nobody made");
        Ok(rows)
    }

    fn compare_rows<'m>(
        &self,
        table: usize,
        expected: impl Iterator<Item = (&'m u64, &'m u64)>,
        mut found: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>,
    ) -> Result<()> {
        let name = TABLE_NAMES[table];
        let progress = self.progress;
        for (&key, &step) in expected {
            let Some((found_key, found_value)) = found.next().transpose()? else {
                panic!("`{name}` at {progress:?} misses key {key}, set by step {step}");
            };
            let (wanted_key, wanted_value) =
                (self.load.key(table, key), self.load.value(table, key, step));
            assert!(
                found_key == wanted_key,
                "`{name}` at {progress:?}: where key {key} of step {step} belongs is {found_key:02x?}"
            );
            assert!(
                found_value == wanted_value,
                "`{name}` at {progress:?}: key {key} has {} bytes, and step {step} set {} other ones",
                found_value.len(),
                wanted_value.len()
            );
        }
        if let Some((key, _)) = found.next().transpose()? {
            panic!("`{name}` at {progress:?} has a row too many, of key {key:02x?}");
        }
        Ok(())
    }
}
