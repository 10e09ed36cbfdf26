//! Numbers, truth values, characters and nothing: fixed widths, held by value.

use super::{BorrowedValue, DecodeError, Key, Value};

/// All of `bytes` as an array of the width the type has.
fn exactly<V: Value, const WIDTH: usize>(bytes: &[u8]) -> Result<[u8; WIDTH], DecodeError> {
    bytes
        .try_into()
        .map_err(|_| DecodeError::wrong_length::<V>(WIDTH, bytes.len()))
}

/// The parts of a scalar that follow from its view being its owned form.
macro_rules! held_by_value {
    ($($scalar:ty),+) => {$(
        impl BorrowedValue for $scalar {
            fn view(bytes: &[u8]) -> Result<Self, DecodeError> {
                Self::decode(bytes)
            }
        }

        impl Key for $scalar {}
    )+};
}

/// An integer is its big-endian bytes once `$flip` has made the least value the one with all bits zero.
macro_rules! integer {
    ($($integer:ty, $flip:expr);+ $(;)?) => {$(
        impl Value for $integer {
            const FIXED_WIDTH: Option<usize> = Some(size_of::<Self>());
            type View<'a> = Self;
            type Owned = Self;

            fn type_name() -> String {
                stringify!($integer).to_owned()
            }

            fn encode(view: &Self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(*view ^ $flip).to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(exactly::<Self, { size_of::<Self>() }>(bytes)?) ^ $flip)
            }
        }

        held_by_value!($integer);
    )+};
}

integer! {
    u8, 0;
    u16, 0;
    u32, 0;
    u64, 0;
    u128, 0;
    i8, Self::MIN;
    i16, Self::MIN;
    i32, Self::MIN;
    i64, Self::MIN;
    i128, Self::MIN;
}

impl Value for bool {
    const FIXED_WIDTH: Option<usize> = Some(1);
    type View<'a> = Self;
    type Owned = Self;

    fn type_name() -> String {
        "bool".to_owned()
    }

    fn encode(view: &Self, out: &mut Vec<u8>) {
        out.push(u8::from(*view));
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match exactly::<Self, 1>(bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DecodeError::invalid_value::<Self>()),
        }
    }
}

impl Value for char {
    const FIXED_WIDTH: Option<usize> = Some(4);
    type View<'a> = Self;
    type Owned = Self;

    fn type_name() -> String {
        "char".to_owned()
    }

    fn encode(view: &Self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::from(*view).to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let code_point = u32::from_be_bytes(exactly::<Self, 4>(bytes)?);
        Self::from_u32(code_point).ok_or_else(DecodeError::invalid_value::<Self>)
    }
}

impl Value for () {
    const FIXED_WIDTH: Option<usize> = Some(0);
    type View<'a> = ();
    type Owned = ();

    fn type_name() -> String {
        "()".to_owned()
    }

    fn encode((): &(), _out: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<(), DecodeError> {
        exactly::<Self, 0>(bytes).map(|_| ())
    }
}

held_by_value!(bool, char, ());

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<V: Value>(view: &V::View<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        V::encode(view, &mut out);
        out
    }

    #[test]
    fn integers_are_big_endian_with_the_sign_flipped() {
        assert_eq!(encoded::<u32>(&0x0102_0304), [1, 2, 3, 4]);
        assert_eq!(encoded::<i32>(&0), [0x80, 0, 0, 0]);
        assert_eq!(encoded::<i32>(&-1), [0x7F, 0xFF, 0xFF, 0xFF]);
        assert_eq!(encoded::<i16>(&i16::MIN), [0, 0]);
        assert_eq!(encoded::<i128>(&i128::MAX), [0xFF; 16]);
    }

    #[test]
    fn another_length_is_refused_with_both_lengths() {
        let refused = u64::decode(&[0; 7]).expect_err("one byte short");
        assert_eq!(
            refused,
            DecodeError::WrongLength {
                type_name: "u64".to_owned(),
                expected: 8,
                found: 7
            }
        );
        let refused = <()>::decode(&[0]).expect_err("one byte long");
        assert_eq!(
            refused,
            DecodeError::WrongLength {
                type_name: "()".to_owned(),
                expected: 0,
                found: 1
            }
        );
    }

    #[test]
    fn bytes_that_no_value_has_are_refused() {
        let refused = bool::decode(&[2]).expect_err("neither 0 nor 1");
        assert_eq!(
            refused,
            DecodeError::InvalidValue {
                type_name: "bool".to_owned()
            }
        );
        for code_point in [0xD800_u32, 0xDFFF, 0x11_0000, u32::MAX] {
            let refused = char::decode(&code_point.to_be_bytes()).expect_err("not a character");
            assert_eq!(
                refused,
                DecodeError::InvalidValue {
                    type_name: "char".to_owned()
                }
            );
        }
    }
}
