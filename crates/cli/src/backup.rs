//! `folio backup` and `folio apply`: copies of files and of running nodes, and what has changed since.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use folio_client::Client;
use folio_store::storage::FileStorage;
use folio_store::{BackupOptions, BackupPoint, BackupReport, Database, apply_backup, check_backup};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::amount::Rate;
use crate::archive::{self, Archive, Frames, is_stream};
use crate::files::{SECRET, about, directory_of, sync_directory};
use crate::output::{self, Format, Table, grouped, size};
use crate::remote::{FileOrNode, Source, carry_out};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

#[derive(Args)]
#[command(allow_missing_positional = true)]
#[command(after_help = "\
Copies FILE, or that of a running node with --node, as it is at one moment. Every page is checked on the way. Nobody waits: the
node keeps the pages of that moment until the end. FILE may be that of a running node, too; then what the node has not made
durable is not in the copy. With --node it is.

OUT is replaced by a whole copy or not at all. As it is it is a database, which every command takes. With --compress, or a name that
ends in .zst, it is one that zstd has compressed; `zstd -d` unpacks it, and `folio restore` takes it as it is.

With --since, OUT gets what has changed since an earlier copy, whole or incremental itself: for `folio apply`, and
`folio restore`. `folio verify OUT` checks any of them.

When the connection to a node is lost, the rest of a whole copy is asked for again. What came until then is in OUT.partial, and
the same command goes on from there, for as long as the node keeps that moment: five minutes, or until somebody else makes a copy.

Never start a node of a cluster that goes on without it on an earlier copy: it would have forgotten votes it gave and
entries it acknowledged. `folio restore` makes a new cluster of copies.

Examples:
  folio backup node-1/node.folio monday.folio
  folio backup --node http://127.0.0.1:7001 monday.folio.zst
  folio backup --node http://127.0.0.1:7001 tuesday.changes --since monday.folio.zst
  folio backup node-1/node.folio - --compress | ssh elsewhere 'cat > monday.folio.zst'
  folio verify monday.folio.zst

Exit codes: 0 success, 1 error, 3 FILE is damaged, 4 it is in use, or the node does not answer.")]
pub struct Arguments {
    #[command(flatten)]
    from: FileOrNode,
    /// Where the copy goes; - is standard output
    out: PathBuf,
    /// Compress it
    #[arg(long)]
    compress: bool,
    /// Copy the rows into a new database, in full pages and without free ones
    #[arg(long, conflicts_with_all = ["since", "node"])]
    compacted: bool,
    /// An earlier backup: write what has changed since
    #[arg(long, value_name = "BACKUP")]
    since: Option<PathBuf>,
    /// The most bytes to read in a second, for example 50M
    #[arg(long, value_name = "BYTES/S")]
    rate: Option<Rate>,
    /// How to print what was written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Args)]
#[command(after_help = "\
COPY must be the copy that the changes were made from, unchanged. The new one is written beside it, checked, and put in
its place; if anything is wrong, COPY stays as it was.

Examples:
  folio apply monday.folio tuesday.changes
  folio apply monday.folio tuesday.changes.zst

Exit codes: 0 success, 1 error, 3 COPY or CHANGES is damaged, 4 COPY is in use.")]
pub struct ApplyArguments {
    /// The copy, not compressed
    copy: PathBuf,
    /// What `folio backup --since` wrote; - is standard input
    changes: PathBuf,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    transaction: u64,
    pages: u64,
    /// The length of the copy, or of the changes.
    bytes: u64,
    /// The length of the file, if it is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed_bytes: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.from.source()?;
    check_place(&source, arguments)?;
    let since = arguments.since.as_deref().map(point_of).transpose()?;
    let written = match source {
        Source::File(file) => copy_file(file, since.as_ref(), arguments)?,
        Source::Node(_, client) => {
            let mut written = None;
            carry_out(async {
                written = Some(download(&client, since.as_ref(), arguments).await?);
                Ok(())
            })?;
            written.flatten()
        }
    };
    match written {
        None => Ok(()),
        Some(written) => describe(&written, arguments.format),
    }
}

/// The moment of an earlier backup.
fn point_of(path: &Path) -> Result<BackupPoint, Failure> {
    let point = BackupPoint::of_backup(Archive::open(path)?);
    point.map_err(|error| Failure::from(error).about(path))
}

/// What can be known beforehand of where the copy goes.
fn check_place(source: &Source<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let out = &arguments.out;
    if is_stream(out) {
        return match io::stdout().is_terminal() {
            true => Err(Failure::Usage(
                "a copy is not for a terminal: name a file, or send standard output elsewhere"
                    .into(),
            )),
            false => Ok(()),
        };
    }
    if out.is_dir() {
        return Err(about(out, "it is a directory: name a file in it"));
    }
    if out.exists() {
        check_replaced(source, out)?;
    }
    let directory = directory_of(out);
    if !directory.is_dir() {
        return Err(about(
            directory,
            "there is no such directory: make it first",
        ));
    }
    if arguments.since.is_some() && out.exists() {
        return Err(about(
            out,
            "it is there already, and is kept: name another file",
        ));
    }
    Ok(())
}

/// Whether a copy may take the place of what is there: of no database that is in use, above all.
fn check_replaced(source: &Source<'_>, out: &Path) -> Result<(), Failure> {
    let place = fs::metadata(out).map_err(|error| about(out, error))?;
    if !place.is_file() {
        return Err(about(
            out,
            "it is no file: name one, or - for standard output",
        ));
    }
    let is_same = |file: fs::Metadata| (file.dev(), file.ino()) == (place.dev(), place.ino());
    if let Source::File(file) = source
        && fs::metadata(file).is_ok_and(is_same)
    {
        return Err(about(out, "it is what is to be copied: name another file"));
    }
    match FileStorage::open(out) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Failure::Unavailable("a node has it open: name another file".into()).about(out))
        }
        _ => Ok(()),
    }
}

