//! Counts the system calls that wait for the disk, under strace.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::engine::Result;

/// The system calls that wait for the disk.
pub const WAITING: &[&str] = &["fsync", "fdatasync", "msync", "sync_file_range", "syncfs"];
const WRITING: &[&str] = &["write", "writev", "pwrite64", "pwritev", "pwritev2"];

/// Whether there is strace.
pub fn possible() -> bool {
    Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The calls per durable commit of one log entry, by name. Opening and closing are left out, by taking the difference of
/// two runs, one with 200 commits more.
pub fn per_commit(engine: &str, data: &Path) -> Result<String> {
    let few = traced(engine, data, 0.01)?;
    let many = traced(engine, data, 0.02)?;
    let mut calls = Vec::new();
    for (name, count) in many {
        let more = count.saturating_sub(few.get(&name).copied().unwrap_or(0));
        let each = more as f64 / 200.0;
        if each >= 0.005 {
            calls.push(format!("{each:.2} {name}"));
        }
    }
    Ok(if calls.is_empty() {
        "none".to_owned()
    } else {
        calls.join(", ")
    })
}

fn traced(engine: &str, data: &Path, scale: f64) -> Result<BTreeMap<String, u64>> {
    let directory = data.join(engine).join("syncs");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let trace = data.join("trace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg("-e")
        .arg(format!(
            "trace={},{},openat,close",
            WAITING.join(","),
            WRITING.join(",")
        ))
        .arg(std::env::current_exe()?)
        .args([
            "child", "--engine", engine, "--load", "log-1", "--phase", "measure",
        ])
        .args(["--seed", "1", "--scale", &scale.to_string(), "--directory"])
        .arg(&directory)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{engine} under strace: {status}").into());
    }
    let counted = count(&fs::read_to_string(&trace)?);
    fs::remove_file(trace)?;
    fs::remove_dir_all(directory)?;
    Ok(counted)
}

/// Counts the calls of a trace. A call that another thread interrupts in the trace is counted where it begins.
pub fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut synchronous = HashSet::new();
    // Threads that are opening a file, and whether writes to it will wait.
    let mut opening = HashMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let result = call.rsplit_once("= ").map(|(_, result)| result.trim());
        let resumed = call.starts_with("<... openat resumed>");
        let name = call.split('(').next().unwrap_or_default();
        let file = call
            .split_once('(')
            .and_then(|(_, rest)| rest.split([',', ')', ' ']).next());
        if resumed || name == "openat" {
            let waits = if resumed {
                opening.remove(thread).unwrap_or(false)
            } else {
                call.contains("O_DSYNC") || call.contains("O_SYNC")
            };
            match result {
                Some(file) if waits => {
                    synchronous.insert(file);
                }
                Some(file) => {
                    synchronous.remove(file);
                }
                None => {
                    opening.insert(thread, waits);
                }
            }
        } else if WAITING.contains(&name) {
            *counts.entry(name.to_owned()).or_default() += 1;
        } else if WRITING.contains(&name) && file.is_some_and(|file| synchronous.contains(file)) {
            *counts.entry(format!("synchronous {name}")).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_and_synchronous_writes_are_counted() {
        let trace = "\
10 openat(AT_FDCWD, \"a\", O_RDWR|O_DSYNC) = 5
10 openat(AT_FDCWD, \"b\", O_RDWR <unfinished ...>
11 fdatasync(6 <unfinished ...>
10 <... openat resumed>) = 7
11 <... fdatasync resumed>) = 0
10 pwrite64(5, \"x\", 1, 0) = 1
10 pwrite64(7, \"x\", 1, 0) = 1
10 fdatasync(7) = 0
";
        let counts = count(trace);
        assert_eq!(counts.get("fdatasync"), Some(&2));
        assert_eq!(counts.get("synchronous pwrite64"), Some(&1));
        assert_eq!(counts.len(), 2);
    }
}
