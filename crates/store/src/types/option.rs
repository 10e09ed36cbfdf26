//! Values that may be absent: `None` before every `Some`.

use super::{BorrowedValue, DecodeError, Key, Value};

const NONE: u8 = 0;
const SOME: u8 = 1;

impl<V: Value> Value for Option<V> {
    const FIXED_WIDTH: Option<usize> = None;
    type View<'a> = Option<V::View<'a>>;
    type Owned = Option<V::Owned>;

    fn type_name() -> String {
        format!("option<{}>", V::type_name())
    }

    fn encode(view: &Self::View<'_>, out: &mut Vec<u8>) {
        match view {
            None => out.push(NONE),
            Some(inner) => {
                out.push(SOME);
                V::encode(inner, out);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self::Owned, DecodeError> {
        inside::<V>(bytes)?.map(V::decode).transpose()
    }
}

impl<V: BorrowedValue> BorrowedValue for Option<V> {
    fn view(bytes: &[u8]) -> Result<Self::View<'_>, DecodeError> {
        inside::<V>(bytes)?.map(V::view).transpose()
    }
}

impl<K: Key> Key for Option<K> {
    fn encode_part(view: &Self::View<'_>, out: &mut Vec<u8>) {
        match view {
            None => out.push(NONE),
            Some(inner) => {
                out.push(SOME);
                K::encode_part(inner, out);
            }
        }
    }

    fn decode_part(input: &mut &[u8]) -> Result<Self::Owned, DecodeError> {
        let (tag, mut rest) = split_tag::<K>(input)?;
        let owned = match tag {
            NONE => None,
            _ => Some(K::decode_part(&mut rest)?),
        };
        *input = rest;
        Ok(owned)
    }
}

/// The encoding of what is inside.
fn inside<V: Value>(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    match split_tag::<V>(bytes)? {
        (NONE, []) => Ok(None),
        (NONE, rest) => Err(DecodeError::trailing::<Option<V>>(rest.len())),
        (_, rest) => Ok(Some(rest)),
    }
}

fn split_tag<V: Value>(bytes: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    match bytes.split_first() {
        Some((&tag @ (NONE | SOME), rest)) => Ok((tag, rest)),
        _ => Err(DecodeError::invalid_value::<Option<V>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_marks_are_known_and_nothing_follows_none() {
        type Name = Option<&'static str>;
        assert_eq!(Name::decode(&[0]), Ok(None));
        assert_eq!(Name::decode(&[1]), Ok(Some(String::new())));
        assert_eq!(Name::view(b"\x01name"), Ok(Some("name")));
        for bytes in [&b""[..], b"\x02name", b"\x00name", b"\x01\xFF"] {
            Name::decode(bytes).expect_err("malformed");
        }
    }

    #[test]
    fn absence_inside_absence_is_told_apart() {
        type Nested = Option<Option<u8>>;
        let values = [None, Some(None), Some(Some(0)), Some(Some(9))];
        let encoded = values.map(|value| {
            let mut out = Vec::new();
            Nested::encode(&value, &mut out);
            assert_eq!(Nested::decode(&out), Ok(value));
            out
        });
        assert!(encoded.is_sorted(), "{encoded:?}");
    }
}
