//! What a replica holds.

use std::collections::BTreeMap;

use folio_ledger::limits::MAX_PAGE;
use folio_ledger::verify::{verify_chain, verify_shared, verify_state};
use folio_ledger::{Ledger, LedgerView, VaultInfo};
use folio_raft::StateMachine;
use folio_store::ReadTransaction;

/// The encoded keys and values of a table.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Every row of every table of the ledger, and the ends of the chains (heights, block hashes, state
/// roots) as the ledger reports them.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// The vaults, in order of number.
    pub vaults: Vec<VaultInfo>,
    /// The rows, by the name of their table.
    pub tables: BTreeMap<String, Rows>,
}

impl Contents {
    /// Reads everything through `view`, and verifies it against itself: chains, states, and what
    /// the vaults share. A table that is neither the ledger's nor the Raft store's nor that of a
    /// test is one that was left behind.
    pub fn verified(view: &ReadTransaction) -> Self {
        let vaults = LedgerView::new(view)
            .vaults(0, MAX_PAGE)
            .expect("readable vaults");
        for info in &vaults {
            verify_chain(view, info.vault, &mut |_, _| ()).expect("a sound chain");
            verify_state(view, info.vault, &mut |_, _| ()).expect("a sound state");
        }
        verify_shared(view).expect("sound sessions, expiries and counters");
        let known = Ledger.tables().definitions();
        for table in view.tables().expect("a catalog") {
            let other = table.name.starts_with("raft_") || table.name.starts_with("test_");
            assert!(other || known.contains(&table), "{table:?} was left behind");
        }
        let tables = known.into_iter().map(|table| {
            let rows = view.untyped(&table).expect("the table");
            let rows = rows
                .iter()
                .expect("its rows")
                .collect::<Result<_, _>>()
                .expect("its rows");
            (table.name, rows)
        });
        Self {
            vaults,
            tables: tables.collect(),
        }
    }

    /// Fails unless both replicas hold the same, and names the first table that differs.
    pub fn assert_equal(&self, other: &Self, what: &str) {
        assert_eq!(self.vaults, other.vaults, "{what}");
        for (name, rows) in &self.tables {
            assert!(rows == &other.tables[name], "{what}: `{name}` differs");
        }
    }
}
