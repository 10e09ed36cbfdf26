//! The tables of the ledger, open for writing.

use folio_store::{TableMut, WriteTransaction};

use crate::command::TokenKey;
use crate::error::Result;
use crate::tables::{
    Blocks, ByResource, BySubject, Cleanups, Counters, Entities, Expiries, History, SessionUses,
    Sessions, TokenKeys, Transactions, Vaults, VersionHeights, Versions,
};
use crate::tree;

/// Every table, each open once for a whole entry.
pub(super) struct Tables<'t> {
    pub(super) vaults: TableMut<'t, Vaults>,
    pub(super) entities: TableMut<'t, Entities>,
    pub(super) expiries: TableMut<'t, Expiries>,
    pub(super) versions: TableMut<'t, Versions>,
    pub(super) version_heights: TableMut<'t, VersionHeights>,
    pub(super) by_resource: TableMut<'t, ByResource>,
    pub(super) by_subject: TableMut<'t, BySubject>,
    pub(super) blocks: TableMut<'t, Blocks>,
    pub(super) transactions: TableMut<'t, Transactions>,
    pub(super) history: TableMut<'t, History>,
    pub(super) tree: tree::Tables<'t>,
    pub(super) sessions: TableMut<'t, Sessions>,
    pub(super) session_uses: TableMut<'t, SessionUses>,
    pub(super) counters: TableMut<'t, Counters>,
    pub(super) token_keys: TableMut<'t, TokenKeys>,
    pub(super) cleanups: TableMut<'t, Cleanups>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self> {
        Ok(Tables {
            vaults: txn.table()?,
            entities: txn.table()?,
            expiries: txn.table()?,
            versions: txn.table()?,
            version_heights: txn.table()?,
            by_resource: txn.table()?,
            by_subject: txn.table()?,
            blocks: txn.table()?,
            transactions: txn.table()?,
            history: txn.table()?,
            tree: (txn.table()?, txn.table()?),
            sessions: txn.table()?,
            session_uses: txn.table()?,
            counters: txn.table()?,
            token_keys: txn.table()?,
            cleanups: txn.table()?,
        })
    }
}

/// Puts another key in the place of the one that page tokens and invitations are made with, in a copy that becomes another
/// cluster's: those of the old one are not good there. An entry of the log that sets the old key comes too late then.
pub fn replace_token_key(txn: &WriteTransaction, key: &TokenKey) -> folio_store::Result<()> {
    txn.table::<TokenKeys>()?.insert((), key.0)?;
    Ok(())
}
