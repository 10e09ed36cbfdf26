//! The file image of one durable moment, written from its first byte to its last.
//!
//! The pages come in the order of their numbers, and each is checked on the way. That the pages are those which the
//! commit means, and not older ones with right checksums, is known at the end: number and transaction of every page are
//! summed up as they pass, and so are those of every reference to a page. The sums are equal only if each page is
//! referred to once, as what it is. Thus one pass with two sums checks what else takes a walk. Savepoints refer to the
//! same pages again, so an image that has some takes the walk as well.

use std::{
    io::{self, Write},
    ops::{Bound, ControlFlow},
};

use crate::{
    catalog::{TableRecord, group_of},
    engine::{Pace, SystemClock, Walk, digest},
    error::{Error, Result},
    file::{
        ACKNOWLEDGEMENT_PAGE, Acknowledgement, FIXED_PAGES, Header, SAVEPOINTS, Slot, slot_page,
        twin_page,
    },
    node::{self, Node},
    page::{PageKind, PageRef, Sealer, identity, table_number},
    pager::Pager,
    space::{CHUNK_BYTES, CHUNK_PAGES, PageBits, SavepointRow},
    tree::{Cursor, overflow},
};

/// Pages that are read with one call.
const PAGES_A_READ: u64 = 64;

/// Where an image goes.
pub(super) trait Sink {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;

    fn zeros(&mut self, count: u64) -> io::Result<()>;

    /// Bytes that are not wanted at the beginning, so that they need not be read.
    fn skipped(&self) -> u64 {
        0
    }
}

/// Writes zeros as they are.
pub(super) struct Plain<W>(pub W);

impl<W: Write> Sink for Plain<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let part = count.min(ZEROS.len() as u64);
            self.0.write_all(&ZEROS[..part as usize])?;
            count -= part;
        }
        Ok(())
    }
}

/// Lets the first bytes pass.
pub(super) struct Rest<S> {
    pub sink: S,
    /// How many still.
    pub skip: u64,
}

impl<S: Sink> Sink for Rest<S> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        match &bytes[skipped as usize..] {
            [] => Ok(()),
            rest => self.sink.bytes(rest),
        }
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let skipped = self.skip.min(count);
        self.skip -= skipped;
        self.sink.zeros(count - skipped)
    }

    fn skipped(&self) -> u64 {
        self.skip
    }
}

/// Told of every page; keeps to a rate.
pub(super) struct Watch<'w> {
    pub pace: Pace<'w>,
    pub progress: &'w mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    pub done: u64,
    pub total: u64,
}

impl Watch<'_> {
    pub fn step(&mut self, pager: &Pager, count: u64, bytes: u64) -> Result<()> {
        self.done += count;
        let (done, total) = (self.done, self.total.max(self.done));
        let mut go_on = || (self.progress)(done, total).is_continue();
        if go_on() && self.pace.read(bytes, &mut go_on) {
            return Ok(());
        }
        Err(Error::Interrupted {
            file: pager.file.clone(),
        })
    }
}

/// The error for a backup that cannot be written.
pub(super) fn write_error(source: io::Error) -> Error {
    Error::Io {
        file: "the backup".into(),
        operation: "write",
        source: source.into(),
    }
}

/// What the space tree of a commit says.
#[derive(Default)]
pub(super) struct Account {
    /// The pages that it uses, fixed ones left out.
    pub used: PageBits,
    pub savepoints: Vec<SavepointRow>,
}

impl Account {
    /// The header of a file with just this commit.
    fn header(&self, header: &Header) -> Header {
        Header {
            features: match self.savepoints.is_empty() {
                true => 0,
                false => SAVEPOINTS,
            },
            ..*header
        }
    }
}

/// Reads the space tree of a commit.
pub(super) fn read_account(pager: &Pager, slot: &Slot) -> Result<Account> {
    let damaged = |fault: &str| {
        let fault = format!("the free-space map below this page is damaged: {fault}");
        pager.corrupted(slot.space_root.page, fault)
    };
    let Account {
        mut used,
        mut savepoints,
    } = Account::default();
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let mut rows = Cursor::new(pager, slot.space_root, everything);
    while let Some(row) = rows.next()? {
        if SavepointRow::is_key(&row.key()) {
            let row = SavepointRow::decode(&row.key(), row.body())
                .ok_or_else(|| damaged("it has a savepoint of an unknown form"))?;
            savepoints.push(row);
            continue;
        }
        let index = <[u8; 8]>::try_from(row.key()).map(u64::from_be_bytes);
        let bits = <&[u8; CHUNK_BYTES]>::try_from(row.body());
        match (index, bits) {
            (Ok(index), Ok(bits)) if index <= slot.length / CHUNK_PAGES => {
                used.insert_row(index, bits);
            }
            // What a file that was cut since had there.
            (Ok(_), Ok(bits)) if *bits == [0; CHUNK_BYTES] => {}
            _ => return Err(damaged("it has a row that no such map has")),
        }
    }
    for change in &slot.space_changes {
        if change.used {
            used.insert(change.page);
        } else {
            used.remove(change.page);
        }
    }
    if (0..FIXED_PAGES).any(|page| used.contains(page)) {
        return Err(damaged("it lists fixed pages"));
    }
    if used.len() + FIXED_PAGES != slot.used {
        return Err(damaged(
            "it has another number of pages in use than the commit records",
        ));
    }
    if used.without(&EMPTY).any(|page| page >= slot.length) {
        return Err(damaged("it lists pages behind the end of the file"));
    }
    Ok(Account { used, savepoints })
}

