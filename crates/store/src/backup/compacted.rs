//! A copy in full pages: the rows of one view, loaded into a new database in order.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{BackupOptions, BackupReport, apply::create_beside, image::Watch};
use crate::{
    CompactOptions, Database, Durability, TableDefinition, TableView, Untyped,
    engine::{Pace, SystemClock},
    error::Result,
};

/// A transaction ends when it has loaded about this much.
const TRANSACTION_BYTES: usize = 4 << 20;

/// The cache of the new database.
const CACHE: usize = 16 << 20;

pub(super) fn write(
    source: &Database,
    options: &BackupOptions,
    writer: impl Write,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<BackupReport> {
    let folder = options.scratch.clone();
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::create(&folder)?;
    let view = source.begin_read()?;
    let target = Database::builder()
        .page_size(source.handle().engine().pager.page_size)
        .cache_size(CACHE)
        .durability(Durability::Eventual)
        .create(scratch.path.join("copy"))?;
    let marks = source.handle().engine().marks();
    if marks != 0 {
        target.handle().engine().mark(marks)?;
    }
    let tables = view.tables()?;
    let clock = SystemClock::start();
    let mut watch = Watch {
        pace: Pace::new(&clock, options.rate),
        progress,
        done: 0,
        total: 0,
    };
    for table in &tables {
        watch.total += view.untyped(table)?.len()?;
    }
    for table in &tables {
        load(source, &target, table, &view.untyped(table)?, &mut watch)?;
    }
    // What the transactions gave up on their way.
    target.compact(CompactOptions::new(), |_, _| ControlFlow::Continue(()))?;
    let go_on = |_, _| ControlFlow::Continue(());
    let written = target.begin_backup()?.write(0, 0, writer, go_on)?;
    target.close()?;
    Ok(BackupReport {
        transaction: view.number(),
        point: None,
        ..written
    })
}

fn load(
    source: &Database,
    target: &Database,
    definition: &TableDefinition,
    rows: &TableView<'_, Untyped>,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let pager = &source.handle().engine().pager;
    let mut rows = rows.iter()?.peekable();
    loop {
        let transaction = target.begin_write()?;
        let mut table = transaction.untyped(definition)?;
        let mut loader = table.loader()?;
        let mut bytes = 0;
        while bytes < TRANSACTION_BYTES {
            let Some(row) = rows.next() else { break };
            let (key, value) = row?;
            loader.push(key.as_slice(), value.as_slice())?;
            let length = key.len() + value.len();
            bytes += length;
            watch.step(pager, 1, length as u64)?;
        }
        loader.finish()?;
        drop(table);
        transaction.commit()?;
        if rows.peek().is_none() {
            return Ok(());
        }
    }
}

/// A folder that nobody else looks into, and that is gone at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn create(folder: &Path) -> Result<Self> {
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        let beside = folder.join("folio-backup");
        let (path, ()) = create_beside(&beside, "scratch", |path| private.create(path))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is nobody's but ours.
        drop(fs::remove_dir_all(&self.path));
    }
}
