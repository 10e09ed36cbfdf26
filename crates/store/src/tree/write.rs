//! Inserting and removing rows.

use super::{Position, StoredBytes, Target, TreeRoot, overflow, read_value};
use crate::{
    error::{Error, Result},
    node::{self, Child, Entry, Node, NodeMut, OverflowRef, build, gather, separator, split_point},
    page::{PageBytes, PageRef, level},
    pager::PageSource,
    space::Lifetime,
    workspace::{Owner, Workspace, lifetime_of},
};

/// A tree as the writer changes it.
pub(crate) struct Tree<'w> {
    pub workspace: &'w mut Workspace,
    pub root: &'w mut TreeRoot,
    pub owner: Owner,
    /// The table's number, written into its pages.
    pub table: u32,
}

/// The way from the root to a leaf.
pub(super) struct Descent {
    /// The branches and the child taken in each, from the root down.
    pub path: Vec<(PageRef, usize)>,
    pub leaf: PageRef,
    /// Whether no leaf follows.
    rightmost: bool,
}

/// A node that became two.
pub(super) struct Split {
    pub left: PageRef,
    pub separator: Vec<u8>,
    pub right: PageRef,
}

impl Tree<'_> {
    /// Sets a row; gives back the value it had.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<Option<StoredBytes>> {
        self.workspace.relieve()?;
        if node::fits_inline(self.workspace.page_size(), key.len(), value.len()) {
            return self.insert_entry_of(Entry::new(key, value, false), key);
        }
        let reference = overflow::write(self.workspace, value, self.owner, self.table)?;
        self.insert_long(key, reference)
    }

    /// Sets a row whose value is in pages of its own already.
    pub fn insert_long(&mut self, key: &[u8], value: OverflowRef) -> Result<Option<StoredBytes>> {
        self.insert_entry_of(Entry::new(key, &value.encode(), true), key)
    }

    fn insert_entry_of(&mut self, entry: Entry<'_>, key: &[u8]) -> Result<Option<StoredBytes>> {
        let (owner, table) = (self.owner, self.table);
        if self.root.at.is_none() {
            let at = self.workspace.allocate(owner, Lifetime::Short)?;
            let mut leaf = NodeMut::format(self.workspace.edit(at), 0, at, table);
            let fitted = leaf.insert(0, entry);
            debug_assert!(fitted, "an entry takes at most a quarter page");
            *self.root = TreeRoot { at, rows: 1 };
            return Ok(None);
        }

        let (descent, bytes) = self.descend(key)?;
        let place = Node::new(&bytes).search(key);
        let old = match place {
            Ok(index) => Some(self.take_value(descent.leaf, &bytes, index)?),
            Err(_) => None,
        };
        // Not kept while the leaf is edited: else a private page would be copied for each change.
        drop(bytes);
        let leaf = match descent.rightmost {
            true => self.workspace.make_last_private(descent.leaf, owner)?,
            false => self.workspace.make_private(descent.leaf, owner)?,
        };
        let mut split = None;
        match place {
            Ok(index) => {
                let mut node = NodeMut::new(self.workspace.edit(leaf));
                if !node.overwrite_body(index, entry.body, entry.overflow) {
                    node.remove(index..index + 1);
                    split = self.insert_entry(leaf, index, entry, false)?;
                }
            }
            Err(index) => split = self.insert_entry(leaf, index, entry, descent.rightmost)?,
        }
        let added = u64::from(old.is_none());
        self.propagate(&descent, leaf, added, entry.overflow, split)?;
        Ok(old)
    }

    /// Removes a row; gives back the value it had.
    pub fn remove(&mut self, key: &[u8]) -> Result<Option<StoredBytes>> {
        self.workspace.relieve()?;
        if self.root.at.is_none() {
            return Ok(None);
        }
        let (descent, bytes) = self.descend(key)?;
        let Ok(index) = Node::new(&bytes).search(key) else {
            return Ok(None);
        };
        let old = self.take_value(descent.leaf, &bytes, index)?;
        drop(bytes);
        let leaf = self.workspace.make_private(descent.leaf, self.owner)?;
        NodeMut::new(self.workspace.edit(leaf)).remove(index..index + 1);
        self.settle(descent.path, leaf, 1)?;
        Ok(Some(old))
    }

    /// Reads a value that is about to be replaced, and gives up its overflow pages.
    fn take_value(&mut self, at: PageRef, leaf: &PageBytes, index: usize) -> Result<StoredBytes> {
        let mut value = read_value(&*self.workspace, leaf, index)?;
        if at.transaction >= self.workspace.transaction {
            // The leaf is changed in place. Holding it would copy the page; the value is a quarter of that at most.
            value = StoredBytes::Owned(value.into_vec());
        }
        if let Some(at) = Node::new(leaf).overflow(index) {
            overflow::free(self.workspace, at, self.owner)?;
        }
        Ok(value)
    }

    /// The way to the last leaf, and its bytes.
    pub(super) fn descend_last(&self) -> Result<(Descent, PageBytes)> {
        let last = Position::find(&*self.workspace, self.root.at, Target::Last)?;
        let descent = Descent {
            path: last.path,
            leaf: last.at,
            rightmost: true,
        };
        Ok((descent, last.leaf))
    }

    /// The way to the leaf where a key belongs, and its bytes.
    pub(super) fn descend(&self, key: &[u8]) -> Result<(Descent, PageBytes)> {
        let mut path = Vec::new();
        let (mut at, mut level, mut rightmost) = (self.root.at, None, true);
        loop {
            let (leaf, down) = self.workspace.visit_node(at, level, |bytes, node| {
                if node.is_leaf() {
                    return (Some(bytes.clone()), None);
                }
                let index = node.child_index(key);
                (
                    None,
                    Some((
                        index,
                        node.child(index).at,
                        node.level() - 1,
                        index + 1 == node.len(),
                    )),
                )
            })?;
            if let Some(bytes) = leaf {
                let descent = Descent {
                    path,
                    leaf: at,
                    rightmost,
                };
                return Ok((descent, bytes));
            }
            if let Some((index, child, child_level, last)) = down {
                path.push((at, index));
                rightmost &= last;
                (at, level) = (child, Some(child_level));
            }
        }
    }

    /// Puts an entry into a private node, splitting it if there is no room. `append` says that no node follows on this
    /// level: then a last entry starts a node of its own and leaves the full one full.
    fn insert_entry(
        &mut self,
        at: PageRef,
        index: usize,
        entry: Entry<'_>,
        append: bool,
    ) -> Result<Option<Split>> {
        if NodeMut::new(self.workspace.edit(at)).insert(index, entry) {
            return Ok(None);
        }
        if append && index == Node::new(self.workspace.edit(at)).len() {
            return self.append_entry(at, entry).map(Some);
        }
        let page_size = self.workspace.page_size();
        let full = self.workspace.edit(at).to_vec();
        let level = level(&full);
        let mut entries = gather(Node::new(&full));
        entries.insert(index, entry);
        let point = split_point(&entries, level == 0, page_size);
        let separator = if level == 0 {
            separator(&entries[point - 1], &entries[point])
        } else {
            entries[point].key()
        };

        let lifetime = lifetime_of(self.owner, self.table, level);
        let (left, right) = (at, self.workspace.allocate(self.owner, lifetime)?);
        let mut node = NodeMut::format(self.workspace.edit(right), level, right, self.table);
        let right_fits = build(&mut node, &entries[point..]);
        let mut node = NodeMut::format(self.workspace.edit(left), level, left, self.table);
        let left_fits = build(&mut node, &entries[..point]);
        debug_assert!(
            left_fits && right_fits,
            "the split point was chosen so that both parts fit"
        );
        Ok(Some(Split {
            left,
            separator,
            right,
        }))
    }

    /// Puts an entry behind those of a full node, into one of its own.
    fn append_entry(&mut self, at: PageRef, entry: Entry<'_>) -> Result<Split> {
        let full = Node::new(self.workspace.edit(at));
        let level = full.level();
        let separator = if level == 0 {
            let last = full.key(full.len() - 1);
            separator(&Entry::new(&last, &[], false), &entry)
        } else {
            entry.key()
        };

        let lifetime = lifetime_of(self.owner, self.table, level);
        let new = self.workspace.allocate(self.owner, lifetime)?;
        // Where rows are appended, the full leaf goes to where pages stay, and the one that will be changed again keeps the
        // place of short life.
        let (left, right) = match lifetime {
            Lifetime::Long => {
                self.workspace.exchange(at, new);
                (new, at)
            }
            Lifetime::Short => (at, new),
        };
        let mut node = NodeMut::format(self.workspace.edit(right), level, right, self.table);
        let fits = build(&mut node, &[entry]);
        debug_assert!(fits, "an entry takes at most a quarter page");
        Ok(Split {
            left,
            separator,
            right,
        })
    }

    /// Tells the branches above a leaf, from the bottom up, what became of their child.
    pub(super) fn propagate(
        &mut self,
        descent: &Descent,
        leaf: PageRef,
        added: u64,
        overflow: bool,
        mut split: Option<Split>,
    ) -> Result<()> {
        let mut child = leaf;
        for &(at, index) in descent.path.iter().rev() {
            let at = self.workspace.make_private(at, self.owner)?;
            if let Some(Split {
                left,
                separator,
                right,
            }) = split
            {
                let left = self.describe(left)?;
                let right = self.describe(right)?.encode();
                let mut node = NodeMut::new(self.workspace.edit(at));
                node.set_child(index, left);
                if !node.read().admits(index + 1, &separator) {
                    return Err(self.misplaced(at));
                }
                let entry = Entry::new(&separator, &right, false);
                split = self.insert_entry(at, index + 1, entry, descent.rightmost)?;
            } else {
                let mut node = NodeMut::new(self.workspace.edit(at));
                let old = node.read().child(index);
                let rows = old.rows.wrapping_add(added);
                node.set_child(
                    index,
                    Child {
                        at: child,
                        rows,
                        overflow: old.overflow | overflow,
                    },
                );
            }
            child = at;
        }
        if let Some(Split {
            left,
            separator,
            right,
        }) = split
        {
            child = self.grow(left, &separator, right)?;
        }
        *self.root = TreeRoot {
            at: child,
            rows: self.root.rows.wrapping_add(added),
        };
        Ok(())
    }

    /// A new root above two nodes.
    fn grow(&mut self, left: PageRef, separator: &[u8], right: PageRef) -> Result<PageRef> {
        let level = self
            .workspace
            .visit_node(left, None, |_, node| node.level())?
            + 1;
        let children = [
            self.describe(left)?.encode(),
            self.describe(right)?.encode(),
        ];
        let entries = [
            Entry::new(&[], &children[0], false),
            Entry::new(separator, &children[1], false),
        ];
        let at = self.workspace.allocate(self.owner, Lifetime::Short)?;
        let fits = build(
            &mut NodeMut::format(self.workspace.edit(at), level, at, self.table),
            &entries,
        );
        debug_assert!(fits, "two entries of at most a quarter page each");
        Ok(at)
    }

    /// What a page is whose keys and those of its children contradict each other.
    pub(super) fn misplaced(&self, at: PageRef) -> Error {
        let fault = "holds keys out of order with those of the pages below it";
        self.workspace.pager().corrupted(at.page, fault)
    }

    pub(super) fn describe(&self, at: PageRef) -> Result<Child> {
        self.workspace
            .visit_node(at, None, |_, node| node.describe(at))
    }
}
