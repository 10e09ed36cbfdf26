//! The write transaction.

use std::{collections::HashMap, sync::Arc};

use super::{TableMut, Ticket, name::TableName, raw::RawMut, savepoint::SavedState};
use crate::{
    catalog::{self, MAX_NAME, TableRecord},
    engine::{Engine, GateGuard, Groups, Handle, Patience},
    error::{Error, Result},
    page::{PageBytes, PageRef},
    pager::{PageSource, Pager},
    space::Purpose,
    sync::Mutex,
    tree::{Relocation, Tree, TreeRoot},
    types::{Group, GroupSet, Table, TableDefinition, Untyped},
    workspace::Workspace,
};

/// When a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// When the transaction is durable: one `fdatasync`, shared with other commits that wait at the same time.
    #[default]
    Immediate,
    /// At once. The commit makes no system call; it becomes durable with the next flush of its groups. A crash before
    /// takes the groups back to their last flush, whole.
    Eventual,
}

/// The one write transaction: everything it does becomes visible at once by [`commit`](Self::commit), or not at all.
///
/// Dropping it aborts it. It may move to another thread, and several threads may use it at a time, each with tables of
/// its own; what they do to it they do one after the other.
pub struct WriteTransaction {
    // Each operation takes the lock for itself, and calls no code of the user's under it.
    core: Mutex<Core>,
    durability: Durability,
    // After the core, so that the next writer begins after this one has given its pages back.
    gate: GateGuard,
    // After the gate: closing needs the writer gone.
    _handle: Arc<Handle>,
}

pub(super) struct Core {
    pub workspace: Workspace,
    pub groups: Groups,
    pub tables: Vec<OpenTable>,
    /// For each group where its tables are among `tables`. Going back to a savepoint leaves names here that are no longer
    /// there, or whose place another one has.
    places: [HashMap<Arc<str>, usize>; Group::COUNT],
    pub next_table: u32,
    /// Whether its inserts may take room that is kept back for removals.
    uses_reserve: bool,
    /// Why the transaction can only be aborted.
    pub poisoned: Option<Arc<str>>,
    /// The savepoints, oldest first.
    pub saved: Vec<SavedState>,
    /// Set while an operation changes a tree: still set afterwards, if the operation panicked.
    pub busy: bool,
    /// Groups whose catalogs lie elsewhere now, with the same rows, or with none.
    pub moved_catalogs: GroupSet,
    finished: bool,
}

/// A table that the transaction has touched.
#[derive(Clone)]
pub(super) struct OpenTable {
    name: Arc<str>,
    group: Group,
    record: TableRecord,
    changed: bool,
    deleted: bool,
    /// Whether a handle is alive.
    held: bool,
}

impl WriteTransaction {
    pub(crate) fn begin(handle: &Arc<Handle>, patience: Patience) -> Result<Option<Self>> {
        let engine = handle.engine();
        let Some((gate, number, groups, next_table)) = engine.begin_write(patience)? else {
            return Ok(None);
        };
        let core = Core {
            workspace: Workspace::new(engine.clone(), number, engine.newest_savepoint()),
            groups,
            tables: Vec::new(),
            places: Default::default(),
            next_table,
            uses_reserve: false,
            poisoned: None,
            busy: false,
            moved_catalogs: GroupSet::EMPTY,
            saved: Vec::new(),
            finished: false,
        };
        Ok(Some(Self {
            core: Mutex::new(core),
            durability: engine.default_durability,
            gate,
            _handle: handle.clone(),
        }))
    }

    /// Lets this transaction use the room that is kept back for removals for its inserts, too. For one that frees more than
    /// it adds, so that it works on a full disk, such as the purge of a log that also notes how far it went.
    pub fn use_reserve(&mut self) {
        self.core.get_mut().uses_reserve = true;
    }

