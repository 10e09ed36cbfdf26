//! Attacks on the engine. Each has a short form, which is a test in `tests/`, and a long form, which is a command of the
//! program `folio-attacks`. An attack that finds something panics with all that is needed to repeat it.

mod apply;
pub mod choices;
pub mod craft;
pub mod crash;
pub mod damage;
pub mod faults;
mod figures;
pub mod model;
pub mod mutations;
pub mod process;
pub mod script;
pub mod simulation;
pub mod world;

pub use figures::Figures;
