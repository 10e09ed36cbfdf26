//! Calls of the operating system that fail, by strace.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{
    Scratch,
    check::{Way, check_file, check_lossy},
    child::{Ended, Writer, WriterArguments},
    load::{Load, Model},
    report::{Failure, Known},
    writer::FAILED,
};
use crate::Figures;

/// What is done to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Input,
    NoSpace,
    Interrupted,
    /// The call does not happen and says that it did.
    Lost,
}

/// Which calls are hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// This one.
    Once,
    /// This one and all after it.
    Lasting,
}

/// One kind of run; it is repeated for every call.
#[derive(Clone, Copy, Debug)]
struct Plan {
    name: &'static str,
    fault: Fault,
    reach: Reach,
}

impl Fault {
    fn errno(self) -> Option<i32> {
        match self {
            Self::Input => Some(5),
            Self::NoSpace => Some(28),
            Self::Interrupted => Some(4),
            Self::Lost => None,
        }
    }

    fn injection(self) -> &'static str {
        match self {
            Self::Input => "error=EIO",
            Self::NoSpace => "error=ENOSPC",
            Self::Interrupted => "error=EINTR",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = match self.reach {
            Reach::Once => "",
            Reach::Lasting => ", lasting",
        };
        let injection = self.fault.injection();
        write!(formatter, "{} {injection}{lasting}", self.name)
    }
}

const WRITES: [&str; 3] = ["pwrite64", "pwritev", "pwritev2"];
const READS: [&str; 3] = ["pread64", "preadv", "preadv2"];
const SYNCS: [&str; 2] = ["fdatasync", "fsync"];

/// Every call by which the engine reaches its file, and some by which it may one day. An interruption that never ends is
/// not among the faults: calls that are repeated when interrupted would be repeated for ever, and rightly so.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    // strace counts the calls of each name for themselves.
    let mut add = |names: &[&'static str], faults: &[(Fault, Reach)]| {
        for &name in names {
            let all = faults
                .iter()
                .map(|&(fault, reach)| Plan { name, fault, reach });
            plans.extend(all);
        }
    };
    use Fault::{Input, Interrupted, Lost, NoSpace};
    use Reach::{Lasting, Once};
    add(
        &WRITES,
        &[
            (Input, Once),
            (Input, Lasting),
            (NoSpace, Once),
            (NoSpace, Lasting),
            (Interrupted, Once),
            (Lost, Once),
        ],
    );
    add(
        &SYNCS,
        &[
            (Input, Once),
            (Input, Lasting),
            (NoSpace, Once),
            (Interrupted, Once),
        ],
    );
    add(
        &READS,
        &[(Input, Once), (Input, Lasting), (Interrupted, Once)],
    );
    add(
        &["openat"],
        &[(Input, Once), (Input, Lasting), (Interrupted, Once)],
    );
    add(
        &["ftruncate", "fallocate"],
        &[(Input, Once), (NoSpace, Once), (Interrupted, Once)],
    );
    add(
        &[
            "flock",
            "statx",
            "fstat",
            "newfstatat",
            "lseek",
            "fadvise64",
        ],
        &[(Input, Once), (Input, Lasting)],
    );
    plans
}

/// How much of the attack is done.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// About how many calls of each kind are hit; all of them if there is no number.
    pub sample: Option<u64>,
    /// The length of the script.
    pub rounds: u64,
    /// Of what is written.
    pub seed: u64,
}

