//! Creating a file, and recovery: choosing the commit to open at. Nothing here depends on the size of the file.

use std::sync::Arc;

use super::{
    Engine, Groups, Published,
    durability::Durability,
    elsewhere::{Elsewhere, Hold, choose_beside},
    flush::{CEILING_STEP, Flusher, announce, digest, verify_manifest},
    gate::Gate,
    pending::Pending,
    verify::PIN,
};
use crate::{
    cache::PageCache,
    error::{Error, Result},
    file::{
        ACKNOWLEDGEMENT_PAGE, Acknowledgement, FIXED_PAGES, FORMAT, Header, HeaderFault,
        LOSS_ACCEPTED, SAVEPOINTS, SECTOR, Slot, slot_page, twin_page,
    },
    page::{PAGE_SIZES, Sealer},
    pager::{Counters, Pager},
    space::{DurableSpace, PageSet, Space, read_savepoints},
    storage::Storage,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    tree::TreeRoot,
};

/// Pages written when a file is created.
const FIRST_PAGES: u64 = 64;

/// How much of the cache pages may take that the file does not hold: those of the running transaction, and those that wait
/// for a flush.
const UNWRITTEN_SHARE: (usize, usize) = (7, 8);

/// How many times the pages of the cache may have been written early and not synced. Remembering one takes about a
/// hundredth of its size.
const UNSYNCED_SHARE: usize = 4;
const FEWEST_UNSYNCED: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenMode {
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenOptions {
    pub cache_size: usize,
    /// The page size of a new file; of an existing one, the size that it must have, if one was asked for.
    pub page_size: Option<usize>,
    pub accept_loss: bool,
    /// The least and the most by which the file grows at a time, in bytes.
    pub growth: (u64, u64),
    /// What commits do unless their transaction says otherwise.
    pub durability: crate::transaction::Durability,
}

/// The file grows by a quarter of its length, within these bounds, in bytes.
pub(crate) const GROWTH: (u64, u64) = (256 * 1024, 64 * 1024 * 1024);

const DEFAULT_PAGE_SIZE: usize = 4096;

/// Whether a storage holds nothing, or no more than a creation that was interrupted before it wrote the header: the
/// first slot with its twin and the acknowledgement. A database that was written to has more, if its header is lost.
pub(crate) fn is_blank(storage: &dyn Storage) -> std::io::Result<bool> {
    let length = storage.len()?;
    if length > FIRST_PAGES * *PAGE_SIZES.end() as u64 {
        return Ok(false);
    }
    let mut header = [0; Header::LENGTH];
    let known = header.len().min(length as usize);
    storage.read_at(0, &mut header[..known])?;
    if header.iter().any(|&byte| byte != 0) {
        return Ok(false);
    }
    let mut bytes = vec![0; length as usize];
    storage.read_at(0, &mut bytes)?;
    let written = [slot_page(0), twin_page(0), ACKNOWLEDGEMENT_PAGE];
    let untouched = |page_size: usize| {
        bytes
            .chunks(page_size)
            .zip(0..)
            .all(|(page, number)| written.contains(&number) || page.iter().all(|&byte| byte == 0))
    };
    let sizes = PAGE_SIZES.filter(|size| size.is_power_of_two());
    Ok(sizes.into_iter().any(untouched))
}

impl Engine {
    /// Makes an empty database in an empty storage, durably.
    pub fn create(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Arc<Self>> {
        let page_size = options.page_size.unwrap_or(DEFAULT_PAGE_SIZE);
        let header = Header::new(page_size);
        let pager = pager(storage, &header, options);
        let write = |page: u64, bytes: &[u8]| {
            pager
                .storage
                .write_at(page * page_size as u64, &[std::io::IoSlice::new(bytes)])
                .map_err(|error| pager.io_error("create the file", error))
        };
        let sync = || {
            pager
                .storage
                .sync()
                .map_err(|error| pager.io_error("sync the new file", error))
        };
        pager
            .storage
            .grow(0, FIRST_PAGES * page_size as u64)
            .map_err(|error| pager.io_error("create the file", error))?;
        let slot = Slot {
            digest: digest(&[]),
            ..Slot::first(0)
        };
        let slot_bytes = slot.encode(page_size, &header.identity);
        write(slot_page(0), &slot_bytes)?;
        write(twin_page(0), &slot_bytes)?;
        let acknowledgement = Acknowledgement {
            sequence: 0,
            transaction: 0,
        };
        write(
            ACKNOWLEDGEMENT_PAGE,
            &acknowledgement.encode(&header.identity),
        )?;
        sync()?;
        // Last, so that a file with a header is a whole database.
        write(0, &header.encode())?;
        sync()?;
        let recovered = Recovered {
            slot,
            slot_bytes,
            manifest_pages: PageSet::default(),
            next_sequence: 1,
            next_transaction: 1,
            pin: None,
            loss_accepted: false,
        };
        Self::assemble(pager, header, recovered, OpenMode::ReadWrite, options)
    }

    /// Opens an existing database at its newest whole commit.
    pub fn open(
        storage: Arc<dyn Storage>,
        mode: OpenMode,
        options: OpenOptions,
    ) -> Result<Arc<Self>> {
        let span = tracing::info_span!("open", file = storage.name());
        let _span = span.enter();
        let header = read_header(&*storage, options.page_size)?;
        let pager = Pager {
            read_only: mode == OpenMode::ReadOnly,
            ..pager(storage, &header, options)
        };
        let recovered = match mode {
            OpenMode::ReadWrite => recover(&pager, &header, options.accept_loss)?,
            OpenMode::ReadOnly => choose_beside(&pager, &header, options.accept_loss)?,
        };
        // Again: a writer beside a reader may have named a feature meanwhile, before the commit that was chosen; or it was
        // named by a write that never reached the disk.
        let mut header = read_again(&pager, &header)?;
        if recovered.loss_accepted && mode == OpenMode::ReadWrite {
            // Before anything is committed on top: from then on nothing else in the file would tell.
            header.marks |= LOSS_ACCEPTED;
            write_header(&pager, &header)?;
        }
        tracing::debug!(transaction = recovered.slot.transaction, "recovered");
        Self::assemble(pager, header, recovered, mode, options)
    }

    fn assemble(
        pager: Pager,
        header: Header,
        recovered: Recovered,
        mode: OpenMode,
        options: OpenOptions,
    ) -> Result<Arc<Self>> {
        let Recovered {
            slot,
            slot_bytes,
            manifest_pages,
            next_sequence,
            next_transaction,
            pin,
            loss_accepted: _,
        } = recovered;
        let length = pager
            .storage
            .len()
            .map_err(|error| pager.io_error("find the length", error))?;
        let physical = length / pager.page_size as u64;
        let mut space = Space::new(
            DurableSpace::from_slot(&slot),
            slot.length,
            physical.max(slot.length),
            options.growth,
        );
        let pinned = space.pin(&manifest_pages, &pager);
        let savepoints = match header.features & SAVEPOINTS {
            0 => Ok(Vec::new()),
            _ => match read_savepoints(&pager, space.durable.tree) {
                Err(failure) if !failure.is_corruption() => return Err(failure),
                found => found,
            },
        };
        let elsewhere = match mode {
            OpenMode::ReadOnly => Elsewhere::reading(pin),
            OpenMode::ReadWrite => {
                let (elsewhere, earlier) = Elsewhere::watch(&pager, &slot);
                if earlier {
                    // What they need and this commit does not is not known, but it is among what is free.
                    space.withhold_free();
                }
                elsewhere
            }
        };
        let groups: Groups = slot.groups.map(|group| TreeRoot {
            at: group.catalog,
            rows: group.tables,
        });
        // Not 0, under which pins are registered among the views.
        let newest = slot.transaction.max(PIN + 1);
        let published = Published {
            transaction: newest,
            groups,
            next_table: slot.next_table,
            views: std::collections::BTreeMap::new(),
            since: std::collections::BTreeMap::new(),
            elsewhere: std::collections::BTreeMap::new(),
        };
        let pages = pager.cache.limit();
        let durability = Durability::new(newest);
        for failure in [pinned.err(), savepoints.as_ref().err().cloned()] {
            // The free-space map or the list of savepoints is damaged: reading goes on, writing would not be safe.
            failure.inspect(|failure| durability.latch(failure));
        }
        space.set_savepoints(savepoints.as_ref().map_or(0, Vec::len));
        Ok(Arc::new(Self {
            space: Mutex::new(space),
            identity: header.identity,
            marks: AtomicU64::new(header.marks),
            published: Mutex::new(published),
            savepoints: Mutex::new(savepoints),
            pending: Mutex::new(Pending::new()),
            flusher: Mutex::new(Flusher {
                slot,
                slot_bytes,
                begun: false,
                manifest_pages,
                next_sequence,
                features: header.features,
                elsewhere,
            }),
            durability,
            gate: Gate::default(),
            next_transaction: AtomicU64::new(next_transaction.max(newest + 1)),
            unwritten_limit: pages * UNWRITTEN_SHARE.0 / UNWRITTEN_SHARE.1,
            unsynced_limit: (pages * UNSYNCED_SHARE).max(FEWEST_UNSYNCED),
            default_durability: options.durability,
            read_only: mode == OpenMode::ReadOnly,
            closed: AtomicBool::new(false),
            pager,
        }))
    }
}

pub(crate) fn pager(storage: Arc<dyn Storage>, header: &Header, options: OpenOptions) -> Pager {
    Pager {
        file: storage.name().into(),
        storage,
        page_size: header.page_size,
        sealer: Sealer::new(&header.identity),
        cache: PageCache::new(options.cache_size, header.page_size),
        counters: Counters::default(),
        read_only: false,
    }
}

pub(crate) fn read_header(storage: &dyn Storage, page_size: Option<usize>) -> Result<Header> {
    let file: Arc<str> = storage.name().into();
    let mut bytes = [0; Header::LENGTH];
    storage
        .read_at(0, &mut bytes)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::NotADatabase {
                file: file.clone(),
                reason: "it is shorter than a header; if its creation was interrupted, delete it"
                    .into(),
            },
            _ => Error::Io {
                file: file.clone(),
                operation: "read the header",
                source: Arc::new(error),
            },
        })?;
    let header = Header::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::NotADatabase(reason) => Error::NotADatabase {
            file: file.clone(),
            reason,
        },
        HeaderFault::Newer(found) => Error::NewerFormat {
            file: file.clone(),
            found,
            supported: FORMAT,
        },
    })?;
    match page_size {
        Some(wanted) if wanted != header.page_size => Err(Error::PageSize {
            file,
            found: header.page_size,
            wanted,
        }),
        _ => Ok(header),
    }
}

