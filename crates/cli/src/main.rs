//! The `folio` command-line tool.
fn main() {}
