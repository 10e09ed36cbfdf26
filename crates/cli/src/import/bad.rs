//! The list of rows that were passed over.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::cannot;
use crate::run::Failure;

/// A file of bad rows, a JSON object a line. Several imports may add to it.
pub struct BadRows {
    path: PathBuf,
    file: File,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct BadRow {
    file: String,
    line: u64,
    reason: String,
    row: String,
}

impl BadRows {
    /// Opens or makes the list, and takes out rows of `data` behind line `committed`: they were added by a run that ended
    /// before it got there for good, and are met again.
    pub fn open(path: &Path, data: &Path, committed: u64) -> Result<Self, Failure> {
        let failed = |error| cannot("write", path, &error);
        let data = data.display().to_string();
        if path.exists() {
            take_out(path, |row| row.file == data && row.line > committed).map_err(failed)?;
        }
        let file = File::options().create(true).append(true).open(path);
        Ok(BadRows {
            path: path.to_owned(),
            file: file.map_err(failed)?,
            data,
        })
    }

    pub fn add(&mut self, line: u64, reason: &str, row: &[u8]) -> Result<(), Failure> {
        let row = BadRow {
            file: self.data.clone(),
            line,
            reason: reason.to_owned(),
            row: String::from_utf8_lossy(row).into_owned(),
        };
        let mut text = serde_json::to_vec(&row).map_err(Failure::error)?;
        text.push(b'\n');
        let written = self.file.write_all(&text);
        written.map_err(|error| cannot("write", &self.path, &error))
    }

    /// Makes what was added durable.
    pub fn sync(&self) -> Result<(), Failure> {
        let synced = self.file.sync_data();
        synced.map_err(|error| cannot("write", &self.path, &error))
    }
}

/// Takes rows out of a list, and half a line at its end.
fn take_out(path: &Path, unwanted: impl Fn(&BadRow) -> bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut kept = BufWriter::new(NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?);
    let mut list = BufReader::new(File::open(path)?);
    let (mut line, mut changed) = (Vec::new(), false);
    while list.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            changed = true;
            break;
        }
        let row = serde_json::from_slice(&line).map_err(|_| {
            let fault = "it is there, and is no list of bad rows";
            io::Error::new(io::ErrorKind::InvalidData, fault)
        })?;
        match unwanted(&row) {
            true => changed = true,
            false => kept.write_all(&line)?,
        }
        line.clear();
    }
    if changed {
        let kept = kept.into_inner().map_err(io::IntoInnerError::into_error)?;
        kept.as_file().sync_all()?;
        kept.persist(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_met_again_are_listed_once_and_those_of_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bad.jsonl");
        let open = |data: &str, committed| BadRows::open(&path, Path::new(data), committed);
        let add = |data, committed, lines: &[u64]| {
            let mut bad = open(data, committed).expect("a list");
            for &line in lines {
                bad.add(line, "wrong", b"row").expect("room");
            }
        };
        add("a", 0, &[2, 5, 9]);
        add("b", 0, &[1, 7]);
        let torn = std::fs::read(&path).expect("a list");
        std::fs::write(&path, [&torn[..], b"{\"file\":\"b\""].concat()).expect("room");
        add("a", 5, &[9, 11]);
        let list = std::fs::read_to_string(&path).expect("text");
        let rows: Vec<BadRow> = list
            .lines()
            .map(|line| serde_json::from_str(line).expect("whole rows"))
            .collect();
        let places: Vec<_> = rows.iter().map(|row| (&row.file[..], row.line)).collect();
        let expected = [("a", 2), ("a", 5), ("b", 1), ("b", 7), ("a", 9), ("a", 11)];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_file_of_something_else_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "buy milk\n").expect("room");
        assert!(BadRows::open(&path, Path::new("a"), 0).is_err());
        assert_eq!(std::fs::read(&path).expect("there"), b"buy milk\n");
    }
}