/// The commit to open at.
pub(super) struct Recovered {
    pub slot: Slot,
    slot_bytes: Vec<u8>,
    manifest_pages: PageSet,
    next_sequence: u64,
    next_transaction: u64,
    /// What keeps its pages, if this handle only reads.
    pub pin: Option<Hold>,
    /// Whether a commit is missing that was acknowledged as durable, or may have been.
    loss_accepted: bool,
}

/// Chooses the newest commit that is whole, and refuses if an acknowledged one is missing.
fn recover(pager: &Pager, header: &Header, accept_loss: bool) -> Result<Recovered> {
    let span = tracing::debug_span!("recovery");
    let _span = span.enter();
    let fixed = Fixed::read(pager, header)?.durable(pager, header)?;
    let (recovered, passed_over) = fixed.choose(pager, header, accept_loss)?;
    if !passed_over.is_empty() {
        strike_out(pager, &passed_over)?;
    }
    Ok(recovered)
}

/// What the fixed pages say.
pub(super) struct Fixed {
    pub acknowledgement: Option<Acknowledgement>,
    slots: Slots,
    /// The length of the file, in bytes.
    length: u64,
    /// Whether it was read from the device, and the rest is to be.
    past_cache: bool,
    /// The commit of which all pages are on their way from the device.
    announced: Option<Slot>,
}

