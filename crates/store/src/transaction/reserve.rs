//! Values that are written where they will lie.

use std::{io, sync::Arc};

use super::WriteTransaction;
use crate::{
    error::Result,
    node::fits_inline,
    pager::PageSource,
    space::Purpose,
    tree::{Filling, StoredBytes},
};

/// The pages of a value that is not whole yet. They are given back if it never becomes so.
struct Reserved<'t> {
    transaction: &'t WriteTransaction,
    index: usize,
    filling: Option<Filling>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(filling) = self.filling.take() {
            // A failure poisons the transaction, so it does not go unnoticed.
            drop(
                self.transaction
                    .change(self.index, Purpose::Growth, |tree| {
                        filling.abandon(tree.workspace)
                    }),
            );
        }
    }
}

/// Sets a row to a value whose bytes `fill` writes. While `fill` runs nothing of the transaction is borrowed, so that it
/// may read other tables.
pub(super) fn insert(
    transaction: &WriteTransaction,
    index: usize,
    key: &[u8],
    length: usize,
    mut fill: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> Result<Option<StoredBytes>> {
    let mut fill = |bytes: &mut [u8]| {
        fill(bytes).map_err(|source| transaction.io_error("fill a reserved value", source))
    };
    if fits_inline(transaction.page_size(), key.len(), length) {
        let mut value = vec![0; length];
        fill(&mut value)?;
        return transaction.change(index, Purpose::Growth, |tree| tree.insert(key, &value));
    }
    let filling = transaction.change(index, Purpose::Growth, |tree| {
        tree.workspace.relieve()?;
        Filling::begin(tree.workspace, length as u32, tree.owner, tree.table)
    })?;
    let mut reserved = Reserved {
        transaction,
        index,
        filling: Some(filling),
    };
    while let Some(filling) = &mut reserved.filling {
        let Some((page, bytes)) = filling.next(&mut fill)? else {
            break;
        };
        transaction.change(index, Purpose::Growth, |tree| {
            filling.keep(tree.workspace, page, bytes)
        })?;
    }
    let filling = reserved.filling.take();
    transaction.change(index, Purpose::Growth, |tree| match filling {
        Some(filling) => tree.insert_long(key, filling.finish()),
        None => Ok(None),
    })
}

impl WriteTransaction {
    fn io_error(&self, operation: &'static str, source: io::Error) -> crate::error::Error {
        crate::error::Error::Io {
            file: Arc::clone(&super::write::Source::of_writer(self).pager().file),
            operation,
            source: Arc::new(source),
        }
    }
}
