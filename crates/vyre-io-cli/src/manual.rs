//! Man pages and shell completions, from the command line itself.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::failure::Failure;

/// Prints the completions of a shell.
pub(crate) fn complete(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator panics where it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "vyre-io", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(())
}

/// Writes a man page for the program, and one for each of its commands, to a directory.
pub(crate) fn write_pages(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| Failure::file("create", directory, error))?;
    for (name, page) in pages()? {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|error| Failure::file("write", &path, error))?;
    }
    Ok(())
}

/// Returns the pages by the names of their files.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut whole = Args::command().disable_help_subcommand(true);
    // Gives each command its full name.
    whole.build();
    let parts = whole.get_subcommands().filter(|part| !part.is_hide_set());
    let mut pages = Vec::new();
    for command in std::iter::once(&whole).chain(parts) {
        let name = command.get_display_name().unwrap_or("vyre-io").to_owned();
        let man = clap_mangen::Man::new(command.clone().version(env!("CARGO_PKG_VERSION")));
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().expect("pages");
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "vyre-io.1",
            "vyre-io-copy.1",
            "vyre-io-serve.1",
            "vyre-io-doctor.1",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let serve = pages.iter().find(|(name, _)| name == "vyre-io-serve.1");
        let text = String::from_utf8_lossy(&serve.expect("named above").1).replace("\\-", "-");
        for option in ["--socket", "--policy", "--allow-user", "--drain"] {
            assert!(text.contains(option), "{option}");
        }
    }
}
