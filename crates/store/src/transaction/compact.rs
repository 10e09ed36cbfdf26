//! One step of a compaction: a transaction that moves a bounded number of pages and changes no row.

use super::{WriteTransaction, write::Core};
use crate::{
    catalog,
    error::Result,
    space::Purpose,
    tree::{Relocation, Tree},
    types::{Group, GroupSet},
};

/// Where a compaction goes on.
pub(crate) struct CompactionStep {
    bound: u64,
    budget: u64,
    group: Group,
    /// The first table, by name, that is not done.
    table: String,
    /// The first key of that table that is not done.
    key: Vec<u8>,
}

impl CompactionStep {
    pub fn first(bound: u64, budget: u64) -> Self {
        Self {
            bound,
            budget,
            group: Group::DEFAULT,
            table: String::new(),
            key: Vec::new(),
        }
    }
}

impl WriteTransaction {
    /// Moves pages from `step` on until there are enough; gives back their number and where to go on.
    pub(crate) fn compact(
        &mut self,
        mut step: CompactionStep,
    ) -> Result<(u64, Option<CompactionStep>)> {
        let core = self.core_mut();
        let mut moved = 0;
        for group in GroupSet::ALL {
            if group < step.group {
                continue;
            }
            if group != step.group {
                (step.group, step.table, step.key) = (group, String::new(), Vec::new());
            }
            for table in core.tables_of(group)? {
                if table.name < step.table {
                    continue;
                }
                if table.name != step.table {
                    (step.table, step.key) = (table.name.clone(), Vec::new());
                }
                let Some(index) = core.find(&table)? else {
                    continue;
                };
                let mut relocation = Relocation {
                    bound: step.bound,
                    from: std::mem::take(&mut step.key),
                    budget: step.budget.saturating_sub(moved),
                    moved: 0,
                    resume: None,
                };
                core.relocate(index, &mut relocation)?;
                moved += relocation.moved;
                if let Some(key) = relocation.resume {
                    step.key = key;
                    return Ok((moved, Some(step)));
                }
            }
            moved += core.compact_catalog(group, step.bound)?;
        }
        Ok((moved, None))
    }
}

impl Core {
    fn compact_catalog(&mut self, group: Group, bound: u64) -> Result<u64> {
        let index = usize::from(group.index());
        let mut relocation = Relocation {
            bound,
            from: Vec::new(),
            budget: u64::MAX,
            moved: 0,
            resume: None,
        };
        self.workspace.purpose = Purpose::Removal;
        self.busy = true;
        Tree {
            workspace: &mut self.workspace,
            root: &mut self.groups[index],
            owner: index,
            table: catalog::number_of(group),
        }
        .relocate(&mut relocation)?;
        self.busy = false;
        if relocation.moved > 0 {
            self.moved_catalogs = self.moved_catalogs.with(group);
        }
        Ok(relocation.moved)
    }
}
