//! `folio dump`: all rows of a file, in a form that does not depend on the file format. And that form.
//!
//! As JSON, a line each: the tables; the rows, table by table and in the order of their keys; the end.
//!
//! ```text
//! {"folio_dump":1,"tables":[{"name":"stock","group":0,"key_type":"str","value_type":"u64","rows":2}]}
//! {"t":0,"k":"YXBwbGVz","v":"DAAAAAAAAAA="}
//! {"t":0,"k":"cGVhcnM=","v":"BwAAAAAAAAA="}
//! {"end":2,"check":"0123456789abcdef0123456789abcdef"}
//! ```
//!
//! `t` counts the tables from 0, keys and values are as the engine stores them, in base64. The check is the xxh3-128 of all bytes
//! before its line.
//!
//! As bytes: the magic `FolioDmp`, the version (4), then parts: length (8), content, check (16), which is the xxh3-128 of
//! the check before, the length and the content. The first part is the line of tables as above. The others hold rows: table (4), length of
//! key (4) and value (4), key, value. An empty part is the last, and the number of rows (8) follows, with a check. Integers are
//! little-endian.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use folio_store::Database;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

/// The version of both forms.
pub const VERSION: u32 = 1;

/// How a dump of the binary form begins.
pub const MAGIC: [u8; 8] = *b"FolioDmp";

/// Rows are gathered into parts of about this many bytes.
const PART: usize = 256 << 10;

/// How often progress is shown, in rows.
const SHOW_EVERY: u64 = 1024;

#[derive(Args)]
#[command(after_help = "\
Writes the rows as the last durable commit has them, for `folio load` to put into another file, of any version. Keys and
values are as the engine stores them. The file is not changed. It may be that of a running node, which goes on meanwhile.

Examples:
  folio dump node-1.folio > node-1.jsonl
  folio dump node-1.folio --format binary --out node-1.dump
  folio dump node-1.folio --table ledger_vaults | jq -r .k

Exit codes: 0 success, 1 error, 3 damaged, 4 the file is in use.")]
pub struct Arguments {
    /// The file
    file: PathBuf,
    /// Only this table; may be given several times
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// How rows are written
    #[arg(long = "format", value_enum, default_value_t = Form::Jsonl)]
    form: Form,
    /// Where to write it, a new file; standard output if there is none
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Form {
    /// A JSON object a line
    Jsonl,
    /// Bytes, with a check for each part
    Binary,
}

/// The first line of a dump.
#[derive(Serialize, Deserialize)]
pub struct Head {
    pub folio_dump: u32,
    pub tables: Vec<TableHead>,
}

#[derive(Serialize, Deserialize)]
pub struct TableHead {
    pub name: String,
    pub group: u8,
    pub key_type: String,
    pub value_type: String,
    pub rows: u64,
}

#[derive(Serialize, Deserialize)]
pub struct RowLine {
    pub t: u32,
    pub k: String,
    pub v: String,
}

#[derive(Serialize, Deserialize)]
pub struct EndLine {
    pub end: u64,
    pub check: String,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let database = Database::open_read_only(&arguments.file)?;
    match &arguments.out {
        None => dump(&database, arguments, io::stdout().lock()),
        Some(path) => {
            let file = std::fs::File::create_new(path).map_err(|error| {
                Failure::Error(format!("{}: cannot create it: {error}", path.display()))
            })?;
            let done = dump(&database, arguments, &file)
                .and_then(|()| file.sync_all().map_err(write_failure));
            if done.is_err() {
                // A part of a dump is of no use; the failure says what happened.
                drop(std::fs::remove_file(path));
            }
            done
        }
    }
}

fn write_failure(error: io::Error) -> Failure {
    Failure::Error(format!("cannot write the dump: {error}"))
}

fn dump(database: &Database, arguments: &Arguments, out: impl Write) -> Result<(), Failure> {
    let view = database.begin_read()?;
    let mut tables = view.tables()?;
    if let Some(name) = arguments
        .table
        .iter()
        .find(|name| tables.iter().all(|table| table.name != **name))
    {
        return Err(Failure::Error(format!("there is no table `{name}`")));
    }
    tables.retain(|table| arguments.table.is_empty() || arguments.table.contains(&table.name));
    let mut heads = Vec::with_capacity(tables.len());
    for table in &tables {
        heads.push(TableHead {
            rows: view.untyped(table)?.len()?,
            name: table.name.clone(),
            group: table.group.index(),
            key_type: table.key_type.clone(),
            value_type: table.value_type.clone(),
        });
    }
    let total = heads.iter().map(|head| head.rows).sum();
    let head = Head {
        folio_dump: VERSION,
        tables: heads,
    };
    let head = serde_json::to_vec(&head).map_err(Failure::error)?;
    let mut writer: Box<dyn RowWriter> = match arguments.form {
        Form::Jsonl => Box::new(Lines::begin(out, &head).map_err(write_failure)?),
        Form::Binary => Box::new(Parts::begin(out, &head).map_err(write_failure)?),
    };
    let bar = progress_bar();
    let mut done = 0u64;
    for (number, table) in (0..).zip(&tables) {
        for row in view.untyped(table)?.iter()? {
            let (key, value) = row?;
            writer.row(number, &key, &value).map_err(write_failure)?;
            done += 1;
            if done.is_multiple_of(SHOW_EVERY) {
                show_progress(&bar, "rows", done, total);
            }
        }
    }
    bar.finish_and_clear();
    writer.end(done).map_err(write_failure)
}

trait RowWriter {
    fn row(&mut self, table: u32, key: &[u8], value: &[u8]) -> io::Result<()>;

