//! Tuples of keys: ordered by the first element, then the second, and so on.

use super::{Beginning, DecodeError, Key, Prefix, Value};

/// The width of a row of parts, if all of them have one.
const fn total(widths: &[Option<usize>]) -> Option<usize> {
    let mut sum = 0;
    let mut index = 0;
    while index < widths.len() {
        match widths[index] {
            Some(width) => sum += width,
            None => return None,
        }
        index += 1;
    }
    Some(sum)
}

/// Every element is written as a part, the last one too: a tuple then tells its own end, and one inside another needs
/// nothing more.
macro_rules! tuple {
    ($($element:ident $index:tt),+) => {
        impl<$($element: Key),+> Value for ($($element,)+) {
            const FIXED_WIDTH: Option<usize> = total(&[$($element::FIXED_WIDTH),+]);
            type View<'a> = ($($element::View<'a>,)+);
            type Owned = ($($element::Owned,)+);

            fn type_name() -> String {
                format!("({})", [$($element::type_name()),+].join(","))
            }

            fn encode(view: &Self::View<'_>, out: &mut Vec<u8>) {
                $($element::encode_part(&view.$index, out);)+
            }

            fn decode(bytes: &[u8]) -> Result<Self::Owned, DecodeError> {
                let mut rest = bytes;
                let owned = Self::decode_part(&mut rest)?;
                if rest.is_empty() { Ok(owned) } else { Err(DecodeError::trailing::<Self>(rest.len())) }
            }
        }

        impl<$($element: Key),+> Key for ($($element,)+) {
            fn encode_part(view: &Self::View<'_>, out: &mut Vec<u8>) {
                Self::encode(view, out);
            }

            fn decode_part(input: &mut &[u8]) -> Result<Self::Owned, DecodeError> {
                Ok(($($element::decode_part(input)?,)+))
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// The prefixes of a tuple: its first elements whole, and the same with the beginning of the next one behind them.
macro_rules! prefixes {
    ([$($led:ident $index:tt)*]) => {};
    ([$($led:ident $index:tt)*] $next:ident $next_index:tt $($rest:ident $rest_index:tt)*) => {
        prefixes!(@whole [$($led $index)*] $next $($rest)*);

        impl<'a, $($led: Key,)* $next: Key, $($rest: Key,)* Begun: Prefix<$next>>
            Prefix<($($led,)* $next, $($rest,)*)> for Beginning<($($led::View<'a>,)* Begun,)>
        {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $($led::encode_part(&self.0.$index, out);)*
                self.0.$next_index.encode_part_prefix(out);
            }
        }

        prefixes!([$($led $index)* $next $next_index] $($rest $rest_index)*);
    };
    (@whole [] $($rest:ident)+) => {};
    (@whole [$($led:ident $index:tt)+] $($rest:ident)+) => {
        impl<'a, $($led: Key,)+ $($rest: Key),+> Prefix<($($led,)+ $($rest,)+)>
            for ($($led::View<'a>,)+)
        {
            fn encode_prefix(&self, out: &mut Vec<u8>) {
                $($led::encode_part(&self.$index, out);)+
            }
        }
    };
}

prefixes!([] A 0 B 1);
prefixes!([] A 0 B 1 C 2);
prefixes!([] A 0 B 1 C 2 D 3);
prefixes!([] A 0 B 1 C 2 D 3 E 4);
prefixes!([] A 0 B 1 C 2 D 3 E 4 F 5);
prefixes!([] A 0 B 1 C 2 D 3 E 4 F 5 G 6);
prefixes!([] A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);

/// Nine elements are one too many.
///
/// ```
/// fn key<K: folio_store::Key>() {}
/// key::<(u8, u8, u8, u8, u8, u8, u8, u8)>();
/// ```
///
/// ```compile_fail,E0277
/// fn key<K: folio_store::Key>() {}
/// key::<(u8, u8, u8, u8, u8, u8, u8, u8, u8)>();
/// ```
#[cfg(doctest)]
pub struct Nine;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_widths_add_up_and_one_open_width_opens_the_whole() {
        assert_eq!(<(u64, [u8; 3])>::FIXED_WIDTH, Some(11));
        assert_eq!(<((u8, u16), bool, ())>::FIXED_WIDTH, Some(4));
        assert_eq!(<(u64, &'static str)>::FIXED_WIDTH, None);
        assert_eq!(<((u8, &'static [u8]), u8)>::FIXED_WIDTH, None);
    }

    #[test]
    fn the_name_shows_the_nesting() {
        assert_eq!(
            <((u64, &'static str), [u8; 4])>::type_name(),
            "((u64,str),[u8;4])"
        );
    }

    #[test]
    fn the_layout_is_the_elements_one_behind_the_other() {
        let mut out = Vec::new();
        <(&'static str, u16, &'static [u8])>::encode(&("a\0", 0x0102, b"z"), &mut out);
        assert_eq!(out, [b'a', 0, 0xFF, 0, 0, 1, 2, b'z', 0, 0]);
    }

    #[test]
    fn a_nested_tuple_is_not_escaped_twice() {
        let mut nested = Vec::new();
        <((&'static str, u8), u8)>::encode(&(("\0", 0), 7), &mut nested);
        let mut flat = Vec::new();
        <(&'static str, u8, u8)>::encode(&("\0", 0, 7), &mut flat);
        assert_eq!(nested, flat);
    }

    #[test]
    fn bytes_behind_or_missing_from_a_tuple_are_refused() {
        let refused = <(u8, u8)>::decode(&[1, 2, 3]).expect_err("one too many");
        assert_eq!(
            refused,
            DecodeError::TrailingBytes {
                type_name: "(u8,u8)".to_owned(),
                count: 1
            }
        );
        let refused = <(u8, u16)>::decode(&[1, 2]).expect_err("one too few");
        assert_eq!(
            refused,
            DecodeError::WrongLength {
                type_name: "u16".to_owned(),
                expected: 2,
                found: 1
            }
        );
        let refused = <(u8, &'static str)>::decode(b"\x01abc").expect_err("no end");
        assert_eq!(
            refused,
            DecodeError::BadEscape {
                type_name: "str".to_owned()
            }
        );
    }
}
