//! Starting a writer and listening to it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::RwLock,
    thread::JoinHandle,
};

use folio_store::{Builder, Database};

use super::{
    load::Load,
    report::{Known, Report},
    writer,
};

/// What a writer is told.
#[derive(Clone, Debug, clap::Args)]
pub struct WriterArguments {
    /// The file to write to.
    #[arg(long)]
    pub file: PathBuf,
    /// What is written.
    #[arg(long)]
    pub seed: u64,
    /// The page size of a new file.
    #[arg(long)]
    pub page_size: usize,
    /// The memory for pages.
    #[arg(long)]
    pub cache: usize,
    /// Run the script with so many rounds instead of writing until killed.
    #[arg(long)]
    pub rounds: Option<u64>,
}

impl WriterArguments {
    fn load(&self) -> Load {
        Load {
            seed: self.seed,
            page_size: self.page_size,
        }
    }

    fn builder(&self) -> Builder {
        Database::builder()
            .page_size(self.page_size)
            .cache_size(self.cache)
    }

    /// The command that runs a writer, behind another program if one is given.
    #[must_use]
    pub fn command(&self, wrapper: Option<Command>, program: &Path) -> Command {
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(program);
                wrapper
            }
            None => Command::new(program),
        };
        command.arg("writer").arg("--file").arg(&self.file);
        command.args(["--seed", &self.seed.to_string()]);
        command.args(["--page-size", &self.page_size.to_string()]);
        command.args(["--cache", &self.cache.to_string()]);
        if let Some(rounds) = self.rounds {
            command.args(["--rounds", &rounds.to_string()]);
        }
        command
    }
}

/// The writer's own process: gives back its exit code.
#[must_use]
pub fn run_writer(arguments: &WriterArguments) -> i32 {
    let (load, builder) = (arguments.load(), arguments.builder());
    match arguments.rounds {
        Some(rounds) if writer::run_script(load, rounds, &builder, &arguments.file) => 0,
        Some(_) => writer::FAILED,
        None => match writer::run(load, &builder, &arguments.file) {
            Ok(()) => 0,
            Err(error) => {
                Report::Failed(super::report::Failure::of(&error)).send();
                writer::FAILED
            }
        },
    }
}

/// Taken for writing while a process starts, and for reading while a file is open here: between its fork and its exec
/// the new process shares the locks of all open files, and a file that was closed here would still be in use.
pub static STARTING: RwLock<()> = RwLock::new(());

/// A running writer.
pub struct Writer {
    child: Child,
    listener: JoinHandle<Known>,
    errors: PathBuf,
}

impl Writer {
    /// Starts one. `known` is where its file is.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, known: Known, errors: PathBuf) -> Self {
        let stderr = File::create(&errors).expect("a file for what the writer prints");
        let starting = STARTING.write();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        drop(starting);
        let output = child.stdout.take().expect("its output is piped");
        let listener = std::thread::spawn(move || listen(BufReader::new(output), known));
        Self {
            child,
            listener,
            errors,
        }
    }

    /// Kills it, if it is still there.
    ///
    /// # Panics
    ///
    /// If the system does not allow it.
    #[must_use]
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("SIGKILL to a child");
        self.wait()
    }

    /// Waits for its end, and for all that it has said.
    ///
    /// # Panics
    ///
    /// If it said something that is no report.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let status = self.child.wait().expect("the end of a child");
        let mut known = self
            .listener
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let printed = fs::read_to_string(&self.errors).unwrap_or_default();
        if printed.contains("panicked") {
            known.wrong.push(printed);
        }
        Ended { status, known }
    }
}

/// Reads to the end of the pipe, which holds everything that was written before the death.
fn listen(output: impl BufRead, mut known: Known) -> Known {
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.expect("a pipe")).expect("text");
        let report = Report::parse(&line).unwrap_or_else(|| panic!("no report: {line:?}"));
        known.note(report);
    }
    known
}

/// What is left of a writer.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it had said.
    pub known: Known,
}