    /// The number of this transaction. Numbers grow; not every number is used.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.core.lock().workspace.transaction
    }

    /// Chooses when [`commit`](Self::commit) returns, instead of [what the builder said](crate::Builder::durability).
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// Opens a table, creating it if there is none of its name. Several tables may be open at a time, each once.
    ///
    /// # Errors
    ///
    /// If the file holds the table with other types or in another group, a handle to it is alive, its name is empty or too
    /// long, a page of the catalog cannot be read, or the transaction is poisoned. Costs one lookup in the catalog the
    /// first time.
    pub fn table<T: Table>(&self) -> Result<TableMut<'_, T>> {
        let name = TableName::Constant(T::NAME);
        Ok(TableMut::new(self.rows(&TableDefinition::of::<T>(), name)?))
    }

    /// Opens a table by its definition, to read and write keys and values as bytes. The bytes are not checked against
    /// the table's types.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn untyped(&self, table: &TableDefinition) -> Result<TableMut<'_, Untyped>> {
        let name = TableName::Counted(table.name.as_str().into());
        Ok(TableMut::new(self.rows(table, name)?))
    }

    fn rows(&self, table: &TableDefinition, name: TableName) -> Result<RawMut<'_>> {
        let mut core = self.core.lock();
        let index = match core.find(table)? {
            Some(index) => index,
            None => core.create(table)?,
        };
        let open = &mut core.tables[index];
        if std::mem::replace(&mut open.held, true) {
            return Err(Error::TableInUse {
                table: open.name.clone(),
            });
        }
        drop(core);
        Ok(RawMut::new(self, index, name))
    }

    /// The tables of all groups, by group and name.
    ///
    /// # Errors
    ///
    /// If a catalog cannot be read.
    pub fn tables(&self) -> Result<Vec<TableDefinition>> {
        let core = self.core.lock();
        let mut tables = Vec::new();
        for group in GroupSet::ALL {
            let catalog = core.groups[usize::from(group.index())];
            let mut found: Vec<_> = catalog::list(&core.workspace, catalog)?
                .into_iter()
                .filter(|(name, _)| core.place(name, group).is_none())
                .map(|(name, record)| record.definition(name, group))
                .collect();
            let open = core
                .tables
                .iter()
                .filter(|open| open.group == group && !open.deleted);
            found.extend(open.map(|open| open.record.definition(open.name.to_string(), group)));
            found.sort_by(|left, right| left.name.cmp(&right.name));
            tables.extend(found);
        }
        Ok(tables)
    }

    /// Deletes a table with all its rows. False if there is none.
    ///
    /// # Errors
    ///
    /// If the types differ, a handle to the table is alive, or its tree cannot be read; in the last case the transaction is
    /// poisoned. Costs a read for each of its branch pages, and for each leaf that may hold long values.
    pub fn delete_table(&self, table: &TableDefinition) -> Result<bool> {
        let mut core = self.core.lock();
        let Some(index) = core.find_free(table)? else {
            return Ok(false);
        };
        core.clear(index)?;
        core.tables[index].deleted = true;
        Ok(true)
    }

    /// Empties a group of tables although its pages may be damaged: none of them is read. For the owner of rows that can be
    /// had again, from a replica or a log. To be called before anything else is done in the transaction, which then may
    /// fill the group anew. Gives back the number of pages given up.
    ///
    /// Costs a checkpoint, which stays if the transaction is aborted, and a read of every page of the other groups and of
    /// savepoints.
    ///
    /// # Errors
    ///
    /// If a page of another group, of a savepoint or of the free-space map is damaged: then nothing tells which pages are
    /// in use. If the transaction has touched a table, or the checkpoint fails. Nothing is changed then.
    ///
    /// ```
    /// # use folio_store::{Database, Group, Table};
    /// # struct Derived;
    /// # impl Table for Derived {
    /// #     const NAME: &'static str = "derived";
    /// #     type Key = u64;
    /// #     type Value = u64;
    /// # }
    /// let db = Database::in_memory()?;
    /// let txn = db.begin_write()?;
    /// txn.table::<Derived>()?.insert(1, 2)?;
    /// txn.commit()?;
    ///
    /// let txn = db.begin_write()?;
    /// assert!(txn.discard_group(Group::DEFAULT)? > 0);
    /// txn.table::<Derived>()?.insert(3, 4)?;
    /// txn.commit()?;
    /// assert_eq!(db.begin_read()?.table::<Derived>()?.len()?, 1);
    /// # Ok::<(), folio_store::Error>(())
    /// ```
    pub fn discard_group(&self, group: Group) -> Result<u64> {
        self.core.lock().discard_group(group)
    }

    /// Gives a table another name, in constant time.
    ///
    /// # Errors
    ///
    /// If there is no such table, its types differ, a handle to it is alive, or there is a table of the new name.
    pub fn rename_table(&self, table: &TableDefinition, name: &str) -> Result<()> {
        let mut core = self.core.lock();
        let taken = core.group_of(name, GroupSet::ALL)?;
        if taken.is_some() && name != table.name {
            return Err(Error::TableExists { table: name.into() });
        }
        core.replace_table(table, &table.renamed(name))
    }

    /// Gives the rows of table `from` to table `to`, which is made if there is none, and `from` ceases to exist. Takes
    /// constant time but for the rows that `to` had, which are deleted as by [`delete_table`](Self::delete_table).
    ///
    /// # Errors
    ///
    /// If there is no table `from`, the types or groups differ, a handle to one of them is alive, or the old rows cannot
    /// be given up.
    pub fn replace_table(&self, from: &TableDefinition, to: &TableDefinition) -> Result<()> {
        self.core.lock().replace_table(from, to)
    }

    /// Publishes the transaction and, with [`Durability::Immediate`], waits until it is durable. Gives back its number.
    /// Views that begin from the publication on see it. One that changed nothing costs nothing.
    ///
    /// # Errors
    ///
    /// If the transaction is poisoned or the handle has stopped writing, nothing is published. If the flush fails, the
    /// transaction is published and may or may not be durable; the handle stops writing.
    pub fn commit(self) -> Result<u64> {
        let durability = self.durability;
        let ticket = self.commit_with_ticket()?;
        if durability == Durability::Immediate {
            ticket.wait()?;
        }
        Ok(ticket.number())
    }

    /// Publishes the transaction without waiting, whatever its durability; the ticket tells when it is durable. Nothing
    /// makes it durable but a flush of its groups: by [`Ticket::wait`], another commit, or a checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit) before the flush.
    pub fn commit_with_ticket(mut self) -> Result<Ticket> {
        let core = self.core.get_mut();
        let engine = core.workspace.engine.clone();
        let transaction = core.workspace.transaction;
        let groups = core.finish()?;
        Ok(Ticket {
            engine,
            groups,
            transaction,
        })
    }

    /// Forgets everything the transaction did; so does dropping it.
    pub fn abort(self) {}

    pub(super) fn core_mut(&mut self) -> &mut Core {
        self.core.get_mut()
    }

    pub(super) fn root(&self, index: usize) -> TreeRoot {
        self.core.lock().tables[index].record.root
    }

    pub(super) fn let_go(&self, index: usize) {
        self.core.lock().tables[index].held = false;
    }

    pub(super) fn page_size(&self) -> usize {
        self.core.lock().workspace.page_size()
    }

    /// Changes the tree of a table. No code of the user's may run inside: it could reach the transaction.
    pub(super) fn change<R>(
        &self,
        index: usize,
        purpose: Purpose,
        change: impl FnOnce(&mut Tree<'_>) -> Result<R>,
    ) -> Result<R> {
        self.core.lock().change(index, purpose, change)
    }

    /// Calls `visit` with a page, as a `PageSource` would; the engine is reached without the lock.
    pub(super) fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        self.core.lock().workspace.visit(at, visit)
    }
}

