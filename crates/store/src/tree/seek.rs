//! A place between two rows that can be moved about.

use super::{
    Row,
    position::{Direction, Position, Target},
};
use crate::{error::Result, page::PageRef, pager::PageSource};

/// Stands before the first row, between two rows, or behind the last one; keeps one leaf in memory.
pub(crate) struct Seeker<S> {
    source: S,
    root: PageRef,
    place: Place,
}

enum Place {
    Start,
    End,
    /// Before the row of this index of a leaf, or behind its last one. That is the same place as before the first row of
    /// the next leaf.
    In(Position, usize),
}

impl<S: PageSource> Seeker<S> {
    pub fn new(source: S, root: PageRef) -> Self {
        Self {
            source,
            root,
            place: Place::Start,
        }
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    pub fn seek_start(&mut self) {
        self.place = Place::Start;
    }

    pub fn seek_end(&mut self) {
        self.place = Place::End;
    }

    /// Goes to the place before a key or, with `behind`, to the one behind it. Costs no page if the place lies inside the
    /// present leaf. After an error it is where it was.
    pub fn seek(&mut self, key: &[u8], behind: bool) -> Result<()> {
        if self.root.is_none() {
            return Ok(());
        }
        if let Place::In(position, gap) = &mut self.place {
            let node = position.node();
            // Beyond the first or last key the place may belong to another leaf.
            match node.search(key) {
                Ok(index) => {
                    *gap = index + usize::from(behind);
                    return Ok(());
                }
                Err(index) if index > 0 && index < node.len() => {
                    *gap = index;
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        let position = Position::find(&self.source, self.root, Target::Key(key))?;
        let gap = match position.node().search(key) {
            Ok(index) => index + usize::from(behind),
            Err(index) => index,
        };
        self.place = Place::In(position, gap);
        Ok(())
    }

    /// The row behind the place or before it, which moves over it. At the end nothing moves; after an error neither.
    pub fn step(&mut self, direction: Direction) -> Result<Option<Row<'_>>> {
        if self.root.is_none() {
            return Ok(None);
        }
        if let Place::Start | Place::End = self.place {
            let start = matches!(self.place, Place::Start);
            let target = if start { Target::First } else { Target::Last };
            let position = Position::find(&self.source, self.root, target)?;
            let gap = if start { 0 } else { position.node().len() };
            self.place = Place::In(position, gap);
        }
        let Place::In(position, gap) = &mut self.place else {
            return Ok(None);
        };
        loop {
            let index = match direction {
                Direction::Forward => Some(*gap).filter(|&gap| gap < position.node().len()),
                Direction::Backward => gap.checked_sub(1),
            };
            if let Some(index) = index {
                *gap = match direction {
                    Direction::Forward => index + 1,
                    Direction::Backward => index,
                };
                return Ok(Some(Row {
                    leaf: &position.leaf,
                    index,
                }));
            }
            if !position.move_beside(&self.source, direction)? {
                return Ok(None);
            }
            *gap = match direction {
                Direction::Forward => 0,
                Direction::Backward => position.node().len(),
            };
        }
    }
}
