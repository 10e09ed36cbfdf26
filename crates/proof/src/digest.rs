//! A SHA-256 hash, and the one place that computes one.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A SHA-256 hash. It prints, parses and appears in JSON as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Thirty-two zero bytes: the previous block hash of the first block.
    pub const ZERO: Digest = Digest([0; 32]);

    /// The SHA-256 hash of the concatenation of `parts`.
    pub fn of(parts: &[&[u8]]) -> Digest {
        #[cfg(feature = "count-hashes")]
        count::add_one();
        let mut hasher = sha2::Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Digest(hasher.finalize().into())
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Bit `index` of the hash; bit 0 is the most significant bit of the first byte.
    ///
    /// # Panics
    /// When `index` is 256 or more.
    pub fn bit(&self, index: u16) -> bool {
        let byte = self.0[usize::from(index / 8)];
        byte & (0x80 >> (index % 8)) != 0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits, this is {0:?}")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseDigestError(text.chars().take(80).collect());
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(refuse);
            let value = digit(digits[0])? * 16 + digit(digits[1])?;
            *byte = u8::try_from(value).map_err(|_| refuse())?;
        }
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Digest)
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Digest {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A SHA-256 hash.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

/// Counts the hashes that the current thread computes, so that a test can state what a change
/// costs.
#[cfg(feature = "count-hashes")]
pub mod count {
    use core::cell::Cell;

    std::thread_local! {
        static HASHES: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add_one() {
        HASHES.set(HASHES.get() + 1);
    }

    /// How many hashes `work` computes.
    pub fn hashes_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = HASHES.get();
        let result = work();
        (result, HASHES.get() - before)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_hash_prints_and_parses_as_hexadecimal() {
        let digest = Digest::of(&[b"abc"]);
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
    }

    #[test]
    fn the_parts_are_concatenated() {
        assert_eq!(Digest::of(&[b"a", b"", b"bc"]), Digest::of(&[b"abc"]));
    }

    #[test]
    fn what_is_not_a_hash_does_not_parse() {
        for text in [
            "",
            "12",
            &"g".repeat(64),
            &"0".repeat(63),
            &"0".repeat(65),
            &"é".repeat(32),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} must not parse");
        }
    }

    #[test]
    fn bits_count_from_the_most_significant_one() {
        let mut digest = Digest::ZERO;
        digest.0[0] = 0x40;
        digest.0[31] = 0x01;
        let set: Vec<u16> = (0..256).filter(|&i| digest.bit(i)).collect();
        assert_eq!(set, [1, 255]);
    }

    #[test]
    fn json_shows_digits_and_the_log_holds_bytes() {
        let digest = Digest::of(&[b"abc"]);
        let json = serde_json::to_string(&digest).expect("a string");
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(
            serde_json::from_str::<Digest>(&json).expect("the same"),
            digest
        );
        let bytes = postcard::to_allocvec(&digest).expect("32 bytes");
        assert_eq!(bytes, digest.0);
        assert_eq!(
            postcard::from_bytes::<Digest>(&bytes).expect("the same"),
            digest
        );
    }
}
