//! Attacks on the engine. Each has a short form, which is a test in `tests/`, and a long form, which is a command of the
//! program `folio-attacks`. An attack that finds something panics with all that is needed to repeat it.

mod figures;
pub mod process;

pub use figures::Figures;
