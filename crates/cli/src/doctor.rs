//! `folio doctor`: whether a node's surroundings are good for it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use folio_ledger::Ledger;
use folio_raft::store::StoredLog;
use folio_raft::transport::Tls;
use folio_store::Database;
use nix::sys::statfs::{
    FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs,
};
use serde::Serialize;

use crate::cert::Place;
use crate::output::{self, Format, Table, size};
use crate::run::Failure;
use crate::settings::Settings;

#[derive(Args)]
#[command(after_help = "\
Looks at a data directory and its machine, and changes nothing but a small file that it writes there and removes. The node may
run meanwhile.

Examples:
  folio doctor node-1
  folio doctor /var/lib/folio --format json | jq '.[] | select(.verdict != \"good\")'

Exit codes: 0 nothing is wrong, 1 something is. What is only worth a look does not count.")]
pub struct Arguments {
    /// The data directory of a node
    data: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, and may not for long, or not as well as it could.
    Look,
    Wrong,
}

#[derive(Debug, Serialize)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    found: String,
    /// What to type, or to do.
    remedy: Option<String>,
}

impl Finding {
    fn good(about: &'static str, found: impl ToString) -> Self {
        Finding {
            about,
            verdict: Verdict::Good,
            found: found.to_string(),
            remedy: None,
        }
    }

    fn bad(about: &'static str, verdict: Verdict, found: impl ToString, remedy: String) -> Self {
        Finding {
            about,
            verdict,
            found: found.to_string(),
            remedy: Some(remedy),
        }
    }
}

use Verdict::{Look, Wrong};

/// A flush that takes longer leaves little of a heartbeat interval.
const SLOW: Duration = Duration::from_millis(50);
/// A node has a file, and a connection for each client and peer.
const OPEN_FILES: u64 = 4096;

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let data = &arguments.data;
    if !data.is_dir() {
        return Err(Failure::Error(format!(
            "{} is no directory: name the data directory of a node",
            data.display()
        )));
    }
    let settings = Settings::of_directory(data);
    let mut findings = vec![remembered(data, settings.as_ref())];
    findings.extend(access(data));
    findings.push(file_system(data));
    findings.push(room(data));
    findings.push(flush(data));
    findings.push(open_files());
    let file = data.join("node.folio");
    if file.exists() {
        findings.extend(ledger(&file));
    }
    if let Ok(settings) = &settings {
        findings.extend(certificates(settings));
    }
    match arguments.format {
        Format::Json => output::print_json(&findings)?,
        Format::Table => output::print(&describe(&findings))?,
    }
    match findings
        .iter()
        .filter(|finding| finding.verdict == Wrong)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::Error("one thing is wrong".into())),
        count => Err(Failure::Error(format!("{count} things are wrong"))),
    }
}

fn remembered(data: &Path, settings: Result<&Settings, &Failure>) -> Finding {
    let about = "settings";
    match settings {
        Ok(settings) if settings.id.is_some() => Finding::good(about, "folio.toml is right"),
        Ok(_) => Finding::bad(
            about,
            Look,
            "there is no folio.toml that names a node",
            format!(
                "begin one with: folio serve --data {} --init",
                data.display()
            ),
        ),
        Err(failure) => Finding::bad(
            about,
            Wrong,
            failure.message().unwrap_or_default(),
            format!(
                "mend it, and see: folio config check {}",
                Settings::remembered(data).display()
            ),
        ),
    }
}

