//! What the system says of a process and its files.

use std::path::Path;

use crate::engine::Result;

fn status(process: &str, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .ok_or("no such field of the process status")?;
    let kibibytes = line.split_whitespace().nth(1).ok_or("no number")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Bytes of memory of this process. The most is counted from here on, too.
pub fn memory_now() -> Result<u64> {
    std::fs::write("/proc/self/clear_refs", "5")?;
    status("self", "VmRSS:")
}

/// The most bytes of memory since then.
pub fn memory_at_most() -> Result<u64> {
    status("self", "VmHWM:")
}

/// The most bytes of memory that a process ever had.
pub fn memory_of(process: u32) -> Result<u64> {
    status(&process.to_string(), "VmHWM:")
}

/// Bytes that a folder takes on the device.
pub fn bytes_of(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            bytes_of(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Seconds that the processors spent on this process so far.
pub fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
