//! Prefixes of paths: the names of the subtrees of a commitment.

use crate::digest::Digest;

/// The first bits of a path. The bits beyond are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    depth: u16,
    bits: Digest,
}

impl Prefix {
    /// The empty prefix: that of the whole vault.
    pub const ROOT: Prefix = Prefix {
        depth: 0,
        bits: Digest::ZERO,
    };

    /// The first `depth` bits of `path`.
    pub fn of(path: &Digest, depth: u16) -> Prefix {
        let mut bits = Digest::ZERO;
        let whole = usize::from(depth / 8);
        bits.0[..whole].copy_from_slice(&path.0[..whole]);
        if !depth.is_multiple_of(8) {
            bits.0[whole] = path.0[whole] & !(0xff >> (depth % 8));
        }
        Prefix { depth, bits }
    }

    /// How many bits it has.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Bit `index`, which is below the depth.
    pub fn bit(&self, index: u16) -> bool {
        self.bits.bit(index)
    }

    /// The prefix with one bit more.
    ///
    /// The depth stays below 256: two items that agree in all 256 bits of their paths would be a
    /// collision of SHA-256.
    pub fn child(&self, bit: bool) -> Prefix {
        let mut bits = self.bits;
        if bit {
            bits.0[usize::from(self.depth / 8)] |= 0x80 >> (self.depth % 8);
        }
        Prefix {
            depth: self.depth + 1,
            bits,
        }
    }

    /// Its first `depth` bits.
    pub fn ancestor(&self, depth: u16) -> Prefix {
        Prefix::of(&self.bits, depth)
    }

    /// Whether `path` starts with it.
    pub fn covers(&self, path: &Digest) -> bool {
        Prefix::of(path, self.depth) == *self
    }

    /// The first and the last of the paths that start with it.
    pub fn paths(&self) -> (Digest, Digest) {
        let mut last = self.bits;
        let whole = usize::from(self.depth / 8);
        if let Some((begun, rest)) = last.0[whole..].split_first_mut() {
            *begun |= 0xff >> (self.depth % 8);
            rest.fill(0xff);
        }
        (self.bits, last)
    }

    /// The bytes that its bits take: what follows is zero, and is not stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bits.0[..usize::from(self.depth.div_ceil(8))]
    }
}

impl core::fmt::Display for Prefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.depth == 0 {
            return f.write_str("the root");
        }
        (0..self.depth).try_for_each(|index| f.write_str(if self.bit(index) { "1" } else { "0" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_grown_bit_by_bit_is_the_one_cut_from_the_path() {
        let path = Digest::of(&[b"some path"]);
        let mut grown = Prefix::ROOT;
        for depth in 0..256 {
            assert_eq!(grown, Prefix::of(&path, depth));
            assert!(grown.covers(&path));
            assert_eq!(grown.bytes().len(), usize::from(depth).div_ceil(8));
            grown = grown.child(path.bit(depth));
        }
        assert_eq!(grown, Prefix::of(&path, 256));
    }

    #[test]
    fn the_first_and_the_last_path_of_a_prefix_are_the_ends_of_those_it_covers() {
        let path = Digest::of(&[b"some path"]);
        for depth in 0..=256 {
            let prefix = Prefix::of(&path, depth);
            let (first, last) = prefix.paths();
            assert!(prefix.covers(&first) && prefix.covers(&last));
            for bit in depth..256 {
                assert!(!first.bit(bit) && last.bit(bit), "depth {depth}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_prefix_does_not_cover_its_sibling() {
        let path = Digest::of(&[b"some path"]);
        for depth in 0..256 {
            let sibling = Prefix::of(&path, depth).child(!path.bit(depth));
            assert!(!sibling.covers(&path), "depth {depth}");
        }
    }
}
