//! The feed of a vault: everything that ever happened to it, in order.

use std::fmt;
use std::str::FromStr;

use folio_store::TableView;
use serde::{Deserialize, Serialize};

use super::page::Room;
use super::{LedgerView, PageLimit};
use crate::block::BlockHeader;
use crate::error::{LedgerError, Result};
use crate::record::Record;
use crate::tables::Transactions;

/// A place in the feed of a vault: how far a reader has come. It means the same on every node and for
/// ever, as a block never changes.
///
/// As text it is the height of a block, all of which has been seen, or a height, a dot and the
/// position of the last transaction of that block that has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FeedPosition {
    /// The height of a block.
    pub height: u64,
    /// The position of a transaction of that block, or `None` behind the whole block.
    pub transaction: Option<u32>,
}

impl FeedPosition {
    /// The place before the block at `height`, from which a feed begins with that block; `None` for
    /// the very beginning.
    pub fn before(height: u64) -> Option<FeedPosition> {
        let height = height.checked_sub(1)?;
        Some(FeedPosition {
            height,
            transaction: None,
        })
    }
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.height)?;
        self.transaction
            .map_or(Ok(()), |place| write!(f, ".{place}"))
    }
}

impl From<FeedPosition> for String {
    fn from(position: FeedPosition) -> Self {
        position.to_string()
    }
}

/// The text is not a place in a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a place in a feed is a height, or a height, a dot and a position; this is {0:?}")]
pub struct ParsePositionError(String);

impl FromStr for FeedPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What does not parse makes another text below.
        let (height, transaction) = match text.split_once('.') {
            None => (text.parse().ok(), None),
            Some((height, place)) => (height.parse().ok(), place.parse().ok()),
        };
        let position = height.map(|height| FeedPosition {
            height,
            transaction,
        });
        // One text for each place: no signs, no zeros in front.
        position
            .filter(|position| position.to_string() == text)
            .ok_or_else(|| ParsePositionError(text.to_owned()))
    }
}

impl TryFrom<String> for FeedPosition {
    type Error = ParsePositionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedItem {
    /// A transaction, or entities that expired.
    Transaction {
        /// The height of its block.
        height: u64,
        /// Its position in the block.
        position: u32,
        /// What was asked, and what it did.
        record: Record,
    },
    /// The end of a block, after its transactions.
    Block(BlockHeader),
}

impl FeedItem {
    /// The place behind the item: where somebody who has seen it goes on.
    pub fn position(&self) -> FeedPosition {
        match self {
            FeedItem::Transaction {
                height, position, ..
            } => FeedPosition {
                height: *height,
                transaction: Some(*position),
            },
            FeedItem::Block(header) => FeedPosition {
                height: header.height,
                transaction: None,
            },
        }
    }
}

impl LedgerView<'_> {
    /// What happened to a vault after a place in its feed, the earliest first; `None` begins with
    /// its creation. An empty page means that nothing has happened since.
    ///
    /// Every transaction and every block comes once, in every page size, however often the reader
    /// goes on from the position of the last item it has seen, on whichever node. A page costs what
    /// is in it.
    pub fn feed(
        &self,
        vault: u64,
        after: Option<FeedPosition>,
        limit: impl Into<PageLimit>,
    ) -> Result<Vec<FeedItem>> {
        let mut room = limit.into().room();
        let mut page = Vec::new();
        let (mut height, mut first) = match after {
            None => (Some(0), Some(0)),
            Some(FeedPosition {
                height,
                transaction: None,
            }) => (height.checked_add(1), Some(0)),
            Some(FeedPosition {
                height,
                transaction: Some(place),
            }) => (Some(height), place.checked_add(1)),
        };
        let transactions = self.view.table::<Transactions>()?;
        while let Some(current) = height {
            let Some(header) = self.block(vault, current)? else {
                break;
            };
            if let Some(first) = first
                && !transactions_of(&transactions, vault, current, first, &mut room, &mut page)?
            {
                break;
            }
            if !room.take(0) {
                break;
            }
            page.push(FeedItem::Block(header));
            (height, first) = (current.checked_add(1), Some(0));
        }
        Ok(page)
    }
}

/// Adds the transactions of a block from one on; whether there was room for all.
fn transactions_of(
    table: &TableView<'_, Transactions>,
    vault: u64,
    height: u64,
    first: u32,
    room: &mut Room,
    page: &mut Vec<FeedItem>,
) -> Result<bool> {
    for row in table.range((vault, height, first)..=(vault, height, u32::MAX))? {
        let ((_, _, position), row) = row?;
        if !room.take(row.len()) {
            return Ok(false);
        }
        let record = Record::decode(&row).map_err(|source| LedgerError::Row {
            row: format!("transaction {position} of block {height} of vault {vault}"),
            source,
        })?;
        page.push(FeedItem::Transaction {
            height,
            position,
            record,
        });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_text_and_reads_back() {
        for (text, height, transaction) in [
            ("0", 0, None),
            ("7.0", 7, Some(0)),
            ("18446744073709551615.4294967295", u64::MAX, Some(u32::MAX)),
        ] {
            let position = FeedPosition {
                height,
                transaction,
            };
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
        }
        for wrong in [
            "",
            ".",
            "1.",
            ".1",
            "01",
            "+1",
            "1.01",
            "1.2.3",
            "-1",
            "1 ",
            "1.4294967296",
        ] {
            assert!(wrong.parse::<FeedPosition>().is_err(), "{wrong:?}");
        }
    }
}
