//! Text and bytes.

use super::{BorrowedValue, DecodeError, Key, Value, escape};

impl Value for &'static str {
    const FIXED_WIDTH: Option<usize> = None;
    type View<'a> = &'a str;
    type Owned = String;

    fn type_name() -> String {
        "str".to_owned()
    }

    fn encode(view: &&str, out: &mut Vec<u8>) {
        out.extend_from_slice(view.as_bytes());
    }

    fn encoded<'v>(view: &'v &str) -> Option<&'v [u8]> {
        Some(view.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<String, DecodeError> {
        Self::view(bytes).map(str::to_owned)
    }
}

impl BorrowedValue for &'static str {
    fn view(bytes: &[u8]) -> Result<&str, DecodeError> {
        std::str::from_utf8(bytes).map_err(|error| DecodeError::InvalidText {
            valid_up_to: error.valid_up_to(),
        })
    }
}

impl Key for &'static str {
    fn encode_part(view: &&str, out: &mut Vec<u8>) {
        escape::escape(view.as_bytes(), out);
    }
}

impl Value for &'static [u8] {
    const FIXED_WIDTH: Option<usize> = None;
    type View<'a> = &'a [u8];
    type Owned = Vec<u8>;

    fn type_name() -> String {
        "bytes".to_owned()
    }

    fn encode(view: &&[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(view);
    }

    fn encoded<'v>(view: &'v &[u8]) -> Option<&'v [u8]> {
        Some(view)
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(bytes.to_vec())
    }
}

impl BorrowedValue for &'static [u8] {
    fn view(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(bytes)
    }
}

impl Key for &'static [u8] {
    fn encode_part(view: &&[u8], out: &mut Vec<u8>) {
        escape::escape(view, out);
    }
}

impl<const N: usize> Value for [u8; N] {
    const FIXED_WIDTH: Option<usize> = Some(N);
    type View<'a> = Self;
    type Owned = Self;

    fn type_name() -> String {
        format!("[u8;{N}]")
    }

    fn encode(view: &Self, out: &mut Vec<u8>) {
        out.extend_from_slice(view);
    }

    fn encoded(view: &Self) -> Option<&[u8]> {
        Some(view)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        bytes
            .try_into()
            .map_err(|_| DecodeError::wrong_length::<Self>(N, bytes.len()))
    }
}

impl<const N: usize> BorrowedValue for [u8; N] {
    fn view(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }
}

impl<const N: usize> Key for [u8; N] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_refused_with_the_place() {
        let refused = <&'static str>::decode(b"ab\xFFcd").expect_err("not UTF-8");
        assert_eq!(refused, DecodeError::InvalidText { valid_up_to: 2 });
    }

    #[test]
    fn a_view_borrows_from_the_encoding() {
        let bytes = b"text".to_vec();
        let view = <&'static str>::view(&bytes).expect("UTF-8");
        assert!(std::ptr::eq(view.as_bytes(), bytes.as_slice()));
        let view = <&'static [u8]>::view(&bytes).expect("always bytes");
        assert!(std::ptr::eq(view, bytes.as_slice()));
    }

    #[test]
    fn an_array_takes_exactly_its_bytes() {
        assert_eq!(<[u8; 3]>::decode(b"abc"), Ok(*b"abc"));
        for bytes in [&b"ab"[..], b"abcd"] {
            let refused = <[u8; 3]>::decode(bytes).expect_err("another length");
            let type_name = "[u8;3]".to_owned();
            assert_eq!(
                refused,
                DecodeError::WrongLength {
                    type_name,
                    expected: 3,
                    found: bytes.len()
                }
            );
        }
    }
}
