//! The pages of a group that cannot be read.

use std::{ops::ControlFlow, sync::Arc};

use super::{Engine, Pace, SystemClock, Walk};
use crate::{
    error::Result,
    file::GroupRoot,
    space::PageSet,
    types::{Group, GroupSet},
};

impl Engine {
    /// Makes everything durable, and gives the pages that only this group uses without reading one of them: they are those
    /// in use that neither the other groups nor a savepoint lead to. For the writer, before it changes anything.
    pub fn pages_of_group(self: &Arc<Self>, group: Group) -> Result<PageSet> {
        // With the writer's place taken nothing new is published, so the slot is the newest state from here on.
        self.checkpoint(GroupSet::ALL)?;
        let pages = {
            let (_pin, mut slot) = self.pin();
            slot.groups[usize::from(group.index())] = GroupRoot::EMPTY;
            let clock = SystemClock::start();
            let go_on = |_, _| ControlFlow::Continue(());
            Walk::new(&self.pager, &slot, Pace::new(&clock, 0), go_on).unmet()?
        };
        // The account in memory must know them as used before the durable one calls them free.
        let mut space = self.space.lock();
        for page in pages.iter() {
            space.is_used(page, &self.pager)?;
        }
        Ok(pages)
    }
}
