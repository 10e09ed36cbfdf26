//! What is wrong with bytes that do not decode.

use super::Value;

/// Bytes that are not an encoding of the type they were read as.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The type has encodings of one length only, and this is another.
    #[error("a {type_name} takes {expected} bytes, found {found}")]
    WrongLength {
        /// The type that was to be read.
        type_name: String,
        /// The length of its encodings.
        expected: usize,
        /// The length there was.
        found: usize,
    },
    /// Something follows a complete encoding.
    #[error("{count} bytes too many behind a {type_name}")]
    TrailingBytes {
        /// The type that was to be read.
        type_name: String,
        /// How many bytes follow.
        count: usize,
    },
    /// The text is not UTF-8.
    #[error("the text is not UTF-8 from byte {valid_up_to} on")]
    InvalidText {
        /// How many bytes from the front are.
        valid_up_to: usize,
    },
    /// The length is right, but no value of the type has these bytes.
    #[error("the bytes are no {type_name}")]
    InvalidValue {
        /// The type that was to be read.
        type_name: String,
    },
    /// A key inside a tuple holds a zero byte that is neither escaped nor the end, or has no end.
    #[error("a {type_name} inside a tuple is wrongly escaped or has no end")]
    BadEscape {
        /// The type that was to be read.
        type_name: String,
    },
    /// Postcard refused the bytes.
    #[error("the bytes are no {type_name}: {reason}")]
    Postcard {
        /// The type that was to be read.
        type_name: String,
        /// What postcard says.
        reason: String,
    },
}

impl DecodeError {
    pub(super) fn wrong_length<V: Value + ?Sized>(expected: usize, found: usize) -> Self {
        Self::WrongLength {
            type_name: V::type_name(),
            expected,
            found,
        }
    }

    pub(crate) fn trailing<V: Value + ?Sized>(count: usize) -> Self {
        Self::TrailingBytes {
            type_name: V::type_name(),
            count,
        }
    }

    pub(super) fn invalid_value<V: Value + ?Sized>() -> Self {
        Self::InvalidValue {
            type_name: V::type_name(),
        }
    }

    pub(super) fn bad_escape<V: Value + ?Sized>() -> Self {
        Self::BadEscape {
            type_name: V::type_name(),
        }
    }
}