impl Fixed {
    /// Reads the acknowledgement first: a commit that it names has its slot, until that of the one after the next is
    /// written.
    pub fn read(pager: &Pager, header: &Header) -> Result<Self> {
        let acknowledgement = read_acknowledgement(pager, header)?;
        let slots = read_slots(pager, header)?;
        let length = pager
            .storage
            .len()
            .map_err(|error| pager.io_error("find the length", error))?;
        let least = FIXED_PAGES * pager.page_size as u64;
        if length < least {
            return Err(truncated(pager, least, length));
        }
        Ok(Self {
            acknowledgement,
            slots,
            length,
            past_cache: false,
            announced: None,
        })
    }

    /// Makes sure that what is read is on the disk, unless the file was closed in order.
    pub fn durable(self, pager: &Pager, header: &Header) -> Result<Self> {
        // The acknowledgement is written after the sync of the last slot succeeded; the slot alone may be in the system's
        // memory only. So may all of a new file.
        let closed_in_order = self.slots.whole.first().is_some_and(|slot| {
            slot.sequence > 0
                && slot.ceiling == slot.transaction
                && (self.acknowledgement).is_some_and(|last| last.sequence == slot.sequence)
        });
        if closed_in_order {
            return Ok(self);
        }
        // What an earlier process wrote and did not sync may be in the system's memory only. It is made durable before
        // it is shown to anybody; and if an earlier sync failed, the system's memory shows what the disk does not have.
        pager
            .storage
            .sync()
            .map_err(|error| pager.io_error("sync before recovery", error))?;
        Counters::add(&pager.counters.syncs, 1);
        // The device will most likely say what the system's memory does. So all that this leads to is asked for at once: one
        // read after the other would take the time of all of them.
        let mut expected = self.slots.whole.into_iter();
        let announced = expected.next().filter(|slot| slot.manifest_page.is_none());
        pager.forget_cached(0, FIXED_PAGES)?;
        pager.will_read(0, FIXED_PAGES)?;
        if let Some(slot) = &announced {
            announce(pager, &slot.manifest, slot.length, true)?;
        }
        read_again(pager, header)?;
        Ok(Self {
            past_cache: true,
            announced,
            ..Self::read(pager, header)?
        })
    }

