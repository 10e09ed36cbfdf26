//! What an attack does to a database: the one grammar of operations, transactions and accidents.

use folio_store::storage::{Fault, StorageCall};

use crate::{choices::Choices, model::TABLES};

/// What a script is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The page size of the file.
    pub page_size: usize,
    /// The cache of each incarnation, in pages, if it is to be the same for all.
    pub cache_pages: Option<usize>,
    /// Whether the power is cut.
    pub power_cuts: bool,
    /// Whether storage calls fail.
    pub faults: bool,
    /// Whether some transactions are larger than a small cache and than what a slot can list.
    pub fills: bool,
}

impl Shape {
    /// A shape for a seed: mostly small pages, and all kinds of accidents.
    #[must_use]
    pub fn choose(choices: &mut impl Choices) -> Self {
        Self {
            page_size: choices.weighted(&[
                (40, 4096),
                (3, 8192),
                (2, 16384),
                (1, 32768),
                (1, 65536),
            ]),
            cache_pages: None,
            power_cuts: true,
            faults: false,
            fills: true,
        }
    }
}

/// One thing done to a table within a transaction. Keys are numbers, of which the model makes keys of all lengths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The table, by its number.
    pub table: usize,
    /// What is done to it.
    pub change: Change,
}

/// What an [`Operation`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Sets a row.
    Insert {
        /// The number of its key.
        key: u16,
        /// What its value is made from.
        seed: u32,
        /// The length of its value.
        length: u32,
    },
    /// Removes a row, if it is there.
    Remove {
        /// The number of its key.
        key: u16,
    },
    /// Adds a row behind all others.
    Append {
        /// What its value is made from.
        seed: u32,
        /// The length of its value.
        length: u32,
    },
    /// Removes the first rows.
    Purge {
        /// How many.
        rows: u16,
    },
    /// Removes the rows between two keys.
    RemoveRange {
        /// The number of one of them.
        from: u16,
        /// The number of the other.
        to: u16,
    },
    /// Reads a row.
    Get {
        /// The number of its key.
        key: u16,
    },
    /// Reads all rows from both ends.
    Scan,
    /// Sets many rows.
    Fill {
        /// How many.
        rows: u16,
        /// What their values are made from.
        seed: u32,
        /// The length of each value.
        length: u32,
    },
    /// Removes all rows.
    Clear,
    /// Deletes the table.
    Delete,
    /// Gives the rows of the staging table of this group to the table.
    Replace,
    /// Gives the table another name, and its own again.
    Rename,
    /// Seeks a row with a cursor and walks from there.
    Walk {
        /// The number of the key that is sought.
        key: u16,
        /// The steps, two bits each: forward, backward, to the start or the end, or to the next number.
        steps: u16,
    },
    /// Looks for the rows nearest to a key.
    Nearest {
        /// The number of the key.
        key: u16,
    },
    /// Looks at a row and then sets it, removes it, or leaves it.
    Entry {
        /// The number of its key.
        key: u16,
        /// What its value is made from.
        seed: u32,
        /// The length of its value.
        length: u32,
    },
    /// Sets or removes a row if it has the value that is expected.
    Swap {
        /// The number of its key.
        key: u16,
        /// What its value is made from.
        seed: u32,
        /// The length of its value.
        length: u32,
        /// Whether the value that is there is expected, or another one.
        expected: bool,
    },
    /// Sets a row to a value that is written in its place, after an attempt whose source fails.
    Reserve {
        /// The number of its key.
        key: u16,
        /// What its value is made from.
        seed: u32,
        /// The length of its value.
        length: u32,
    },
    /// Adds rows behind all others by a loader, which is also given one that is not.
    Load {
        /// How many.
        rows: u16,
        /// What their values are made from.
        seed: u32,
        /// The length of each value.
        length: u32,
    },
    /// Removes the rows that a rule chooses.
    Retain {
        /// The rule: a row in so many goes.
        share: u8,
    },
    /// Removes rows of a range that a rule chooses, and gives them back until somebody has enough.
    Extract {
        /// The number of the key where the range begins.
        from: u16,
        /// The rule: a row in so many goes.
        share: u8,
        /// How many are enough.
        enough: u8,
    },
    /// Takes rows from the ends.
    Pop {
        /// From which ends, a bit each.
        ends: u8,
    },
    /// Remembers the state of the transaction.
    Save,
    /// Goes back to one of the states that the transaction remembers.
    RollBack {
        /// To which.
        savepoint: u8,
    },
    /// Forgets one of these states, and those that came after.
    Release {
        /// Which.
        savepoint: u8,
    },
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It is committed and durable on return.
    Durable,
    /// It is committed in memory.
    Eventual,
    /// It is committed in memory, and there is a ticket to wait with.
    Ticket,
    /// It is aborted.
    Abort,
    /// It is forgotten.
    Drop,
    /// The process dies while it is open. What a dead process does later must reach nobody.
    Die,
}

