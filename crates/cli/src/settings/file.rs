//! Settings in files and in the environment. A file gives flags other defaults: so there is one list of settings, and one
//! way to read a value.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Settings, TABLES};
use crate::run::Failure;

/// The file in a data directory that remembers how its node was started first.
pub(super) const REMEMBERED: &str = "folio.toml";

/// The subcommand that takes settings.
const SERVE: &str = "serve";

/// One setting of a file, its values as they would be on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub name: String,
    pub values: Vec<String>,
}

/// The command line, with the environment and files behind it.
pub struct Layers {
    /// What was found for each flag.
    pub matches: ArgMatches,
    /// What was given for this start, in whatever way, but not remembered from an earlier one: by the name of the setting.
    given: BTreeMap<String, Vec<String>>,
}

impl Layers {
    /// Reads the command line. `folio serve` reads the environment, the file of `--config`, and what its data
    /// directory remembers. Ends the process as clap does when the command line is wrong.
    pub fn read(command: Command) -> Result<Layers, Failure> {
        let command = command.mut_subcommand(SERVE, with_environment);
        let first = command.clone().get_matches();
        let Some((SERVE, serve)) = first.subcommand() else {
            let given = BTreeMap::new();
            return Ok(Layers {
                matches: first,
                given,
            });
        };
        let path = |name: &str| serve.get_one::<PathBuf>(name).cloned();
        let chosen = path("config")
            .map(|file| read(&file))
            .transpose()?
            .unwrap_or_default();
        let data = path("data").or_else(|| {
            let found = chosen.iter().find(|given| given.name == "data");
            found.and_then(|given| given.values.first().map(PathBuf::from))
        });
        let remembered = match data.map(|data| Settings::remembered(&data)) {
            Some(file) if file.exists() => read(&file)?,
            _ => Vec::new(),
        };
        // The later ones replace the earlier ones.
        let defaults = remembered.into_iter().chain(chosen.iter().cloned());
        let command = command.mut_subcommand(SERVE, |serve| {
            defaults.fold(serve, |serve, Given { name, values }| {
                let id = id(&serve, &name);
                serve.mut_arg(id, |arg| arg.default_values(values))
            })
        });
        let matches = command.get_matches();
        let mut given: BTreeMap<_, _> = chosen
            .into_iter()
            .map(|given| (given.name, given.values))
            .collect();
        if let Some((_, serve)) = matches.subcommand() {
            given.extend(said(serve));
        }
        Ok(Layers { matches, given })
    }

    /// The text of a file that says again what was given for this start, and `more`.
    pub fn to_remember(&self, more: &[(&str, String)]) -> String {
        let mut settings = self.given.clone();
        // Where it lies is where it is found.
        settings.remove("data");
        settings.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), vec![value.clone()])),
        );
        let mut text = String::from(
            "# How this node was started first. `folio serve` reads it; change what you like, and start the node again.\n\
             # `folio config example` shows every setting.\n",
        );
        let mut tables: BTreeMap<&str, String> = BTreeMap::new();
        for (name, values) in &settings {
            let (table, key) = split(name);
            let line = format!("{key} = {}\n", value(values));
            match table {
                None => text.push_str(&line),
                Some(table) => tables.entry(table).or_default().push_str(&line),
            }
        }
        for (table, lines) in tables {
            text.push_str(&format!("\n[{table}]\n{lines}"));
        }
        text
    }
}

/// The settings that flags and the environment have given.
fn said(serve: &ArgMatches) -> impl Iterator<Item = (String, Vec<String>)> {
    let list = list();
    let said = list.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        let source = serve.value_source(id)?;
        if source == ValueSource::DefaultValue {
            return None;
        }
        let values = serve
            .get_raw(id)?
            .map(|value| absolute(arg, value.to_string_lossy().into_owned()));
        Some((arg.get_long()?.to_owned(), values.collect()))
    });
    said.collect::<Vec<_>>().into_iter()
}