    /// Without slots that a writer who is at it has not acknowledged.
    pub fn up_to(mut self, newest: Acknowledgement) -> Self {
        (self.slots.whole).retain(|slot| slot.sequence <= newest.sequence);
        self
    }

    /// The newest commit that is whole, and the pages of slots that are passed over. An error if it is not the newest
    /// that was acknowledged, or may not be.
    pub fn choose(
        self,
        pager: &Pager,
        header: &Header,
        accept_loss: bool,
    ) -> Result<(Recovered, Vec<u64>)> {
        let Self {
            acknowledgement,
            slots,
            length,
            past_cache,
            announced,
        } = self;
        let Slots {
            whole: slots,
            mut faults,
            damaged,
        } = slots;
        let mut passed_over = damaged;
        let mut doubtful = !passed_over.is_empty();
        let newest_sequence = slots.first().map_or(0, |slot| slot.sequence);
        let newest_ceiling = slots.iter().map(|slot| slot.ceiling).max().unwrap_or(0);
        let promised = acknowledgement.unwrap_or_else(|| {
            tracing::warn!(file = %pager.file, "the acknowledgement page is damaged; it is written again with the next commit");
            Acknowledgement {
                sequence: 0,
                transaction: 0,
            }
        });

        let mut chosen = None;
        for slot in slots {
            let expected = slot.length.saturating_mul(pager.page_size as u64);
            if length < expected {
                if promised.sequence >= slot.sequence {
                    return Err(truncated(pager, expected, length));
                }
                // The growth of the file is as much a part of a commit as its pages.
                faults.push(format!("commit {}: the file ends before it", slot.sequence));
                passed_over.push(slot_page(slot.sequence));
                doubtful = true;
                continue;
            }
            // What was announced has been forgotten, and to forget it again would be to read it twice.
            let past_cache = past_cache && announced.as_ref() != Some(&slot);
            match verify_manifest(pager, &slot, past_cache) {
                Ok(manifest_pages) => {
                    chosen = Some((slot, manifest_pages));
                    break;
                }
                Err(error) if error.is_corruption() => {
                    faults.push(format!("commit {}: {}", slot.sequence, error.brief()));
                    passed_over.push(slot_page(slot.sequence));
                    doubtful = true;
                }
                // Not known to be torn, so an older one must not take its place.
                Err(error) => return Err(error),
            }
        }
        let Some((slot, manifest_pages)) = chosen else {
            return Err(Error::NoCommit {
                file: pager.file.clone(),
                reason: faults.join("; "),
            });
        };
        let mut loss_accepted = false;
        // A power cut leaves a torn slot but never a torn acknowledgement, which is one sector.
        if doubtful && acknowledgement.is_none() {
            if !accept_loss {
                return Err(Error::DoubtfulCommit {
                    file: pager.file.clone(),
                    found: slot.transaction,
                    reason: faults.join("; "),
                });
            }
            tracing::warn!(file = %pager.file, found = slot.transaction, "possible loss accepted");
            loss_accepted = true;
        }
        if promised.sequence > slot.sequence {
            let reason = if faults.is_empty() {
                "its slot is not in the file".into()
            } else {
                faults.join("; ")
            };
            if !accept_loss {
                return Err(Error::LostCommit {
                    file: pager.file.clone(),
                    acknowledged: promised.transaction,
                    found: slot.transaction,
                    reason,
                });
            }
            tracing::warn!(file = %pager.file, acknowledged = promised.transaction, found = slot.transaction, reason, "loss accepted");
            loss_accepted = true;
        }

        let mut next_sequence = newest_sequence.max(promised.sequence) + 1;
        if next_sequence.is_multiple_of(2) == slot.sequence.is_multiple_of(2) {
            // Never over the slot that was chosen.
            next_sequence += 1;
        }
        // Transaction numbers go on above any that a torn commit may have left behind.
        let newest_transaction = match promised.sequence > newest_sequence {
            // The lost slot may have had a higher ceiling than any that can be read.
            true => newest_ceiling.max(promised.transaction.saturating_add(CEILING_STEP)),
            false => newest_ceiling,
        };
        let next_transaction = newest_transaction + 1;
        let slot_bytes = slot.encode(pager.page_size, &header.identity);
        let recovered = Recovered {
            slot,
            slot_bytes,
            manifest_pages,
            next_sequence,
            next_transaction,
            pin: None,
            loss_accepted,
        };
        Ok((recovered, passed_over))
    }
}

