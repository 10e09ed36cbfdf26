//! An embedded copy-on-write B+ tree engine with single-flush commits and table groups.
