//! Backups as files and streams, compressed or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use folio_client::Resume;
use folio_store::BackupPoint;
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

use crate::files::about;
use crate::run::Failure;

/// What is compressed at a time. Each piece is a zstd frame of its own, so what is there of an interrupted file is known
/// frame by frame; `zstd -d` takes them one after the other.
const FRAME: usize = 4 << 20;

/// That of zstd itself: twice as fast to write as the next ones, and nearly as short.
const LEVEL: i32 = 3;

const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const CHANGES_MAGIC: [u8; 8] = *b"FolioInc";

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A backup, whole or incremental, that is compressed.
    Compressed,
    /// An incremental backup as it is.
    Changes,
    /// A database, perhaps a whole backup as it is, or nothing of Folio's.
    Other,
}

/// A backup that is read from its first byte on.
pub struct Archive {
    pub form: Form,
    reader: Box<dyn Read>,
}

/// Whether standard input or output is meant.
pub fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

impl Archive {
    /// Opens a file, or standard input for `-`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| about(path, error);
        match is_stream(path) {
            true => Self::begin(io::stdin()).map_err(failed),
            false if path.is_dir() => Err(about(path, "it is a directory: name a file in it")),
            false => {
                let file = File::open(path)
                    .map_err(|error| about(path, format!("cannot open it: {error}")))?;
                Self::begin(file).map_err(failed)
            }
        }
    }

    fn begin(reader: impl Read + 'static) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(256 << 10, reader);
        let mut first = Vec::new();
        (&mut reader).take(8).read_to_end(&mut first)?;
        let form = match &first {
            first if first.starts_with(&FRAME_MAGIC) => Form::Compressed,
            first if **first == CHANGES_MAGIC => Form::Changes,
            _ => Form::Other,
        };
        let whole = io::Cursor::new(first).chain(reader);
        let reader: Box<dyn Read> = match form {
            Form::Compressed => Box::new(BufReader::new(Unpacked(Decoder::with_buffer(
                BufReader::new(whole),
            )?))),
            Form::Changes | Form::Other => Box::new(whole),
        };
        Ok(Archive { form, reader })
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// What the frames hold. Its memory is bounded by what zstd allows a frame to ask for, 128 MiB.
struct Unpacked<R>(R);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            // What the system says has a number; anything else is said of the bytes.
            match error.raw_os_error().is_none() && error.kind() != io::ErrorKind::UnexpectedEof {
                true => io::Error::new(io::ErrorKind::InvalidData, error),
                false => error,
            }
        })
    }
}

/// Compresses what is written, a frame at a time.
pub struct Frames<W> {
    writer: W,
    compressor: Compressor<'static>,
    piece: Vec<u8>,
}

impl<W: Write> Frames<W> {
    pub fn new(writer: W) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Frames {
            writer,
            compressor,
            piece: Vec::with_capacity(FRAME),
        })
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let frame = self.compressor.compress(&self.piece)?;
        self.piece.clear();
        self.writer.write_all(&frame)
    }

    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.piece.is_empty() {
            self.end_frame()?;
        }
        Ok(self.writer)
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == FRAME {
            self.end_frame()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where what came of an interrupted transfer lies.
pub fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// What is there of a whole backup whose transfer was interrupted, and the length of the file up to there; `None` if it is
/// of no use, because it was begun in another form, too.
pub fn resume(partial: &Path, compressed: bool) -> Option<(Resume, u64)> {
    let form = match compressed {
        true => Form::Compressed,
        false => Form::Other,
    };
    let archive = Archive::open(partial).ok()?;
    let archive = (archive.form == form).then_some(archive)?;
    let moment = moment(&BackupPoint::of_backup(archive).ok()?);
    let (bytes, length) = match compressed {
        true => whole_frames(partial).ok()?,
        false => {
            let length = std::fs::metadata(partial).ok()?.len();
            (length, length)
        }
    };
    Some((Resume { moment, bytes }, length)).filter(|_| bytes > 0)
}

/// The bytes in the frames that are whole, and where the last of these ends.
fn whole_frames(file: &Path) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::new(File::open(file)?);
    let (mut bytes, mut end) = (0, 0);
    loop {
        let mut frame = Decoder::with_buffer(reader)?.single_frame();
        match io::copy(&mut frame, &mut io::sink()) {
            Ok(0) | Err(_) => return Ok((bytes, end)),
            Ok(count) => bytes += count,
        }
        reader = frame.finish();
        end = reader.stream_position()?;
    }
}

/// The name of a moment, as nodes have it.
pub fn moment(point: &BackupPoint) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(point.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<u8> {
        let mut frames = Frames::new(Vec::new()).expect("zstd is there");
        frames.write_all(bytes).expect("memory");
        frames.finish().expect("memory")
    }

    #[test]
    fn what_is_there_of_a_cut_file_is_known_frame_by_frame() {
        let bytes: Vec<u8> = (0..FRAME as u32 * 2 + 99).map(|n| (n >> 7) as u8).collect();
        let whole = frames(&bytes);
        let first = frames(&bytes[..FRAME]).len() as u64;
        let second = first + frames(&bytes[FRAME..2 * FRAME]).len() as u64;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("cut");
        for (length, expected) in [
            (0, (0, 0)),
            (first - 1, (0, 0)),
            (first, (FRAME as u64, first)),
            (first + 3, (FRAME as u64, first)),
            (second + 1, (2 * FRAME as u64, second)),
            (whole.len() as u64, (bytes.len() as u64, whole.len() as u64)),
        ] {
            std::fs::write(&file, &whole[..length as usize]).expect("writable");
            let found = whole_frames(&file).expect("readable");
            assert_eq!(found, expected, "cut at {length}");
        }
        let mut unpacked = Vec::new();
        let mut archive = Archive::open(&file).unwrap_or_else(|failure| panic!("{failure:?}"));
        archive.read_to_end(&mut unpacked).expect("it is whole");
        assert!(archive.form == Form::Compressed && unpacked == bytes);
    }
}