/// Paths mean the same wherever the node is started the next time.
fn absolute(arg: &Arg, value: String) -> String {
    let is_path =
        arg.get_value_parser().type_id() == clap::builder::ValueParser::path_buf().type_id();
    match std::path::absolute(&value) {
        Ok(path) if is_path => path.display().to_string(),
        _ => value,
    }
}

/// All settings, as the flags that they are.
pub(super) fn list() -> Command {
    Settings::augment_args(Command::new(SERVE))
}

pub(super) fn id(command: &Command, name: &str) -> String {
    let found = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name));
    // A file has the names of settings only, which are flags.
    found.map_or_else(|| name.to_owned(), |arg| arg.get_id().to_string())
}

/// Each flag may be given in the environment, too.
pub(super) fn with_environment(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_long() {
        Some(name) if name != "help" => {
            let variable = variable(name);
            arg.env(variable)
        }
        _ => arg,
    })
}

/// The variable of a flag.
fn variable(name: &str) -> String {
    format!("FOLIO_{}", name.replace('-', "_").to_uppercase())
}

/// Whether a variable of the environment means something to this program.
pub fn is_variable(name: &str) -> bool {
    let others = [
        "config",
        "init",
        "peers",
        "join",
        "node",
        "ca",
        "token-file",
    ];
    let list = list();
    let flags = list.get_arguments().filter_map(Arg::get_long);
    flags.chain(others).any(|flag| variable(flag) == name)
}

/// The table of a setting, if it stands in one, and its key there.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once('-') {
        Some((table, key)) if TABLES.contains(&table) => (Some(table), key),
        _ => (None, name),
    }
}

/// Values as they are written in a file.
pub(super) fn value(values: &[String]) -> String {
    let one = |text: &String| match text.parse::<i64>().is_ok() || text == "true" || text == "false"
    {
        true => text.clone(),
        false => serde_json::Value::from(text.as_str()).to_string(),
    };
    match values {
        [single] => one(single),
        several => format!(
            "[{}]",
            several.iter().map(one).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Reads a file, and checks each of its values by itself.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Error(format!("{}: cannot read it: {error}", path.display())))?;
    parse(&text)
        .map_err(|(line, reason)| Failure::Usage(format!("{}:{line}: {reason}", path.display())))
}

/// What is wrong, and in which line.
type Wrong = (usize, String);

fn parse(text: &str) -> Result<Vec<Given>, Wrong> {
    // Bytes, since nobody promises that a place is that of a character.
    let line = |at: usize| {
        let before = text.bytes().take(at);
        before.filter(|byte| *byte == b'\n').count() + 1
    };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (line(at), error.message().to_owned())
    })?;
    let mut found = Vec::new();
    collect(table.get_ref(), "", &mut found).map_err(|(at, reason)| (line(at), reason))?;
    found.sort_by_key(|(at, _)| *at);
    let list = list();
    let mut settings = Vec::<Given>::new();
    for (at, given) in found {
        let wrong = |reason| (line(at), reason);
        check(&list, &given).map_err(wrong)?;
        if settings.iter().any(|other| other.name == given.name) {
            return Err(wrong(format!("`{}` is set a second time", given.name)));
        }
        settings.push(given);
    }
    Ok(settings)
}

/// Gathers the settings of a table, whose names begin with `prefix`, and where each of them stands.
fn collect(
    table: &DeTable<'_>,
    prefix: &str,
    found: &mut Vec<(usize, Given)>,
) -> Result<(), Wrong> {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let at = key.span().start;
        match value.get_ref() {
            DeValue::Table(inner) if prefix.is_empty() && TABLES.contains(&&name[..]) => {
                collect(inner, &format!("{name}-"), found)?;
            }
            DeValue::Table(_) => {
                return Err((at, format!("there is no table [{name}] of settings")));
            }
            DeValue::Array(values) => {
                let values = values.iter().map(scalar).collect::<Result<_, _>>()?;
                found.push((at, Given { name, values }));
            }
            _ => {
                let values = vec![scalar(value)?];
                found.push((at, Given { name, values }));
            }
        }
    }
    Ok(())
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
    let wrong = |what: &str| {
        (
            value.span().start,
            format!("{what} is no value of a setting"),
        )
    };
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| wrong("so large a number")),
        DeValue::Float(_) => Err(wrong("a number with a fraction")),
        DeValue::Datetime(_) => Err(wrong("a date")),
        DeValue::Array(_) => Err(wrong("a list in a list")),
        DeValue::Table(_) => Err(wrong("a table")),
    }
}

