//! The limit: pages written by one call and one sync into space that was written before, and nothing else.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::path::Path;
use std::time::Instant;

use rustix::io::pwritev;

use crate::engine::Result;
use crate::load::Outcome;

const PAGE: usize = 4096;
const SPACE: usize = 64 << 20;

/// Seconds for so many flushes of so many pages each. A flush of a database is those pages and the page that makes them valid.
pub fn measure(directory: &Path, pages: u64, flushes: u64) -> Result<Outcome> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .read(true)
        .open(directory.join("limit"))?;
    let pages = (pages as usize).min(SPACE / PAGE);
    let page = [0xabu8; PAGE];
    let calls = |length: usize| vec![IoSlice::new(&page); length];
    // 1,024 is the most that the system takes in one call.
    for at in (0..SPACE).step_by(1024 * PAGE) {
        pwritev(&file, &calls(1024), at as u64)?;
    }
    file.sync_all()?;
    let mut at = 0;
    let start = Instant::now();
    for _ in 0..flushes {
        if at + pages * PAGE > SPACE {
            at = 0;
        }
        let mut left = pages;
        while left > 0 {
            let now = left.min(1024);
            pwritev(&file, &calls(now), at as u64)?;
            at += now * PAGE;
            left -= now;
        }
        rustix::fs::fdatasync(&file)?;
    }
    Ok(Outcome {
        operations: flushes,
        seconds: start.elapsed().as_secs_f64(),
        ..Outcome::default()
    })
}
