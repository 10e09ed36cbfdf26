//! What holds for every key and value, on generated ones.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Beginning, BorrowedValue, DecodeError, Key, Newtype, Postcard, Prefix, Value, range_of,
};

fn encoded<V: Value>(view: &V::View<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    V::encode(view, &mut out);
    out
}

fn order_holds<'a, K: Key>(one: &K::View<'a>, other: &K::View<'a>)
where
    K::View<'a>: Ord + Debug,
{
    let expected = one.cmp(other);
    assert_eq!(
        encoded::<K>(one).cmp(&encoded::<K>(other)),
        expected,
        "{one:?} and {other:?}"
    );
    let (mut part, mut other_part) = (Vec::new(), Vec::new());
    K::encode_part(one, &mut part);
    K::encode_part(other, &mut other_part);
    assert_eq!(
        part.cmp(&other_part),
        expected,
        "as parts: {one:?} and {other:?}"
    );
    if expected.is_ne() {
        assert!(
            !part.starts_with(&other_part) && !other_part.starts_with(&part),
            "one part begins the other"
        );
    }
}

fn round_trip<K: Key>(view: &K::View<'_>, owned: &K::Owned)
where
    K::Owned: PartialEq + Debug,
{
    let bytes = encoded::<K>(view);
    assert_eq!(K::decode(&bytes).as_ref(), Ok(owned));
    assert!(K::encoded(view).is_none_or(|lent| lent == bytes));
    if let Some(width) = K::FIXED_WIDTH {
        assert_eq!(bytes.len(), width);
    }
    let mut part = Vec::new();
    K::encode_part(view, &mut part);
    part.extend_from_slice(b"rest");
    let mut input = part.as_slice();
    assert_eq!(K::decode_part(&mut input).as_ref(), Ok(owned));
    assert_eq!(input, b"rest");
}

/// A key as somebody outside would write one: the methods for tuples are those that come with the trait.
struct Outside;

impl Value for Outside {
    const FIXED_WIDTH: Option<usize> = None;
    type View<'a> = &'a [u8];
    type Owned = Vec<u8>;

    fn type_name() -> String {
        "outside".to_owned()
    }

    fn encode(view: &&[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(view);
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(bytes.to_vec())
    }
}

impl Key for Outside {}

/// Text in lower case, stored as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Lower(String);

impl Newtype for Lower {
    const NAME: &'static str = "Lower";
    type Inner = &'static str;

    fn inner(&self) -> &str {
        &self.0
    }

    fn from_inner(inner: String) -> Option<Self> {
        (!inner.contains(char::is_uppercase)).then_some(Self(inner))
    }
}

/// A prefix takes the keys that have it and no others.
fn takes<K: Key>(prefix: &impl Prefix<K>, key: &K::View<'_>, expected: bool) {
    use std::ops::RangeBounds;
    let (mut plain, mut part) = (Vec::new(), Vec::new());
    prefix.encode_prefix(&mut plain);
    prefix.encode_part_prefix(&mut part);
    let key_bytes = encoded::<K>(key);
    assert_eq!(key_bytes.starts_with(&plain), expected, "{key_bytes:?}");
    assert_eq!(range_of(plain).contains(&key_bytes), expected);
    let mut key_part = Vec::new();
    K::encode_part(key, &mut key_part);
    assert_eq!(key_part.starts_with(&part), expected, "as parts");
}

/// Whatever decodes must be what its value encodes to, so that no two encodings mean the same key.
fn decodes_only_its_own_form<K>(bytes: &[u8], view: impl FnOnce(&K::Owned) -> Vec<u8>)
where
    K: Key,
{
    if let Ok(owned) = K::decode(bytes) {
        assert_eq!(view(&owned), bytes, "{}", K::type_name());
    }
}

/// Text with the characters whose bytes matter to escaping, short so that one is often the beginning of another.
fn text() -> impl Strategy<Value = String> {
    vec(
        select(vec!['\0', '\u{1}', 'a', '\u{FF}', '\u{10FFFF}']),
        0..5,
    )
    .prop_map(String::from_iter)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(select(vec![0x00, 0x01, 0x7F, 0xFE, 0xFF]), 0..6)
}

/// Bytes that are random, or random but near what tuples look like.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(select(vec![0x00, 0x01, 0x61, 0xFF]), 0..24)
    ]
}

