//! Disks without room: a storage with a limit, and a filesystem of a few megabytes.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use folio_store::{
    Database, Error, Result,
    storage::{LimitedStorage, MemoryStorage, SplitMix64},
};

use super::{
    Scratch,
    check::{check, names},
    load::{LANES, Load, Model, read_progress},
    report::{Known, Report},
    writer::{script, steps},
};
use crate::Figures;

/// A place for one database, where room can be short.
trait Place {
    fn open(&self) -> Result<Database>;
    fn open_to_read(&self) -> Option<Result<Database>>;
    /// Makes all the room that anybody may need.
    fn make_room(&self);
    /// What errors are about.
    fn name(&self) -> String;
    /// How long the file may be, if anybody knows.
    fn limit(&self) -> Option<u64>;
}

/// Runs the script until there is no room, and then does what somebody does about it. True if there was room enough.
///
/// # Panics
///
/// If something acknowledged is lost, an error says something else, what must work on a full disk does not, or anything
/// does not once there is room.
fn fill(
    place: &dyn Place,
    load: Load,
    rounds: u64,
    random: &mut SplitMix64,
    figures: &mut Figures,
) -> bool {
    let known = Mutex::new(Known::default());
    let report = |report: Report| known.lock().expect("one thread").note(report);
    let now = || known.lock().expect("one thread").clone();
    let Err(stopped) = script(load, rounds, &|| place.open(), &report) else {
        return true;
    };
    assert_full(&stopped.error, place);
    figures.add("times full", 1);

    // The handle that met the full disk.
    let goes_on = matches!(stopped.error, Error::Full { .. });
    let mut open = None;
    if let Some(database) = stopped.database {
        if let (Error::Full { needed, .. }, Some(limit)) = (&stopped.error, place.limit()) {
            let statistics = database.statistics();
            let length = statistics.file_pages * statistics.page_size;
            assert!(
                length + needed > limit,
                "{length} of {limit} bytes are used: {}",
                stopped.error
            );
        }
        let view = database.begin_read().expect("a view on a full disk");
        let rows = stopped.published.compare(&view).expect("readable rows");
        figures.add("rows compared", rows);
        drop(view);
        if !goes_on {
            let again = database.begin_write().map(drop);
            assert!(
                matches!(again, Err(Error::Latched { .. })),
                "after {}: {again:?}",
                stopped.error
            );
        } else if random.one_in(2) {
            figures.add("handles that went on", 1);
            open = Some((database, stopped.published));
        }
    }
    let (database, mut model) = match open {
        Some(open) => open,
        None => match reopen(place, load, &now(), figures) {
            Some(open) => open,
            None => return false,
        },
    };

    // Removals find room, and what they free is room for rows.
    let removed = load
        .clear(&database)
        .unwrap_or_else(|error| panic!("removals on a full disk: {error}"));
    figures.add("rows removed on a full disk", removed);
    model.clear();
    (0..LANES).for_each(|lane| report(Report::Acknowledged(lane, model.progress()[lane])));
    check(&database, &now(), &mut model, figures).expect("a sound database");
    if removed > 150 {
        let before: u64 = model.progress().iter().sum();
        if let Err(error) = steps(load, &database, &report, &mut model, 1) {
            assert_full(&error, place);
        }
        let after: u64 = model.progress().iter().sum();
        assert!(after > before, "{removed} rows were removed and none fits");
        figures.add("steps on a full disk", after - before);
    }

    // Somebody makes room elsewhere.
    place.make_room();
    let writable = database.begin_write().map(drop);
    let database = match writable {
        Ok(()) if random.one_in(2) => database,
        _ => {
            drop(database);
            place.open().expect("a file that opens")
        }
    };
    model.assert_at(read_progress(&database.begin_read().expect("a view")).expect("readable rows"));
    steps(load, &database, &report, &mut model, 2 * rounds).expect("room");
    (0..LANES).for_each(|lane| report(Report::Attempt(lane, model.progress()[lane])));
    database.close().expect("room");
    let database = place.open().expect("a file that opens");
    check(&database, &now(), &mut model, figures).expect("a sound database");
    figures.add("recovered", 1);
    false
}