impl Arguments {
    fn is_compressed(&self) -> bool {
        self.compress || self.out.extension().is_some_and(|ending| ending == "zst")
    }

    fn rate(&self) -> u64 {
        self.rate.map_or(0, |rate| rate.0)
    }
}

/// Copies a file. `None` if it went to standard output.
fn copy_file(
    file: &Path,
    since: Option<&BackupPoint>,
    arguments: &Arguments,
) -> Result<Option<Written>, Failure> {
    let database = Database::open_read_only(file)?;
    let out = &arguments.out;
    let mut options = BackupOptions::new().rate(arguments.rate());
    if arguments.compacted {
        options = options.compacted();
    }
    let bar = progress_bar();
    let progress = |done, total| {
        show_progress(&bar, "copied", done, total);
        ControlFlow::Continue(())
    };
    let write = |options: BackupOptions, writer: &mut dyn Write| match since {
        None => database.backup(options, writer, progress),
        Some(point) => database.backup_since(point, options, writer, progress),
    };
    let is_compressed = arguments.is_compressed();
    let write_form = |options, writer: &mut dyn Write| -> Result<BackupReport, Failure> {
        if !is_compressed {
            return Ok(write(options, writer)?);
        }
        let mut frames = Frames::new(writer).map_err(|error| about(out, error))?;
        let report = write(options, &mut frames)?;
        frames.finish().map_err(|error| about(out, error))?;
        Ok(report)
    };
    let written = if is_stream(out) {
        let mut stdout = io::stdout().lock();
        write_form(options, &mut stdout)?;
        stdout.flush().map_err(Failure::error)?;
        None
    } else if since.is_none() && !is_compressed {
        let report = database.backup_to(options, out, progress)?;
        Some(Written::new(&report, None))
    } else {
        let directory = directory_of(out);
        let mut new = NamedTempFile::new_in(directory).map_err(|error| about(directory, error))?;
        let report = write_form(options.scratch(directory), &mut new)?;
        let length = put_in_place(new, out, since.is_some())?;
        Some(Written::new(&report, is_compressed.then_some(length)))
    };
    bar.finish_and_clear();
    Ok(written)
}

