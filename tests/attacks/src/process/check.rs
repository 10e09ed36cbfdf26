//! What must hold of a file, whatever happened to its writer.

use std::{fs, path::Path};

use folio_store::{Database, Error, Result};

use super::{
    child::STARTING,
    load::{LANES, Load, Model, read_progress},
    report::Known,
};
use crate::Figures;

/// How a file is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// For reading only: the next writer recovers as if nobody had looked.
    ReadOnly,
    /// For writing, and then killed: the next writer recovers again.
    Killed,
    /// For writing, and then closed in order.
    Closed,
}

/// Opens a file that should be sound and compares everything in it with what is known of its writer. `model` goes on to
/// the state that was found; nobody may find an earlier one later.
///
/// # Errors
///
/// Those of the engine. None is right.
///
/// # Panics
///
/// If something is not as it must be.
pub fn check_file(
    file: &Path,
    way: Way,
    known: &Known,
    model: &mut Model,
    figures: &mut Figures,
) -> Result<()> {
    let _no_process_starts = STARTING.read();
    let nothing_yet = known.opened == 0 && model.progress() == [0; LANES];
    if nothing_yet && !file.exists() {
        return Ok(());
    }
    let builder = Database::builder().page_size(model.load().page_size);
    let database = match way {
        // What a killed creation left is no database for whoever only reads.
        _ if nothing_yet => builder.open_or_create(file)?,
        Way::ReadOnly => builder.open_read_only(file)?,
        Way::Killed | Way::Closed => builder.open(file)?,
    };
    check(&database, known, model, figures)?;
    match way {
        Way::ReadOnly => drop(database),
        Way::Killed => database.kill(),
        Way::Closed => database.close()?,
    }
    Ok(())
}

/// The same of an open database.
///
/// # Errors
///
/// As there.
///
/// # Panics
///
/// As there.
pub fn check(
    database: &Database,
    known: &Known,
    model: &mut Model,
    figures: &mut Figures,
) -> Result<()> {
    let view = database.begin_read()?;
    let progress = read_progress(&view)?;
    for (lane, &step) in progress.iter().enumerate() {
        let (least, most) = (known.acknowledged[lane], known.attempted[lane]);
        let (least, most) = (
            least.max(model.progress()[lane]),
            most.max(model.progress()[lane]),
        );
        assert!(
            step >= least,
            "lane {lane} is at step {step}, and {least} was acknowledged"
        );
        assert!(
            step <= most,
            "lane {lane} is at step {step}, and only {most} was attempted"
        );
        figures.add("acknowledged steps checked", least - model.progress()[lane]);
    }
    model.advance(progress);
    let rows = model.compare(&view)?;
    figures.add("rows compared", rows);
    drop(view);
    let report = database.verify(|_, _| ())?;
    assert!(
        report.problems.is_empty(),
        "verify: {:?}",
        &report.problems[..report.problems.len().min(5)]
    );
    figures.add("pages verified", report.pages);
    Ok(())
}

/// Looks at a file of which writes were lost without an error. It may say so, by a typed error at any point; but it must
/// not show a wrong row, nor miss an acknowledged one in silence. True if it said so.
///
/// # Panics
///
/// If it does.
#[must_use]
pub fn check_lossy(file: &Path, load: Load, known: &Known, figures: &mut Figures) -> bool {
    let _no_process_starts = STARTING.read();
    if !file.exists() {
        return known.opened == 0;
    }
    let outcome = Database::open(file).and_then(|database| {
        let view = database.begin_read()?;
        let progress = read_progress(&view)?;
        for (lane, &step) in progress.iter().enumerate() {
            let (least, most) = (known.acknowledged[lane], known.attempted[lane]);
            assert!(
                (least..=most).contains(&step),
                "lane {lane} opens at step {step} in silence; acknowledged {least}, attempted {most}"
            );
        }
        let mut model = Model::new(load);
        model.advance(progress);
        let rows = model.compare(&view)?;
        figures.add("rows compared", rows);
        drop(view);
        let report = database.verify(|_, _| ())?;
        Ok(!report.problems.is_empty())
    });
    match outcome {
        Ok(damaged) => damaged,
        Err(error) => {
            assert!(error.is_corruption(), "a lost write shows as: {error}");
            assert!(names(&error, file), "the error names no file: {error}");
            true
        }
    }
}

/// Whether an error says which file it is about, or which table.
#[must_use]
pub fn names(error: &Error, file: &Path) -> bool {
    let text = error.to_string();
    text.contains(&file.display().to_string()) || text.contains("table `")
}

/// The bytes that a file takes on its disk.
#[must_use]
pub fn size_of(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}