/// Secrets are their owner's.
fn access(data: &Path) -> Vec<Finding> {
    let about = "access";
    let secrets = ["folio.toml", "invitation"].map(|name| data.join(name));
    let open = secrets.iter().filter(|file| is_open(file));
    let mut findings: Vec<_> = open
        .map(|file| {
            let found = format!("others may read {}", file.display());
            Finding::bad(about, Wrong, found, format!("chmod 600 {}", file.display()))
        })
        .collect();
    // The ledger is readable by whoever can read its file.
    if is_open(data) && is_open(&data.join("node.folio")) {
        let found = "others may read everything that is in the ledger";
        findings.push(Finding::bad(
            about,
            Look,
            found,
            format!("chmod 700 {}", data.display()),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(about, "what is secret is its owner's"));
    }
    findings
}

fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn file_system(data: &Path) -> Finding {
    let about = "file system";
    let kinds: [(FsType, &str, Verdict); 4] = [
        (
            TMPFS_MAGIC,
            "is memory: everything is gone when the machine stops",
            Wrong,
        ),
        (
            OVERLAYFS_SUPER_MAGIC,
            "is a layer of a container: everything is gone with it",
            Wrong,
        ),
        (
            NFS_SUPER_MAGIC,
            "is on another machine, whose flushes and locks may not be what they seem",
            Look,
        ),
        (
            FUSE_SUPER_MAGIC,
            "is a program's, whose flushes may not be what they seem",
            Look,
        ),
    ];
    match statfs(data) {
        Err(error) => Finding::bad(about, Look, error, "see what is mounted there: df .".into()),
        Ok(found) => match kinds
            .iter()
            .find(|(kind, ..)| *kind == found.filesystem_type())
        {
            None => Finding::good(about, "is on a disk of this machine"),
            Some((_, what, verdict)) => Finding::bad(
                about,
                *verdict,
                what,
                "stop the node, and move the directory to a disk of this machine".into(),
            ),
        },
    }
}

fn room(data: &Path) -> Finding {
    let about = "room";
    let Ok(found) = statfs(data) else {
        return Finding::bad(
            about,
            Look,
            "it is not known how much there is",
            "df .".into(),
        );
    };
    let block = u64::try_from(found.block_size()).unwrap_or(0);
    let free = found.blocks_available().saturating_mul(block);
    let part = found.blocks_available().saturating_mul(100) / found.blocks().max(1);
    let said = format!("{} free, {part}%", size(free));
    let remedy =
        "make room, or move the directory to a larger disk; folio stat says where the bytes are";
    match (part, free >> 20) {
        (_, 0..256) => Finding::bad(about, Wrong, said, remedy.into()),
        (0..20, _) => Finding::bad(about, Look, said, remedy.into()),
        _ => Finding::good(about, said),
    }
}

/// What a flush costs here, by a file of a page.
fn flush(data: &Path) -> Finding {
    let about = "flush";
    let measure = || -> std::io::Result<Duration> {
        let mut file = tempfile::NamedTempFile::new_in(data)?;
        file.write_all(&[0; 4096])?;
        file.as_file().sync_all()?;
        let mut times = Vec::new();
        for byte in 0..15_u8 {
            file.write_all(&[byte; 4096])?;
            let begun = Instant::now();
            file.as_file().sync_data()?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    match measure() {
        Err(error) => Finding::bad(
            about,
            Wrong,
            format!("cannot write: {error}"),
            format!("let the user of the node write to {}", data.display()),
        ),
        Ok(time) if time > SLOW => Finding::bad(
            about,
            Look,
            format!("takes {time:.1?}, and every write waits for one"),
            "use a faster disk, or raise heartbeat-interval and the election timeouts on every node".into(),
        ),
        Ok(time) => Finding::good(about, format!("takes {time:.1?}")),
    }
}

fn open_files() -> Finding {
    let about = "open files";
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft.map(str::parse::<u64>) {
        Some(Ok(most)) if most < OPEN_FILES => Finding::bad(
            about,
            Look,
            format!("this shell allows {most}"),
            format!("ulimit -n {OPEN_FILES}, or LimitNOFILE in the unit"),
        ),
        Some(Ok(most)) => Finding::good(about, format!("this shell allows {most}")),
        // Without a limit, or where it cannot be told.
        _ => Finding::good(about, "no limit is known"),
    }
}

/// The file opens, and the clock is not behind what is in it.
fn ledger(file: &Path) -> Vec<Finding> {
    let about = "file";
    let database = match Database::open_read_only(file) {
        Ok(database) => database,
        Err(error) => {
            let remedy = format!(
                "folio verify {}; docs/damage.md says what then",
                file.display()
            );
            return vec![Finding::bad(about, Wrong, error, remedy)];
        }
    };
    let mut findings = vec![Finding::good(
        about,
        "opens; folio verify looks at all of it",
    )];
    let newest = database
        .begin_read()
        .map(|view| StoredLog::<Ledger>::new(&view).state());
    if let Ok(Ok(Some(state))) = newest {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let behind = Duration::from_micros(state.time).saturating_sub(now);
        findings.push(match behind > Duration::from_secs(60) {
            true => Finding::bad(
                "clock",
                Wrong,
                format!("is {behind:.0?} behind what this node has applied"),
                "set the clock: timedatectl set-ntp true".into(),
            ),
            false => Finding::good("clock", "is not behind what this node has applied"),
        });
    }
    findings
}

fn certificates(settings: &Settings) -> Vec<Finding> {
    let about = "certificates";
    let (Some(directory), Some(id)) = (&settings.tls, settings.id) else {
        return Vec::new();
    };
    let place = Place(directory);
    let renewal = format!(
        "folio cert node {} --id {id} --host ... --replace",
        directory.display()
    );
    let mut findings = vec![match place.tls(id, settings.client_authority.as_deref()) {
        Ok(tls) => until_end(&tls, &renewal),
        Err(failure) => Finding::bad(about, Wrong, failure.message().unwrap_or_default(), renewal),
    }];
    let key = place.node_key(id);
    if is_open(&key) {
        let found = format!("others may read {}", key.display());
        findings.push(Finding::bad(
            about,
            Wrong,
            found,
            format!("chmod 600 {}", key.display()),
        ));
    }
    findings
}

fn until_end(tls: &Tls, renewal: &str) -> Finding {
    let left = tls
        .expires()
        .map(|end| end.duration_since(SystemTime::now()));
    let days = left.map(|left| left.unwrap_or_default().as_secs() / (24 * 60 * 60));
    match days {
        Some(days) if days < 14 => Finding::bad(
            "certificates",
            Look,
            format!("end in {days} days"),
            renewal.to_owned(),
        ),
        Some(days) => Finding::good("certificates", format!("are good for {days} days")),
        None => Finding::good("certificates", "are good"),
    }
}

fn describe(findings: &[Finding]) -> String {
    let mut table = Table::list();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "good",
            Look => "look",
            Wrong => "WRONG",
        };
        table.row([mark, finding.about, &finding.found]);
        if let Some(remedy) = &finding.remedy {
            table.row(["", "", &format!("-> {remedy}")]);
        }
    }
    table.to_string()
}
