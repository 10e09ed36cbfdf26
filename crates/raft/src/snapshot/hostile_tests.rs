//! Streams that are sound frame by frame and lie: each is refused.

use openraft::CommittedLeaderId;

use super::format::{CHUNK_BYTES, Kept, Kind, MAGIC, Running, Trailer, VERSION, encode, put_frame};
use super::{SnapshotError, SnapshotHeader, SnapshotParser, SnapshotTable};
use crate::types::LogId;

type Row = (Vec<u8>, Vec<u8>);

/// Writes frames, and a trailer that agrees with them.
struct Forge {
    bytes: Vec<u8>,
    digest: Running,
    counts: Vec<u64>,
}

impl Forge {
    fn new(tables: usize) -> Self {
        let mut forge = Self {
            bytes: [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat(),
            digest: Running::default(),
            counts: vec![0; tables],
        };
        let table = SnapshotTable {
            name: "rows".into(),
            key_type: "bytes".into(),
            value_type: "bytes".into(),
        };
        let header = SnapshotHeader {
            last_log_id: Some(LogId::new(CommittedLeaderId::new(1, 1), 9)),
            membership: Default::default(),
            time: 0,
            tables: vec![table; tables],
        };
        forge.frame(Kind::Header, &encode(&header).expect("encoded"));
        forge
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> &mut Self {
        self.digest.add(kind, payload);
        put_frame(&mut self.bytes, kind, payload).expect("written");
        self
    }

    fn rows(&mut self, table: u32, rows: &[Row]) -> &mut Self {
        if let Some(count) = self.counts.get_mut(table as usize) {
            *count += rows.len() as u64;
        }
        self.frame(Kind::Chunk, &encode(&(table, rows)).expect("encoded"))
    }

    fn keys(&mut self, table: u32, keys: &[&str]) -> &mut Self {
        let rows: Vec<Row> = keys
            .iter()
            .map(|key| (key.as_bytes().to_vec(), vec![]))
            .collect();
        self.rows(table, &rows)
    }

    fn base(&mut self) -> &mut Self {
        let base = LogId::new(CommittedLeaderId::new(1, 1), 3);
        self.frame(Kind::Base, &encode(&base).expect("encoded"))
    }

    fn kept(&mut self, table: u32, first: &str, last: &str) -> &mut Self {
        let kept = Kept {
            table,
            first: first.into(),
            last: last.into(),
            rows: 2,
        };
        self.frame(Kind::Kept, &encode(&kept).expect("encoded"))
    }

    fn end(&mut self) -> Vec<u8> {
        let mut digest = self.digest.clone();
        digest.add(Kind::Trailer, &encode(&self.counts).expect("encoded"));
        let trailer = Trailer {
            rows: self.counts.clone(),
            digest: digest.finish(),
        };
        let payload = encode(&trailer).expect("encoded");
        put_frame(&mut self.bytes, Kind::Trailer, &payload).expect("written");
        self.bytes.clone()
    }
}

/// Reads a stream in slices.
fn read(bytes: &[u8], step: usize) -> Result<(), SnapshotError> {
    let mut parser = SnapshotParser::default();
    for some in bytes.chunks(step) {
        parser.push(some);
        let mut header = parser.header().is_some();
        loop {
            if parser.next()?.is_none() {
                if header || parser.header().is_none() {
                    break;
                }
                header = true;
            }
        }
    }
    parser.finish().map(drop)
}

fn refused(bytes: &[u8], word: &str) {
    for step in [1, 7, 1 << 20] {
        let error = read(bytes, step).expect_err(word).to_string();
        assert!(error.contains(word), "{error}, not {word}");
    }
}

#[test]
fn what_is_in_order_is_taken_in_slices_of_any_size() {
    let whole = Forge::new(2)
        .keys(0, &["a", "b"])
        .keys(0, &["c"])
        .keys(1, &["a"])
        .end();
    let changes = Forge::new(2)
        .base()
        .kept(0, "a", "c")
        .keys(0, &["d"])
        .kept(1, "a", "a")
        .end();
    for step in 1..whole.len().max(changes.len()) {
        read(&whole, step).expect("sound");
        read(&changes, step).expect("sound");
    }
}

#[test]
fn rows_that_repeat_or_are_out_of_order_are_refused() {
    refused(&Forge::new(1).keys(0, &["b", "a"]).end(), "ascend");
    refused(&Forge::new(1).keys(0, &["a", "a"]).end(), "ascend");
    refused(
        &Forge::new(1).keys(0, &["a"]).keys(0, &["a"]).end(),
        "ascend",
    );
    refused(
        &Forge::new(2).keys(1, &["a"]).keys(0, &["b"]).end(),
        "out of order",
    );
    refused(
        &Forge::new(1).base().keys(0, &["b"]).kept(0, "b", "c").end(),
        "ascend",
    );
    refused(&Forge::new(1).base().kept(0, "c", "b").end(), "ascend");
    refused(
        &Forge::new(1).base().kept(0, "a", "c").keys(0, &["b"]).end(),
        "ascend",
    );
}

#[test]
fn tables_that_are_not_there_and_parts_out_of_place_are_refused() {
    refused(&Forge::new(1).keys(1, &["a"]).end(), "does not exist");
    refused(&Forge::new(0).keys(0, &["a"]).end(), "does not exist");
    refused(
        &Forge::new(1).base().kept(7, "a", "b").end(),
        "does not exist",
    );
    refused(&Forge::new(1).keys(0, &[]).end(), "without rows");
    refused(&Forge::new(1).kept(0, "a", "b").end(), "where none may be");
    refused(
        &Forge::new(1).keys(0, &["a"]).base().end(),
        "where none may be",
    );
    refused(&Forge::new(1).base().base().end(), "where none may be");
    let header = Forge::new(1).bytes[10..].to_vec();
    let mut twice = Forge::new(1);
    twice.bytes.extend_from_slice(&header);
    refused(&twice.end(), "where none may be");
    let mut none = MAGIC.to_vec();
    none.extend_from_slice(&VERSION.to_le_bytes());
    put_frame(&mut none, Kind::Chunk, b"rows").expect("written");
    refused(&none, "in place of the header");
}

#[test]
fn counts_and_digests_that_do_not_fit_are_refused() {
    let mut short = Forge::new(1);
    short.keys(0, &["a", "b"]).counts = vec![1];
    refused(&short.end(), "row counts");
    let mut other = Forge::new(1);
    other.keys(0, &["a"]).digest = Running::default();
    refused(&other.end(), "digest");
    let mut more = Forge::new(1).end();
    more.push(0);
    refused(&more, "follow the end");
}

#[test]
fn other_versions_and_other_files_are_refused_by_name() {
    let mut newer = Forge::new(1).end();
    newer[8] = 2;
    refused(&newer, "version 2");
    refused(b"SQLite format 3\0 and so on", "does not begin");
}

#[test]
fn a_bomb_bursts_at_the_length_that_it_announced() {
    // A chunk that says 4 KiB and is 64 MiB.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("compressed");
    let mut bytes = Forge::new(1).bytes.clone();
    let start = bytes.len();
    bytes.push(Kind::Chunk as u8);
    bytes.extend_from_slice(&4096u32.to_le_bytes());
    bytes.extend_from_slice(&(bomb.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&bomb);
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    refused(&bytes, "4097 bytes instead of 4096");

    // A window that would take 2 GiB of memory.
    let mut window = Vec::new();
    let mut encoder = zstd::stream::write::Encoder::new(&mut window, 1).expect("an encoder");
    encoder.window_log(27).expect("set");
    encoder.long_distance_matching(true).expect("set");
    std::io::Write::write_all(&mut encoder, &[0; 4096]).expect("written");
    encoder.finish().expect("finished");
    let mut bytes = Forge::new(1).bytes.clone();
    let start = bytes.len();
    bytes.push(Kind::Chunk as u8);
    bytes.extend_from_slice(&4096u32.to_le_bytes());
    bytes.extend_from_slice(&(window.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&window);
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    refused(&bytes, "does not decompress");

    // Tiny rows, of which a chunk could hold millions.
    let rows: Vec<Row> = (0u32..100_000)
        .map(|n| (n.to_be_bytes().to_vec(), vec![]))
        .collect();
    assert!(rows.len() * 4 > CHUNK_BYTES);
    refused(
        &Forge::new(1).rows(0, &rows).end(),
        "more rows than a chunk has",
    );
}