/// One step of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A write transaction.
    Transaction {
        /// What it does.
        operations: Vec<Operation>,
        /// How it ends.
        end: End,
    },
    /// Groups are made durable.
    Checkpoint {
        /// The bits of the set of groups, as the model numbers them.
        groups: u16,
    },
    /// A ticket is waited for.
    Wait {
        /// Which.
        ticket: u8,
    },
    /// A view is opened and kept.
    OpenView,
    /// A view is compared and closed.
    CloseView {
        /// Which.
        view: u8,
    },
    /// A savepoint that outlives the process is made, unless there is one of its name.
    CreateSavepoint {
        /// The number that is its name.
        name: u8,
    },
    /// The database goes back to a savepoint.
    RestoreSavepoint {
        /// Which.
        savepoint: u8,
    },
    /// A savepoint ends.
    ReleaseSavepoint {
        /// Which.
        savepoint: u8,
    },
    /// A view of a savepoint is opened and kept.
    ViewSavepoint {
        /// Which.
        savepoint: u8,
    },
    /// Everything is checked.
    Verify,
    /// The file is compacted and cut.
    Compact {
        /// How many pages are moved in one transaction, less one.
        pages: u8,
    },
    /// The database is closed and opened again.
    Close {
        /// The cache of the next incarnation, in pages.
        cache_pages: u16,
    },
    /// The process dies and another one opens the file.
    Kill {
        /// The cache of the next incarnation, in pages.
        cache_pages: u16,
    },
    /// The power goes during one of the next calls.
    PowerCut {
        /// During which, from now. At once if 0.
        calls: u8,
        /// Which sectors have landed.
        seed: u32,
        /// The cache of the next incarnation, in pages.
        cache_pages: u16,
    },
    /// One of the next calls fails.
    Fault(Failure),
}

/// A call that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The kinds of calls that are counted.
    pub calls: &'static [StorageCall],
    /// Which of them fails, from 1.
    pub at: u64,
    /// How it fails.
    pub fault: Fault,
    /// Whether those after it fail as well.
    pub lasting: bool,
}

/// Every kind of call.
pub const ALL_CALLS: &[StorageCall] = &[
    StorageCall::Read,
    StorageCall::Write,
    StorageCall::Sync,
    StorageCall::Grow,
    StorageCall::Truncate,
];

const CALLS: [(u64, &[StorageCall]); 6] = [
    (4, StorageCall::CHANGING),
    (2, &[StorageCall::Write]),
    (3, &[StorageCall::Sync]),
    (1, &[StorageCall::Grow]),
    (1, &[StorageCall::Read]),
    (1, ALL_CALLS),
];

const FAULTS: [(u64, Fault); 3] = [
    (3, Fault::InputOutput),
    (2, Fault::ShortWrite),
    (1, Fault::NoSpace),
];

/// A cache from one in which hardly a path fits to one that holds everything, in pages.
fn cache_pages(shape: &Shape, choices: &mut impl Choices) -> u16 {
    match shape.cache_pages {
        Some(pages) => pages as u16,
        None => choices.weighted(&[(4, 256), (2, 0), (2, 16), (2, 64), (1, 1024)]),
    }
}

