//! What a database must hold: maps beside the engine, and how the two are compared.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use folio_store::{
    Database, Error, Group, GroupSet, MultiTable, Pairs, ReadTransaction, Result, Table,
    TableDefinition, TableView, Untyped, VerifyReport, storage::SplitMix64,
};

/// The number of tables.
pub const TABLES: usize = 8;

/// The groups in use.
pub const GROUPS: [Group; 4] = [Group::DEFAULT, Group::new(1), Group::new(6), Group::new(15)];

/// For each table its name, and which of [`GROUPS`] it belongs to. The third of the first group is a staging table.
const PLACES: [(&str, usize); TABLES] = [
    ("accounts", 0),
    ("log", 1),
    (
        "a table with a longer name, so that catalogs split sooner",
        0,
    ),
    ("staged", 0),
    ("index", 2),
    ("vote", 1),
    ("history", 3),
    ("tags", 2),
];

/// The table whose rows [`Change::Replace`](crate::script::Change::Replace) takes.
pub const STAGING: usize = 3;

/// The table of several values a key. The model has its rows as they are stored: pairs as keys, and no values.
pub const PAIRS: usize = 7;

/// The table [`PAIRS`].
pub struct Tags;

impl MultiTable for Tags {
    const NAME: &'static str = PLACES[PAIRS].0;
    const GROUP: Group = GROUPS[PLACES[PAIRS].1];
    type Key = &'static [u8];
    type Value = &'static [u8];
}

/// The table with this number, but for [`PAIRS`].
pub struct Numbered<const N: usize>;

impl<const N: usize> Table for Numbered<N> {
    const NAME: &'static str = PLACES[N].0;
    const GROUP: Group = GROUPS[PLACES[N].1];
    type Key = &'static [u8];
    type Value = &'static [u8];
}

/// The definitions of all tables.
pub fn definitions() -> &'static [TableDefinition; TABLES] {
    static DEFINITIONS: OnceLock<[TableDefinition; TABLES]> = OnceLock::new();
    DEFINITIONS.get_or_init(|| {
        let first = TableDefinition::of::<Numbered<0>>();
        let mut definitions = PLACES.map(|(name, group)| TableDefinition {
            group: GROUPS[group],
            ..first.renamed(name)
        });
        definitions[PAIRS] = TableDefinition::of::<Pairs<Tags>>();
        definitions
    })
}

/// The place in [`GROUPS`] of a table's group.
#[must_use]
pub fn group_of(table: usize) -> usize {
    PLACES[table].1
}

/// The rows of one table.
pub type Rows = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// The tables of one group that exist, by number.
pub type GroupState = BTreeMap<usize, Arc<Rows>>;

/// Everything in a database. A clone shares what neither side changes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    /// By the place in [`GROUPS`].
    pub groups: Groups,
    /// The savepoints that outlive the process, oldest first: their names and states.
    pub savepoints: Arc<Vec<(String, Groups)>>,
}

/// All groups of a state.
pub type Groups = [Arc<GroupState>; GROUPS.len()];

impl State {
    /// The rows of a table, if it exists.
    #[must_use]
    pub fn table(&self, table: usize) -> Option<&Arc<Rows>> {
        self.groups[group_of(table)].get(&table)
    }

    /// The rows of a table, to change them. It exists from now on.
    pub fn table_mut(&mut self, table: usize) -> &mut Rows {
        let group = Arc::make_mut(&mut self.groups[group_of(table)]);
        Arc::make_mut(group.entry(table).or_default())
    }

    /// Takes a table out.
    pub fn delete(&mut self, table: usize) -> Option<Arc<Rows>> {
        Arc::make_mut(&mut self.groups[group_of(table)]).remove(&table)
    }

    /// Puts rows in the place of those of a table.
    pub fn replace(&mut self, table: usize, rows: Arc<Rows>) {
        Arc::make_mut(&mut self.groups[group_of(table)]).insert(table, rows);
    }