/// The slot of a copy: the same commit without what only its first writing needs, and closed in order.
pub(super) fn copied_slot(slot: &Slot, used: &PageBits) -> Slot {
    let changed = slot.space_changes.iter().map(|change| change.page);
    let last = used.without(&EMPTY).chain(changed).max();
    Slot {
        ceiling: slot.transaction,
        length: last.map_or(FIXED_PAGES, |last| last + 1),
        digest: digest(&[]),
        manifest_entries: 0,
        manifest_page: PageRef::NONE,
        manifest: Vec::new(),
        ..slot.clone()
    }
}

/// What a page is whose checksum is right, and which is in its place.
fn sealed_as(sealer: &Sealer, bytes: &[u8], page: u64) -> Result<PageRef, String> {
    sealer
        .verify(bytes)
        .ok_or("the checksum does not match: the page is torn or damaged")?;
    match identity(bytes) {
        at if at.page == page => Ok(at),
        at => Err(format!(
            "holds page {}: a write went to the wrong place",
            at.page
        )),
    }
}

/// What each page is, and what refers to it.
#[derive(Default)]
pub(super) struct Tally {
    met: u128,
    referred: u128,
    /// The transaction of the extent that is under way, its next page, and how many follow.
    extent: (u64, u64, u64),
}

impl Tally {
    fn hash(at: PageRef) -> u128 {
        let mut bytes = [0; 16];
        at.write(&mut bytes, 0);
        xxhash_rust::xxh3::xxh3_128(&bytes)
    }

    fn refer(&mut self, at: PageRef) {
        if !at.is_none() {
            self.referred = self.referred.wrapping_add(Self::hash(at));
        }
    }

    /// What a slot refers to.
    pub fn of(slot: &Slot) -> Self {
        let mut tally = Self::default();
        tally.refer(slot.space_root);
        slot.groups
            .iter()
            .for_each(|group| tally.refer(group.catalog));
        tally
    }

    /// Takes a page.
    pub fn page(&mut self, sealer: &Sealer, bytes: &[u8], page: u64) -> Result<(), String> {
        let at = sealed_as(sealer, bytes, page)?;
        let kind = PageKind::of(bytes);
        let (transaction, next, rest) = self.extent;
        if rest > 0 {
            let follows = next == page && at.transaction == transaction;
            if kind != Some(PageKind::Overflow) || !follows {
                return Err(
                    "is not part of a long value, and the page before it says it is".into(),
                );
            }
            self.extent = (transaction, next + 1, rest - 1);
            return Ok(());
        }
        self.met = self.met.wrapping_add(Self::hash(at));
        match kind {
            Some(PageKind::Leaf | PageKind::Branch) => {
                node::validate(bytes)?;
                let node = Node::new(bytes);
                match node.is_leaf() {
                    true => self.leaf(bytes, node),
                    false => {
                        (0..node.len()).for_each(|index| self.refer(node.child(index).at));
                        Ok(())
                    }
                }
            }
            Some(PageKind::Overflow) => {
                let (following, pages) = overflow::extent_header(bytes);
                self.refer(following);
                let more = pages.checked_sub(1).ok_or("is an extent of no pages")?;
                self.extent = (at.transaction, page + 1, more);
                Ok(())
            }
            _ => Err("is marked as used and holds no part of a table".into()),
        }
    }

    fn leaf(&mut self, bytes: &[u8], node: Node<'_>) -> Result<(), String> {
        let catalog = group_of(table_number(bytes)).is_some();
        for index in 0..node.len() {
            if let Some(value) = node.overflow(index) {
                self.refer(value.at);
            } else if catalog {
                let record = TableRecord::decode(node.body(index))
                    .ok_or("holds a table record of an unknown form")?;
                self.refer(record.root.at);
            }
        }
        Ok(())
    }