/// Whether strace is there and may inject faults; if not, why.
fn unavailable(scratch: &Path) -> Option<String> {
    let victim = scratch.join("victim");
    fs::write(&victim, "").expect("a file");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(&victim)
        .args([
            "-e",
            "trace=openat",
            "-e",
            "inject=openat:error=EIO:when=1",
            "cat",
        ])
        .arg(&victim)
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Some(format!("strace does not start: {error}")),
        // cat says that it could not open the file, and strace passes its exit code on.
        Ok(output) if output.status.code() == Some(1) => None,
        Ok(output) => Some(format!(
            "strace injects nothing: {}, {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Runs a script under strace, again and again, with a fault in its first call, its second one, and so on; checks what
/// the writer says about it, and then its file. The reason, if strace cannot be used here.
///
/// # Errors
///
/// If strace cannot be used here, why.
///
/// # Panics
///
/// If something is not as it must be. The message says which call failed in which way, and the folder is kept.
pub fn inject(program: &Path, extent: Extent) -> Result<Figures, String> {
    let mut figures = Figures::of("failing calls");
    // The order in which they are shown.
    for plan in plans() {
        figures.add(&format!("hits of {}", plan.name), 0);
    }
    let scratch = Scratch::new();
    if let Some(reason) = unavailable(scratch.path()) {
        return Err(reason);
    }
    let runner = Runner {
        program,
        scratch: &scratch,
        extent,
        figures: Mutex::new(&mut figures),
    };
    let trace = runner.trace();
    let runs: Vec<Run> = plans()
        .into_iter()
        .flat_map(|plan| chosen(plan, &results(&trace, plan.name), extent))
        .collect();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (runner, runs, next) = (&runner, &runs, &next);
            scope.spawn(move || {
                let folder = runner.scratch.path().join(format!("worker-{worker}"));
                fs::create_dir(&folder).expect("a folder");
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(run) = runs.get(index) else {
                        break;
                    };
                    let what = format!("{run:?}, {extent:?}, folder {}", folder.display());
                    runner.scratch.about(&what, || runner.run(*run, &folder));
                }
            });
        }
    });
    for names in [&WRITES[..], &READS, &SYNCS, &["openat"]] {
        let hits = names
            .iter()
            .map(|name| figures.get(&format!("hits of {name}")));
        assert!(hits.sum::<u64>() > 0, "no call of {names:?} was ever hit");
    }
    Ok(figures)
}

/// One run of the script.
#[derive(Clone, Copy, Debug)]
struct Run {
    plan: Plan,
    call: u64,
    /// What the call gives back if nothing is done to it; nothing if it does not exist.
    result: Option<i64>,
}

/// Which calls a plan hits, and one behind the last that must not be hit by anything.
fn chosen(plan: Plan, results: &[i64], extent: Extent) -> Vec<Run> {
    let count = results.len();
    let step = match extent.sample {
        Some(sample) => (count / sample as usize).max(1),
        None => 1,
    };
    // Samples of different plans begin at different calls.
    let first = plan.fault as usize % step;
    let past = (count > 0).then_some(count);
    let hit = (first..count).step_by(step).chain(past);
    hit.map(|index| Run {
        plan,
        call: index as u64 + 1,
        result: results.get(index).copied(),
    })
    .collect()
}

/// What the calls of this name gave back, one after the other.
fn results(trace: &str, name: &str) -> Vec<i64> {
    let called = |line: &&str| {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        call.split('(').next() == Some(name)
    };
    let result = |line: &str| {
        let (_, after) = line.rsplit_once(" = ")?;
        after.split_whitespace().next()?.parse().ok()
    };
    let results = trace.lines().filter(called);
    results
        .map(|line| result(line).unwrap_or_else(|| panic!("no result: {line}")))
        .collect()
}

struct Runner<'r> {
    program: &'r Path,
    scratch: &'r Scratch,
    extent: Extent,
    figures: Mutex<&'r mut Figures>,
}

