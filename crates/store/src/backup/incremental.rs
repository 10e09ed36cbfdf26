//! The stream of an incremental backup.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic |
//! | 4 | version of the stream |
//! | 4 | page size |
//! | 192 | the point that it starts from ([`BackupPoint`]) |
//! | one page | the slot that the copy has afterwards |
//! | 16 | check of all that |
//!
//! Then chunks: the number of pages (4), up to 64, the pages, and a check (16). A chunk of no pages is the last; the number of
//! all pages (8) and a check (16) follow, and the end of the stream. A check is the xxh3-128 of the check before and of
//! what came since, so no part can be missing, repeated or moved. The pages know their own numbers.

use std::io::{self, Read, Write};

use super::{BackupPoint, image::Watch, image::write_error};
use crate::{
    bytes::{read_u32, read_u64, read_u128},
    catalog::TableRecord,
    error::{Error, Result},
    file::{FIXED_PAGES, Header, Slot},
    node::{self, Node, OverflowRef},
    page::{HEADER, PAGE_SIZES, PageBytes, PageRef, Sealer, identity},
    pager::{Pager, check_node},
    space::PageBits,
    tree::overflow,
};

pub(super) const MAGIC: [u8; 8] = *b"FolioInc";
const VERSION: u32 = 1;
const PAGES_A_CHUNK: usize = 64;
const CHECK: usize = 16;

fn check(before: u128, bytes: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(bytes);
    hasher.digest128()
}

/// Writes the pages that are newer than a point.
pub(super) struct Encoder<'e, 'w, W> {
    pager: &'e Pager,
    writer: W,
    watch: &'e mut Watch<'w>,
    check: u128,
    chunk: Vec<u8>,
    /// Pages that were put: savepoints lead to the same ones again.
    met: PageBits,
    pages: u64,
    bytes: u64,
}

impl<'e, 'w, W: Write> Encoder<'e, 'w, W> {
    pub fn begin(
        pager: &'e Pager,
        header: &Header,
        base: &BackupPoint,
        slot: &Slot,
        writer: W,
        watch: &'e mut Watch<'w>,
    ) -> Result<Self> {
        let mut encoder = Self {
            pager,
            writer,
            watch,
            check: 0,
            chunk: Vec::new(),
            met: PageBits::default(),
            pages: 0,
            bytes: 0,
        };
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((header.page_size as u32).to_le_bytes());
        head.extend(base.to_bytes());
        head.extend(slot.encode(header.page_size, &header.identity));
        encoder.put(&head)?;
        Ok(encoder)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.check = check(self.check, bytes);
        self.writer
            .write_all(bytes)
            .and_then(|()| self.writer.write_all(&self.check.to_le_bytes()))
            .map_err(write_error)?;
        self.bytes += (bytes.len() + CHECK) as u64;
        Ok(())
    }

    fn put_chunk(&mut self) -> Result<()> {
        let count = (self.chunk.len() / self.pager.page_size) as u32;
        let mut bytes = count.to_le_bytes().to_vec();
        bytes.append(&mut self.chunk);
        self.put(&bytes)
    }

    fn page(&mut self, bytes: &[u8]) -> Result<()> {
        self.chunk.extend_from_slice(bytes);
        self.pages += 1;
        if self.chunk.len() == PAGES_A_CHUNK * self.pager.page_size {
            self.put_chunk()?;
        }
        self.watch.step(self.pager, 1, bytes.len() as u64)
    }

    /// Puts a page that a parent refers to.
    fn copy(&mut self, at: PageRef) -> Result<PageBytes> {
        let bytes = self.pager.read_raw(at.page)?;
        self.pager.check(&bytes, at)?;
        self.page(&bytes)?;
        Ok(bytes)
    }

    /// Puts the pages of a tree that were written after a transaction. Nothing newer lies below an older page.
    /// Gives back the tables of a catalog that are newer.
    pub fn tree(&mut self, root: PageRef, after: u64, catalog: bool) -> Result<Vec<PageRef>> {
        let mut tables = Vec::new();
        let mut left = vec![(root, None)];
        while let Some((at, level)) = left.pop() {
            if at.is_none() || at.transaction <= after || !self.met.insert(at.page) {
                continue;
            }
            let bytes = self.copy(at)?;
            node::validate(&bytes)
                .and_then(|()| check_node(&bytes, level))
                .map_err(|fault| self.pager.corrupted(at.page, fault))?;
            let node = Node::new(&bytes);
            if !node.is_leaf() {
                let level = Some(node.level() - 1);
                left.extend((0..node.len()).map(|index| (node.child(index).at, level)));
                continue;
            }
            for index in 0..node.len() {
                if let Some(value) = node.overflow(index) {
                    self.long_value(value, after)?;
                } else if catalog {
                    let record = TableRecord::decode(node.body(index)).ok_or_else(|| {
                        let fault = "holds a table record of an unknown form";
                        self.pager.corrupted(at.page, fault)
                    })?;
                    tables.push(record.root.at);
                }
            }
        }
        Ok(tables)
    }

    fn long_value(&mut self, value: OverflowRef, after: u64) -> Result<()> {
        // A value is written as a whole.
        if value.at.transaction <= after || !self.met.insert(value.at.page) {
            return Ok(());
        }
        let payload = self.pager.page_size - HEADER - overflow::EXTENT_HEADER;
        let most = u64::from(value.length).div_ceil(payload as u64);
        let (mut extent, mut met) = (value.at, 0);
        while !extent.is_none() {
            let head = self.copy(extent)?;
            let (next, count) = overflow::extent_header(&head);
            met += count;
            if count == 0 || met > most {
                let fault = "is no extent of a long value";
                return Err(self.pager.corrupted(extent.page, fault));
            }
            for offset in 1..count {
                self.copy(PageRef {
                    page: extent.page + offset,
                    ..extent
                })?;
            }
            extent = next;
        }
        Ok(())
    }

