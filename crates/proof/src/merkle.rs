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
use core::convert::Infallible;

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
    let path = Tree::new(leaves.len() as u64, subtrees_of(leaves)).inclusion_path(index as u64);
    match path {
        Ok(path) => path,
        Err(never) => match never {},
    }
}

/// The complete subtrees over leaves that are all there.
fn subtrees_of(leaves: &[Digest]) -> impl FnMut(u8, u64) -> Result<Digest, Infallible> {
    |level, index| {
        let size = 1 << level;
        let start = index as usize * size;
        Ok(root(&leaves[start..start + size]))
    }
}

/// A tree that is not at hand: its complete subtrees can be looked up.
///
/// A lookup gets a level and an index, as [`Frontier::append`] names the subtrees that it completes.
/// A path costs as many lookups as it has hashes, and a few for each subtree that is not complete:
/// of the order of the logarithm of the size.
pub struct Tree<F> {
    size: u64,
    subtree: F,
}

/// The part of a tree over the leaves from `start` on.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    size: u64,
}

impl Part {
    /// The two subtrees that a part of more than one leaf consists of.
    fn split(self) -> (Part, Part) {
        let half = 1 << (self.size - 1).ilog2();
        let left = Part { size: half, ..self };
        let right = Part {
            start: self.start + half,
            size: self.size - half,
        };
        (left, right)
    }
}

impl<E, F: FnMut(u8, u64) -> Result<Digest, E>> Tree<F> {
    /// The tree over `size` leaves.
    pub fn new(size: u64, subtree: F) -> Self {
        Tree { size, subtree }
    }

    fn whole(&self) -> Part {
        Part {
            start: 0,
            size: self.size,
        }
    }

    fn hash(&mut self, part: Part) -> Result<Digest, E> {
        if part.size.is_power_of_two() {
            let level = part.size.ilog2();
            // At most 63: the size is an integer of 64 bits.
            return (self.subtree)(level as u8, part.start >> level);
        }
        let (left, right) = part.split();
        Ok(node_hash(&self.hash(left)?, &self.hash(right)?))
    }

    /// The audit path of leaf `index`, as [`inclusion_path`] has it.
    pub fn inclusion_path(&mut self, index: u64) -> Result<Option<Vec<Digest>>, E> {
        if index >= self.size {
            return Ok(None);
        }
        let mut path = Vec::new();
        let mut part = self.whole();
        while part.size > 1 {
            let (left, right) = part.split();
            let (inner, beside) = if index < right.start {
                (left, right)
            } else {
                (right, left)
            };
            path.push(self.hash(beside)?);
            part = inner;
        }
        path.reverse();
        Ok(Some(path))
    }