    pub fn is_even(&self) -> bool {
        self.extent.2 == 0 && self.met == self.referred
    }
}

/// Writes the file image of a commit; gives back its length in bytes. `slot` is one that `copied_slot` made, and
/// `account` its own.
pub(super) fn write_image(
    pager: &Pager,
    header: &Header,
    slot: &Slot,
    account: &Account,
    sink: &mut impl Sink,
    watch: &mut Watch<'_>,
) -> Result<u64> {
    let page_size = pager.page_size;
    // It says something of all pages, or of nothing.
    let first = sink.skipped() / page_size as u64;
    let mut tally = (sink.skipped() == 0).then(|| Tally::of(slot));
    for page in fixed_pages(&account.header(header), slot) {
        sink.bytes(&page).map_err(write_error)?;
    }
    let mut end = FIXED_PAGES;
    let mut buffer = vec![0; PAGES_A_READ as usize * page_size];
    if !account.savepoints.is_empty() {
        watch.total *= 2;
    }
    let used = account.used.without(&EMPTY);
    let mut pages = used.skip_while(|page| *page < first).peekable();
    while let Some(first) = pages.next() {
        let mut count = 1;
        while count < PAGES_A_READ && pages.next_if_eq(&(first + count)).is_some() {
            count += 1;
        }
        let run = &mut buffer[..count as usize * page_size];
        read_run(pager, first, run)?;
        for (bytes, page) in run.chunks_exact(page_size).zip(first..) {
            let checked = match &mut tally {
                Some(tally) => tally.page(&pager.sealer, bytes, page),
                None => sealed_as(&pager.sealer, bytes, page).map(drop),
            };
            checked.map_err(|fault| pager.corrupted(page, fault))?;
        }
        sink.zeros((first - end).saturating_mul(page_size as u64))
            .and_then(|()| sink.bytes(run))
            .map_err(write_error)?;
        end = first + count;
        watch.step(pager, count, run.len() as u64)?;
    }
    if !account.savepoints.is_empty() {
        walk(pager, slot, watch)?;
    } else if tally.is_some_and(|tally| !tally.is_even()) {
        // A walk finds out which page it is.
        walk(pager, slot, watch)?;
        let fault = "the pages of the commit are not those that it refers to";
        return Err(pager.corrupted(slot_page(slot.sequence), fault));
    }
    sink.zeros((slot.length - end).saturating_mul(page_size as u64))
        .map_err(write_error)?;
    Ok(slot.length * page_size as u64)
}

/// Nothing, to be left out of a set.
static EMPTY: PageBits = PageBits::EMPTY;

/// The start of an image.
pub(super) fn fixed_pages(header: &Header, slot: &Slot) -> Vec<Vec<u8>> {
    let mut pages = vec![vec![0; header.page_size]; FIXED_PAGES as usize];
    pages[0][..Header::LENGTH].copy_from_slice(&header.encode());
    let encoded = slot.encode(header.page_size, &header.identity);
    pages[twin_page(slot.sequence) as usize].clone_from(&encoded);
    pages[slot_page(slot.sequence) as usize] = encoded;
    let acknowledgement = Acknowledgement {
        sequence: slot.sequence,
        transaction: slot.transaction,
    }
    .encode(&header.identity);
    pages[ACKNOWLEDGEMENT_PAGE as usize][..acknowledgement.len()].copy_from_slice(&acknowledgement);
    pages
}

fn read_run(pager: &Pager, first: u64, run: &mut [u8]) -> Result<()> {
    let page_size = pager.page_size;
    let read = pager.storage.read_at(first * page_size as u64, run);
    crate::pager::Counters::add(&pager.counters.read_calls, 1);
    if read.is_err() {
        // One page after the other, so that the error names it.
        for (bytes, page) in run.chunks_exact_mut(page_size).zip(first..) {
            bytes.copy_from_slice(&pager.read_raw(page)?);
        }
    }
    Ok(())
}

/// Reads everything again from the roots on. The error is the first problem.
fn walk(pager: &Pager, slot: &Slot, watch: &mut Watch<'_>) -> Result<()> {
    let clock = SystemClock::start();
    let step = |_, _| match watch.step(pager, 1, pager.page_size as u64) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let report = Walk::new(pager, slot, Pace::new(&clock, 0), step).run()?;
    if report.interrupted {
        return Err(Error::Interrupted {
            file: pager.file.clone(),
        });
    }
    match report.problems.into_iter().next() {
        Some(problem) => Err(Error::Corrupted {
            file: pager.file.clone(),
            page: problem.page.unwrap_or(slot_page(slot.sequence)),
            table: problem.table.map(Into::into),
            fault: problem.fault,
        }),
        None => Ok(()),
    }
}