/// Opens a file on a disk that is full. Nothing if there was never a database: then there is one once there is room.
fn reopen(
    place: &dyn Place,
    load: Load,
    known: &Known,
    figures: &mut Figures,
) -> Option<(Database, Model)> {
    let mut model = Model::new(load);
    if known.opened == 0 {
        match place.open() {
            Err(error) => {
                assert_full(&error, place);
                figures.add("creations refused", 1);
                place.make_room();
                let database = place
                    .open()
                    .expect("what is left of a creation is no obstacle");
                check(&database, known, &mut model, figures).expect("an empty database");
                return None;
            }
            Ok(database) => return Some((database, model)),
        }
    }
    if let Some(reader) = place.open_to_read() {
        let reader = reader.unwrap_or_else(|error| panic!("for reading, on a full disk: {error}"));
        check(&reader, known, &mut model, figures).expect("a sound database");
    }
    let database = place
        .open()
        .unwrap_or_else(|error| panic!("on a full disk: {error}"));
    check(&database, known, &mut model, figures).expect("a sound database");
    Some((database, model))
}

fn assert_full(error: &Error, place: &dyn Place) {
    let source = match error {
        Error::Full { source, .. } | Error::Io { source, .. } => source,
        other => panic!("a full disk shows as: {other}"),
    };
    assert_eq!(source.kind(), ErrorKind::StorageFull, "{error}");
    let name = place.name();
    assert!(
        names(error, Path::new(&name)),
        "the error names no file: {error}"
    );
}

/// A storage in memory with a limit.
struct InMemory {
    storage: Arc<LimitedStorage>,
    load: Load,
    cache: usize,
}

impl Place for InMemory {
    fn open(&self) -> Result<Database> {
        let builder = Database::builder()
            .page_size(self.load.page_size)
            .cache_size(self.cache);
        match builder.open_on(self.storage.clone()) {
            // As `open_or_create` does for files.
            Err(Error::NotADatabase { .. }) => builder.create_on(self.storage.clone()),
            outcome => outcome,
        }
    }

    fn open_to_read(&self) -> Option<Result<Database>> {
        None
    }

    fn make_room(&self) {
        self.storage.set_limit(u64::MAX);
    }

    fn name(&self) -> String {
        "memory".into()
    }

    fn limit(&self) -> Option<u64> {
        Some(self.storage.limit())
    }
}

/// The full disk in memory: every number of pages of room, up to what the script needs, for several page sizes and
/// caches. `step` of 1 tries every number, a larger one skips some.
///
/// # Panics
///
/// If something is not as it must be. The message has all that is needed to repeat it.
#[must_use]
pub fn full_storage(seed: u64, step: u64) -> Figures {
    let mut figures = Figures::of("full storage");
    for (page_size, cache_pages, rounds) in [
        (4096, 16, 1),
        (4096, 4096, 3),
        (16_384, 24, 1),
        (65_536, 8, 1),
    ] {
        let load = Load { seed, page_size };
        let mut random = SplitMix64::new(seed);
        let mut pages = 0;
        loop {
            // To the last byte: not every limit is at the end of a page.
            let odd = match random.below(3) {
                0 => random.below(page_size as u64),
                _ => 0,
            };
            let limit = pages * page_size as u64 + odd;
            let place = InMemory {
                storage: Arc::new(LimitedStorage::new(Arc::new(MemoryStorage::new()), limit)),
                load,
                cache: cache_pages * page_size,
            };
            let what = format!(
                "{load:?}, cache of {cache_pages} pages, {rounds} rounds, room for {limit} bytes"
            );
            let enough = super::about(&what, || {
                fill(&place, load, rounds, &mut random, &mut figures)
            });
            figures.add("runs", 1);
            if enough && place.storage.refused() == 0 {
                break;
            }
            pages += step;
        }
    }
    figures
}

/// What of a filesystem the attack used.
pub type FullDisk = (Figures, &'static str);

/// A mounted filesystem, unmounted when it goes.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        for lazily in [false, true] {
            let mut command = Command::new("umount");
            if lazily {
                command.arg("-l");
            }
            if command
                .arg(&self.0)
                .status()
                .is_ok_and(|status| status.success())
            {
                return;
            }
        }
        eprintln!("{} could not be unmounted", self.0.display());
    }
}

