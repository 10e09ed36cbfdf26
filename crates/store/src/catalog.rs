//! The catalog: for each group a tree from the name of a table to what is known of it.
//!
//! A row is the format of the row (1 byte, 1), the table's number (4), root (16), rows (8), and the key and the value type,
//! each with its length (2) before it.

use std::sync::Arc;

use crate::{
    bytes::{read_u16, read_u32, read_u64},
    error::{Error, Result},
    page::PageRef,
    pager::{PageSource, Pager},
    tree::{Cursor, TreeRoot},
    types::{Group, TableDefinition},
};

const FORMAT: u8 = 1;
const FIXED: usize = 1 + 4 + 16 + 8;

/// Table names are keys of the catalog.
pub(crate) const MAX_NAME: usize = 512;

/// The table number in the pages of a group's catalog: where the roots are lost, it tells whose tables these are.
pub(crate) fn number_of(group: Group) -> u32 {
    LAST_CATALOG - u32::from(group.index())
}

/// The group whose catalog has this number.
pub(crate) fn group_of(number: u32) -> Option<Group> {
    u8::try_from(LAST_CATALOG - number)
        .ok()
        .and_then(Group::from_index)
}

/// The number of the first group's catalog.
const LAST_CATALOG: u32 = u32::MAX;

/// Type names are for people; longer ones are cut.
const MAX_TYPE_NAME: usize = 200;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TableRecord {
    pub number: u32,
    pub root: TreeRoot,
    pub key_type: String,
    pub value_type: String,
}

impl TableRecord {
    pub fn new(number: u32, definition: &TableDefinition) -> Self {
        Self {
            number,
            root: TreeRoot::EMPTY,
            key_type: cut(&definition.key_type).into(),
            value_type: cut(&definition.value_type).into(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.root.at.page.to_le_bytes());
        bytes.extend(self.root.at.transaction.to_le_bytes());
        bytes.extend(self.root.rows.to_le_bytes());
        for name in [&self.key_type, &self.value_type] {
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FIXED || bytes[0] != FORMAT {
            return None;
        }
        let root = TreeRoot {
            at: PageRef::read(bytes, 5),
            rows: read_u64(bytes, 21),
        };
        let mut rest = &bytes[FIXED..];
        let mut name = || {
            let length = usize::from(read_u16(rest.get(..2)?, 0));
            let name = rest.get(2..2 + length)?;
            rest = &rest[2 + length..];
            String::from_utf8(name.to_vec()).ok()
        };
        let (key_type, value_type) = (name()?, name()?);
        rest.is_empty().then_some(Self {
            number: read_u32(bytes, 1),
            root,
            key_type,
            value_type,
        })
    }

    /// Refuses a table that holds other types than the program's.
    pub fn check(&self, file: &Arc<str>, definition: &TableDefinition) -> Result<()> {
        if self.key_type == cut(&definition.key_type)
            && self.value_type == cut(&definition.value_type)
        {
            return Ok(());
        }
        Err(Error::TableTypes {
            file: file.clone(),
            table: definition.name.as_str().into(),
            found: format!("`{}` to `{}`", self.key_type, self.value_type),
            wanted: format!("`{}` to `{}`", definition.key_type, definition.value_type),
        })
    }

    pub fn definition(&self, name: String, group: Group) -> TableDefinition {
        TableDefinition {
            name,
            group,
            key_type: self.key_type.clone(),
            value_type: self.value_type.clone(),
        }
    }
}

fn cut(name: &str) -> &str {
    let mut end = name.len().min(MAX_TYPE_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Looks a table up.
pub(crate) fn find(
    source: &impl PageSource,
    catalog: TreeRoot,
    name: &str,
) -> Result<Option<TableRecord>> {
    let Some(row) = catalog.get(source, name.as_bytes())? else {
        return Ok(None);
    };
    decode(source.pager(), catalog, row.as_slice()).map(Some)
}

/// All tables of a catalog, by name.
pub(crate) fn list<S: PageSource>(
    source: S,
    catalog: TreeRoot,
) -> Result<Vec<(String, TableRecord)>> {
    let mut cursor = Cursor::new(
        source,
        catalog.at,
        (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
    );
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        rows.push((row.key(), row.body().to_vec()));
    }
    let pager = cursor.source().pager();
    let decoded = rows.into_iter().map(|(key, row)| {
        let name = String::from_utf8(key)
            .map_err(|_| damaged(pager, catalog, "a table name is not UTF-8"))?;
        Ok((name, decode(pager, catalog, &row)?))
    });
    decoded.collect()
}

fn decode(pager: &Pager, catalog: TreeRoot, row: &[u8]) -> Result<TableRecord> {
    TableRecord::decode(row)
        .ok_or_else(|| damaged(pager, catalog, "a table record has an unknown form"))
}

fn damaged(pager: &Pager, catalog: TreeRoot, fault: &str) -> Error {
    pager.corrupted(
        catalog.at.page,
        format!("the catalog below this page is damaged: {fault}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TableRecord {
        let definition = TableDefinition {
            name: "accounts".into(),
            group: Group::DEFAULT,
            key_type: "u64".into(),
            value_type: "postcard<Account>".into(),
        };
        TableRecord {
            root: TreeRoot {
                at: PageRef {
                    page: 12,
                    transaction: 7,
                },
                rows: 99,
            },
            ..TableRecord::new(3, &definition)
        }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        assert_eq!(TableRecord::decode(&record().encode()), Some(record()));
    }

    #[test]
    fn a_catalog_number_tells_its_group() {
        for group in crate::types::GroupSet::ALL {
            assert_eq!(group_of(number_of(group)), Some(group));
        }
        assert_eq!(group_of(u32::MAX - 16), None);
        assert_eq!(group_of(0), None);
    }

    #[test]
    fn a_record_of_any_other_length_is_refused() {
        let bytes = record().encode();
        for length in 0..bytes.len() {
            assert_eq!(TableRecord::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(TableRecord::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_long_type_name_is_cut_between_characters() {
        let name = "ä".repeat(150);
        assert_eq!(cut(&name).len(), 200);
        assert_eq!(cut(&format!("x{name}")).len(), 199);
    }
}
