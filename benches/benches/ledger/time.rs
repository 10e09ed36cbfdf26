//! Two ways to say how long something took.

use std::{fs, io, str::FromStr, time::Duration, time::Instant};

/// Which time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// All that passed.
    Passed,
    /// That during which this thread ran.
    Processor,
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "passed" => Ok(Self::Passed),
            "processor" => Ok(Self::Processor),
            _ => Err(format!("--time is `passed` or `processor`, not `{text}`")),
        }
    }
}

impl Time {
    /// Does some work, and says how long that took.
    pub fn of<R>(self, work: impl FnOnce() -> R) -> io::Result<(R, Duration)> {
        match self {
            Self::Passed => {
                let began = Instant::now();
                let result = work();
                Ok((result, began.elapsed()))
            }
            Self::Processor => {
                let began = running()?;
                let result = work();
                Ok((result, running()? - began))
            }
        }
    }
}

/// How long this thread has been running, as Linux counts it.
fn running() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the system counts no times of threads",
        )
    })
}
