//! Making states durable: one flush at a time, one `fdatasync` each.
//!
//! A flush writes the new pages of its groups, the space tree's if it changed, the manifest if it is long, then the slot
//! beside the twin of the slot before; then it syncs once; then it writes the acknowledgement. The order in which the
//! writes before the sync reach the disk does not matter, since the slot counts only if everything in its manifest is
//! there.

use std::sync::Arc;

use super::{
    Engine, Groups,
    elsewhere::{Elsewhere, state_of},
    pending::{Dirty, GroupChanges, Volume},
    savepoints::SavepointChange,
};
use crate::{
    bytes::{read_u32, read_u64, write_u32, write_u64},
    error::Result,
    file::{
        ACKNOWLEDGEMENT_PAGE, Acknowledgement, MANIFEST_ENTRY_SIZE, MAX_SPACE_CHANGES, Slot,
        inline_manifest_limit, slot_page,
    },
    page::{HEADER, PageBytes, PageKind, PageRef, write_header},
    pager::{Counters, Pager},
    space::{DurableSpace, Lifetime, PageSet, Purpose, Space},
    types::{Group, GroupSet},
    workspace::{SYSTEM, Workspace, Written},
};

/// How far transaction numbers may go on before a flush has to raise the ceiling.
pub(super) const CEILING_STEP: u64 = 1 << 20;

/// Pages of a manifest that are read ahead.
const READ_AHEAD: usize = 4096;

/// The most that recovery reads of a commit, in bytes.
const MOST_LISTED_BYTES: usize = 4 << 20;

const MANIFEST_ENTRIES: usize = HEADER + 24;

/// What the flusher knows of the file.
pub(crate) struct Flusher {
    /// The newest durable slot.
    pub slot: Slot,
    pub slot_bytes: Vec<u8>,
    /// Whether this handle has made a slot of its own durable. Until then the ceiling is that of an earlier handle, whose
    /// numbers may be on the disk.
    pub begun: bool,
    /// Pages of the manifest of that slot: needed until the next slot is durable.
    pub manifest_pages: PageSet,
    /// Later than any sequence number seen in the file.
    pub next_sequence: u64,
    /// The features that the header names, durably.
    pub features: u64,
    pub elsewhere: Elsewhere,
}

impl Flusher {
    /// A slot for the state of the newest one, which vouches for no page.
    pub fn next_slot(&self, number: u64) -> Slot {
        Slot {
            sequence: self.next_sequence,
            transaction: number,
            digest: digest(&[]),
            manifest_entries: 0,
            manifest_page: PageRef::NONE,
            manifest: Vec::new(),
            ..self.slot.clone()
        }
    }
}

/// What a flush is for.
#[derive(Clone, Copy)]
pub(super) enum FlushKind<'f> {
    Ordinary,
    /// The last one: marks that no later transaction number is in the file.
    Last,
    /// Before the file is cut: moves the space tree below a page, and all changes into it.
    Settling {
        bound: u64,
    },
    /// Makes or ends savepoints.
    Savepoints(&'f SavepointChange),
}

/// What a flush has written before its slot.
struct Content {
    /// Every page that the slot has to vouch for.
    manifest: Vec<(u64, Written)>,
    /// The first page of the manifest, and all of them; none if it is short.
    manifest_page: PageRef,
    manifest_pages: PageSet,
    /// The manifest as the slot carries it; empty if it has pages of its own.
    inline: Vec<(u64, u32)>,
}

/// What a flush takes from the commits.
struct Captured {
    groups: GroupSet,
    transaction: u64,
    roots: Groups,
    next_table: u32,
    changes: Vec<(Group, GroupChanges)>,
    /// Where the file stood before.
    before: u64,
}

impl Captured {
    /// Whether a slot shows all of it. A change without pages shows in the roots alone: a table goes, and a savepoint keeps
    /// its pages.
    fn is_durable(&self, slot: &Slot) -> bool {
        let mut changes = self.changes.iter();
        changes.all(|(group, changes)| {
            let index = usize::from(group.index());
            let (root, durable) = (self.roots[index], &slot.groups[index]);
            changes.is_empty() && (root.at, root.rows) == (durable.catalog, durable.tables)
        })
    }
}

impl Engine {
    /// Makes the newest state of `wanted`, and of the groups tied to them, durable. Stops all writing if it fails.
    pub(super) fn flush(self: &Arc<Self>, wanted: GroupSet) -> Result<()> {
        let mut flusher = self.flusher.lock();
        // Closing takes everything published before it, so whoever finds the handle closed here has nothing to add.
        self.check_writable()?;
        self.flush_locked(&mut flusher, wanted, FlushKind::Ordinary)
            .inspect_err(|failure| self.durability.latch(failure))
    }

