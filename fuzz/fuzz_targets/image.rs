//! Damaged files: whatever the bytes, opening, reading and verifying give data or errors, never a panic.
//!
//! Run with `cargo +nightly fuzz run image`.
#![no_main]

use std::{
    io::IoSlice,
    sync::{Arc, OnceLock},
};

use arbitrary::Arbitrary;
use folio_store::{
    Database, Table,
    storage::{MemoryStorage, Storage},
};
use libfuzzer_sys::fuzz_target;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

#[derive(Arbitrary, Debug)]
struct Damage {
    offset: u32,
    bytes: Vec<u8>,
}

fn sound() -> &'static MemoryStorage {
    static IMAGE: OnceLock<MemoryStorage> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let storage = MemoryStorage::new();
        let shared = Arc::new(storage);
        let db = Database::builder()
            .create_on(shared.clone())
            .expect("empty");
        for start in 0..4 {
            let txn = db.begin_write().expect("open");
            let mut table = txn.table::<Rows>().expect("sound");
            for key in 0..500u64 {
                let length = (key * 37 % 90 + if key == 77 { 9_000 } else { 0 }) as usize;
                table
                    .insert(key * 4 + start, vec![key as u8; length].as_slice())
                    .expect("sound");
            }
            drop(table);
            txn.commit().expect("memory");
        }
        db.close().expect("memory");
        MemoryStorage::clone(&shared)
    })
}

fuzz_target!(|damages: Vec<Damage>| {
    let image = sound().clone();
    let length = image.len().expect("memory");
    for damage in damages {
        let offset = u64::from(damage.offset) % length;
        let fitting = damage.bytes.len().min((length - offset) as usize);
        image
            .write_at(offset, &[IoSlice::new(&damage.bytes[..fitting])])
            .expect("memory");
    }
    let Ok(db) = Database::builder()
        .accept_loss(true)
        .open_on(Arc::new(image))
    else {
        return;
    };
    let view = db.begin_read().expect("open");
    if let Ok(table) = view.table::<Rows>() {
        let rows = table
            .iter()
            .map(|rows| rows.take_while(Result::is_ok).count());
        let _ = (rows, table.get(77 * 4), table.first(), table.last());
    }
    let _ = db.verify(|_, _| {});
});
