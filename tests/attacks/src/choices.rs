//! Where the choices of an attack come from: a seed, the bytes of a fuzzer, or the numbers of a property test.

use folio_store::storage::SplitMix64;

/// A source of choices. Choosing 0 always means the simplest thing, so that a source that shrinks towards zeros
/// simplifies what was made of it.
pub trait Choices {
    /// A number less than `bound`, which is not zero.
    fn below(&mut self, bound: u64) -> u64;

    /// Whether nothing more is to be chosen. A seed never ends.
    fn is_over(&self) -> bool {
        false
    }

    /// True once in `times`.
    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == times - 1
    }

    /// One of several things, each as often as its weight says.
    fn weighted<T: Copy>(&mut self, things: &[(u64, T)]) -> T
    where
        Self: Sized,
    {
        let total = things.iter().map(|(weight, _)| weight).sum();
        let mut chosen = self.below(total);
        for &(weight, thing) in things {
            if chosen < weight {
                return thing;
            }
            chosen -= weight;
        }
        things[0].1
    }
}

impl Choices for SplitMix64 {
    fn below(&mut self, bound: u64) -> u64 {
        SplitMix64::below(self, bound)
    }
}

/// Choices out of a fuzzer's bytes: each takes as few as its bound needs. When they are used up every choice is 0.
#[derive(Clone, Debug)]
pub struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    /// Chooses by `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }
}

impl Choices for Bytes<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        let wanted = match bound {
            0..=1 => 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        let (taken, rest) = self.0.split_at(self.0.len().min(wanted));
        self.0 = rest;
        let number = taken
            .iter()
            .fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        number % bound.max(1)
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Choices out of a list of numbers, one each. When they are used up every choice is 0.
#[derive(Clone, Debug)]
pub struct Numbers<'n>(&'n [u32]);

impl<'n> Numbers<'n> {
    /// Chooses by `numbers`.
    #[must_use]
    pub fn new(numbers: &'n [u32]) -> Self {
        Self(numbers)
    }
}

impl Choices for Numbers<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        let Some((&number, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        (u64::from(number) * bound) >> 32
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_chooses_the_simplest() {
        let mut bytes = Bytes::new(&[7, 1, 2]);
        assert_eq!((bytes.below(10), bytes.below(1_000)), (7, 258));
        assert!(bytes.is_over());
        assert_eq!(bytes.below(10), 0);
        let mut numbers = Numbers::new(&[u32::MAX, 0]);
        assert_eq!((numbers.below(10), numbers.below(10)), (9, 0));
        assert!(numbers.is_over());
        assert_eq!(numbers.weighted(&[(3, 'a'), (1, 'b')]), 'a');
    }
}