    /// The last flush: everything, and the mark that no later transaction number is in the file.
    pub(super) fn flush_last(self: &Arc<Self>) -> Result<()> {
        let mut flusher = self.flusher.lock();
        self.durability.check(&self.pager.file)?;
        let untouched = !flusher.begun
            && self
                .pending
                .lock()
                .groups
                .iter()
                .all(GroupChanges::is_empty);
        if untouched {
            return Ok(());
        }
        self.flush_locked(&mut flusher, GroupSet::ALL, FlushKind::Last)
            .and_then(|()| {
                let page = crate::file::twin_page(flusher.slot.sequence);
                self.write(page, &flusher.slot_bytes, "write the twin of the last slot")
            })
            // Behind what a slot describes there is nothing but room to grow.
            .and_then(|()| self.space.lock().cut(flusher.slot.length, &self.pager))
            .inspect_err(|failure| self.durability.latch(failure))
    }

    /// Makes sure that pages of this transaction may be on disk: raises the ceiling durably where it is too low. The
    /// first write of every handle comes through here.
    pub(super) fn permit(&self, flusher: &mut Flusher, transaction: u64) -> Result<()> {
        if flusher.begun && transaction <= flusher.slot.ceiling {
            return Ok(());
        }
        let number = self.take_number();
        let slot = Slot {
            ceiling: number.max(transaction) + CEILING_STEP,
            ..flusher.next_slot(number)
        };
        self.write_slot(flusher, slot, PageSet::default())?;
        flusher.begun = true;
        Ok(())
    }

    pub(super) fn flush_locked(
        self: &Arc<Self>,
        flusher: &mut Flusher,
        wanted: GroupSet,
        kind: FlushKind<'_>,
    ) -> Result<()> {
        let span = tracing::debug_span!("flush", groups = ?wanted);
        let _span = span.enter();
        let captured = self.capture(wanted, state_of(&flusher.slot));
        if matches!(kind, FlushKind::Ordinary) && captured.is_durable(&flusher.slot) {
            self.durability
                .advance(captured.groups, captured.transaction);
            return Ok(());
        }
        self.permit(flusher, 0)?;
        let number = self.take_number();
        self.permit(flusher, number)?;

        let mut workspace = Workspace::for_flush(self.clone(), number);
        let mut space = self.space.lock().durable.clone();
        for (_, changes) in &captured.changes {
            space.change(&changes.born, &changes.freed);
        }
        match kind {
            FlushKind::Settling { bound } => {
                let length = self.space.lock().lower_length(&self.pager)?;
                space.settle(bound, length, &mut workspace)?;
            }
            FlushKind::Savepoints(change) => {
                space.change(&PageSet::default(), &change.released);
                let added = change.added.as_ref();
                space.change_savepoints(added, &change.removed, &mut workspace)?;
                space.fold(MAX_SPACE_CHANGES, &mut workspace)?;
            }
            FlushKind::Ordinary | FlushKind::Last => {
                space.fold(MAX_SPACE_CHANGES, &mut workspace)?;
            }
        }
        if flusher.elsewhere.seen_any {
            // No view of this handle reads the space tree, but readers elsewhere do.
            let born = &workspace.changes[SYSTEM].born;
            let mut pending = self.pending.lock();
            pending.publish(born, captured.transaction, &self.published.lock().views);
        }
        let content = self.write_content(&captured, &mut workspace, space.changes.len())?;

        let mut groups = flusher.slot.groups;
        for group in captured.groups {
            let index = usize::from(group.index());
            let catalog = captured.roots[index];
            groups[index] = crate::file::GroupRoot {
                catalog: catalog.at,
                tables: catalog.rows,
                transaction: captured.transaction,
            };
        }
        let slot = Slot {
            sequence: flusher.next_sequence,
            transaction: number.max(flusher.slot.transaction),
            ceiling: if matches!(kind, FlushKind::Last) {
                number.max(flusher.slot.transaction)
            } else {
                flusher.slot.ceiling
            },
            length: self.space.lock().length(),
            used: space.used,
            space_root: space.tree.at,
            space_rows: space.tree.rows,
            digest: digest(&content.manifest),
            manifest_entries: content.manifest.len() as u64,
            manifest_page: content.manifest_page,
            next_table: captured.next_table,
            groups,
            space_changes: space.slot_changes(),
            manifest: content.inline,
        };
        self.write_slot(flusher, slot, content.manifest_pages)?;
        if let FlushKind::Savepoints(change) = kind {
            // Views up to now may have them: of a savepoint, or of a state after it.
            let mut pending = self.pending.lock();
            pending.wait_for_views(number, &change.released);
        }
        self.finish(captured, space, workspace, flusher.elsewhere.seen_any)
    }