    /// Whether it is the very same state, not only an equal one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let mut groups = self.groups.iter().zip(&other.groups);
        groups.all(|(one, other)| Arc::ptr_eq(one, other))
            && Arc::ptr_eq(&self.savepoints, &other.savepoints)
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        let tables = self.groups.iter().flat_map(|group| group.values());
        tables.map(|rows| rows.len()).sum()
    }

    /// The state of a savepoint, without savepoints of its own.
    #[must_use]
    pub fn at_savepoint(&self, index: usize) -> Self {
        Self {
            groups: self.savepoints[index].1.clone(),
            savepoints: Arc::default(),
        }
    }

    /// Says how the savepoints of a database differ from these.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn savepoints_differ(&self, db: &Database) -> Result<Option<String>> {
        let found = db.savepoints()?;
        let found = found.iter().map(|savepoint| &savepoint.name);
        if !found.eq(self.savepoints.iter().map(|(name, _)| name)) {
            return Ok(Some(format!("the savepoints are {:?}", db.savepoints()?)));
        }
        for (index, (name, _)) in self.savepoints.iter().enumerate() {
            let view = db.begin_read_at(name)?;
            if let Some(difference) = self.at_savepoint(index).difference(&view)? {
                return Ok(Some(format!("savepoint {name}: {difference}")));
            }
        }
        Ok(None)
    }

    /// Says how a view differs from this state: contents, from both ends, and which tables there are.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn difference(&self, view: &ReadTransaction) -> Result<Option<String>> {
        let tables = view.tables()?;
        let expected = self.groups.iter().flat_map(|group| group.keys());
        let mut expected: Vec<&TableDefinition> =
            expected.map(|&table| &definitions()[table]).collect();
        expected.sort_by_key(|table| (table.group, table.name.as_str()));
        if !tables.iter().eq(expected) {
            return Ok(Some(format!("the tables are {tables:?}")));
        }
        for (&table, rows) in self.groups.iter().flat_map(|group| group.iter()) {
            let found = view.untyped(&definitions()[table])?;
            if let Some(difference) = rows_differ(rows, &found)? {
                return Ok(Some(format!("table {table}: {difference}")));
            }
        }
        Ok(None)
    }
}

/// Says how the rows of a table differ from the right ones.
///
/// # Errors
///
/// Those of reading.
pub fn rows_differ(right: &Rows, found: &TableView<'_, Untyped>) -> Result<Option<String>> {
    if found.len()? != right.len() as u64 {
        return Ok(Some(format!(
            "{} rows are recorded in place of {}",
            found.len()?,
            right.len()
        )));
    }
    let forwards = walk_differs(right.iter(), found.iter()?)?;
    let difference = match forwards {
        Some(difference) => Some(difference),
        None => walk_differs(right.iter().rev(), found.iter()?.rev())?
            .map(|difference| format!("backwards, {difference}")),
    };
    Ok(difference)
}

fn walk_differs<'r>(
    mut right: impl Iterator<Item = (&'r Vec<u8>, &'r Arc<[u8]>)>,
    found: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>,
) -> Result<Option<String>> {
    for row in found {
        let (key, value) = row?;
        match right.next() {
            Some((right_key, right_value)) if *right_key == key && **right_value == *value => {}
            Some((right_key, _)) => {
                return Ok(Some(format!(
                    "the row of {} is not that of {}",
                    key.escape_ascii(),
                    right_key.escape_ascii()
                )));
            }
            None => return Ok(Some(format!("a row of {} too many", key.escape_ascii()))),
        }
    }
    Ok(right
        .next()
        .map(|(key, _)| format!("the row of {} is missing", key.escape_ascii())))
}

/// What a file may hold after an accident.
#[derive(Clone)]
pub struct Allowed {
    /// What was acknowledged.
    pub durable: State,
    /// What was on its way.
    pub in_flight: Option<State>,
}