impl Step {
    /// A step that `shape` allows.
    pub fn choose(shape: &Shape, choices: &mut impl Choices) -> Self {
        #[derive(Clone, Copy)]
        enum Kind {
            Transaction,
            Checkpoint,
            Wait,
            OpenView,
            CloseView,
            CreateSavepoint,
            RestoreSavepoint,
            ReleaseSavepoint,
            ViewSavepoint,
            Verify,
            Compact,
            Close,
            Kill,
            PowerCut,
            Fault,
        }
        let kind = choices.weighted(&[
            (72, Kind::Transaction),
            (6, Kind::Checkpoint),
            (4, Kind::Wait),
            (5, Kind::OpenView),
            (4, Kind::CloseView),
            (3, Kind::CreateSavepoint),
            (1, Kind::RestoreSavepoint),
            (2, Kind::ReleaseSavepoint),
            (1, Kind::ViewSavepoint),
            (1, Kind::Verify),
            (1, Kind::Compact),
            (2, Kind::Close),
            (2, Kind::Kill),
            (if shape.power_cuts { 2 } else { 0 }, Kind::PowerCut),
            (if shape.faults { 3 } else { 0 }, Kind::Fault),
        ]);
        match kind {
            Kind::Transaction => Self::transaction(shape, choices),
            Kind::Checkpoint => Self::Checkpoint {
                groups: choices.below(1 << 4) as u16,
            },
            Kind::Compact => Self::Compact {
                pages: choices.below(1 << 6) as u8,
            },
            Kind::Wait => Self::Wait {
                ticket: choices.below(8) as u8,
            },
            Kind::OpenView => Self::OpenView,
            Kind::CloseView => Self::CloseView {
                view: choices.below(8) as u8,
            },
            Kind::CreateSavepoint => Self::CreateSavepoint {
                name: choices.below(4) as u8,
            },
            Kind::RestoreSavepoint => Self::RestoreSavepoint {
                savepoint: choices.below(4) as u8,
            },
            Kind::ReleaseSavepoint => Self::ReleaseSavepoint {
                savepoint: choices.below(4) as u8,
            },
            Kind::ViewSavepoint => Self::ViewSavepoint {
                savepoint: choices.below(4) as u8,
            },
            Kind::Verify => Self::Verify,
            Kind::Close => Self::Close {
                cache_pages: cache_pages(shape, choices),
            },
            Kind::Kill => Self::Kill {
                cache_pages: cache_pages(shape, choices),
            },
            Kind::PowerCut => Self::PowerCut {
                calls: choices.below(24) as u8,
                seed: choices.below(1 << 32) as u32,
                cache_pages: cache_pages(shape, choices),
            },
            Kind::Fault => Self::Fault(Failure {
                calls: choices.weighted(&CALLS),
                at: 1 + choices.below(24),
                fault: choices.weighted(&FAULTS),
                lasting: choices.one_in(3),
            }),
        }
    }

    fn transaction(shape: &Shape, choices: &mut impl Choices) -> Self {
        if shape.fills && choices.one_in(50) {
            return Self::fill(shape, choices);
        }
        // Most transactions stay in one table; the others tie groups.
        let one_table = choices
            .weighted(&[(2, true), (1, false)])
            .then(|| choices.below(TABLES as u64) as usize);
        let operations = (0..1 + choices.below(12))
            .map(|_| Operation {
                table: one_table.unwrap_or_else(|| choices.below(TABLES as u64) as usize),
                change: Change::choose(shape, choices),
            })
            .collect();
        let end = choices.weighted(&[
            (10, End::Durable),
            (9, End::Eventual),
            (4, End::Ticket),
            (1, End::Abort),
            (1, End::Drop),
            (1, End::Die),
        ]);
        Self::Transaction { operations, end }
    }

    /// A commit whose manifest takes pages of its own, then one that needs more pages than are free, and the end of
    /// both: what the manifest lies on must not be used while recovery may need it.
    #[must_use]
    pub fn much(choices: &mut impl Choices) -> Vec<Self> {
        let step = |table, change| Self::Transaction {
            operations: vec![Operation { table, change }],
            end: End::Durable,
        };
        let tables = TABLES as u64;
        let first = choices.below(tables) as usize;
        let second = (first + 1 + choices.below(tables - 1) as usize) % TABLES;
        let seed = choices.below(1 << 32) as u32;
        let fill = |rows| Change::Fill {
            rows,
            seed,
            length: 1_200,
        };
        let mut steps = vec![step(first, fill(560 + choices.below(200) as u16))];
        if choices.one_in(2) {
            steps.push(Self::Kill { cache_pages: 256 });
        }
        steps.push(step(second, fill(60 + choices.below(60) as u16)));
        steps.push(step(first, Change::Clear));
        steps.push(step(second, Change::Clear));
        steps
    }