    /// Takes what the commits have left for these groups, all at one transaction.
    fn capture(&self, wanted: GroupSet, before: u64) -> Captured {
        let mut pending = self.pending.lock();
        let groups = pending.tied(wanted);
        let published = self.published.lock();
        for group in groups {
            pending.ties[usize::from(group.index())] = GroupSet::EMPTY;
        }
        let changes: Vec<_> = groups
            .iter()
            .map(|group| {
                (
                    group,
                    std::mem::take(&mut pending.groups[usize::from(group.index())]),
                )
            })
            .collect();
        pending.under_way = changes.iter().map(|(_, changes)| changes.volume()).sum();
        self.durability.take(groups, published.transaction);
        Captured {
            groups,
            transaction: published.transaction,
            roots: published.groups,
            next_table: published.next_table,
            changes,
            before,
        }
    }

    /// Writes all pages of a flush, and its manifest if that is too long for the slot.
    fn write_content(
        self: &Arc<Self>,
        captured: &Captured,
        workspace: &mut Workspace,
        space_changes: usize,
    ) -> Result<Content> {
        let dirty = captured
            .changes
            .iter()
            .flat_map(|(_, changes)| &changes.dirty);
        let mut pages: Vec<(PageRef, PageBytes)> = dirty
            .map(|(&page, Dirty { transaction, bytes })| {
                (
                    PageRef {
                        page,
                        transaction: *transaction,
                    },
                    bytes.clone(),
                )
            })
            .collect();
        let transaction = workspace.transaction;
        for (&page, private) in &workspace.private {
            let at = PageRef { page, transaction };
            self.pager.cache.insert(at, private.bytes.clone(), false);
            pages.push((at, private.bytes.clone()));
        }
        pages.sort_unstable_by_key(|(at, _)| *at);
        let mut manifest = self.write_pages(&pages)?;
        manifest.extend(
            captured
                .changes
                .iter()
                .flat_map(|(_, changes)| &changes.unsynced)
                .map(|(&page, &written)| (page, written)),
        );
        manifest.sort_unstable_by_key(|&(page, _)| page);

        if manifest.len() > most_listed(self.pager.page_size) {
            self.sync()?;
            manifest.clear();
        }
        let entries: Vec<(u64, u32)> = manifest
            .iter()
            .map(|&(page, written)| (page, written.checksum))
            .collect();
        if entries.len() <= inline_manifest_limit(self.pager.page_size, space_changes) {
            return Ok(Content {
                manifest,
                manifest_page: PageRef::NONE,
                manifest_pages: PageSet::default(),
                inline: entries,
            });
        }
        let (manifest_pages, manifest_page) = self.write_manifest(&entries, workspace)?;
        Ok(Content {
            manifest,
            manifest_page,
            manifest_pages,
            inline: Vec::new(),
        })
    }

    /// Writes a manifest on pages of its own, each with a reference to the next.
    fn write_manifest(
        &self,
        entries: &[(u64, u32)],
        workspace: &mut Workspace,
    ) -> Result<(PageSet, PageRef)> {
        let transaction = workspace.transaction;
        let per_page = entries_a_page(self.pager.page_size);
        let count = entries.len().div_ceil(per_page);
        let mut numbers: Vec<u64> = Vec::with_capacity(count);
        {
            let mut space = self.space.lock();
            for _ in 0..count {
                numbers.push(space.allocate(Lifetime::Short, Purpose::Flush, &self.pager)?);
            }
        }
        numbers.sort_unstable();
        let mut pages = Vec::with_capacity(count);
        for (index, part) in entries.chunks(per_page).enumerate() {
            let at = PageRef {
                page: numbers[index],
                transaction,
            };
            let next = numbers
                .get(index + 1)
                .map_or(PageRef::NONE, |&page| PageRef { page, transaction });
            let mut bytes = PageBytes::zeroed(self.pager.page_size);
            let buffer = bytes.make_mut();
            write_header(buffer, PageKind::Manifest, 0, at, 0);
            next.write(buffer, HEADER);
            write_u32(buffer, HEADER + 16, part.len() as u32);
            for (position, &(page, checksum)) in part.iter().enumerate() {
                let offset = MANIFEST_ENTRIES + position * MANIFEST_ENTRY_SIZE;
                write_u64(buffer, offset, page);
                write_u32(buffer, offset + 8, checksum);
            }
            pages.push((at, bytes));
        }
        self.write_pages(&pages)?;
        let first = PageRef {
            page: numbers[0],
            transaction,
        };
        Ok((numbers.into_iter().collect(), first))
    }