/// The header as it is now, which may name more features than when it was read first.
fn read_again(pager: &Pager, header: &Header) -> Result<Header> {
    let found = read_header(&*pager.storage, None)?;
    if (found.identity, found.page_size) != (header.identity, header.page_size) {
        return Err(pager.corrupted(0, "the header is another one than it was a moment ago"));
    }
    Ok(found)
}

/// Writes the header, durably. It is within one sector, so it is there as a whole or not at all.
pub(super) fn write_header(pager: &Pager, header: &Header) -> Result<()> {
    let mut sector = [0; SECTOR];
    sector[..Header::LENGTH].copy_from_slice(&header.encode());
    pager
        .storage
        .write_at(0, &[std::io::IoSlice::new(&sector)])
        .map_err(|error| pager.io_error("write the header", error))?;
    Counters::add(&pager.counters.write_calls, 1);
    Counters::add(&pager.counters.syncs, 1);
    pager
        .storage
        .sync()
        .map_err(|error| pager.io_error("sync the header", error))
}

fn truncated(pager: &Pager, expected: u64, found: u64) -> Error {
    Error::Truncated {
        file: pager.file.clone(),
        expected,
        found,
    }
}

/// The first sector of a slot that recovery has passed over.
const STRUCK_OUT: [u8; SECTOR] = {
    let mut sector = [0; SECTOR];
    let magic = *b"FolioOut";
    let mut at = 0;
    while at < magic.len() {
        sector[at] = magic[at];
        at += 1;
    }
    sector
};

