//! Writing files.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::run::Failure;

/// The modes of files for everybody and for their owner.
pub const PUBLIC: u32 = 0o644;
pub const SECRET: u32 = 0o600;

/// Makes a directory that nobody else can look into, unless it is there.
pub fn make_private_directory(path: &Path) -> Result<(), Failure> {
    if path.exists() && !path.is_dir() {
        return Err(about(
            path,
            "it is there, and is no directory: name another one",
        ));
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| about(path, format!("cannot create it: {error}")))
}

/// Writes a file that is there as a whole or not at all.
pub fn write(path: &Path, contents: &str, mode: u32, replace: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::Error(format!("{} is there already, and is kept", path.display()))
        }
        _ => about(path, error),
    };
    let mut file = NamedTempFile::new_in(directory_of(path)).map_err(failed)?;
    file.write_all(contents.as_bytes()).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(mode);
    file.as_file()
        .set_permissions(permissions)
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let persisted = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    persisted.map(drop).map_err(|error| failed(error.error))
}

/// The directory that a file is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        None => Path::new("."),
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
    }
}

/// Makes the name of a file durable.
pub fn sync_directory(file: &Path) -> Result<(), Failure> {
    let directory = directory_of(file);
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| about(directory, error))
}

/// What went wrong with a file.
pub fn about(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::Error(format!("{}: {error}", path.display()))
}