    /// Writes a slot, syncs, and acknowledges it.
    pub(super) fn write_slot(
        &self,
        flusher: &mut Flusher,
        slot: Slot,
        manifest_pages: PageSet,
    ) -> Result<()> {
        let mut bytes = slot.encode(self.pager.page_size, &self.identity);
        let own = bytes.len();
        bytes.extend_from_slice(&flusher.slot_bytes);
        self.write(slot_page(slot.sequence), &bytes, "write a commit slot")?;
        self.sync()?;
        Counters::add(&self.pager.counters.flushes, 1);
        let acknowledgement = Acknowledgement {
            sequence: slot.sequence,
            transaction: slot.transaction,
        };
        self.write(
            ACKNOWLEDGEMENT_PAGE,
            &acknowledgement.encode(&self.identity),
            "write the acknowledgement",
        )?;

        bytes.truncate(own);
        flusher.slot_bytes = bytes;
        flusher.next_sequence = slot.sequence + 1;
        flusher.slot = slot;
        let unneeded = std::mem::replace(&mut flusher.manifest_pages, manifest_pages);
        self.look_elsewhere(flusher)?;
        if self.is_pinned() {
            // Somebody may be choosing the commit before; its manifest is given up with a later flush.
            flusher.manifest_pages.union(&unneeded);
            return Ok(());
        }
        self.release(&unneeded)
    }

    /// After the sync: tells those who wait, and frees what only the state before needed.
    fn finish(
        &self,
        captured: Captured,
        space: DurableSpace,
        mut workspace: Workspace,
        read_elsewhere: bool,
    ) -> Result<()> {
        let replaced = std::mem::take(&mut workspace.changes[SYSTEM].freed);
        let unused = workspace.take_unused();
        let pinned = self.is_pinned() || read_elsewhere;
        // A reader elsewhere needs what this flush gave up although nothing was published since the flush before.
        let given_up = match read_elsewhere {
            true => captured.transaction.max(captured.before + 1),
            false => captured.transaction,
        };
        {
            let mut current = self.space.lock();
            current.durable = space;
            current.release(&unused, &self.pager)?;
            // A verification walks the free-space map as well, and so does it elsewhere.
            if !pinned {
                current.release(&replaced, &self.pager)?;
            }
        }
        let mut pending = self.pending.lock();
        pending.under_way = Volume::default();
        for (_, changes) in &captured.changes {
            for (&page, dirty) in &changes.dirty {
                self.pager.cache.mark_clean(PageRef {
                    page,
                    transaction: dirty.transaction,
                });
            }
            pending.wait_for_views(given_up, &changes.freed);
        }
        if pinned {
            pending.wait_for_views(given_up, &replaced);
        }
        drop(pending);
        self.release_waiting()?;
        self.durability
            .advance(captured.groups, captured.transaction);
        Ok(())
    }
}

/// Recovery reads every page that a manifest lists. Of a flush that writes more than this, the pages are made durable
/// before their slot, and the manifest is empty: one sync more, beside megabytes of writes, and opening stays short.
fn most_listed(page_size: usize) -> usize {
    MOST_LISTED_BYTES / page_size
}

/// How many pages of a file one page of a manifest names.
fn entries_a_page(page_size: usize) -> usize {
    (page_size - MANIFEST_ENTRIES) / MANIFEST_ENTRY_SIZE
}

/// The free pages that flushes of this volume may need for themselves.
pub(super) fn flush_needs(page_size: usize, volume: Volume, space: &Space) -> u64 {
    let changed = volume.changed + space.durable.changes.len() as u64;
    let folded = match changed <= MAX_SPACE_CHANGES as u64 {
        true => 0,
        false => space.fold_needs(changed),
    };
    let listed = (volume.written + folded).min(most_listed(page_size) as u64);
    let manifest = match listed <= inline_manifest_limit(page_size, MAX_SPACE_CHANGES) as u64 {
        true => 0,
        false => listed.div_ceil(entries_a_page(page_size) as u64),
    };
    // The manifest before is needed until this one is durable.
    folded + 2 * manifest
}