    /// More pages than a small cache holds; or the end of them.
    fn fill(shape: &Shape, choices: &mut impl Choices) -> Self {
        let table = choices.below(TABLES as u64) as usize;
        let change = if choices.one_in(2) {
            Change::Clear
        } else {
            Change::Fill {
                rows: 100 + choices.below(250) as u16,
                seed: choices.below(1 << 32) as u32,
                length: shape.page_size as u32 / 5 + choices.below(200) as u32,
            }
        };
        let end = choices.weighted(&[(1, End::Eventual), (3, End::Durable), (1, End::Abort)]);
        Self::Transaction {
            operations: vec![Operation { table, change }],
            end,
        }
    }
}

impl Change {
    fn choose(shape: &Shape, choices: &mut impl Choices) -> Self {
        #[derive(Clone, Copy)]
        enum Kind {
            Insert,
            Append,
            Remove,
            Purge,
            RemoveRange,
            Get,
            Scan,
            Clear,
            Delete,
            Replace,
            Rename,
            Walk,
            Nearest,
            Entry,
            Swap,
            Reserve,
            Load,
            Retain,
            Extract,
            Pop,
            Save,
            RollBack,
            Release,
        }
        let kind = choices.weighted(&[
            (42, Kind::Insert),
            (18, Kind::Append),
            (20, Kind::Remove),
            (5, Kind::Purge),
            (5, Kind::RemoveRange),
            (5, Kind::Get),
            (2, Kind::Scan),
            (1, Kind::Clear),
            (1, Kind::Delete),
            (1, Kind::Replace),
            (1, Kind::Rename),
            (3, Kind::Walk),
            (2, Kind::Nearest),
            (4, Kind::Entry),
            (4, Kind::Swap),
            (4, Kind::Reserve),
            (3, Kind::Load),
            (2, Kind::Retain),
            (3, Kind::Extract),
            (3, Kind::Pop),
            (4, Kind::Save),
            (3, Kind::RollBack),
            (1, Kind::Release),
        ]);
        match kind {
            Kind::Insert => Self::Insert {
                key: key(choices),
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
            },
            Kind::Append => Self::Append {
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
            },
            Kind::Remove => Self::Remove { key: key(choices) },
            Kind::Purge => Self::Purge {
                rows: choices.below(60) as u16,
            },
            Kind::RemoveRange => Self::RemoveRange {
                from: key(choices),
                to: key(choices),
            },
            Kind::Get => Self::Get { key: key(choices) },
            Kind::Scan => Self::Scan,
            Kind::Clear => Self::Clear,
            Kind::Delete => Self::Delete,
            Kind::Replace => Self::Replace,
            Kind::Rename => Self::Rename,
            Kind::Walk => Self::Walk {
                key: key(choices),
                steps: choices.below(1 << 16) as u16,
            },
            Kind::Nearest => Self::Nearest { key: key(choices) },
            Kind::Entry => Self::Entry {
                key: key(choices),
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
            },
            Kind::Swap => Self::Swap {
                key: key(choices),
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
                expected: !choices.one_in(3),
            },
            Kind::Reserve => Self::Reserve {
                key: key(choices),
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
            },
            Kind::Load => Self::Load {
                rows: choices.below(60) as u16,
                seed: choices.below(1 << 32) as u32,
                length: length(shape, choices),
            },
            Kind::Retain => Self::Retain {
                share: choices.below(8) as u8,
            },
            Kind::Extract => Self::Extract {
                from: key(choices),
                share: choices.below(8) as u8,
                enough: choices.below(64) as u8,
            },
            Kind::Pop => Self::Pop {
                ends: choices.below(1 << 8) as u8,
            },
            Kind::Save => Self::Save,
            Kind::RollBack => Self::RollBack {
                savepoint: choices.below(8) as u8,
            },
            Kind::Release => Self::Release {
                savepoint: choices.below(8) as u8,
            },
        }
    }
}

/// The keys of a table are so few that most removals find their row.
const KEYS: u64 = 64;

fn key(choices: &mut impl Choices) -> u16 {
    choices.below(KEYS) as u16
}

fn length(shape: &Shape, choices: &mut impl Choices) -> u32 {
    let page = shape.page_size as u64;
    let bound = choices.weighted(&[(44, 80), (6, 600), (2, page + 200), (1, page * 4)]);
    choices.below(bound) as u32
}
