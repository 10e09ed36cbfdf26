//! Names of tables.

use std::{fmt, ops::Deref, sync::Arc};

/// What a table is called: not copied where its type says it.
#[derive(Clone)]
pub(super) enum TableName {
    Constant(&'static str),
    Counted(Arc<str>),
}

impl Deref for TableName {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match self {
            Self::Constant(name) => name,
            Self::Counted(name) => name,
        }
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}
