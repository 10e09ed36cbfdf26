//! Merkle trees over lists, as RFC 6962 section 2.1 defines them.
//!
//! - The hash of an empty list is the SHA-256 hash of the empty string.
//! - The hash of a list of one is the leaf hash, `SHA-256(0x00 || data)`.
//! - The hash of a longer list is `SHA-256(0x01 || left || right)`, where the left subtree holds
//!   the first `k` leaves, `k` the largest power of two smaller than their number.
//!
//! Two lists are hashed this way: the transactions of a block, and the headers of a vault's chain.
//! Any verifier of RFC 6962 (or of RFC 9162, which kept the hashing) accepts their proofs.

use alloc::vec;
use alloc::vec::Vec;

use crate::digest::Digest;

/// The prefix of a leaf.
const LEAF: u8 = 0x00;
/// The prefix of an inner node.
const NODE: u8 = 0x01;

/// The hash of the empty tree: SHA-256 of nothing.
pub const EMPTY: Digest = Digest([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// The hash of a leaf with this data.
pub fn leaf_hash(data: &[u8]) -> Digest {
    Digest::of(&[&[LEAF], data])
}

/// The hash of an inner node.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    // In one piece: a hasher is fed by blocks.
    let mut data = [NODE; 65];
    data[1..33].copy_from_slice(&left.0);
    data[33..].copy_from_slice(&right.0);
    Digest::of(&[&data])
}

/// The complete subtrees at the right edge of a growing tree: all that is needed to append and to
/// take the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    /// For each level, the complete subtree that waits for its right neighbour; present where the
    /// bit of `size` is set.
    levels: Vec<Option<Digest>>,
    size: u64,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frontier out of the complete subtrees that the set bits of `size` name, asked for by
    /// (level, index), at most 64 of them.
    pub fn load<E>(
        size: u64,
        mut subtree: impl FnMut(u8, u64) -> Result<Digest, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0..64_u8 {
            let rest = size >> level;
            if rest == 0 {
                break;
            }
            levels.push(if rest & 1 == 1 {
                Some(subtree(level, rest - 1)?)
            } else {
                None
            });
        }
        Ok(Frontier { levels, size })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash, and names every subtree that this completes, as (level, index,
    /// hash); the leaf itself comes first, as level 0.
    pub fn append(&mut self, leaf: Digest) -> Vec<(u8, u64, Digest)> {
        let mut completed = vec![(0, self.size, leaf)];
        let mut carried = leaf;
        let mut level = 0_u8;
        loop {
            let slot = usize::from(level);
            if slot == self.levels.len() {
                self.levels.push(None);
            }
            match self.levels[slot].take() {
                Some(left) => carried = node_hash(&left, &carried),
                None => {
                    self.levels[slot] = Some(carried);
                    break;
                }
            }
            level += 1;
            completed.push((level, self.size >> level, carried));
        }
        self.size += 1;
        completed
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.levels.iter().flatten();
        match subtrees.next() {
            None => EMPTY,
            Some(&smallest) => subtrees.fold(smallest, |right, left| node_hash(left, &right)),
        }
    }
}

/// The root over leaves given by their hashes.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::new();
    for &leaf in leaves {
        frontier.append(leaf);
    }
    frontier.root()
}

/// The audit path of leaf `index`: the siblings on the way to the root, the lowest first. `None`
/// when there is no such leaf.
pub fn inclusion_path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut part, mut at) = (leaves, index);
    while part.len() > 1 {
        let half = part.len().next_power_of_two() / 2;
        let (left, right) = part.split_at(half);
        if at < half {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            part = right;
            at -= half;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `path` proves that the leaf with hash `leaf` is number `index` of the `size` leaves
/// below `root`.
///
/// This is the algorithm of RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(
    root: &Digest,
    size: u64,
    index: u64,
    leaf: &Digest,
    path: &[Digest],
) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// The recursive definition, word for word.
    fn definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_recursive_definition() {
        for count in 0..70 {
            let leaves = leaves(count);
            assert_eq!(root(&leaves), definition(&leaves), "{count} leaves");
        }
    }

    #[test]
    fn every_leaf_has_a_path_that_verifies_and_no_other_place_accepts_it() {
        for count in 1..34_u64 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for index in 0..count {
                let leaf = &leaves[index as usize];
                let path = inclusion_path(&leaves, index as usize).expect("the leaf is there");
                assert!(
                    verify_inclusion(&root, count, index, leaf, &path),
                    "{index} of {count}"
                );
                for other in (0..count + 2).filter(|&other| other != index) {
                    assert!(
                        !verify_inclusion(&root, count, other, leaf, &path),
                        "{index} as {other} of {count}"
                    );
                }
            }
            assert_eq!(inclusion_path(&leaves, count as usize), None);
        }
    }

    #[test]
    fn an_altered_path_is_refused() {
        let leaves = leaves(13);
        let root = root(&leaves);
        let path = inclusion_path(&leaves, 5).expect("the leaf is there");
        for place in 0..path.len() {
            let mut altered = path.clone();
            altered[place].0[7] ^= 1;
            assert!(!verify_inclusion(&root, 13, 5, &leaves[5], &altered));
        }
        assert!(!verify_inclusion(&root, 13, 5, &leaves[5], &path[1..]));
        assert!(!verify_inclusion(
            &root,
            13,
            5,
            &leaves[5],
            &[path.clone(), vec![EMPTY]].concat()
        ));
        assert!(!verify_inclusion(&root, 13, 5, &leaves[6], &path));
    }

    #[test]
    fn a_frontier_loaded_from_its_completed_subtrees_goes_on_as_if_never_stored() {
        let mut stored = std::collections::BTreeMap::new();
        let mut straight = Frontier::new();
        for leaf in leaves(50) {
            let loaded = Frontier::load(straight.size(), |level, index| {
                stored.get(&(level, index)).copied().ok_or(())
            })
            .expect("every subtree was named when it was completed");
            assert_eq!(loaded.root(), straight.root());
            for (level, index, hash) in straight.append(leaf) {
                assert_eq!(
                    stored.insert((level, index), hash),
                    None,
                    "a subtree is completed once"
                );
            }
        }
    }
}