impl Runner<'_> {
    fn arguments(&self, folder: &Path) -> WriterArguments {
        WriterArguments {
            file: folder.join("injected.folio"),
            seed: self.extent.seed,
            page_size: 4096,
            cache: 64 << 10,
            rounds: Some(self.extent.rounds),
        }
    }

    fn strace(&self, folder: &Path, calls: &str, injection: Option<&str>) -> (Command, PathBuf) {
        let log = folder.join("strace");
        let mut strace = Command::new("strace");
        // Only calls on the file and its folder, so that the loader and the pipe to the supervisor are spared.
        strace.args(["-f", "-qq", "-o"]).arg(&log);
        strace.arg("-P").arg(folder);
        strace.arg("-P").arg(self.arguments(folder).file);
        strace.args(["-e", &format!("trace={calls}")]);
        if let Some(injection) = injection {
            strace.args(["-e", &format!("inject={calls}:{injection}")]);
        }
        (strace, log)
    }

    fn start(&self, folder: &Path, strace: Command) -> Ended {
        let command = self.arguments(folder).command(Some(strace), self.program);
        Writer::start(command, Known::default(), folder.join("stderr")).wait()
    }

    /// Runs the script without faults and gives back its calls.
    fn trace(&self) -> String {
        let folder = self.scratch.path().join("count");
        fs::create_dir(&folder).expect("a folder");
        let (strace, log) = self.strace(&folder, "all", None);
        let ended = self.start(&folder, strace);
        assert!(ended.status.success(), "without a fault: {ended:?}");
        fs::read_to_string(log).expect("what strace wrote")
    }

    fn run(&self, run: Run, folder: &Path) {
        let Run { plan, call, result } = run;
        let there = result.is_some();
        let arguments = self.arguments(folder);
        if arguments.file.exists() {
            fs::remove_file(&arguments.file).expect("remove the file of the last run");
        }
        let when = match plan.reach {
            Reach::Once => format!("when={call}"),
            Reach::Lasting => format!("when={call}+"),
        };
        let injection = match plan.fault {
            Fault::Lost => format!("retval={}:{when}", result.unwrap_or(1)),
            fault => format!("{}:{when}", fault.injection()),
        };
        let (strace, log) = self.strace(folder, plan.name, Some(&injection));
        let ended = self.start(folder, strace);
        let log = fs::read_to_string(log).expect("what strace wrote");
        let hits = log.matches("(INJECTED)").count() as u64;
        assert_eq!(hits > 0, there, "strace hit {hits} calls, and {ended:?}");
        assert!(ended.known.wrong.is_empty(), "{ended:?}");
        let errors = match ended.status.code() {
            Some(0) => 0,
            Some(FAILED) => 1,
            _ => panic!("no panic, no signal: {ended:?}"),
        };
        assert_eq!(errors == 1, !ended.known.failures.is_empty(), "{ended:?}");
        if hits == 0 || harmless(plan) {
            assert_eq!(errors, 0, "{plan} is harmless: {ended:?}");
        }
        if hits > 0 && !may_pass(plan, &log) {
            assert_eq!(errors, 1, "{plan} went by without an error: {ended:?}");
        }
        if let Some(first) = ended.known.failures.first() {
            check_failure(plan, first, &arguments.file);
        }
        let mut counted = Figures::of("");
        let load = Load {
            seed: arguments.seed,
            page_size: arguments.page_size,
        };
        let known = &ended.known;
        let noticed = if plan.fault == Fault::Lost {
            check_lossy(&arguments.file, load, known, &mut counted)
        } else {
            let mut model = Model::new(load);
            // Twice: for whoever only reads, and for the next writer.
            if known.opened > 0 {
                check_file(
                    &arguments.file,
                    Way::ReadOnly,
                    known,
                    &mut model,
                    &mut counted,
                )
                .unwrap_or_else(|error| panic!("for reading: {error}\n{ended:?}"));
            }
            check_file(
                &arguments.file,
                Way::Closed,
                known,
                &mut model,
                &mut counted,
            )
            .unwrap_or_else(|error| panic!("{error}\n{ended:?}"));
            false
        };
        let mut figures = self.figures.lock().expect("no other thread has panicked");
        figures.add("faults injected", hits);
        figures.add("typed errors", errors);
        figures.add(&format!("hits of {}", plan.name), hits);
        if plan.fault == Fault::Lost {
            figures.add("lost writes", hits);
            figures.add("lost writes noticed", u64::from(noticed || errors > 0));
        }
        figures.add("acknowledged steps", known.acknowledged.iter().sum::<u64>());
        figures.add("rows compared", counted.get("rows compared"));
        figures.add("runs", 1);
    }
}

/// Interrupted calls are repeated, except for syncs, which are never repeated, and locks.
fn harmless(plan: Plan) -> bool {
    plan.fault == Fault::Interrupted && !SYNCS.contains(&plan.name)
}

/// Whether a fault may leave no error behind.
fn may_pass(plan: Plan, log: &str) -> bool {
    match plan.fault {
        // A lost write may never be read again.
        Fault::Lost => true,
        Fault::Interrupted => harmless(plan),
        // A file that cannot grow by much may still grow by what is needed. Growth is a write of zeros.
        Fault::NoSpace => {
            let zeros = |line: &str| line.contains(r#"iov_base="\0\0\0\0\0\0\0\0"#);
            let mut hit = log.lines().filter(|line| line.contains("(INJECTED)"));
            plan.reach == Reach::Once && hit.all(zeros)
        }
        Fault::Input => false,
    }
}

/// The first error names the file, what was being done, and the system's own error.
fn check_failure(plan: Plan, failure: &Failure, file: &Path) {
    let file = file.display().to_string();
    assert!(failure.message.contains(&file), "no file in {failure:?}");
    match plan.fault.errno() {
        Some(errno) => {
            let full = plan.fault == Fault::NoSpace && failure.operation == "grow the file";
            let variant = if full { "Full" } else { "Io" };
            assert_eq!(failure.variant, variant, "{failure:?}");
            assert_eq!(failure.errno, Some(errno), "{failure:?}");
            assert!(!failure.operation.is_empty(), "{failure:?}");
        }
        None => {
            let expected = [
                "Corrupted",
                "LostCommit",
                "Truncated",
                "NotADatabase",
                "NoCommit",
            ];
            assert!(expected.contains(&failure.variant.as_str()), "{failure:?}");
        }
    }
}