/// Makes a new file durable under its name; gives its length.
fn put_in_place(new: NamedTempFile, out: &Path, is_new: bool) -> Result<u64, Failure> {
    let failed = |error| about(out, error);
    new.as_file().sync_all().map_err(failed)?;
    let file = match is_new {
        true => new.persist_noclobber(out),
        false => new.persist(out),
    };
    let file = file.map_err(|error| about(out, error.error))?;
    sync_directory(out)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// Where what comes is written, as it is or compressed.
enum Form<W: Write> {
    Plain(W),
    Compressed(Box<Frames<W>>),
}

impl<W: Write> Form<W> {
    fn new(writer: W, compressed: bool) -> io::Result<Self> {
        Ok(match compressed {
            true => Form::Compressed(Box::new(Frames::new(writer)?)),
            false => Form::Plain(writer),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Form::Plain(writer) => writer.write_all(bytes),
            Form::Compressed(frames) => frames.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Form::Plain(writer) => Ok(writer),
            Form::Compressed(frames) => frames.finish(),
        }
    }
}

/// Copies the file of a running node. `None` if it went to standard output.
async fn download(
    client: &Client,
    since: Option<&BackupPoint>,
    arguments: &Arguments,
) -> Result<Option<Written>, Failure> {
    let (out, compressed) = (&arguments.out, arguments.is_compressed());
    let since = since.map(archive::moment);
    let since = since.as_deref();
    if is_stream(out) {
        let mut stdout = Form::new(io::stdout(), compressed).map_err(Failure::error)?;
        let mut download = client.backup(since, arguments.rate(), None).await?;
        while let Some(bytes) = download.next().await? {
            stdout.write(&bytes).map_err(Failure::error)?;
        }
        let ended = stdout.finish().and_then(|mut stdout| stdout.flush());
        return ended.map(|()| None).map_err(Failure::error);
    }
    let partial = archive::partial(out);
    let there = match since {
        None => archive::resume(&partial, compressed),
        Some(_) => None,
    };
    let came = fetch(client, since, there, &partial, arguments).await;
    let came = came.map_err(|failure| match (since, failure) {
        (None, Failure::Unavailable(reason)) if partial.exists() => Failure::Unavailable(format!(
            "{reason}; what came is in {}, and the same command goes on from there while the node keeps that moment",
            partial.display()
        )),
        (None, failure) => failure,
        (Some(_), failure) => {
            // Changes are begun anew.
            drop(fs::remove_file(&partial));
            failure
        }
    })?;
    let contents = check_backup(Archive::open(&partial)?);
    let contents = contents.map_err(|error| match error.is_corruption() {
        true => {
            // It cannot be gone on with.
            drop(fs::remove_file(&partial));
            Failure::Corruption(Some(format!(
                "what came from the node is no whole backup: {error}"
            )))
        }
        false => Failure::from(error).about(&partial),
    })?;
    fs::rename(&partial, out).map_err(|error| about(out, error))?;
    sync_directory(out)?;
    let length = fs::metadata(out).map_err(|error| about(out, error))?.len();
    Ok(Some(Written {
        transaction: contents.point.transaction(),
        pages: contents.pages,
        bytes: came,
        compressed_bytes: compressed.then_some(length),
    }))
}

/// Has everything come that is not there yet; gives the number of all bytes.
async fn fetch(
    client: &Client,
    since: Option<&str>,
    there: Option<(folio_client::Resume, u64)>,
    partial: &Path,
    arguments: &Arguments,
) -> Result<u64, Failure> {
    let failed = |error| about(partial, error);
    let resume = there.as_ref().map(|(resume, _)| resume);
    let mut download = client.backup(since, arguments.rate(), resume).await?;
    let mut bytes = download.begins_at();
    let mut file = File::options()
        .create(true)
        .append(true)
        .mode(SECRET)
        .open(partial)
        .map_err(failed)?;
    let kept = there.filter(|_| bytes > 0).map_or(0, |(_, length)| length);
    file.set_len(kept).map_err(failed)?;
    let mut form = Form::new(&mut file, arguments.is_compressed()).map_err(failed)?;
    let bar = progress_bar();
    while let Some(piece) = download.next().await? {
        form.write(&piece).map_err(failed)?;
        bytes += piece.len() as u64;
        show_progress(&bar, "bytes", bytes, download.length().unwrap_or(bytes));
    }
    bar.finish_and_clear();
    form.finish().map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}

pub fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let changes = Archive::open(&arguments.changes)?;
    let report = apply_backup(&arguments.copy, changes)?;
    describe(&Written::new(&report, None), Format::Table)
}

impl Written {
    fn new(report: &BackupReport, compressed_bytes: Option<u64>) -> Self {
        Written {
            transaction: report.transaction,
            pages: report.pages,
            bytes: report.bytes,
            compressed_bytes,
        }
    }
}

fn describe(written: &Written, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::print_json(written);
    }
    let mut table = Table::list();
    table
        .row(["transaction".to_owned(), grouped(written.transaction)])
        .row(["pages".to_owned(), grouped(written.pages)])
        .row(["length".to_owned(), size(written.bytes)]);
    if let Some(bytes) = written.compressed_bytes {
        table.row(["compressed".to_owned(), size(bytes)]);
    }
    output::print(&table.to_string())
}