/// Makes sure, before anything is shown, that a commit which was passed over stays away. What it lacks may still come: its
/// next slot is written over it, and of that a power cut may leave just the sectors that equal the missing ones; or the
/// file grows to the length that it had. One sector is written whole or not at all, and it must be there before others.
fn strike_out(pager: &Pager, slots: &[u64]) -> Result<()> {
    for &page in slots {
        pager
            .storage
            .write_at(
                page * pager.page_size as u64,
                &[std::io::IoSlice::new(&STRUCK_OUT)],
            )
            .map_err(|error| pager.io_error("strike out a torn commit", error))?;
    }
    Counters::add(&pager.counters.write_calls, slots.len() as u64);
    Counters::add(&pager.counters.syncs, 1);
    pager
        .storage
        .sync()
        .map_err(|error| pager.io_error("sync after striking out a torn commit", error))
}

/// The commit slots of a file with their twins.
struct Slots {
    /// Those that are whole in themselves, newest first.
    whole: Vec<Slot>,
    /// What is wrong with the others.
    faults: Vec<String>,
    /// The pages of slots themselves, not only twins, that are not whole: each may have been newer than all that are.
    damaged: Vec<u64>,
}

fn read_slots(pager: &Pager, header: &Header) -> Result<Slots> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut faults = Vec::new();
    let mut damaged = Vec::new();
    let is_slot = |page: u64| [slot_page(0), slot_page(1)].contains(&page);
    for page in [slot_page(0), slot_page(1), twin_page(0), twin_page(1)] {
        let bytes = match pager.read_raw(page) {
            Ok(bytes) => bytes,
            Err(error) if error.is_corruption() => {
                faults.push(error.brief());
                damaged.extend(is_slot(page).then_some(page));
                continue;
            }
            Err(error) => return Err(error),
        };
        // The second twin of a new file was never written.
        if bytes.iter().all(|&byte| byte == 0) || bytes.starts_with(&STRUCK_OUT) {
            continue;
        }
        match Slot::decode(&bytes, &header.identity) {
            Ok(slot) if ![slot_page(slot.sequence), twin_page(slot.sequence)].contains(&page) => {
                faults.push(format!("slot on page {page}: belongs to another page"));
                damaged.extend(is_slot(page).then_some(page));
            }
            Ok(slot) if slots.contains(&slot) => {}
            Ok(slot) => slots.push(slot),
            Err(fault) => {
                faults.push(format!("slot on page {page}: {fault}"));
                damaged.extend(is_slot(page).then_some(page));
            }
        }
    }
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.sequence));
    Ok(Slots {
        whole: slots,
        faults,
        damaged,
    })
}

pub(super) fn read_acknowledgement(
    pager: &Pager,
    header: &Header,
) -> Result<Option<Acknowledgement>> {
    let bytes = match pager.read_raw(ACKNOWLEDGEMENT_PAGE) {
        Ok(bytes) => bytes,
        Err(error) if error.is_corruption() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Acknowledgement::decode(
        &crate::bytes::array::<SECTOR>(&bytes, 0),
        &header.identity,
    ))
}
