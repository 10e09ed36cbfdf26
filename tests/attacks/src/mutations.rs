//! Planted bugs: does a test of the project fail for each?
//!
//! Two files `MUTATIONS.md` list them, for people and for this program. A mutation is a heading, a line that says in which file and
//! what catches it, and a `diff` block without line numbers, whose old text occurs exactly once in the file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Figures;

/// The lists, as they were when this program was built: of the engine, and of the Raft store.
const LISTS: [&str; 2] = [
    include_str!("../MUTATIONS.md"),
    include_str!("../../simulation/MUTATIONS.md"),
];

/// All that are listed.
///
/// # Errors
///
/// What is wrong with a list.
pub fn listed() -> Result<Vec<Mutation>, String> {
    let lists = LISTS.iter().map(|list| parse(list));
    Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
}

/// A bug to plant, and what catches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What goes wrong.
    pub name: String,
    /// The file, from the top of the workspace.
    pub file: String,
    /// The test that fails then.
    pub caught_by: Test,
    /// The text that is replaced.
    pub old: String,
    /// What it is replaced by.
    pub new: String,
}

/// Where a test is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The package.
    pub package: String,
    /// The file under `tests`; `lib` for a unit test; `loom` and `shuttle` for one that runs under a scheduler.
    pub target: String,
    /// The name, or a part of it.
    pub name: String,
}

impl fmt::Display for Test {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.package, self.target, self.name)
    }
}

/// The long form: plants each bug in a copy of the sources and runs the test that is to catch it.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Only those whose name or file contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// The top of the sources.
    #[arg(long, default_value = ".")]
    sources: PathBuf,
}

impl Options {
    /// Runs it.
    ///
    /// # Panics
    ///
    /// If a mutation is not caught, does not apply, or does not compile.
    pub fn run(&self) {
        let mut figures = Figures::of("mutations");
        let mut missed = Vec::new();
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_sources(&self.sources, copy.path());
        let chosen = listed().expect("the lists are tested");
        let is_chosen =
            |one: &&Mutation| one.name.contains(&self.only) || one.file.contains(&self.only);
        for mutation in chosen.iter().filter(is_chosen) {
            let verdict = plant(mutation, copy.path());
            println!("{verdict:?}: {} ({})", mutation.name, mutation.caught_by);
            figures.add("planted", 1);
            match verdict {
                Verdict::Caught => figures.add("caught", 1),
                Verdict::Missed | Verdict::NotCompiled => missed.push(&mutation.name),
            }
        }
        println!("{figures}");
        assert!(missed.is_empty(), "not caught: {missed:?}");
    }
}

#[derive(Debug)]
enum Verdict {
    Caught,
    Missed,
    NotCompiled,
}

fn copy_sources(from: &Path, to: &Path) {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(from)
        .output()
        .expect("git lists the sources");
    let names = String::from_utf8(listed.stdout).expect("names are text");
    for name in names.split_terminator('\0') {
        let target = to.join(name);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).expect("a folder of the copy");
        }
        // What was deleted and not yet committed is still listed.
        if from.join(name).exists() {
            fs::copy(from.join(name), target).expect("a file of the copy");
        }
    }
}

fn plant(mutation: &Mutation, sources: &Path) -> Verdict {
    let path = sources.join(&mutation.file);
    let original = fs::read_to_string(&path).expect("a source file");
    let changed = mutation.apply(&original).expect("the list is tested");
    fs::write(&path, changed).expect("a file of the copy");
    let verdict = match (
        run(&mutation.caught_by, sources, true),
        run(&mutation.caught_by, sources, false),
    ) {
        (false, _) => Verdict::NotCompiled,
        (true, false) => Verdict::Caught,
        (true, true) => Verdict::Missed,
    };
    fs::write(&path, original).expect("a file of the copy");
    verdict
}

/// Builds, or builds and runs, a test. Whether that went well.
fn run(test: &Test, sources: &Path, only_build: bool) -> bool {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(sources)
        .args(["test", "--quiet", "--package", &test.package]);
    match test.target.as_str() {
        "lib" => command.arg("--lib"),
        "loom" => command
            .args(["--lib", "--release", "--target-dir", "target/loom"])
            .env("RUSTFLAGS", "--cfg folio_loom"),
        "shuttle" => command
            .args([
                "--test",
                "schedules",
                "--release",
                "--target-dir",
                "target/shuttle",
            ])
            .env("RUSTFLAGS", "--cfg folio_shuttle"),
        target => command.args(["--test", target]),
    };
    match only_build {
        true => command.arg("--no-run"),
        false => command.args(["--", &test.name]),
    };
    let output = command.output().expect("cargo runs");
    if !only_build {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("running 0 tests"), "there is no test {test}");
    }
    output.status.success()
}

