//! Emptying a group whose pages cannot be read.

use std::{ops::ControlFlow, sync::Arc};

use super::{Engine, Pace, Patience, SystemClock, Walk};
use crate::{
    error::Result,
    file::GroupRoot,
    tree::TreeRoot,
    types::{Group, GroupSet},
    workspace::Workspace,
};

impl Engine {
    /// Empties a group, durably, and frees its pages without reading one of them: they are those in use that neither the
    /// other groups nor a savepoint lead to. Gives back their number.
    pub fn discard_group(self: &Arc<Self>, group: Group) -> Result<u64> {
        let Some((_gate, _, mut groups, next_table)) = self.begin_write(Patience::Endless)? else {
            return Ok(0);
        };
        // With the writer's place taken nothing new is published, so the slot is the newest state from here on.
        self.checkpoint(GroupSet::ALL)?;
        // The flush has taken a number, and this is to be a later transaction.
        let number = self.take_number();
        let index = usize::from(group.index());
        let mut workspace = Workspace::new(self.clone(), number, self.newest_savepoint());
        let given_up = {
            let (_pin, mut slot) = self.pin();
            slot.groups[index] = GroupRoot::EMPTY;
            let clock = SystemClock::start();
            let go_on = |_, _| ControlFlow::Continue(());
            Walk::new(&self.pager, &slot, Pace::new(&clock, 0), go_on).unmet()?
        };
        {
            // The account in memory must know them as used before the durable one calls them free.
            let mut space = self.space.lock();
            for page in given_up.iter() {
                space.is_used(page, &self.pager)?;
            }
        }
        groups[index] = TreeRoot::EMPTY;
        let count = given_up.len();
        workspace.changes[index].freed = given_up;
        self.publish(&mut workspace, groups, GroupSet::from(group), next_table)?;
        self.wait_durable(GroupSet::from(group), number)?;
        Ok(count)
    }
}