    fn end(&mut self, rows: u64) -> io::Result<()>;
}

struct Lines<W: Write> {
    out: BufWriter<W>,
    check: Xxh3Default,
}

impl<W: Write> Lines<W> {
    fn begin(out: W, head: &[u8]) -> io::Result<Self> {
        let mut lines = Self {
            out: BufWriter::new(out),
            check: Xxh3Default::new(),
        };
        lines.line(head.to_vec())?;
        Ok(lines)
    }

    fn line(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        self.check.update(&line);
        self.out.write_all(&line)
    }
}

impl<W: Write> RowWriter for Lines<W> {
    fn row(&mut self, t: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (k, v) = (STANDARD.encode(key), STANDARD.encode(value));
        self.line(serde_json::to_vec(&RowLine { t, k, v })?)
    }

    fn end(&mut self, end: u64) -> io::Result<()> {
        let check = format!("{:032x}", self.check.digest128());
        self.line(serde_json::to_vec(&EndLine { end, check })?)?;
        self.out.flush()
    }
}

struct Parts<W: Write> {
    out: BufWriter<W>,
    check: u128,
    part: Vec<u8>,
}

/// The check of a part.
pub fn part_check(before: u128, content: &[u8]) -> u128 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(&(content.len() as u64).to_le_bytes());
    hasher.update(content);
    hasher.digest128()
}

impl<W: Write> Parts<W> {
    fn begin(out: W, head: &[u8]) -> io::Result<Self> {
        let mut parts = Self {
            out: BufWriter::new(out),
            check: 0,
            part: head.to_vec(),
        };
        parts.out.write_all(&MAGIC)?;
        parts.out.write_all(&VERSION.to_le_bytes())?;
        parts.put()?;
        Ok(parts)
    }

    fn put(&mut self) -> io::Result<()> {
        self.check = part_check(self.check, &self.part);
        self.out
            .write_all(&(self.part.len() as u64).to_le_bytes())?;
        self.out.write_all(&self.part)?;
        self.out.write_all(&self.check.to_le_bytes())?;
        self.part.clear();
        Ok(())
    }
}

impl<W: Write> RowWriter for Parts<W> {
    fn row(&mut self, table: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.part.extend(table.to_le_bytes());
        // Values are shorter than 4 GiB, keys far shorter.
        self.part.extend((key.len() as u32).to_le_bytes());
        self.part.extend((value.len() as u32).to_le_bytes());
        self.part.extend_from_slice(key);
        self.part.extend_from_slice(value);
        if self.part.len() >= PART {
            self.put()?;
        }
        Ok(())
    }

    fn end(&mut self, rows: u64) -> io::Result<()> {
        if !self.part.is_empty() {
            self.put()?;
        }
        self.put()?;
        let check = part_check(self.check, &rows.to_le_bytes());
        self.out.write_all(&rows.to_le_bytes())?;
        self.out.write_all(&check.to_le_bytes())?;
        self.out.flush()
    }
}
