//! `folio completions` and `folio man`: what shells and `man` know of the tool.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::files::{PUBLIC, about, write};
use crate::output;
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio completions bash > /etc/bash_completion.d/folio
  folio completions zsh > ~/.zfunc/_folio
  folio completions fish > ~/.config/fish/completions/folio.fish")]
pub struct CompletionsArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio man /usr/local/share/man/man1
  man folio-serve")]
pub struct ManArguments {
    /// Where the pages go, one for each command
    directory: PathBuf,
}

pub fn completions(arguments: &CompletionsArguments, mut tool: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut tool, "folio", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub fn man(arguments: &ManArguments, mut tool: Command) -> Result<(), Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).map_err(|error| about(directory, error))?;
    tool.build();
    let mut count = 0;
    for command in std::iter::once(&tool).chain(tool.get_subcommands()) {
        if command.get_name() == "help" {
            continue;
        }
        let name = match command.get_name() {
            "folio" => "folio".to_owned(),
            name => format!("folio-{name}"),
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone().name(name.clone()))
            .render(&mut page)
            .map_err(Failure::error)?;
        let file = directory.join(format!("{name}.1"));
        write(&file, &String::from_utf8_lossy(&page), PUBLIC, true)?;
        count += 1;
    }
    output::print(&format!("{count} pages in {}\n", directory.display()))
}