/// The digest that a slot carries over the pages of its manifest and their contents.
pub(crate) fn digest(manifest: &[(u64, Written)]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    for (page, written) in manifest {
        hasher.update(&page.to_le_bytes());
        hasher.update(&written.checksum.to_le_bytes());
        hasher.update(&written.hash.to_le_bytes());
    }
    hasher.digest128()
}

/// A manifest as the file holds it, and the pages that it takes itself.
struct StoredManifest {
    entries: Vec<(u64, u32)>,
    pages: PageSet,
}

/// Reads the manifest of a slot.
fn read_manifest(pager: &Pager, slot: &Slot, past_cache: bool) -> Result<StoredManifest> {
    if slot.manifest_page.is_none() {
        return Ok(StoredManifest {
            entries: slot.manifest.clone(),
            pages: PageSet::default(),
        });
    }
    let per_page = entries_a_page(pager.page_size);
    let mut stored = StoredManifest {
        entries: Vec::new(),
        pages: PageSet::default(),
    };
    let mut at = slot.manifest_page;
    while !at.is_none() {
        let bytes = read_to_decide(pager, at.page, past_cache)?;
        pager
            .sealer
            .check(&bytes, at)
            .map_err(|fault| pager.corrupted(at.page, fault))?;
        let count = read_u32(&bytes, HEADER + 16) as usize;
        if PageKind::of(&bytes) != Some(PageKind::Manifest)
            || count > per_page
            || stored.pages.contains(at.page)
        {
            return Err(pager.corrupted(at.page, "is not the manifest page it should be"));
        }
        let offsets = (0..count).map(|position| MANIFEST_ENTRIES + position * MANIFEST_ENTRY_SIZE);
        stored
            .entries
            .extend(offsets.map(|offset| (read_u64(&bytes, offset), read_u32(&bytes, offset + 8))));
        stored.pages.insert(at.page);
        at = PageRef::read(&bytes, HEADER);
    }
    Ok(stored)
}

/// Reads a page on which it depends whether a commit is whole; with `past_cache` what the device has, not what the
/// system remembers.
fn read_to_decide(pager: &Pager, page: u64, past_cache: bool) -> Result<PageBytes> {
    if past_cache {
        pager.forget_cached(page, 1)?;
    }
    pager.read_raw(page)
}

/// Prepares for reading these pages, which are in the order of their numbers. They lie all over the file, and one read
/// after the other would take the time of all of them.
pub(super) fn announce(
    pager: &Pager,
    entries: &[(u64, u32)],
    length: u64,
    past_cache: bool,
) -> Result<()> {
    // The numbers come from the file and may be any.
    let runs = || {
        let neighbours =
            entries.chunk_by(|(left, _), (right, _)| left.checked_add(1) == Some(*right));
        neighbours.filter(|run| run.iter().all(|&(page, _)| page < length))
    };
    if past_cache {
        runs().try_for_each(|run| pager.forget_cached(run[0].0, run.len() as u64))?;
    }
    runs().try_for_each(|run| pager.will_read(run[0].0, run.len() as u64))
}

/// Checks that every page of a slot's manifest is on disk as the flush wrote it; gives back the pages that the manifest
/// takes itself. The commit is not whole if the error is about damage. After any other nobody knows.
pub(crate) fn verify_manifest(pager: &Pager, slot: &Slot, past_cache: bool) -> Result<PageSet> {
    let stored = read_manifest(pager, slot, past_cache)?;
    let damaged = |fault: String| pager.corrupted(slot_page(slot.sequence), fault);
    if stored.entries.len() as u64 != slot.manifest_entries {
        return Err(damaged(format!(
            "the manifest lists {} pages and the slot {}",
            stored.entries.len(),
            slot.manifest_entries
        )));
    }
    let mut manifest = Vec::with_capacity(stored.entries.len());
    for (index, &(page, expected)) in stored.entries.iter().enumerate() {
        if index.is_multiple_of(READ_AHEAD) {
            let soon = &stored.entries[index..stored.entries.len().min(index + READ_AHEAD)];
            announce(pager, soon, slot.length, past_cache)?;
        }
        let bytes = pager.read_raw(page)?;
        match pager.sealer.verify(&bytes) {
            Some(checksum) if checksum == expected => {
                manifest.push((
                    page,
                    Written {
                        checksum,
                        hash: xxhash_rust::xxh3::xxh3_128(&bytes),
                    },
                ));
            }
            _ => return Err(pager.corrupted(page, "is missing, torn or damaged")),
        }
    }
    if digest(&manifest) != slot.digest {
        return Err(damaged(
            "the digest of the commit's pages does not match".into(),
        ));
    }
    Ok(stored.pages)
}
