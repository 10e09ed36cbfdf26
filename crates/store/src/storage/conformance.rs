//! What every storage owes the engine, as one test body.

use std::io::{ErrorKind, IoSlice};

use super::Storage;

/// Runs every call of an empty storage and compares what it answers.
pub(super) fn behaves_like_a_file(storage: &dyn Storage) {
    assert!(
        storage.is_empty().expect("len"),
        "the storage must come empty"
    );

    storage
        .write_at(
            3,
            &[IoSlice::new(b"de"), IoSlice::new(b""), IoSlice::new(b"f")],
        )
        .expect("write");
    assert_eq!(
        contents(storage),
        b"\0\0\0def",
        "a write past the end leaves zeros before it"
    );

    storage.write_at(0, &[IoSlice::new(b"abc")]).expect("write");
    storage.write_at(100, &[]).expect("write of nothing");
    assert_eq!(
        contents(storage),
        b"abcdef",
        "a write of nothing changes nothing"
    );

    let mut buffer = [b'x'; 4];
    let refused = storage
        .read_at(3, &mut buffer)
        .expect_err("one byte past the end");
    assert_eq!(refused.kind(), ErrorKind::UnexpectedEof);
    let refused = storage
        .read_at(u64::MAX >> 1, &mut buffer)
        .expect_err("far past the end");
    assert_eq!(refused.kind(), ErrorKind::UnexpectedEof);
    storage
        .read_at(2, &mut buffer)
        .expect("the last four bytes");
    assert_eq!(&buffer, b"cdef");

    storage.grow(4, 8).expect("grow");
    assert_eq!(
        contents(storage),
        b"abcd\0\0\0\0",
        "growth writes zeros over what was there"
    );
    storage.grow(1, 2).expect("grow inside");
    assert_eq!(contents(storage), b"a\0cd\0\0\0\0", "growth never shortens");
    storage.grow(8, 8).expect("grow by nothing");
    assert_eq!(storage.len().expect("len"), 8);

    storage.truncate(3).expect("truncate");
    assert_eq!(contents(storage), b"a\0c");
    storage.truncate(100).expect("truncate past the end");
    assert_eq!(contents(storage), b"a\0c", "truncation never extends");
    storage.grow(5, 6).expect("grow behind the end");
    assert_eq!(
        contents(storage),
        b"a\0c\0\0\0",
        "what was cut off does not come back"
    );

    storage.sync().expect("sync");
    storage.forget_cached(0, u64::MAX).expect("forget");
    assert_eq!(
        contents(storage),
        b"a\0c\0\0\0",
        "what was synced survives forgetting the cache"
    );
    assert!(!storage.name().is_empty());
}

fn contents(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(storage.len().expect("len")).expect("small")];
    storage.read_at(0, &mut bytes).expect("read of everything");
    bytes
}
