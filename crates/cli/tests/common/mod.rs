//! Running the `folio` binary.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod served;

use std::path::Path;
use std::process::{Command, Output};

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON object on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the binary to its end. A panic of it fails the test, whatever the test is about.
pub fn folio<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let output = Command::new(served::FOLIO).args(arguments).output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    let run = Run {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    run
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Writes a file of purchases: `count` by `customers` customers, of which purchase n has n discs for 10 n cents.
pub fn write_purchases(file: &Path, count: u64, customers: u64) {
    let rows = (1..=count).map(|n| {
        format!(
            "1997-{:02}-{:02},{},{n},{}\n",
            n % 12 + 1,
            n % 28 + 1,
            n % customers,
            10 * n
        )
    });
    let csv: String = std::iter::once("date,customer,discs,cents\n".to_owned())
        .chain(rows)
        .collect();
    std::fs::write(file, csv).expect("the directory is writable");
}
