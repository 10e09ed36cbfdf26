//! Attacks on real processes and real filesystems: SIGKILL, calls that fail by strace, disks that are full, and what the
//! engine costs where files are large.

mod check;
mod child;
mod command;
mod footprint;
mod full_disk;
mod inject;
mod kill;
mod load;
mod report;
mod writer;

use std::{panic, path::Path};

pub use self::{
    child::{WriterArguments, run_writer},
    command::Attack,
    footprint::{MeasureArguments, Phase, footprint, measure},
    full_disk::{FullDisk, full_disk, full_storage},
    inject::{Extent, inject},
    kill::kill,
};
use crate::Figures;

/// A folder that is kept if the attack finds something.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn about<R>(&self, what: &str, run: impl FnOnce() -> R) -> R {
        about(what, run)
    }
}

/// Runs a part of an attack; a panic in it says what it was about.
fn about<R>(what: &str, run: impl FnOnce() -> R) -> R {
    match panic::catch_unwind(panic::AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            eprintln!("found by: {what}");
            panic::resume_unwind(panic)
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
        }
    }
}

/// Makes a figure at least `amount`.
fn raise(figures: &mut Figures, what: &str, amount: u64) {
    figures.add(what, amount.saturating_sub(figures.get(what)));
}
