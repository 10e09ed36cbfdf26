//! Byte strings with an end that keeps their order.

use super::{DecodeError, Value};

/// Follows a zero byte that belongs to the string.
const ESCAPED: u8 = 0xFF;

/// Follows the zero byte that ends the string. Less than [`ESCAPED`], so a string sorts before those it begins.
const END: u8 = 0x00;

/// Appends `plain` with each zero byte as `00 FF`, and `00 00` behind it.
pub(super) fn escape(plain: &[u8], out: &mut Vec<u8>) {
    escape_beginning(plain, out);
    out.extend_from_slice(&[0, END]);
}

/// The same without the end: what the escaped forms of all strings that start with `plain` start with.
pub(super) fn escape_beginning(plain: &[u8], out: &mut Vec<u8>) {
    out.reserve(plain.len() + 2);
    for byte in plain {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
}

/// Reads what [`escape`] appended from the front of `input` and moves `input` behind it.
pub(super) fn unescape<V: Value + ?Sized>(input: &mut &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    let mut rest = *input;
    loop {
        let Some(zero) = rest.iter().position(|byte| *byte == 0) else {
            return Err(DecodeError::bad_escape::<V>());
        };
        plain.extend_from_slice(&rest[..zero]);
        match rest.get(zero + 1) {
            Some(&ESCAPED) => plain.push(0),
            Some(&END) => {
                *input = &rest[zero + 2..];
                return Ok(plain);
            }
            _ => return Err(DecodeError::bad_escape::<V>()),
        }
        rest = &rest[zero + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(plain, &mut out);
        out
    }

    #[test]
    fn a_zero_byte_is_marked_as_part_of_the_string() {
        assert_eq!(escaped(b""), [0, 0]);
        assert_eq!(escaped(b"a\0b"), [b'a', 0, 0xFF, b'b', 0, 0]);
        assert_eq!(escaped(b"\0\xFF"), [0, 0xFF, 0xFF, 0, 0]);
    }

    #[test]
    fn what_follows_the_end_is_left_alone() {
        let bytes = [escaped(b"\0a\0"), b"rest".to_vec()].concat();
        let mut input = bytes.as_slice();
        assert_eq!(
            unescape::<&'static [u8]>(&mut input).expect("well formed"),
            b"\0a\0"
        );
        assert_eq!(input, b"rest");
    }

    #[test]
    fn a_string_without_an_end_or_with_an_unknown_mark_is_refused() {
        for bytes in [&b""[..], b"abc", b"abc\0", b"a\0\x01\0\0", b"a\0\xFF"] {
            let mut input = bytes;
            let refused = unescape::<&'static [u8]>(&mut input).expect_err("malformed");
            assert_eq!(
                refused,
                DecodeError::BadEscape {
                    type_name: "bytes".to_owned()
                },
                "{bytes:?}"
            );
            assert_eq!(input, bytes, "a failed read consumes nothing");
        }
    }
}
