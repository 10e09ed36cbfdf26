//! Three levels of nodes in one row.

use crate::digest::Digest;
use crate::prefix::Prefix;

/// How many levels a band has.
pub(super) const LEVELS: u16 = 3;

/// The places in a band: two on the first level, four on the second, eight on the third.
const PLACES: usize = 14;

/// What a node knows of a subtree below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// The hash of the subtree.
    pub(crate) hash: Digest,
    /// Whether the subtree is a node; otherwise it is a bucket.
    pub(crate) is_node: bool,
}

/// The links to the subtrees one, two and three levels below a node whose depth is a multiple of
/// three.
///
/// As a row: two big-endian 16-bit masks, which places are taken and which of those are nodes
/// (place `i` is bit `i`), then the hashes of the taken places, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Band {
    links: [Option<Link>; PLACES],
}

impl Band {
    /// The depth of the band that holds the link to the subtree at `prefix`, which is not the root.
    fn top(prefix: &Prefix) -> u16 {
        (prefix.depth() - 1) / LEVELS * LEVELS
    }

    /// The prefix of that band.
    pub(super) fn holding(prefix: &Prefix) -> Prefix {
        prefix.ancestor(Band::top(prefix))
    }

    /// The place of the subtree at `prefix` in that band: levels one after the other, each from
    /// left to right.
    fn place(prefix: &Prefix) -> usize {
        let heap = (Band::top(prefix)..prefix.depth())
            .fold(1, |heap, index| heap * 2 + usize::from(prefix.bit(index)));
        heap - 2
    }

    pub(super) fn get(&self, prefix: &Prefix) -> Option<Link> {
        self.links[Band::place(prefix)]
    }

    pub(super) fn set(&mut self, prefix: &Prefix, link: Option<Link>) {
        self.links[Band::place(prefix)] = link;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.iter().all(Option::is_none)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (mut taken, mut nodes) = (0_u16, 0_u16);
        let mut hashes = Vec::with_capacity(4 + PLACES * 32);
        for (place, link) in self.links.iter().enumerate() {
            if let Some(link) = link {
                taken |= 1 << place;
                nodes |= u16::from(link.is_node) << place;
                hashes.extend_from_slice(link.hash.as_bytes());
            }
        }
        [&taken.to_be_bytes()[..], &nodes.to_be_bytes()[..], &hashes].concat()
    }

    /// Reads what [`Band::encode`] writes; `None` for every other row.
    pub(super) fn decode(row: &[u8]) -> Option<Band> {
        let (masks, hashes) = row.split_first_chunk::<4>()?;
        let taken = u16::from_be_bytes([masks[0], masks[1]]);
        let nodes = u16::from_be_bytes([masks[2], masks[3]]);
        let (hashes, rest) = hashes.as_chunks::<32>();
        if taken >> PLACES != 0 || nodes & !taken != 0 || !rest.is_empty() {
            return None;
        }
        let mut band = Band::default();
        let mut hashes = hashes.iter();
        for (place, link) in band.links.iter_mut().enumerate() {
            if taken & (1 << place) != 0 {
                *link = Some(Link {
                    hash: Digest(*hashes.next()?),
                    is_node: nodes & (1 << place) != 0,
                });
            }
        }
        hashes.next().is_none().then_some(band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(bits: &str) -> Prefix {
        bits.chars()
            .fold(Prefix::ROOT, |prefix, bit| prefix.child(bit == '1'))
    }

    #[test]
    fn each_prefix_has_one_place_in_one_band() {
        let mut seen = std::collections::BTreeSet::new();
        for depth in 1..=9_u16 {
            for bits in 0..1_u32 << depth {
                let text: String = (0..depth)
                    .map(|i| if bits >> i & 1 == 1 { '1' } else { '0' })
                    .collect();
                let prefix = prefix(&text);
                let band = Band::holding(&prefix);
                assert_eq!(band.depth() % LEVELS, 0);
                assert!((1..=LEVELS).contains(&(depth - band.depth())));
                assert!(
                    seen.insert((band, Band::place(&prefix))),
                    "{text} shares its place"
                );
            }
        }
    }

    #[test]
    fn a_band_reads_back_as_it_was_written() {
        let mut band = Band::default();
        assert!(band.is_empty());
        for (bits, is_node) in [
            ("1", true),
            ("10", false),
            ("11", true),
            ("111", false),
            ("000", true),
        ] {
            band.set(
                &prefix(bits),
                Some(Link {
                    hash: Digest::of(&[bits.as_bytes()]),
                    is_node,
                }),
            );
        }
        assert_eq!(Band::decode(&band.encode()), Some(band.clone()));
        band.set(&prefix("10"), None);
        assert_eq!(Band::decode(&band.encode()), Some(band));
    }

    #[test]
    fn a_damaged_row_is_no_band() {
        let mut band = Band::default();
        band.set(
            &prefix("1"),
            Some(Link {
                hash: Digest::ZERO,
                is_node: true,
            }),
        );
        let row = band.encode();
        assert_eq!(Band::decode(&row[..3]), None);
        assert_eq!(Band::decode(&row[..row.len() - 1]), None);
        assert_eq!(Band::decode(&[&row[..], &[0; 32]].concat()), None);
        let with = |place: usize, byte: u8| {
            let mut altered = row.clone();
            altered[place] = byte;
            altered
        };
        assert_eq!(
            Band::decode(&with(0, 0x80)),
            None,
            "a place that does not exist"
        );
        assert_eq!(
            Band::decode(&with(3, 0x01)),
            None,
            "a node where nothing is"
        );
        assert_eq!(
            Band::decode(&with(1, 0x00)),
            None,
            "a hash that belongs to no place"
        );
    }
}