impl Core {
    pub fn check(&self) -> Result<()> {
        let reason = match (&self.poisoned, self.busy) {
            (Some(reason), _) => reason.clone(),
            (None, true) => "it panicked".into(),
            (None, false) => return Ok(()),
        };
        Err(Error::Poisoned { reason })
    }

    /// Changes the tree of a table. If that fails half-way the transaction is good for nothing but an abort.
    fn change<R>(
        &mut self,
        index: usize,
        purpose: Purpose,
        change: impl FnOnce(&mut Tree<'_>) -> Result<R>,
    ) -> Result<R> {
        self.check()?;
        self.busy = true;
        self.workspace.purpose = match self.uses_reserve {
            true => Purpose::Removal,
            false => purpose,
        };
        let table = &mut self.tables[index];
        let result = change(&mut Tree {
            workspace: &mut self.workspace,
            root: &mut table.record.root,
            owner: usize::from(table.group.index()),
            table: table.record.number,
        });
        table.changed = true;
        self.busy = false;
        result.map_err(|error| {
            self.poisoned = Some(error.to_string().into());
            error.in_table(&self.tables[index].name)
        })
    }

    /// Moves pages of a table; its record stays as it is if none moved.
    pub fn relocate(&mut self, index: usize, relocation: &mut Relocation) -> Result<()> {
        let changed = self.tables[index].changed;
        self.change(index, Purpose::Removal, |tree| tree.relocate(relocation))?;
        self.tables[index].changed = changed || relocation.moved > 0;
        Ok(())
    }

    /// The tables of a group as of the beginning of the transaction, by name.
    pub fn tables_of(&self, group: Group) -> Result<Vec<TableDefinition>> {
        let catalog = self.groups[usize::from(group.index())];
        let tables = catalog::list(&self.workspace, catalog)?.into_iter();
        Ok(tables
            .map(|(name, record)| record.definition(name, group))
            .collect())
    }

    fn clear(&mut self, index: usize) -> Result<()> {
        let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        self.change(index, Purpose::Removal, |tree| {
            tree.remove_range(&everything)
        })
        .map(drop)
    }

    fn discard_group(&mut self, group: Group) -> Result<u64> {
        self.check()?;
        if !self.tables.is_empty() || !self.moved_catalogs.is_empty() || !self.saved.is_empty() {
            return Err(Error::Configuration(
                "a group can be discarded only before anything else is done in a transaction"
                    .into(),
            ));
        }
        let engine = self.workspace.engine.clone();
        let pages = engine.pages_of_group(group)?;
        // The checkpoint has taken a number, and this is to be a later transaction.
        self.workspace = Workspace::new(
            engine.clone(),
            engine.take_number(),
            engine.newest_savepoint(),
        );
        let index = usize::from(group.index());
        let count = pages.len();
        self.workspace.changes[index].freed = pages;
        self.groups[index] = TreeRoot::EMPTY;
        self.moved_catalogs = self.moved_catalogs.with(group);
        Ok(count)
    }

    fn replace_table(&mut self, from: &TableDefinition, to: &TableDefinition) -> Result<()> {
        let Some(source) = self.find_free(from)? else {
            return Err(Error::NoSuchTable {
                table: from.name.as_str().into(),
            });
        };
        self.tables[source].record.check(
            &self.workspace.pager().file,
            &to.renamed(from.name.as_str()),
        )?;
        if from.group != to.group {
            return Err(self.other_group(&to.name, from.group, to.group));
        }
        let target = match self.find_free(to)? {
            Some(target) if target == source => return Ok(()),
            Some(target) => target,
            None => self.create(to)?,
        };
        self.clear(target)?;
        // The number goes with the rows: it is written in their pages.
        let TableRecord { number, root, .. } = self.tables[source].record;
        let target = &mut self.tables[target];
        (target.record.number, target.record.root, target.changed) = (number, root, true);
        let source = &mut self.tables[source];
        (source.record.root, source.changed, source.deleted) = (TreeRoot::EMPTY, true, true);
        Ok(())
    }

    /// Where a table is among those touched.
    fn place(&self, name: &str, group: Group) -> Option<usize> {
        let &place = self.places[usize::from(group.index())].get(name)?;
        let open = self.tables.get(place)?;
        (open.group == group && *open.name == *name).then_some(place)
    }

    /// The place of an existing table among those touched.
    pub fn find(&mut self, table: &TableDefinition) -> Result<Option<usize>> {
        self.check()?;
        let file = self.workspace.pager().file.clone();
        if let Some(index) = self.place(&table.name, table.group) {
            if self.tables[index].deleted {
                return Ok(None);
            }
            self.tables[index].record.check(&file, table)?;
            return Ok(Some(index));
        }
        let catalog = self.groups[usize::from(table.group.index())];
        let Some(record) = catalog::find(&self.workspace, catalog, &table.name)? else {
            return Ok(None);
        };
        record.check(&file, table)?;
        Ok(Some(self.add(table, record, false)))
    }

    /// The same for a table that no handle may be open to.
    fn find_free(&mut self, table: &TableDefinition) -> Result<Option<usize>> {
        let found = self.find(table)?;
        match found.map(|index| &self.tables[index]) {
            Some(open) if open.held => Err(Error::TableInUse {
                table: open.name.clone(),
            }),
            _ => Ok(found),
        }
    }

    /// Which of some groups has a table of this name.
    fn group_of(&self, name: &str, groups: GroupSet) -> Result<Option<Group>> {
        for group in groups {
            let exists = match self.place(name, group) {
                Some(index) => !self.tables[index].deleted,
                None => {
                    let catalog = self.groups[usize::from(group.index())];
                    catalog.contains(&self.workspace, name.as_bytes())?
                }
            };
            if exists {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    fn create(&mut self, table: &TableDefinition) -> Result<usize> {
        let limit = MAX_NAME;
        if table.name.is_empty() || table.name.len() > limit {
            let length = table.name.len();
            return Err(Error::Configuration(format!(
                "a table name has 1 to {limit} bytes, and this one has {length}"
            )));
        }
        let others = GroupSet::ALL.without(table.group);
        if let Some(group) = self.group_of(&table.name, others)? {
            return Err(self.other_group(&table.name, group, table.group));
        }
        let number = self.next_table;
        if catalog::group_of(number).is_some() {
            return Err(Error::Configuration(
                "the database has used up its numbers of tables".into(),
            ));
        }
        self.next_table = number + 1;
        let record = TableRecord::new(number, table);
        // Known by that name, and not found: it was deleted.
        match self.place(&table.name, table.group) {
            Some(index) => {
                let open = &mut self.tables[index];
                (open.record, open.changed, open.deleted) = (record, true, false);
                Ok(index)
            }
            None => Ok(self.add(table, record, true)),
        }
    }

    fn add(&mut self, table: &TableDefinition, record: TableRecord, changed: bool) -> usize {
        let name: Arc<str> = table.name.as_str().into();
        self.places[usize::from(table.group.index())].insert(name.clone(), self.tables.len());
        self.tables.push(OpenTable {
            name,
            group: table.group,
            record,
            changed,
            deleted: false,
            held: false,
        });
        self.tables.len() - 1
    }

    fn other_group(&self, name: &str, found: Group, wanted: Group) -> Error {
        Error::TableTypes {
            file: self.workspace.pager().file.clone(),
            table: name.into(),
            found: format!("its rows in group {found}"),
            wanted: format!("group {wanted}"),
        }
    }

    /// Writes the catalogs and publishes. Gives back the groups that changed.
    fn finish(&mut self) -> Result<GroupSet> {
        self.check()?;
        let engine = self.workspace.engine.clone();
        let mut changed = self.moved_catalogs;
        self.busy = true;
        self.workspace.purpose = Purpose::Removal;
        for table in self.tables.iter().filter(|table| table.changed) {
            changed = changed.with(table.group);
            let index = usize::from(table.group.index());
            let mut catalog = Tree {
                workspace: &mut self.workspace,
                root: &mut self.groups[index],
                owner: index,
                table: catalog::number_of(table.group),
            };
            if table.deleted {
                catalog.remove(table.name.as_bytes())?;
            } else {
                catalog.insert(table.name.as_bytes(), &table.record.encode())?;
            }
        }
        self.busy = false;
        if changed.is_empty() {
            // Pages may have been taken before it went back to a savepoint.
            engine.abort(&mut self.workspace);
        } else {
            engine.publish(&mut self.workspace, self.groups, changed, self.next_table)?;
        }
        self.finished = true;
        Ok(changed)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let engine = self.workspace.engine.clone();
        if !self.finished {
            engine.abort(&mut self.workspace);
        }
    }
}

impl std::fmt::Debug for WriteTransaction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WriteTransaction")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// Where a table handle reads its pages.
#[derive(Clone, Copy)]
pub(super) enum Source<'t> {
    View(&'t Engine),
    Writer(&'t WriteTransaction, &'t Engine),
}

impl<'t> Source<'t> {
    pub fn of_writer(transaction: &'t WriteTransaction) -> Self {
        Self::Writer(transaction, transaction.gate.engine())
    }
}

impl PageSource for Source<'_> {
    fn pager(&self) -> &Pager {
        match self {
            Self::View(engine) | Self::Writer(_, engine) => &engine.pager,
        }
    }

    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        match self {
            Self::View(engine) => engine.pager.visit(at, visit),
            Self::Writer(transaction, _) => transaction.visit(at, visit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;

    #[test]
    fn tables_are_numbered_up_to_the_first_number_of_a_catalog() {
        let db = Database::in_memory().expect("created");
        let named = |name: &str| TableDefinition {
            name: name.into(),
            group: Group::DEFAULT,
            key_type: "bytes".into(),
            value_type: "bytes".into(),
        };
        let txn = db.begin_write().expect("begun");
        assert_eq!(txn.core.lock().next_table, 1, "2^32 - 17 numbers in all");
        txn.core.lock().next_table = u32::MAX - Group::COUNT as u32;
        let mut last = txn.untyped(&named("last")).expect("numbered");
        last.insert(b"key".as_slice(), b"value".as_slice())
            .expect("inserted");
        drop(last);
        let refused = txn.untyped(&named("one more")).expect_err("no number");
        assert!(matches!(refused, Error::Configuration(_)), "{refused}");
        txn.commit().expect("committed");

        let txn = db.begin_write().expect("begun");
        txn.delete_table(&named("last")).expect("deleted");
        let refused = txn.untyped(&named("one more")).expect_err("no number");
        assert!(matches!(refused, Error::Configuration(_)), "{refused}");
        txn.commit().expect("committed");
        assert_eq!(db.verify(|_, _| {}).expect("verified").problems, []);
    }
}
