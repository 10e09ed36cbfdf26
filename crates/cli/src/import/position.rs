//! How far an import is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::cannot;
use crate::run::Failure;

/// How many bytes at its beginning tell a file from others.
const BEGINNING: u64 = 4096;

/// A place between two rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The bytes before it.
    pub bytes: u64,
    /// The lines before it.
    pub lines: u64,
}

/// What the vault knows of an import, in an entity that changes together with the rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Where the rows begin that are not there yet.
    #[serde(flatten)]
    pub place: Place,
    /// The rows that are there.
    pub rows: u64,
    /// The rows that were passed over.
    pub bad: u64,
    /// The first bytes of what is there: how many, and their hash.
    beginning: (u64, String),
}

impl Position {
    /// Moves on to a later place of the file.
    pub fn move_to(&mut self, data: &Path, place: Place) -> Result<(), Failure> {
        if self.beginning.0 < BEGINNING {
            let length = place.bytes.min(BEGINNING);
            self.beginning = (length, hash(data, length)?);
        }
        self.place = place;
        Ok(())
    }

    /// Refuses a file that is not the one whose rows are there. It may have become longer.
    pub fn check(&self, data: &Path, name: &str) -> Result<(), Failure> {
        let (length, expected) = &self.beginning;
        let long = data
            .metadata()
            .map_err(|error| cannot("read", data, &error))?;
        if long.len() < self.place.bytes || hash(data, *length)? != *expected {
            return Err(Failure::Error(format!(
                "{}: not the file of which {} rows are in the vault as import `{name}`; give this one another name with \
                 --name",
                data.display(),
                self.rows
            )));
        }
        Ok(())
    }
}

fn hash(data: &Path, length: u64) -> Result<String, Failure> {
    let mut begins = Vec::new();
    File::open(data)
        .and_then(|file| file.take(length).read_to_end(&mut begins))
        .and_then(|read| match read as u64 == length {
            true => Ok(format!("{:032x}", xxh3_128(&begins))),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
        .map_err(|error| cannot("read", data, &error))
}