    /// The number of pages, and of bytes.
    pub fn finish(mut self) -> Result<(u64, u64)> {
        if !self.chunk.is_empty() {
            self.put_chunk()?;
        }
        let mut end = 0u32.to_le_bytes().to_vec();
        end.extend(self.pages.to_le_bytes());
        self.put(&end)?;
        self.writer.flush().map_err(write_error)?;
        Ok((self.pages, self.bytes))
    }
}

pub(super) fn damaged(fault: impl Into<String>) -> Error {
    Error::BackupDamaged {
        fault: fault.into(),
    }
}

/// A page and its number.
type NumberedPage = (u64, Vec<u8>);

/// Reads a stream. Nothing that it gives out is unchecked, and it takes a chunk of memory, whatever the stream says.
pub(super) struct Decoder<R> {
    reader: R,
    check: u128,
    page_size: usize,
    /// The pages that came.
    pub met: PageBits,
    pub base: BackupPoint,
    pub slot: Slot,
}

impl<R: Read> Decoder<R> {
    /// Reads the head of a stream.
    pub fn begin(mut reader: R) -> Result<Self> {
        let fixed = MAGIC.len() + 8 + BackupPoint::LENGTH;
        let mut head = vec![0; fixed];
        fill(&mut reader, &mut head)?;
        if head[..8] != MAGIC {
            return Err(damaged("it is not an incremental backup"));
        }
        let version = read_u32(&head, 8);
        if !(1..=VERSION).contains(&version) {
            return Err(damaged(format!(
                "its version is {version} and this Folio reads up to {VERSION}"
            )));
        }
        let page_size = read_u32(&head, 12) as usize;
        if !PAGE_SIZES.contains(&page_size) || !page_size.is_power_of_two() {
            return Err(damaged("its pages have a size that none have"));
        }
        head.resize(fixed + page_size, 0);
        fill(&mut reader, &mut head[fixed..])?;
        let check = check(0, &head);
        expect_check(&mut reader, check)?;
        let base = BackupPoint::from_bytes(&head[16..fixed])?;
        let slot = Slot::decode(&head[fixed..], &base.identity)
            .map_err(|fault| damaged(format!("the slot in it: {fault}")))?;
        Ok(Self {
            reader,
            check,
            page_size,
            met: PageBits::default(),
            base,
            slot,
        })
    }

    /// The header of the file that it is for, as far as the stream tells.
    pub fn header(&self) -> Header {
        Header {
            page_size: self.page_size,
            identity: self.base.identity,
            features: 0,
            marks: 0,
        }
    }

    /// The pages of the next chunk, each whole in itself and with its number, which no other has; none at the end.
    pub fn chunk(&mut self, sealer: Sealer) -> Result<Option<Vec<NumberedPage>>> {
        let mut bytes = vec![0; 4];
        fill(&mut self.reader, &mut bytes)?;
        let count = read_u32(&bytes, 0) as usize;
        if count > PAGES_A_CHUNK {
            return Err(damaged("a chunk is longer than any"));
        }
        let rest = match count {
            0 => 8,
            _ => count * self.page_size,
        };
        bytes.resize(4 + rest, 0);
        fill(&mut self.reader, &mut bytes[4..])?;
        self.check = check(self.check, &bytes);
        expect_check(&mut self.reader, self.check)?;
        if count == 0 {
            return self.end(read_u64(&bytes, 4)).map(|()| None);
        }
        let (met, places) = (&mut self.met, FIXED_PAGES..self.slot.length);
        let pages = bytes[4..].chunks_exact(self.page_size).map(|page| {
            sealer
                .verify(page)
                .ok_or_else(|| damaged("a page in it has a wrong checksum"))?;
            let number = identity(page).page;
            match places.contains(&number) && met.insert(number) {
                true => Ok((number, page.to_vec())),
                false => Err(damaged(format!("page {number} has no place in it"))),
            }
        });
        pages.collect::<Result<Vec<_>>>().map(Some)
    }

    fn end(&mut self, pages: u64) -> Result<()> {
        if pages != self.met.len() {
            return Err(damaged("it has another number of pages than it says"));
        }
        expect_end(&mut self.reader)
    }
}

pub(super) fn expect_end(reader: &mut impl Read) -> Result<()> {
    let mut more = Vec::new();
    match reader.take(1).read_to_end(&mut more) {
        Ok(0) => Ok(()),
        Ok(_) => Err(damaged("it goes on behind its end")),
        Err(error) => Err(read_error(error)),
    }
}

fn expect_check(reader: &mut impl Read, expected: u128) -> Result<()> {
    let mut found = [0; CHECK];
    fill(reader, &mut found)?;
    match read_u128(&found, 0) == expected {
        true => Ok(()),
        false => Err(damaged("a check in it does not match")),
    }
}

pub(super) fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    reader.read_exact(bytes).map_err(read_error)
}

fn read_error(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends early"),
        io::ErrorKind::InvalidData => damaged(source.to_string()),
        _ => Error::Io {
            file: "the backup".into(),
            operation: "read",
            source: source.into(),
        },
    }
}