/// Whether there is such a setting, and these may be its values.
fn check(list: &Command, Given { name, values }: &Given) -> Result<(), String> {
    let shown = match split(name) {
        (Some(table), key) => format!("{key} in [{table}]"),
        (None, key) => key.to_owned(),
    };
    let Some(arg) = list
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
    else {
        let alike = |text: &str| text.replace(['-', '_'], "").to_lowercase();
        let meant = list
            .get_arguments()
            .filter_map(Arg::get_long)
            .find(|known| {
                let key = split(known).1;
                alike(known) == alike(name) || key == name || alike(key) == alike(split(name).1)
            });
        let hint = match meant.map(split) {
            Some((Some(table), key)) => format!("write {key}, in the table [{table}]"),
            Some((None, key)) => format!("write {key}, above all tables"),
            None => "`folio config example` shows all".to_owned(),
        };
        return Err(format!("there is no setting {shown}: {hint}"));
    };
    let takes_value = arg.get_action().takes_values();
    if !takes_value {
        return match &values[..] {
            [truth] if truth == "true" || truth == "false" => Ok(()),
            _ => Err(format!("{shown} is true or false")),
        };
    }
    let flags = values
        .iter()
        .map(|value| OsString::from(format!("--{name}={value}")));
    let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
    if values.len() != 1 && !is_list {
        return Err(format!("{shown} has one value, not {}", values.len()));
    }
    let alone = list.clone().no_binary_name(true);
    match alone.try_get_matches_from(flags) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = match error.source() {
                Some(reason) => reason.to_string(),
                None => first_lines(&error.to_string()),
            };
            Err(format!(
                "{shown} cannot be `{}`: {reason}",
                values.join(", ")
            ))
        }
    }
}

