//! Writers killed with SIGKILL, in a loop.

use std::{
    fs,
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use folio_store::storage::SplitMix64;

use super::{
    Scratch,
    check::{Way, check_file, size_of},
    child::{Writer, WriterArguments},
    load::{Load, Model},
    raise,
    report::Known,
};
use crate::Figures;

/// SIGKILL.
const KILLED: i32 = 9;

/// The longest that a writer lives, in microseconds.
const LONGEST: u64 = 80_000;

/// A file and what is known of it.
struct Subject {
    arguments: WriterArguments,
    model: Model,
    cycles_left: u64,
}

impl Subject {
    fn new(folder: &Path, random: &mut SplitMix64) -> Self {
        let seed = random.next_u64();
        let page_size = [4096, 4096, 8192, 16_384, 65_536][random.below(5) as usize];
        let cache = [64 << 10, 256 << 10, 2 << 20, 32 << 20][random.below(4) as usize];
        Self {
            arguments: WriterArguments {
                file: folder.join(format!("{seed:016x}.folio")),
                seed,
                page_size,
                cache,
                rounds: None,
            },
            model: Model::new(Load { seed, page_size }),
            cycles_left: 1 + random.below(60),
        }
    }
}

/// Starts a writer, kills it at a random moment, and checks its file, `cycles` times: the file opens; every acknowledged
/// row is there with its contents and nothing is that was not attempted; `verify` finds nothing, so free space is exact.
/// Then the next writer goes on with the same file; now and then it gets a new one.
///
/// # Panics
///
/// If something is not as it must be. The message has the seed, and the folder is kept.
#[must_use]
pub fn kill(program: &Path, cycles: u64, seed: u64) -> Figures {
    let mut figures = Figures::of("kill -9");
    // The order in which they are shown.
    for what in ["new files", "killed before they were open"] {
        figures.add(what, 0);
    }
    let scratch = Scratch::new();
    let mut random = SplitMix64::new(seed);
    let mut subject = Subject::new(scratch.path(), &mut random);
    for cycle in 0..cycles {
        if subject.cycles_left == 0 {
            match fs::remove_file(&subject.arguments.file) {
                // Every writer was killed before it had made the file.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done.expect("remove a file that is done with"),
            }
            subject = Subject::new(scratch.path(), &mut random);
            figures.add("new files", 1);
        }
        subject.cycles_left -= 1;
        let what = format!(
            "seed {seed}, cycle {cycle}, folder {}, {:?}",
            scratch.path().display(),
            subject.arguments
        );
        scratch.about(&what, || {
            let errors = scratch.path().join("stderr");
            one_cycle(program, &mut subject, errors, &mut random, &mut figures);
        });
    }
    figures
}

fn one_cycle(
    program: &Path,
    subject: &mut Subject,
    errors: PathBuf,
    random: &mut SplitMix64,
    figures: &mut Figures,
) {
    // One in three dies while it opens or recovers.
    let longest = if random.one_in(3) { 4_000 } else { LONGEST };
    let life = Duration::from_micros(random.below(longest));
    let known = Known::at(subject.model.progress());
    let writer = Writer::start(subject.arguments.command(None, program), known, errors);
    thread::sleep(life);
    let ended = writer.kill();
    assert_eq!(
        ended.status.signal(),
        Some(KILLED),
        "the writer ended by itself: {ended:?}"
    );
    assert!(ended.known.wrong.is_empty(), "{ended:?}");
    assert!(ended.known.failures.is_empty(), "{ended:?}");
    let way = [Way::ReadOnly, Way::Killed, Way::Closed][random.below(3) as usize];
    let file = &subject.arguments.file;
    check_file(file, way, &ended.known, &mut subject.model, figures)
        .unwrap_or_else(|error| panic!("{way:?}: {error}\n{ended:?}"));
    figures.add("openings", ended.known.opened);
    figures.add("closings", ended.known.closed);
    if ended.known.opened == 0 {
        figures.add("killed before they were open", 1);
    }
    raise(figures, "KiB of the largest file", size_of(file) >> 10);
    figures.add("cycles", 1);
}