impl Mutation {
    /// The source with the bug in it; `None` if the old text is not there exactly once.
    #[must_use]
    pub fn apply(&self, source: &str) -> Option<String> {
        (source.matches(&self.old).count() == 1).then(|| source.replacen(&self.old, &self.new, 1))
    }
}

/// Reads a list.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(list: &str) -> Result<Vec<Mutation>, String> {
    list.split("\n## ").skip(1).map(parse_one).collect()
}

fn parse_one(section: &str) -> Result<Mutation, String> {
    let mut lines = section.lines();
    let name = lines.next().unwrap_or_default().to_owned();
    let wrong = |what: &str| format!("{name}: {what}");
    let place = lines
        .by_ref()
        .find(|line| !line.is_empty())
        .ok_or_else(|| wrong("has no place"))?;
    let quoted: Vec<&str> = place.split('`').skip(1).step_by(2).collect();
    let [file, package, target, test] = quoted[..] else {
        return Err(wrong("the place is not `file`, `package` `target` `test`"));
    };
    let block = lines
        .skip_while(|line| *line != "```diff")
        .skip(1)
        .take_while(|line| *line != "```");
    let (mut old, mut new) = (String::new(), String::new());
    for line in block {
        let (sign, text) = line.split_at(line.len().min(1));
        if !["", " ", "-", "+"].contains(&sign) {
            return Err(wrong(
                "a line of the change begins with neither blank, - nor +",
            ));
        }
        for (side, other) in [(&mut old, "+"), (&mut new, "-")] {
            if sign != other {
                side.push_str(text);
                side.push('\n');
            }
        }
    }
    if old.is_empty() {
        return Err(wrong("changes nothing"));
    }
    Ok(Mutation {
        file: file.into(),
        caught_by: Test {
            package: package.into(),
            target: target.into(),
            name: test.into(),
        },
        old,
        new,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn every_mutation_applies_to_the_sources_as_they_are() {
        let list = listed().unwrap_or_else(|error| panic!("{error}"));
        assert!(list.len() >= 30, "only {} mutations", list.len());
        for mutation in list {
            let source = fs::read_to_string(sources().join(&mutation.file)).unwrap_or_default();
            assert!(
                mutation
                    .apply(&source)
                    .is_some_and(|changed| changed != source),
                "{}: the old text is not in {} exactly once",
                mutation.name,
                mutation.file
            );
        }
    }

    #[test]
    fn the_test_that_catches_a_mutation_exists() {
        for mutation in listed().unwrap_or_default() {
            let Test {
                package,
                target,
                name,
            } = &mutation.caught_by;
            let folder = match package.as_str() {
                "folio-attacks" => "tests/attacks",
                "folio-simulation" => "tests/simulation",
                "folio-store" => "crates/store",
                "folio-raft" => "crates/raft",
                "folio-cli" => "crates/cli",
                other => panic!("{}: no package {other}", mutation.name),
            };
            let folder = sources().join(folder);
            let function = format!("fn {}(", name.rsplit("::").next().unwrap_or_default());
            let found = match target.as_str() {
                "lib" | "loom" => rust_files(&folder.join("src")),
                "shuttle" => vec![folder.join("tests/schedules.rs")],
                target => [
                    vec![folder.join(format!("tests/{target}.rs"))],
                    rust_files(&folder.join("tests").join(target)),
                ]
                .concat(),
            }
            .iter()
            .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&function)));
            assert!(
                found,
                "{}: there is no {}",
                mutation.name, mutation.caught_by
            );
        }
    }

    fn rust_files(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => files.extend(rust_files(&path)),
                path => files.push(path),
            }
        }
        files
    }

    #[test]
    fn a_mutation_is_read_from_its_section() {
        let list = "# Bugs\n\n## A bug\n\n`src/a.rs`, caught by `store` `lib` `a_test`\n\n```diff\n one\n-two\n+three\n```\n";
        let [mutation] = &parse(list).unwrap_or_default()[..] else {
            panic!("one section")
        };
        assert_eq!(mutation.name, "A bug");
        assert_eq!(mutation.old, "one\ntwo\n");
        assert_eq!(mutation.new, "one\nthree\n");
        assert_eq!(mutation.caught_by.to_string(), "store lib a_test");
        assert_eq!(
            mutation.apply("0\none\ntwo\n").as_deref(),
            Some("0\none\nthree\n")
        );
        assert_eq!(mutation.apply("one\ntwo\none\ntwo\n"), None);
    }
}