impl Allowed {
    /// Which of the allowed states a database shows.
    ///
    /// # Errors
    ///
    /// Those of reading.
    ///
    /// # Panics
    ///
    /// If it shows neither.
    pub fn find(&self, db: &Database, context: &dyn Fn() -> String) -> Result<State> {
        let view = db.begin_read()?;
        let differ = |state: &State| match state.difference(&view)? {
            None => state.savepoints_differ(db),
            difference => Ok(difference),
        };
        let Some(difference) = differ(&self.durable)? else {
            return Ok(self.durable.clone());
        };
        let Some(in_flight) = &self.in_flight else {
            panic!(
                "{}: not what was acknowledged, and nothing was in flight: {difference}",
                context()
            );
        };
        match differ(in_flight)? {
            None => Ok(in_flight.clone()),
            Some(other) => panic!(
                "{}: neither what was acknowledged ({difference}) nor what was in flight ({other})",
                context()
            ),
        }
    }
}

/// Checks structure and free space: a leak and a double use are problems too.
///
/// # Errors
///
/// If the storage fails.
pub fn verify(db: &Database) -> Result<VerifyReport> {
    db.verify(|_, _| {})
}

/// A set of groups as the model numbers them, for the engine.
#[must_use]
pub fn group_set(bits: u16) -> GroupSet {
    let chosen = GROUPS.iter().enumerate();
    chosen
        .filter(|(place, _)| bits & (1 << place) != 0)
        .map(|(_, &group)| group)
        .collect()
}

/// The key with a number: of some form and length that depend on both numbers.
#[must_use]
pub fn key(table: usize, number: u16, page_size: usize) -> Vec<u8> {
    let mixed = SplitMix64::new((table as u64) << 32 | u64::from(number)).next_u64();
    let longest = page_size / 4 - 64;
    match mixed % 16 {
        // The greatest length there is, and nearly that.
        0 => {
            let mut key = vec![b'x'; longest - usize::from(number % 4)];
            key[..2].copy_from_slice(&number.to_be_bytes());
            key
        }
        // Equal but for the end.
        1 | 2 => [vec![b'y'; 100].as_slice(), &number.to_be_bytes()].concat(),
        // One a prefix of the next; the empty key too.
        3 | 4 => vec![b'z'; usize::from(number % 64)],
        5..=7 => [b"a shared prefix ".as_slice(), &number.to_be_bytes()].concat(),
        8 => mixed.to_be_bytes().repeat(1 + usize::from(number % 40)),
        _ => number.to_string().into_bytes(),
    }
}

/// The key behind all others of a table.
#[must_use]
pub fn next_key(rows: &Rows) -> Vec<u8> {
    // All other keys begin with a lesser byte, or are short.
    let last = rows.last_key_value().map(|(key, _)| key.as_slice());
    let number = match last {
        Some([0xFF, 0xFF, rest @ ..]) if rest.len() == 8 => {
            rest.iter()
                .fold(0, |number: u64, &byte| number << 8 | u64::from(byte))
                + 1
        }
        _ => 0,
    };
    [&[0xFF, 0xFF][..], &number.to_be_bytes()].concat()
}

/// A value of random bytes.
#[must_use]
pub fn value(seed: u32, length: u32) -> Arc<[u8]> {
    let mut random = SplitMix64::new(seed.into());
    let mut bytes = vec![0; length as usize];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next_u64().to_le_bytes()[..part.len()]);
    }
    bytes.into()
}

/// Whether an error says what happened: it names the file, and is of a kind that a failing storage may cause.
#[must_use]
pub fn is_told(error: &Error) -> bool {
    let kind = matches!(
        error,
        Error::Io { .. }
            | Error::Full { .. }
            | Error::Latched { .. }
            | Error::Closed { .. }
            | Error::Poisoned { .. }
    );
    let named = matches!(error, Error::Poisoned { .. })
        || error.to_string().starts_with("simulated disk: ");
    kind && named
}