/// What clap says of an error, without the advice about flags.
fn first_lines(said: &str) -> String {
    let lines = said
        .lines()
        .take_while(|line| !line.starts_with("For more"));
    let lines: Vec<_> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_settings_by_the_names_of_the_flags() {
        let text = "id = 3\nlisten = '127.0.0.1:1'\napis = ['1=a:1', \"2=b:2\"]\ninsecure-network = true\n\
                    [raft]\nqueue-limit = 1_000\nheartbeat-interval = \"100ms\"\n[engine]\ncache-size = '1G'\n";
        let given = parse(text).expect("it is right");
        let names: Vec<_> = given
            .iter()
            .map(|given| (&given.name[..], given.values.join(" ")))
            .collect();
        for expected in [
            ("id", "3"),
            ("apis", "1=a:1 2=b:2"),
            ("insecure-network", "true"),
            ("raft-queue-limit", "1000"),
            ("engine-cache-size", "1G"),
        ] {
            let (name, value) = expected;
            assert!(names.contains(&(name, value.to_owned())), "{names:?}");
        }
    }

    #[test]
    fn whatever_is_in_a_file_it_is_read_or_refused_with_a_line_of_it() {
        const PIECES: &[&str] = &[
            "listen",
            "raft",
            "queue-limit",
            "apis",
            "id",
            " = ",
            "=",
            ".",
            "\n",
            "\n",
            "\r\n",
            "[",
            "]",
            "[[",
            "{",
            "}",
            ",",
            "\"",
            "'",
            "'''",
            "\"\"\"",
            "\\",
            "#",
            "1",
            "-",
            "0x",
            "1e9",
            "9223372036854775808",
            "2020-01-01",
            "true",
            "é",
            "日本",
            "\u{feff}",
            "\0",
            " ",
            "\t",
            "listen = 'a:1'\n",
            "[raft]\n",
            "queue-limit = 1\n",
            "apis = ['1=a:1']\n",
        ];
        for seed in 1..=500u64 {
            // As in Marsaglia's xorshift.
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = |count: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % count as u64) as usize
            };
            let length = below(24);
            let text: String = (0..length).map(|_| PIECES[below(PIECES.len())]).collect();
            let read = std::panic::catch_unwind(|| parse(&text));
            let read = read.unwrap_or_else(|_| panic!("seed {seed}: {text:?}"));
            if let Err((line, reason)) = read {
                let lines = text.matches('\n').count() + 1;
                assert!(
                    (1..=lines).contains(&line),
                    "seed {seed}: {line} in {text:?}"
                );
                assert!(!reason.is_empty(), "seed {seed}: {text:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        for (text, line, said) in [
            ("id = 1\npeer_listen = 'a:1'\n", 2, "write peer-listen"),
            (
                "colour = 1",
                1,
                "there is no setting colour: `folio config example` shows all",
            ),
            (
                "\nheartbeat-interval = '1s'",
                2,
                "write heartbeat-interval, in the table [raft]",
            ),
            (
                "[raft]\n\nlisten = 'a:1'",
                3,
                "write listen, above all tables",
            ),
            (
                "[raft]\nqueue-limit = 'many'",
                2,
                "queue-limit in [raft] cannot be `many`",
            ),
            (
                "[raft]\nheartbeat-interval = 250",
                2,
                "write a whole number and its unit",
            ),
            ("[rafts]\nx = 1", 1, "no table [rafts]"),
            ("id = 0", 1, "id cannot be `0`"),
            ("id = -1", 1, "id cannot be `-1`"),
            ("id = [1, 2]", 1, "id has one value, not 2"),
            ("id = []", 1, "id has one value, not 0"),
            ("id = 1.5", 1, "a number with a fraction"),
            ("id = 1979-05-27", 1, "a date"),
            ("id = 99999999999999999999", 1, "so large a number"),
            ("apis = [['1=a:1']]", 1, "a list in a list"),
            ("apis = ['1']", 1, "write ID=HOST:PORT"),
            ("insecure-network = 'perhaps'", 1, "true or false"),
            ("log-format = 'xml'", 1, "xml"),
            ("config = 'other.toml'", 1, "there is no setting config"),
            ("id = 1\nid = 2", 2, "duplicate"),
            (
                "raft-queue-limit = 1\n[raft]\nqueue-limit = 2",
                3,
                "a second time",
            ),
            ("id = ", 1, ""),
            ("= =", 1, ""),
            ("\u{0}", 1, ""),
        ] {
            let (at, reason) = parse(text).expect_err(text);
            assert_eq!(at, line, "{text:?}: {reason}");
            assert!(reason.contains(said), "{text:?}: {reason}");
        }
    }

    #[test]
    fn what_is_remembered_is_read_again_as_it_was() {
        let given = BTreeMap::from([
            ("id".to_owned(), vec!["3".to_owned()]),
            ("data".to_owned(), vec!["/somewhere".to_owned()]),
            (
                "cluster".to_owned(),
                vec!["a \"quoted\" \\ name\n".to_owned()],
            ),
            ("insecure-network".to_owned(), vec!["true".to_owned()]),
            (
                "apis".to_owned(),
                vec!["1=a:1".to_owned(), "2=b:2".to_owned()],
            ),
            ("raft-queue-limit".to_owned(), vec!["77".to_owned()]),
        ]);
        let layers = Layers {
            matches: ArgMatches::default(),
            given: given.clone(),
        };
        let text = layers.to_remember(&[("listen", "127.0.0.1:7002".to_owned())]);
        let mut expected = given;
        expected.remove("data");
        expected.insert("listen".to_owned(), vec!["127.0.0.1:7002".to_owned()]);
        let read = parse(&text).expect("it can be read");
        let read: BTreeMap<_, _> = read
            .into_iter()
            .map(|given| (given.name, given.values))
            .collect();
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn a_variable_has_the_name_of_its_flag() {
        let command = with_environment(list());
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some("raft-queue-limit"));
        let variable = arg.and_then(Arg::get_env).expect("it has one");
        assert_eq!(variable, "FOLIO_RAFT_QUEUE_LIMIT");
    }
}
