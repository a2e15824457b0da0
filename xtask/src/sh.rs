//! Starting programs: what every child process of the tooling has in common.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitStatus, Stdio};

use crate::{Result, workspace::Workspace};

/// A program that runs at the root of the workspace, without standard input.
pub(crate) fn program(ws: &Workspace, name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(&ws.root)
        .stdin(Stdio::null())
        // Set by the cargo that started us; with `cargo +toolchain` it would name the wrong one.
        .env_remove("CARGO");
    command
}

/// `cargo` with these arguments. Its output is often read through a pipe, where cargo drops
/// its colours, so they are asked for when a person is watching.
pub(crate) fn cargo(ws: &Workspace, args: &[&str]) -> Command {
    let mut command = program(ws, "cargo");
    command.args(args);
    if std::env::var_os("CARGO_TERM_COLOR").is_none() && std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        let Some(value) = value else { continue };
        if key != "CARGO_TERM_COLOR" {
            words.push(format!("{}={:?}", key.display(), value.to_string_lossy()));
        }
    }
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Runs the command with its output passed through; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("  $ {}", shown(command));
    let status = command
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    check(command, status)
}

/// Runs the command, passes its output through, and hands each line of it, without colours,
/// to `on_line`. Both output streams share one pipe, so the order of lines is kept.
pub(crate) fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    println!("  $ {}", shown(command));
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    // The command still holds the writing ends; without this the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut out = std::io::stdout();
    while reader.read_until(b'\n', &mut line)? > 0 {
        out.write_all(&line)?;
        out.flush()?;
        on_line(&plain(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(child.wait()?)
}

/// The standard output of a command, which must succeed.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::inherit()).output();
    let out = out.map_err(|error| cannot_start(command, &error))?;
    check(command, out.status)?;
    Ok(String::from_utf8(out.stdout)?)
}

/// Whether a command can be started and succeeds; it says nothing on the terminal.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub(crate) fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(format!("`{}` failed ({status})", shown(command)).into())
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!(
        "cannot start `{}`: {error}",
        command.get_program().display()
    )
}

/// Returns the line without its end and without terminal escape sequences.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    anstream::adapter::strip_str(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(
            plain("test result: \x1b[32mok\x1b(B\x1b[m. 3\n"),
            "test result: ok. 3"
        );
        assert_eq!(
            plain("\x1b[1m\x1b[92m   Running\x1b[0m x\r\n"),
            "   Running x"
        );
        assert_eq!(plain("plain"), "plain");
    }

    #[test]
    fn both_streams_arrive_in_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let mut lines = Vec::new();
        let status = stream(&mut command, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(status.code(), Some(3));
        assert!(check(&command, status).is_err());
    }
}
