//! `folio config`: files of settings.

use std::path::PathBuf;

use clap::{Arg, Args, FromArgMatches, Subcommand};

use super::Settings;
use super::file::{self, Given};
use crate::output::{self, Table};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio config example > folio.toml
  folio config check folio.toml
  folio serve --config folio.toml

Each setting is a flag of `folio serve`, too, and a variable of the environment: `queue-limit` in the table [raft] is
--raft-queue-limit and FOLIO_RAFT_QUEUE_LIMIT. Flags go before the environment, that before the file of --config, that
before folio.toml in the data directory, and that before the defaults.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether a file of settings is right, and what it sets
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a file with every setting, what it is for, and its default
    Example,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check { file } => check(file),
        Command::Example => output::print(&example()),
    }
}

fn check(path: &std::path::Path) -> Result<(), Failure> {
    let given = file::read(path)?;
    let about = |reason: &str| Failure::Usage(format!("{}: {reason}", path.display()));
    settings(&given)?
        .check()
        .map_err(|failure| about(failure.message().unwrap_or_default()))?;
    let mut table = Table::list();
    for Given { name, values } in &given {
        let (table_name, key) = file::split(name);
        let place = table_name.map_or_else(String::new, |table| format!("[{table}] "));
        table.row([format!("{place}{key}"), values.join(", ")]);
    }
    output::print(&format!("{} is right.\n{table}", path.display()))
}

/// The settings of a file over the defaults, without flags and environment.
pub(super) fn settings(given: &[Given]) -> Result<Settings, Failure> {
    let command = given
        .iter()
        .fold(file::list(), |command, Given { name, values }| {
            let id = file::id(&command, name);
            command.mut_arg(id, |arg| arg.default_values(values.clone()))
        });
    let matches = command.no_binary_name(true).try_get_matches_from([""; 0]);
    let matches = matches.map_err(Failure::error)?;
    Settings::from_arg_matches(&matches).map_err(Failure::error)
}

/// Every setting with its description, as a comment; the defaults, where there is one.
fn example() -> String {
    let mut text = String::from(
        "# Settings of a Folio node, for `folio serve --config FILE` or as folio.toml in its data directory.\n\
         # What begins with a # is the default, or an example where there is none.\n",
    );
    let list = file::list();
    let mut table = None;
    for arg in list.get_arguments() {
        let Some(name) = arg.get_long() else { continue };
        let (place, key) = file::split(name);
        if place != table {
            table = place;
            if let Some(place) = place {
                text.push_str(&format!("\n[{place}]\n"));
            }
        }
        text.push('\n');
        for line in wrapped(&description(arg), 98) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{key} = {}\n", shown(arg)));
    }
    text
}

/// What is said of a setting: of flags it is said by the names that they have here.
fn description(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let text = help.map(ToString::to_string).unwrap_or_default();
    let mut text = text.replace("--raft-", "").replace("--", "");
    let choices: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    if choices.len() > 1 && arg.get_action().takes_values() {
        text.push_str(&format!(": {}", choices.join(", ")));
    }
    text
}

/// The default, or what a value looks like.
fn shown(arg: &Arg) -> String {
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if !defaults.is_empty() {
        return file::value(&defaults);
    }
    if !arg.get_action().takes_values() {
        return "false".to_owned();
    }
    let value = match arg.get_long() {
        Some("id") => "1",
        Some("apis") => return "[\"1=a.example.com:7001\", \"2=b.example.com:7001\"]".to_owned(),
        Some("advertise") => "a.example.com:7101",
        Some("advertise-api") => "a.example.com:7001",
        Some("data") => "/var/lib/folio",
        Some("file") => "/var/lib/folio/node.folio",
        Some("tls") => "/etc/folio/certificates",
        Some("clients") => "/etc/folio/clients",
        Some("client-authority") => "/etc/folio/client-authority.pem",
        Some("otlp-endpoint") => "http://localhost:4318",
        Some("scrub") => "4M",
        Some("scrub-every") => "24",
        Some("raft-follower-reads-age") => "5s",
        _ => "",
    };
    file::value(&[value.to_owned()])
}

/// Lines of at most `width` characters, but for longer words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, String::len);
        if last > 0 && last + 1 + word.len() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the example that set something, as they are without the mark of a comment.
    fn uncommented(keep: impl Fn(&str) -> bool) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => keep(setting).then(|| setting.to_owned()),
            _ => Some(line.to_owned()),
        };
        example()
            .lines()
            .filter_map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn parsed(text: &str) -> Vec<Given> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("folio.toml");
        std::fs::write(&path, text).expect("it is writable");
        file::read(&path).unwrap_or_else(|failure| panic!("{failure:?}: {text}"))
    }

    #[test]
    fn the_example_shows_every_setting_with_a_value_that_it_may_have() {
        assert_eq!(parsed(&example()), []);
        let all = parsed(&uncommented(|_| true));
        let list = file::list();
        let names: Vec<_> = list.get_arguments().filter_map(Arg::get_long).collect();
        let shown: Vec<_> = all.iter().map(|given| &given.name[..]).collect();
        assert_eq!(names.len(), shown.len());
        for name in names {
            assert!(shown.contains(&name), "{name} is not in the example");
        }
    }

    #[test]
    fn the_defaults_of_the_example_are_the_defaults() {
        let list = file::list();
        for given in parsed(&uncommented(|_| true)) {
            let arg = list
                .get_arguments()
                .find(|arg| arg.get_long() == Some(&given.name));
            let arg = arg.expect("it is a setting");
            let defaults: Vec<_> = arg
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy())
                .collect();
            if !defaults.is_empty() {
                assert_eq!(given.values, defaults, "{}", given.name);
            }
        }
        let defaults = settings(&[]).expect("there are defaults");
        assert_eq!(defaults.listen, "127.0.0.1:7001");
    }
}
