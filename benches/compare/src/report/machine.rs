//! What the figures were measured on and with. No names of hosts and no paths.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

/// Processor, kernel and file system, in a line.
pub fn machine(data: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = read_to_string("/proc/meminfo").ok().and_then(|info| {
        let kibibytes: u64 = info.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes >> 20)
    });
    format!(
        "{cores} cores ({}), {} GiB of memory, Linux {}, {}",
        processor.as_deref().unwrap_or("unknown"),
        memory.unwrap_or_default(),
        kernel.split('-').next().unwrap_or_default().trim(),
        file_system(data),
    )
}

fn file_system(data: &Path) -> String {
    said(
        Command::new("findmnt")
            .args(["-n", "-o", "FSTYPE", "-T"])
            .arg(data),
    )
    .unwrap_or_else(|| "an unknown file system".to_owned())
}

/// The commit of this repository.
pub fn commit() -> String {
    said(Command::new("git").args([
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "rev-parse",
        "--short",
        "HEAD",
    ]))
    .map_or_else(
        || "this repository".to_owned(),
        |commit| format!("commit {commit}"),
    )
}

/// What a program prints, if it is there and succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package, as the lock file of this program has it.
pub fn version(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let start = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("?", |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_the_engines_are_known() {
        for package in [
            "redb",
            "heed",
            "lmdb-master-sys",
            "canopydb",
            "fjall",
            "sled",
        ] {
            assert_ne!(version(package), "?", "{package}");
        }
    }
}