const MEGABYTES: u64 = 8;

/// Mounts an ext4 image over a loop device, or else a tmpfs. The reasons, if neither is possible.
fn mount(folder: &Path) -> Result<(Mounted, &'static str), String> {
    let (image, at) = (folder.join("image"), folder.join("disk"));
    fs::create_dir(&at).expect("a folder");
    File::create(&image)
        .and_then(|file| file.set_len(MEGABYTES << 20))
        .expect("an image");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{program}: {error}")),
        }
    };
    let text = |path: &Path| path.display().to_string();
    let loop_device = run("mkfs.ext4", &["-q", "-m", "0", &text(&image)]).and_then(|()| {
        run(
            "mount",
            &["-o", "loop,barrier=0", &text(&image), &text(&at)],
        )
    });
    let Err(no_loop) = loop_device else {
        return Ok((Mounted(at), "ext4"));
    };
    let size = format!("size={MEGABYTES}m");
    match run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &text(&at)]) {
        Ok(()) => Ok((Mounted(at), "tmpfs")),
        Err(no_tmpfs) => Err(format!(
            "no filesystem can be mounted: {no_loop}; {no_tmpfs}"
        )),
    }
}

/// A file on a small filesystem whose room another file takes.
struct OnDisk {
    file: PathBuf,
    other: PathBuf,
    load: Load,
    cache: usize,
}

impl OnDisk {
    /// Fills the disk to the last byte and then frees `room`.
    fn leave(&self, room: u64) -> io::Result<()> {
        let mut other = File::create(&self.other)?;
        let mut block = vec![1; 1 << 20];
        while !block.is_empty() {
            match other.write(&block) {
                Ok(written) if written > 0 => {}
                Ok(_) => block.truncate(block.len() / 2),
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    block.truncate(block.len() / 2)
                }
                Err(error) => return Err(error),
            }
        }
        other.sync_all()?;
        let length = other.metadata()?.len();
        other.set_len(length.saturating_sub(room))?;
        other.sync_all()
    }
}

impl Place for OnDisk {
    fn open(&self) -> Result<Database> {
        Database::builder()
            .page_size(self.load.page_size)
            .cache_size(self.cache)
            .open_or_create(&self.file)
    }

    fn open_to_read(&self) -> Option<Result<Database>> {
        Some(Database::open_read_only(&self.file))
    }

    fn make_room(&self) {
        fs::remove_file(&self.other).expect("the other file");
    }

    fn name(&self) -> String {
        self.file.display().to_string()
    }

    fn limit(&self) -> Option<u64> {
        None
    }
}

/// The full disk on a filesystem of 8 MiB, with more and more room up to what the script needs, in `runs` runs or so.
///
/// # Errors
///
/// If no filesystem can be mounted here, why.
///
/// # Panics
///
/// If something is not as it must be. The message has all that is needed to repeat it.
pub fn full_disk(seed: u64, runs: u64) -> Result<FullDisk, String> {
    let mut figures = Figures::of("full disk");
    let scratch = Scratch::new();
    let (mounted, kind) = mount(scratch.path())?;
    let load = Load {
        seed,
        page_size: 4096,
    };
    let mut random = SplitMix64::new(seed);
    let rounds = 2;
    let most = 1 << 20;
    for (index, cache) in (0..runs).zip([64 << 10, 8 << 20].into_iter().cycle()) {
        let room = most * index / runs;
        let place = OnDisk {
            file: mounted.0.join("full.folio"),
            other: mounted.0.join("other"),
            load,
            cache,
        };
        place.leave(room).expect("a disk that can be filled");
        let what = format!("{kind}, {load:?}, cache {cache}, room for {room} bytes");
        let enough = scratch.about(&what, || {
            let _no_process_starts = super::child::STARTING.read();
            fill(&place, load, rounds, &mut random, &mut figures)
        });
        figures.add("runs", 1);
        figures.add("runs with room enough", u64::from(enough));
        for file in [&place.file, &place.other] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }
    drop(mounted);
    Ok((figures, kind))
}
