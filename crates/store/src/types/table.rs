//! What a table is.

use super::{Group, Key, Value};

/// A table, as a type that is never made a value of.
///
/// ```
/// use folio_store::Table;
///
/// struct Names;
///
/// impl Table for Names {
///     const NAME: &'static str = "names";
///     type Key = u64;
///     type Value = &'static str;
/// }
/// ```
pub trait Table: 'static {
    /// What the table is called in the file.
    const NAME: &'static str;

    /// The group it belongs to.
    const GROUP: Group = Group::DEFAULT;

    /// The type of its keys.
    type Key: Key;

    /// The type of its values.
    type Value: Value;
}

/// The types of the rows behind a handle: those of a [`Table`], or bytes for a table that is opened [`Untyped`]. Nobody
/// else implements it.
pub trait RowTypes: 'static {
    /// What an error calls the table whose row does not decode.
    const TABLE: &'static str;

    /// The type of the keys.
    type Key: Key;

    /// The type of the values.
    type Value: Value;
}

impl<T: Table> RowTypes for T {
    const TABLE: &'static str = T::NAME;
    type Key = <T as Table>::Key;
    type Value = <T as Table>::Value;
}

/// Rows as bytes, for tools: what [`ReadTransaction::untyped`](crate::ReadTransaction::untyped) and
/// [`WriteTransaction::untyped`](crate::WriteTransaction::untyped) open.
#[derive(Debug)]
pub enum Untyped {}

impl RowTypes for Untyped {
    // Bytes always decode.
    const TABLE: &'static str = "";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

/// What the file knows of a table: the names that tools and snapshots work with, where there is no type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TableDefinition {
    /// What the table is called.
    pub name: String,
    /// The group it belongs to.
    pub group: Group,
    /// The [name](Value::type_name) of the type of its keys.
    pub key_type: String,
    /// The [name](Value::type_name) of the type of its values.
    pub value_type: String,
}

impl TableDefinition {
    /// The definition of a table type.
    #[must_use]
    pub fn of<T: Table>() -> Self {
        Self {
            name: T::NAME.to_owned(),
            group: T::GROUP,
            key_type: T::Key::type_name(),
            value_type: T::Value::type_name(),
        }
    }

    /// The same group and types under another name.
    #[must_use]
    pub fn renamed(&self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Table for Plain {
        const NAME: &'static str = "plain";
        type Key = (u64, &'static str);
        type Value = &'static [u8];
    }

    struct Grouped;

    impl Table for Grouped {
        const NAME: &'static str = "grouped";
        const GROUP: Group = Group::new(3);
        type Key = [u8; 16];
        type Value = ();
    }

    #[test]
    fn a_definition_names_both_types() {
        let definition = TableDefinition::of::<Plain>();
        assert_eq!(definition.name, "plain");
        assert_eq!(definition.group, Group::DEFAULT);
        assert_eq!(definition.key_type, "(u64,str)");
        assert_eq!(definition.value_type, "bytes");
    }

    #[test]
    fn a_renamed_table_keeps_everything_else() {
        let definition = TableDefinition::of::<Grouped>().renamed("other");
        assert_eq!(
            definition,
            TableDefinition {
                name: "other".to_owned(),
                group: Group::new(3),
                key_type: "[u8;16]".to_owned(),
                value_type: "()".to_owned(),
            }
        );
    }
}
