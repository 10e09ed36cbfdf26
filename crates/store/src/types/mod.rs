//! Tables as types: what a table is, and how its keys and values become bytes.
//!
//! A [`Table`] names a [`Key`] and a [`Value`] type. Both turn into bytes and back by [`Value`]; a [`Key`] promises in
//! addition that comparing two encodings byte by byte orders them as the type does, so the tree compares bytes only.
//!
//! | type | encoding |
//! |---|---|
//! | `u8` to `u128` | big-endian |
//! | `i8` to `i128` | big-endian with the sign bit flipped |
//! | `bool` | one byte, 0 or 1 |
//! | `()` | nothing |
//! | `char` | its code point as a big-endian `u32` |
//! | `&'static str`, `&'static [u8]` | the bytes as they are |
//! | `[u8; N]` | the bytes as they are |
//! | tuples of 2 to 8 keys | the elements as [parts](Key::encode_part), one behind the other; nine do not compile, two tuples in one do |
//! | `Option<V>` | one byte, 0 for `None` and 1 for `Some`, and the encoding of what is inside |
//! | a [`Newtype`] | that of the type inside |
//! | [`Postcard<T>`] | postcard, as a value only |
//!
//! Decoding is strict: every encoding has one form, and bytes that do not have it are a [`DecodeError`].

mod decode_error;
mod escape;
mod group;
mod multi_table;
mod newtype;
mod option;
mod postcard;
mod prefix;
mod scalars;
mod sequences;
mod table;
mod tuples;

#[cfg(test)]
mod properties;

pub use decode_error::DecodeError;
pub use group::{Group, GroupSet, Groups};
pub use multi_table::{MultiTable, Pairs};
pub use newtype::Newtype;
pub use postcard::Postcard;
pub(crate) use prefix::range_of;
pub use prefix::{Beginning, Prefix};
pub use table::{RowTypes, Table, TableDefinition, Untyped};

/// A type that a table can hold.
///
/// Implementations are markers: [`View`](Value::View) is what callers pass in, [`Owned`](Value::Owned) what they get
/// back. For `&'static str` these are `&str` and `String`, for `u64` both are `u64`.
pub trait Value: 'static {
    /// The length of every encoding where all have the same one, which the pages then need not store for each.
    const FIXED_WIDTH: Option<usize>;

    /// What is encoded: a number by value, text and bytes borrowed.
    type View<'a>;

    /// What a decoded value is.
    type Owned: 'static;

    /// What the type is called in the file. A file whose table was written under another name is refused.
    fn type_name() -> String;

    /// Appends the encoding.
    fn encode(view: &Self::View<'_>, out: &mut Vec<u8>);

    /// What [`encode`](Value::encode) would append, if the view holds it as it is, as text and bytes do. Spares a copy;
    /// `None` is always right.
    #[must_use]
    fn encoded<'v>(_view: &'v Self::View<'_>) -> Option<&'v [u8]> {
        None
    }

    /// Reads an encoding, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// When `bytes` are not what [`encode`](Value::encode) makes of any value.
    fn decode(bytes: &[u8]) -> Result<Self::Owned, DecodeError>;
}

/// A value that can be looked at inside its encoding, without copying text and bytes out.
///
/// Tuples are not among them: text in a tuple may be escaped, so there is nothing in the encoding to borrow.
pub trait BorrowedValue: Value {
    /// Reads an encoding, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// When `bytes` are not what [`encode`](Value::encode) makes of any value.
    fn view(bytes: &[u8]) -> Result<Self::View<'_>, DecodeError>;
}

/// A value whose encodings, compared byte by byte, have the order of the type.
///
/// Whoever implements it for a type of their own owes that order. The two methods put a key into a tuple, where it must
/// be known where it ends; what they do by default is right for every type that keeps the promise.
pub trait Key: Value {
    /// Appends the form the key has inside a tuple.
    ///
    /// No such form may be the beginning of another one, and their order must be that of the type. A fixed width gives
    /// both for free. Encodings of varying length are escaped and terminated: a zero byte becomes `00 FF`, and `00 00`
    /// marks the end. A key that is the beginning of another is then followed by `00 00` where the other has `00 FF` or
    /// a greater byte, so it is the lesser one, and whatever the tuple holds behind it does not matter.
    ///
    /// A tuple is a row of such forms and so has both properties itself; one inside another needs no second escaping.
    fn encode_part(view: &Self::View<'_>, out: &mut Vec<u8>) {
        if Self::FIXED_WIDTH.is_some() {
            Self::encode(view, out);
        } else {
            let mut plain = Vec::new();
            Self::encode(view, &mut plain);
            escape::escape(&plain, out);
        }
    }

    /// Reads what [`encode_part`](Key::encode_part) appended from the front of `input` and moves `input` behind it.
    ///
    /// # Errors
    ///
    /// When `input` does not begin with such a form.
    fn decode_part(input: &mut &[u8]) -> Result<Self::Owned, DecodeError> {
        match Self::FIXED_WIDTH {
            Some(width) => {
                let Some((part, rest)) = input.split_at_checked(width) else {
                    return Err(DecodeError::wrong_length::<Self>(width, input.len()));
                };
                *input = rest;
                Self::decode(part)
            }
            None => Self::decode(&escape::unescape::<Self>(input)?),
        }
    }
}