    /// The proof that the tree over the first `earlier` leaves is the beginning of this one, the
    /// lowest hash first: `PROOF` of RFC 6962, section 2.1.2. `None` when there are fewer leaves.
    /// Nothing has to be shown of the empty tree.
    pub fn consistency_path(&mut self, earlier: u64) -> Result<Option<Vec<Digest>>, E> {
        if earlier > self.size {
            return Ok(None);
        }
        let mut path = Vec::new();
        let mut part = self.whole();
        // Whether the part begins with the first leaf, so that the verifier has its earlier hash.
        let mut is_known = true;
        while earlier > 0 && earlier != part.start + part.size {
            let (left, right) = part.split();
            let (inner, beside) = if earlier <= right.start {
                (left, right)
            } else {
                is_known = false;
                (right, left)
            };
            path.push(self.hash(beside)?);
            part = inner;
        }
        if !is_known {
            path.push(self.hash(part)?);
        }
        path.reverse();
        Ok(Some(path))
    }
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

/// Whether `path` proves that the tree of `earlier` leaves with root `earlier_root` is the beginning
/// of the tree of `later` leaves with root `later_root`.
///
/// This is the algorithm of RFC 9162, section 2.1.4.2. It leaves out empty trees, which every tree
/// begins with.
pub fn verify_consistency(
    (earlier, earlier_root): (u64, &Digest),
    (later, later_root): (u64, &Digest),
    path: &[Digest],
) -> bool {
    if earlier == 0 {
        return path.is_empty() && *earlier_root == EMPTY;
    }
    if earlier >= later {
        return earlier == later && path.is_empty() && earlier_root == later_root;
    }
    // A complete tree is itself the lowest subtree of the path.
    let (first, rest) = match path.split_first() {
        _ if earlier.is_power_of_two() => (earlier_root, path),
        Some((first, rest)) => (first, rest),
        None => return false,
    };
    let skipped = (earlier - 1).trailing_ones();
    let (mut at, mut last) = ((earlier - 1) >> skipped, (later - 1) >> skipped);
    let (mut old, mut new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == *earlier_root && new == *later_root
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

    /// `SUBPROOF` of RFC 6962, word for word.
    fn subproof(m: usize, leaves: &[Digest], known: bool) -> Vec<Digest> {
        let n = leaves.len();
        if m == n {
            return if known { vec![] } else { vec![root(leaves)] };
        }
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        if m <= k {
            let mut path = subproof(m, &leaves[..k], known);
            path.push(root(&leaves[k..]));
            path
        } else {
            let mut path = subproof(m - k, &leaves[k..], false);
            path.push(root(&leaves[..k]));
            path
        }
    }

    fn consistency(leaves: &[Digest], earlier: u64) -> Option<Vec<Digest>> {
        let path = Tree::new(leaves.len() as u64, subtrees_of(leaves)).consistency_path(earlier);
        path.expect("infallible")
    }

    #[test]
    fn consistency_paths_are_those_of_the_recursive_definition_and_verify() {
        for later in 1..40_u64 {
            let leaves = leaves(later);
            let later_root = root(&leaves);
            for earlier in 1..=later {
                let path = consistency(&leaves, earlier).expect("it is no longer");
                assert_eq!(path, subproof(earlier as usize, &leaves, true));
                let earlier_root = root(&leaves[..earlier as usize]);
                let verify = |path: &[Digest], earlier, earlier_root: &Digest, later| {
                    verify_consistency((earlier, earlier_root), (later, &later_root), path)
                };
                assert!(
                    verify(&path, earlier, &earlier_root, later),
                    "{earlier} of {later}"
                );
                for other in 1..later + 2 {
                    if other != earlier {
                        assert!(
                            !verify(&path, other, &earlier_root, later),
                            "{earlier} as {other}"
                        );
                    }
                }
                let mut forged = earlier_root;
                forged.0[3] ^= 1;
                assert!(!verify(&path, earlier, &forged, later));
                for place in 0..path.len() {
                    let mut altered = path.clone();
                    altered[place].0[7] ^= 1;
                    assert!(!verify(&altered, earlier, &earlier_root, later));
                    altered.remove(place);
                    assert!(!verify(&altered, earlier, &earlier_root, later));
                }
                let longer = [&path[..], &[EMPTY]].concat();
                assert!(!verify(&longer, earlier, &earlier_root, later));
            }
            assert_eq!(consistency(&leaves, later + 1), None);
        }
    }

    #[test]
    fn every_tree_begins_with_the_empty_one() {
        let leaves = leaves(5);
        let path = consistency(&leaves, 0).expect("it is shorter");
        assert!(path.is_empty());
        assert!(verify_consistency((0, &EMPTY), (5, &root(&leaves)), &path));
        assert!(!verify_consistency(
            (0, &leaves[0]),
            (5, &root(&leaves)),
            &path
        ));
        assert!(!verify_consistency((5, &root(&leaves)), (0, &EMPTY), &path));
    }

    #[test]
    fn a_path_costs_as_many_lookups_as_the_tree_is_deep() {
        for size in [1_u64 << 40, (1 << 40) - 1, (1 << 40) + 12_345] {
            let mut lookups = 0;
            let mut tree = Tree::new(size, |_, _| {
                lookups += 1;
                Ok::<_, Infallible>(EMPTY)
            });
            let path = tree.inclusion_path(size / 3).expect("infallible");
            assert!((40..=41).contains(&path.expect("it is there").len()));
            tree.consistency_path(size / 3).expect("infallible");
            assert!(lookups < 4 * 41, "{lookups} lookups at {size} leaves");
        }
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
