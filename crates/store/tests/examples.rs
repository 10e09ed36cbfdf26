//! The examples run, and what they assert holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/bulk_load.rs"]
mod bulk_load;
#[path = "../examples/counters.rs"]
mod counters;
#[path = "../examples/cursor.rs"]
mod cursor;
#[path = "../examples/groups.rs"]
mod groups;
#[path = "../examples/multi_value.rs"]
mod multi_value;
#[path = "../examples/queue.rs"]
mod queue;
#[path = "../examples/quickstart.rs"]
mod quickstart;
#[path = "../examples/ranges.rs"]
mod ranges;
#[path = "../examples/threads.rs"]
mod threads;
#[path = "../examples/tools.rs"]
mod tools;
#[path = "../examples/typed_rows.rs"]
mod typed_rows;

#[test]
fn quickstart_runs() {
    quickstart::main().unwrap();
}

#[test]
fn typed_rows_runs() {
    typed_rows::main().unwrap();
}

#[test]
fn ranges_runs() {
    ranges::main().unwrap();
}

#[test]
fn cursor_runs() {
    cursor::main().unwrap();
}

#[test]
fn multi_value_runs() {
    multi_value::main().unwrap();
}

#[test]
fn counters_runs() {
    counters::main().unwrap();
}

#[test]
fn queue_runs() {
    queue::main().unwrap();
}

#[test]
fn bulk_load_runs() {
    bulk_load::main().unwrap();
}

#[test]
fn groups_runs() {
    groups::main().unwrap();
}

#[test]
fn threads_runs() {
    threads::main().unwrap();
}

#[test]
fn tools_runs() {
    tools::main().unwrap();
}
