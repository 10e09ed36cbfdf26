//! Any serde type as a value.

use std::any;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BorrowedValue, DecodeError, Value};

/// Marks a value that is stored in the [postcard](::postcard) encoding of `T`.
///
/// The name in the file is that of `T` without the modules it lives in, so the type may move, but not be renamed
/// without a new table. Postcard does not describe itself: fields and variants may not be reordered or removed.
///
/// # Panics
///
/// Storing a `T` panics when its `Serialize` fails, which derived implementations do not do, or when it contains a
/// sequence that does not know its length.
#[derive(Debug)]
pub struct Postcard<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned + 'static> Value for Postcard<T> {
    const FIXED_WIDTH: Option<usize> = None;
    type View<'a> = T;
    type Owned = T;

    fn type_name() -> String {
        format!("postcard<{}>", without_modules(any::type_name::<T>()))
    }

    fn encode(view: &T, out: &mut Vec<u8>) {
        *out = ::postcard::to_extend(view, std::mem::take(out)).unwrap_or_else(|error| {
            panic!("{} does not serialize: {error}", any::type_name::<T>())
        });
    }

    fn decode(bytes: &[u8]) -> Result<T, DecodeError> {
        let (owned, rest) =
            ::postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Postcard {
                type_name: Self::type_name(),
                reason: error.to_string(),
            })?;
        if rest.is_empty() {
            Ok(owned)
        } else {
            Err(DecodeError::trailing::<Self>(rest.len()))
        }
    }
}

impl<T: Serialize + DeserializeOwned + 'static> BorrowedValue for Postcard<T> {
    fn view(bytes: &[u8]) -> Result<T, DecodeError> {
        Self::decode(bytes)
    }
}

/// A type name with each path in it cut to its last segment.
fn without_modules(type_name: &str) -> String {
    let mut short = String::with_capacity(type_name.len());
    let mut segment_start = 0;
    let mut characters = type_name.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ':' && characters.next_if_eq(&':').is_some() {
            short.truncate(segment_start);
            continue;
        }
        short.push(character);
        if matches!(
            character,
            '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ' ' | '&' | '*'
        ) {
            segment_start = short.len();
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    mod accounts {
        use serde::{Deserialize, Serialize};

        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        pub(super) struct Account {
            pub(super) name: String,
            pub(super) balance: i64,
        }
    }

    use accounts::Account;

    #[derive(Serialize, Deserialize)]
    struct Pair<A, B>(A, B);

    #[test]
    fn the_name_leaves_the_modules_out() {
        assert_eq!(Postcard::<Account>::type_name(), "postcard<Account>");
        assert_eq!(
            Postcard::<Vec<Account>>::type_name(),
            "postcard<Vec<Account>>"
        );
        assert_eq!(
            Postcard::<Pair<Option<Account>, [(u8, String); 2]>>::type_name(),
            "postcard<Pair<Option<Account>, [(u8, String); 2]>>"
        );
        assert_eq!(without_modules("a::b::{{closure}}::Local"), "Local");
        assert_eq!(without_modules("&dyn a::B<c::D>"), "&dyn B<D>");
    }

    #[test]
    fn encoding_appends() {
        let account = Account {
            name: "cash".to_owned(),
            balance: -5,
        };
        let mut out = b"before".to_vec();
        Postcard::<Account>::encode(&account, &mut out);
        let encoded = out.strip_prefix(b"before").expect("what was there stays");
        assert_eq!(Postcard::<Account>::decode(encoded), Ok(account));
    }

    #[test]
    fn a_cut_or_lengthened_encoding_is_refused() {
        let mut out = Vec::new();
        Postcard::<Account>::encode(
            &Account {
                name: "cash".to_owned(),
                balance: 1 << 40,
            },
            &mut out,
        );
        for end in 0..out.len() {
            let refused = Postcard::<Account>::decode(&out[..end]).expect_err("cut");
            assert!(matches!(refused, DecodeError::Postcard { .. }), "{refused}");
        }
        out.push(0);
        let refused = Postcard::<Account>::decode(&out).expect_err("lengthened");
        assert_eq!(
            refused,
            DecodeError::TrailingBytes {
                type_name: "postcard<Account>".to_owned(),
                count: 1
            }
        );
    }
}
