//! What an attack counted.

use std::{fmt, time::Instant};

/// What an attack counted, for people and for the table in DESIGN.md.
#[derive(Debug)]
pub struct Figures {
    attack: &'static str,
    began: Instant,
    counts: Vec<(String, u64)>,
}

impl Figures {
    /// Begins to count, and to measure the time.
    #[must_use]
    pub fn of(attack: &'static str) -> Self {
        Self {
            attack,
            began: Instant::now(),
            counts: Vec::new(),
        }
    }

    /// Adds to a count. Counts are shown in the order in which each was first named.
    pub fn add(&mut self, what: &str, amount: u64) {
        match self.counts.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += amount,
            None => self.counts.push((what.into(), amount)),
        }
    }

    /// Adds all counts of another one.
    pub fn join(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.add(what, *count);
        }
    }

    /// A count; 0 if it was never added to.
    #[must_use]
    pub fn get(&self, what: &str) -> u64 {
        let found = self.counts.iter().find(|(name, _)| name == what);
        found.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.began.elapsed().as_secs_f64();
        write!(formatter, "{}: {seconds:.0} s", self.attack)?;
        for (what, count) in &self.counts {
            write!(formatter, ", {count} {what}")?;
        }
        // What an attack counts most of says how fast it is.
        if let Some((what, count)) = self.counts.iter().max_by_key(|(_, count)| count) {
            let a_minute = *count as f64 / seconds.max(0.001) * 60.0;
            write!(formatter, " ({a_minute:.0} {what} a minute)")?;
        }
        Ok(())
    }
}
