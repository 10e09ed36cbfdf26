//! Shared parts of the tests that cross crates: random histories, and what two replicas are
//! compared by.

pub mod contents;
pub mod history;
pub mod straight;