/// Random integers, and those where a carry or the sign is at stake.
macro_rules! integers_keep_their_order {
    ($($name:ident $integer:ty),+ $(,)?) => {
        proptest! {$(
            #[test]
            fn $name(one in any::<$integer>(), other in any::<$integer>()) {
                let near = one.wrapping_add(1);
                for other in [other, one, near, <$integer>::MIN, 0, <$integer>::MAX] {
                    order_holds::<$integer>(&one, &other);
                }
                round_trip::<$integer>(&one, &one);
            }
        )+}
    };
}

integers_keep_their_order! {
    u8_keeps_its_order u8, u16_keeps_its_order u16, u32_keeps_its_order u32, u64_keeps_its_order u64,
    u128_keeps_its_order u128, i8_keeps_its_order i8, i16_keeps_its_order i16, i32_keeps_its_order i32,
    i64_keeps_its_order i64, i128_keeps_its_order i128,
}

proptest! {
    #[test]
    fn bool_unit_and_char_keep_their_order(one in any::<(bool, char)>(), other in any::<(bool, char)>()) {
        order_holds::<bool>(&one.0, &other.0);
        order_holds::<char>(&one.1, &other.1);
        order_holds::<()>(&(), &());
        round_trip::<bool>(&one.0, &one.0);
        round_trip::<char>(&one.1, &one.1);
        round_trip::<()>(&(), &());
    }

    #[test]
    fn text_and_bytes_keep_their_order(one in (text(), bytes()), other in (text(), bytes())) {
        order_holds::<&'static str>(&one.0.as_str(), &other.0.as_str());
        order_holds::<&'static [u8]>(&one.1.as_slice(), &other.1.as_slice());
        round_trip::<&'static str>(&one.0.as_str(), &one.0);
        round_trip::<&'static [u8]>(&one.1.as_slice(), &one.1);
    }

    #[test]
    fn any_text_round_trips(text in any::<String>()) {
        round_trip::<&'static str>(&text.as_str(), &text);
        round_trip::<(&'static str, &'static str)>(&(&text, &text), &(text.clone(), text.clone()));
    }

    #[test]
    fn a_key_from_outside_keeps_its_order_inside_tuples(one in (bytes(), bytes()), other in (bytes(), bytes())) {
        order_holds::<Outside>(&one.0.as_slice(), &other.0.as_slice());
        order_holds::<(Outside, Outside)>(&(&one.0, &one.1), &(&other.0, &other.1));
        round_trip::<(Outside, Outside)>(&(&one.0, &one.1), &one);
    }

    #[test]
    fn arrays_keep_their_order(one in any::<[u8; 5]>(), other in any::<[u8; 5]>()) {
        order_holds::<[u8; 5]>(&one, &other);
        order_holds::<[u8; 0]>(&[], &[]);
        round_trip::<[u8; 5]>(&one, &one);
    }

    #[test]
    fn pairs_keep_their_order(one in (text(), 0_i8..2, bytes()), other in (text(), 0_i8..2, bytes())) {
        order_holds::<(&'static str, i8)>(&(&one.0, one.1), &(&other.0, other.1));
        order_holds::<(i8, &'static [u8])>(&(one.1, &one.2), &(other.1, &other.2));
        order_holds::<(&'static [u8], &'static str)>(&(&one.2, &one.0), &(&other.2, &other.0));
        round_trip::<(&'static [u8], &'static str)>(&(&one.2, &one.0), &(one.2.clone(), one.0.clone()));
    }

    #[test]
    fn triples_and_quadruples_keep_their_order(
        one in (text(), bytes(), any::<bool>(), text()),
        other in (text(), bytes(), any::<bool>(), text()),
    ) {
        type Triple = (&'static str, (), &'static [u8]);
        order_holds::<Triple>(&(&one.0, (), &one.1), &(&other.0, (), &other.1));
        round_trip::<Triple>(&(&one.0, (), &one.1), &(one.0.clone(), (), one.1.clone()));

        type Quadruple = (&'static str, &'static [u8], bool, &'static str);
        order_holds::<Quadruple>(&(&one.0, &one.1, one.2, &one.3), &(&other.0, &other.1, other.2, &other.3));
        round_trip::<Quadruple>(&(&one.0, &one.1, one.2, &one.3), &one);
    }

    #[test]
    fn nested_tuples_keep_their_order(
        one in (text(), bytes(), 0_u16..3, text()),
        other in (text(), bytes(), 0_u16..3, text()),
    ) {
        type First = ((&'static str, &'static [u8]), u16);
        order_holds::<First>(&((&one.0, &one.1), one.2), &((&other.0, &other.1), other.2));
        type Last = (u16, (&'static [u8], &'static str));
        order_holds::<Last>(&(one.2, (&one.1, &one.0)), &(other.2, (&other.1, &other.0)));
        type Deep = (((&'static str, &'static [u8]), &'static str), u16);
        order_holds::<Deep>(&(((&one.0, &one.1), &one.3), one.2), &(((&other.0, &other.1), &other.3), other.2));
        let (text, bytes, number, last) = one;
        let owned = (((text.clone(), bytes.clone()), last.clone()), number);
        round_trip::<Deep>(&(((&text, &bytes), &last), number), &owned);
    }

    #[test]
    fn options_keep_their_order(
        one in (proptest::option::of(text()), proptest::option::of(-1_i8..2), bytes()),
        other in (proptest::option::of(text()), proptest::option::of(-1_i8..2), bytes()),
    ) {
        type Text = Option<&'static str>;
        order_holds::<Text>(&one.0.as_deref(), &other.0.as_deref());
        order_holds::<Option<i8>>(&one.1, &other.1);
        type Row = (Text, Option<i8>, &'static [u8]);
        order_holds::<Row>(&(one.0.as_deref(), one.1, &one.2), &(other.0.as_deref(), other.1, &other.2));
        order_holds::<Option<Row>>(
            &Some((one.0.as_deref(), one.1, &one.2)),
            &Some((other.0.as_deref(), other.1, &other.2)),
        );
        order_holds::<Option<Row>>(&Some((one.0.as_deref(), one.1, &one.2)), &None);
        order_holds::<Option<Text>>(&Some(one.0.as_deref()), &Some(other.0.as_deref()));
        round_trip::<Text>(&one.0.as_deref(), &one.0);
        round_trip::<Row>(&(one.0.as_deref(), one.1, &one.2), &one);
    }

    #[test]
    fn newtypes_keep_the_order_of_what_is_inside(one in (text(), any::<i64>()), other in (text(), any::<i64>())) {
        let lower = |text: &str| Lower(text.to_owned());
        order_holds::<Lower>(&lower(&one.0), &lower(&other.0));
        order_holds::<(Lower, i64)>(&(lower(&one.0), one.1), &(lower(&other.0), other.1));
        round_trip::<Lower>(&lower(&one.0), &lower(&one.0));
        round_trip::<(Lower, i64)>(&(lower(&one.0), one.1), &(lower(&one.0), one.1));
        let refused = Lower::decode(b"Upper").expect_err("not in lower case");
        prop_assert!(refused.to_string().contains("Lower(str)"), "{refused}");
        prop_assert_eq!(Lower::FIXED_WIDTH, None);
    }

    #[test]
    fn tuples_of_eight_keep_their_order(
        one in (text(), 0_u8..2, bytes(), any::<bool>(), 0_i64..2, text(), bytes(), 0_u128..2),
        other in (text(), 0_u8..2, bytes(), any::<bool>(), 0_i64..2, text(), bytes(), 0_u128..2),
    ) {
        type Eight = (&'static str, u8, &'static [u8], bool, i64, &'static str, &'static [u8], u128);
        fn view(
            row: &(String, u8, Vec<u8>, bool, i64, String, Vec<u8>, u128),
        ) -> (&str, u8, &[u8], bool, i64, &str, &[u8], u128) {
            (&row.0, row.1, &row.2, row.3, row.4, &row.5, &row.6, row.7)
        }
        order_holds::<Eight>(&view(&one), &view(&other));
        round_trip::<Eight>(&view(&one), &one);
        let seven = |row: &(String, u8, Vec<u8>, bool, i64, String, Vec<u8>, u128)| encoded::<(
            &'static str, u8, &'static [u8], bool, i64, &'static str, &'static [u8],
        )>(&(&row.0, row.1, &row.2, row.3, row.4, &row.5, &row.6));
        prop_assert!(encoded::<Eight>(&view(&one)).starts_with(&seven(&one)));
    }

    #[test]
    fn a_prefix_takes_the_keys_that_begin_with_it(
        key in (text(), bytes(), text()), text in text(), bytes in bytes(),
    ) {
        takes::<&'static str>(&text.as_str(), &key.0.as_str(), key.0.starts_with(&text));
        takes::<&'static [u8]>(&bytes.as_slice(), &key.1.as_slice(), key.1.starts_with(&bytes));
        type Triple = (&'static str, &'static [u8], &'static str);
        let row = (key.0.as_str(), key.1.as_slice(), key.2.as_str());
        takes::<Triple>(&(text.as_str(),), &row, key.0 == text);
        takes::<Triple>(&(row.0, bytes.as_slice()), &row, key.1 == bytes);
        takes::<Triple>(&(row.0, row.1), &row, true);
        takes::<Triple>(&Beginning((text.as_str(),)), &row, key.0.starts_with(&text));
        takes::<Triple>(&Beginning((row.0, bytes.as_slice())), &row, key.1.starts_with(&bytes));
        takes::<Triple>(&Beginning((row.0, row.1, text.as_str())), &row, key.2.starts_with(&text));
        takes::<[u8; 3]>(&bytes.as_slice(), &[0, 1, 0xFF], [0, 1, 0xFF].starts_with(&bytes));
    }

    #[test]
    fn hostile_bytes_are_an_error_or_the_one_form_of_a_key(bytes in hostile()) {
        decodes_only_its_own_form::<Option<u8>>(&bytes, encoded::<Option<u8>>);
        decodes_only_its_own_form::<Option<&'static str>>(&bytes, |owned| {
            encoded::<Option<&'static str>>(&owned.as_deref())
        });
        decodes_only_its_own_form::<(Option<bool>, Lower)>(&bytes, |owned| {
            encoded::<(Option<bool>, Lower)>(&(owned.0, owned.1.clone()))
        });
        decodes_only_its_own_form::<u64>(&bytes, encoded::<u64>);
        decodes_only_its_own_form::<i128>(&bytes, encoded::<i128>);
        decodes_only_its_own_form::<bool>(&bytes, encoded::<bool>);
        decodes_only_its_own_form::<char>(&bytes, encoded::<char>);
        decodes_only_its_own_form::<()>(&bytes, encoded::<()>);
        decodes_only_its_own_form::<[u8; 7]>(&bytes, encoded::<[u8; 7]>);
        decodes_only_its_own_form::<&'static str>(&bytes, |owned| encoded::<&'static str>(&owned.as_str()));
        decodes_only_its_own_form::<(&'static str, u8)>(&bytes, |owned| {
            encoded::<(&'static str, u8)>(&(&owned.0, owned.1))
        });
        decodes_only_its_own_form::<((&'static [u8], bool), &'static [u8])>(&bytes, |owned| {
            encoded::<((&'static [u8], bool), &'static [u8])>(&((&owned.0.0, owned.0.1), &owned.1))
        });
        decodes_only_its_own_form::<(u8, u8, &'static str, char)>(&bytes, |owned| {
            encoded::<(u8, u8, &'static str, char)>(&(owned.0, owned.1, &owned.2, owned.3))
        });
    }

    #[test]
    fn hostile_bytes_do_not_make_postcard_panic(bytes in hostile()) {
        type Nested = Vec<Option<(String, Vec<u64>)>>;
        let outcome: Result<Nested, DecodeError> = Postcard::<Nested>::decode(&bytes);
        if let Ok(value) = outcome {
            let again = Postcard::<Nested>::decode(&encoded::<Postcard<Nested>>(&value));
            prop_assert_eq!(again, Ok(value));
        }
    }

    #[test]
    fn a_view_and_a_decoded_value_agree(bytes in hostile()) {
        let view = <&'static str as BorrowedValue>::view(&bytes).map(str::to_owned);
        prop_assert_eq!(view, <&'static str>::decode(&bytes));
        prop_assert_eq!(u32::view(&bytes), u32::decode(&bytes));
    }
}
