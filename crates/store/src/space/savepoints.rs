//! Savepoints that outlive their transaction: rows of the space tree, behind those of the free-space map.
//!
//! The space tree belongs to no group and only flushes write it, so the list of savepoints is not part of the states that
//! it lists. The key is a byte of ones and the number of the savepoint, big-endian; the keys of the map are shorter and
//! begin with zeros. A row is
//!
//! | bytes | field |
//! |---|---|
//! | 1 | format of the row, 1 |
//! | 8 | the transaction whose state it is |
//! | 1, then | the length of its name, and the name |
//! | 1 | the number of groups that have tables |
//! | 33 each | the group (1), the root of its catalog (16), its tables (8), eight zero bytes |

use std::ops::Bound;

use crate::{
    bytes::{read_u64, write_u64},
    error::Result,
    page::PageRef,
    pager::Pager,
    tree::{Cursor, KeyRange, TreeRoot},
    types::Group,
};

/// The longest name, in bytes.
pub(crate) const MAX_SAVEPOINT_NAME: usize = 255;

/// The most savepoints of a file.
pub(crate) const MAX_SAVEPOINTS: usize = 1024;

const PREFIX: u8 = 0xFF;
const KEY: usize = 9;
const FORMAT: u8 = 1;
const GROUP: usize = 33;

/// A savepoint as the space tree has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SavepointRow {
    /// Taken between two transactions: the pages of its state have smaller numbers, those made later greater ones.
    pub number: u64,
    /// The newest transaction of its state.
    pub transaction: u64,
    pub name: String,
    pub groups: [TreeRoot; Group::COUNT],
}

impl SavepointRow {
    pub fn key(number: u64) -> [u8; KEY] {
        let mut key = [PREFIX; KEY];
        key[1..].copy_from_slice(&number.to_be_bytes());
        key
    }

    /// Whether a row of the space tree is a savepoint.
    pub fn is_key(key: &[u8]) -> bool {
        key.len() == KEY && key[0] == PREFIX
    }

    /// The first key that no row of the free-space map has.
    pub fn first_key() -> Vec<u8> {
        vec![PREFIX]
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.transaction.to_le_bytes());
        bytes.push(self.name.len() as u8);
        bytes.extend(self.name.as_bytes());
        let groups = self.groups.iter().zip(0u8..);
        let groups: Vec<_> = groups.filter(|(root, _)| !root.at.is_none()).collect();
        bytes.push(groups.len() as u8);
        for (root, index) in groups {
            let mut group = [0; GROUP];
            group[0] = index;
            root.at.write(&mut group, 1);
            write_u64(&mut group, 17, root.rows);
            bytes.extend(group);
        }
        bytes
    }

    pub fn decode(key: &[u8], bytes: &[u8]) -> Option<Self> {
        let number = u64::from_be_bytes(key.get(1..KEY)?.try_into().ok()?);
        let (&format, rest) = bytes.split_first()?;
        let (transaction, rest) = rest.split_at_checked(8)?;
        let transaction = read_u64(transaction, 0);
        let (&length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (&count, rest) = rest.split_first()?;
        let mut groups = [TreeRoot::EMPTY; Group::COUNT];
        let (mut next, mut sound) = (0, true);
        for group in rest.chunks(GROUP) {
            let group: &[u8; GROUP] = group.try_into().ok()?;
            let index = usize::from(group[0]);
            let at = PageRef::read(group, 1);
            sound &= index >= next && !at.is_none() && at.transaction < number;
            *groups.get_mut(index)? = TreeRoot {
                at,
                rows: read_u64(group, 17),
            };
            next = index + 1;
        }
        let sound = sound
            && SavepointRow::is_key(key)
            && format == FORMAT
            && transaction < number
            && length > 0
            && rest.len() == usize::from(count) * GROUP;
        let name = String::from_utf8(name.to_vec()).ok()?;
        sound.then_some(Self {
            number,
            transaction,
            name,
            groups,
        })
    }
}

/// The savepoints of a file, oldest first.
pub(crate) fn read_savepoints(pager: &Pager, space_tree: TreeRoot) -> Result<Vec<SavepointRow>> {
    let damaged = |fault: &str| {
        let fault = format!("the list of savepoints below this page is damaged: {fault}");
        pager.corrupted(space_tree.at.page, fault)
    };
    let range: KeyRange = (Bound::Included(SavepointRow::first_key()), Bound::Unbounded);
    let mut cursor = Cursor::new(pager, space_tree.at, range);
    let mut rows: Vec<SavepointRow> = Vec::new();
    while let Some(row) = cursor.next()? {
        let row = SavepointRow::decode(&row.key(), row.body())
            .ok_or_else(|| damaged("a row has an unknown form"))?;
        if rows.len() == MAX_SAVEPOINTS || rows.iter().any(|other| other.name == row.name) {
            return Err(damaged("it is too long, or a name is in it twice"));
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: String) -> SavepointRow {
        let mut groups = [TreeRoot::EMPTY; Group::COUNT];
        for index in [0, 7, 15] {
            groups[index] = TreeRoot {
                at: PageRef {
                    page: 40 + index as u64,
                    transaction: 9,
                },
                rows: 3,
            };
        }
        SavepointRow {
            number: 12,
            transaction: 9,
            name,
            groups,
        }
    }

    #[test]
    fn a_row_reads_back_as_written() {
        for length in [1, 20, MAX_SAVEPOINT_NAME] {
            let row = row("n".repeat(length));
            let key = SavepointRow::key(row.number);
            assert_eq!(SavepointRow::decode(&key, &row.encode()), Some(row));
        }
    }

    #[test]
    fn a_row_of_any_other_length_is_refused() {
        let bytes = row("name".into()).encode();
        let key = SavepointRow::key(12);
        for length in 0..bytes.len() {
            assert_eq!(
                SavepointRow::decode(&key, &bytes[..length]),
                None,
                "{length}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(SavepointRow::decode(&key, &longer), None);
        assert_eq!(SavepointRow::decode(&key[..8], &bytes), None);
    }

    #[test]
    fn a_row_that_contradicts_itself_is_refused() {
        let changes: [fn(&mut SavepointRow); 3] = [
            |row| row.transaction = 12,
            |row| row.groups[7].at.transaction = 12,
            |row| row.name.clear(),
        ];
        let key = SavepointRow::key(12);
        for change in changes {
            let mut row = row("name".into());
            change(&mut row);
            assert_eq!(SavepointRow::decode(&key, &row.encode()), None);
        }
    }

    #[test]
    fn the_longest_row_fits_a_leaf_of_the_smallest_page() {
        let mut row = row("n".repeat(MAX_SAVEPOINT_NAME));
        row.groups = row.groups.map(|_| row.groups[0]);
        let length = row.encode().len();
        assert!(crate::node::fits_inline(4096, KEY, length), "{length}");
    }
}
