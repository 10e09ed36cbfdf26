//! The longest value there may be, on a disk that keeps little of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, IoSlice},
    sync::{Arc, Mutex},
};

use folio_store::{Database, Error, Table, storage::Storage};
use xxhash_rust::xxh3::Xxh3;

const BLOCK: usize = 4096;
const PAGE: usize = 65_536;

/// A disk that keeps, of each block, the bytes up to those at its end that are all the same.
#[derive(Default, Debug)]
struct Repetitive(Mutex<Blocks>);

#[derive(Default, Debug)]
struct Blocks {
    blocks: Vec<Block>,
    length: u64,
}

#[derive(Clone, Default, Debug)]
struct Block {
    head: Box<[u8]>,
    rest: u8,
}

impl Block {
    fn read(&self) -> [u8; BLOCK] {
        let mut bytes = [self.rest; BLOCK];
        bytes[..self.head.len()].copy_from_slice(&self.head);
        bytes
    }

    fn of(bytes: &[u8; BLOCK]) -> Self {
        let rest = bytes[BLOCK - 1];
        let head = bytes.iter().rposition(|&byte| byte != rest);
        Self {
            head: bytes[..head.map_or(0, |last| last + 1)].into(),
            rest,
        }
    }
}

impl Blocks {
    /// Visits the parts of blocks that make up `from..to`.
    fn parts(from: u64, to: u64) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let mut at = from;
        std::iter::from_fn(move || {
            let (block, start) = ((at / BLOCK as u64) as usize, at as usize % BLOCK);
            let count = (BLOCK - start).min((to - at) as usize);
            at += count as u64;
            (count > 0).then_some((block, start..start + count))
        })
    }

    fn lengthen(&mut self, length: u64) {
        self.length = self.length.max(length);
        let blocks = self.length.div_ceil(BLOCK as u64) as usize;
        self.blocks.resize(blocks, Block::default());
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.lengthen(end);
        for (block, range) in Self::parts(offset, end) {
            let (here, later) = bytes.split_at(range.len());
            let mut whole = self.blocks[block].read();
            whole[range].copy_from_slice(here);
            self.blocks[block] = Block::of(&whole);
            bytes = later;
        }
    }

    fn bytes_held(&self) -> usize {
        let heads: usize = self.blocks.iter().map(|block| block.head.len()).sum();
        heads + self.blocks.len() * size_of::<Block>()
    }
}

impl Storage for Repetitive {
    fn read_at(&self, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        let end = offset + buffer.len() as u64;
        if end > disk.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (block, range) in Blocks::parts(offset, end) {
            let (here, later) = buffer.split_at_mut(range.len());
            here.copy_from_slice(&disk.blocks[block].read()[range]);
            buffer = later;
        }
        Ok(())
    }

    fn write_at(&self, mut offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        for buffer in buffers {
            disk.write(offset, buffer);
            offset += buffer.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().length)
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        assert!(from >= disk.length, "nothing is there to be made zero");
        disk.lengthen(to);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if length < disk.length {
            disk.length = length;
            disk.lengthen(length);
        }
        Ok(())
    }

    fn name(&self) -> String {
        "repetitive".to_owned()
    }
}

struct Files;
impl Table for Files {
    const NAME: &'static str = "files";
    type Key = u64;
    type Value = &'static [u8];
}

/// It is written and read a page at a time, through a cache of 4 MiB; nothing ever holds it as a whole.
#[test]
fn a_value_of_4_gib_less_a_byte_is_stored_and_read_back() {
    const LONGEST: usize = u32::MAX as usize;
    let disk = Arc::new(Repetitive::default());
    let db = Database::builder()
        .page_size(PAGE)
        .cache_size(4 << 20)
        .create_on(disk.clone())
        .unwrap();
    let txn = db.begin_write().unwrap();
    let mut files = txn.table::<Files>().unwrap();
    let (mut written, mut parts) = (Xxh3::new(), 0u64);
    files
        .insert_reserve(7, LONGEST, |part| {
            assert!(part.len() < PAGE);
            part.fill((parts % 251) as u8);
            parts += 1;
            written.update(part);
            Ok(())
        })
        .unwrap();
    files.insert(8, b"behind it".as_slice()).unwrap();
    let refused = files.insert_reserve(9, LONGEST + 1, |_| panic!("too long"));
    assert!(
        matches!(refused, Err(Error::ValueTooLong { length, limit, .. })
            if (length, limit) == (LONGEST + 1, LONGEST))
    );
    drop(files);
    txn.commit().unwrap();
    db.close().unwrap();
    let held = disk.0.lock().unwrap().bytes_held();
    assert!(held < 64 << 20, "the disk itself takes {held} bytes");

    let db = Database::builder()
        .cache_size(4 << 20)
        .open_on(disk)
        .unwrap();
    let view = db.begin_read().unwrap();
    let files = view.table::<Files>().unwrap();
    let mut found = Xxh3::new();
    let length = files
        .get_in_parts(7, |part| {
            assert!(part.len() < PAGE);
            found.update(part);
            Ok(())
        })
        .unwrap();
    assert_eq!(length, Some(LONGEST as u64));
    assert_eq!(found.digest128(), written.digest128());
    assert_eq!(files.get(8).unwrap().unwrap(), b"behind it");
    assert_eq!(files.get_in_parts(9, |_| Ok(())).unwrap(), None);
    drop(view);

    let txn = db.begin_write().unwrap();
    let mut files = txn.table::<Files>().unwrap();
    assert_eq!(files.remove_range(7..=7).unwrap(), 1);
    drop(files);
    txn.commit().unwrap();
    assert!(db.statistics().free_pages > LONGEST as u64 / PAGE as u64);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}
