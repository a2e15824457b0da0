//! The workspace as cargo describes it, and how programs are started in it.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{MetadataCommand, Package};
use xshell::{Cmd, Shell};

/// Error with a message for the person at the terminal.
pub(crate) type Error = Box<dyn std::error::Error>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Folder in which cargo installs the tools of [`crate::tools`].
pub(crate) const TOOLS: &str = "target/tools";

pub(crate) struct Workspace {
    /// Its directory is `root`.
    pub(crate) sh: Shell,
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) members: Vec<Package>,
    /// The oldest Rust that every member builds with.
    pub(crate) msrv: String,
}

/// A command at the root of the workspace. The cargo that started xtask sets `CARGO`, which would win
/// over `cargo +toolchain`.
macro_rules! cmd {
    ($ws:expr, $($rest:tt)+) => { xshell::cmd!($ws.sh, $($rest)+).env_remove("CARGO") };
}
pub(crate) use cmd;

impl Workspace {
    /// Reads the workspace that xtask belongs to.
    pub(crate) fn load() -> Result<Self> {
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR");
        let xtask = xtask.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        Self::at(xtask.parent().ok_or("xtask has no parent directory")?)
    }

    /// Reads the workspace at `root`.
    pub(crate) fn at(root: &Path) -> Result<Self> {
        let sh = Shell::new()?;
        sh.change_dir(root);
        let path = std::env::var("PATH").unwrap_or_default();
        sh.set_var("PATH", format!("{}:{path}", root.join(TOOLS).join("bin").display()));
        // Output is read through a pipe, where cargo drops its colours.
        if std::env::var_os("CARGO_TERM_COLOR").is_none() && std::io::stdout().is_terminal() {
            sh.set_var("CARGO_TERM_COLOR", "always");
        }
        let metadata = metadata(&root.join("Cargo.toml"))?;
        let members = metadata.packages;
        let rust = |package: &Package| package.rust_version.as_ref().map(ToString::to_string);
        let msrv = members.first().and_then(rust).ok_or("the members set no rust-version")?;
        if let Some(other) = members.iter().find(|member| rust(member).as_ref() != Some(&msrv)) {
            return Err(format!("{} sets another rust-version than {msrv}", other.name).into());
        }
        Ok(Self {
            sh,
            root: root.to_owned(),
            target: metadata.target_directory.into(),
            members,
            msrv: msrv.trim_end_matches(".0").to_owned(),
        })
    }

    /// The names of the crates that go to a registry.
    pub(crate) fn published(&self) -> Vec<&str> {
        let published = |member: &&Package| member.publish.as_ref().is_none_or(|to| !to.is_empty());
        self.members.iter().filter(published).map(|member| member.name.as_str()).collect()
    }

    /// The files that are there and that git tracks or would add.
    pub(crate) fn paths(&self) -> Result<Vec<String>> {
        let listed = cmd!(self, "git ls-files -z --cached --others --exclude-standard").read()?;
        let there = |path: &&str| !path.is_empty() && self.root.join(path).is_file();
        let mut paths: Vec<_> = listed.split('\0').filter(there).map(str::to_owned).collect();
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    /// Copies the files of the workspace, and opens the workspace that they make there.
    pub(crate) fn copy(&self, to: &str) -> Result<Self> {
        let root = self.root.join(to);
        for path in self.paths()? {
            let to = root.join(&path);
            self.sh.create_dir(to.parent().unwrap_or(&root))?;
            self.sh.copy_file(path, to)?;
        }
        Self::at(&root)
    }
}

/// Metadata of the members of a workspace.
pub(crate) fn metadata(manifest: &Path) -> Result<cargo_metadata::Metadata> {
    Ok(MetadataCommand::new().manifest_path(manifest).no_deps().exec()?)
}

/// Returns true if a command can be started and succeeds. Shows nothing.
pub(crate) fn succeeds(cmd: Cmd<'_>) -> bool {
    cmd.quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

/// Runs a command that must succeed, passes its output through, and hands each line of it, without
/// colours, to `on_line`. Both output streams share one pipe, so that lines keep their order.
pub(crate) fn stream(cmd: Cmd<'_>, mut on_line: impl FnMut(&str)) -> Result<()> {
    let shown = cmd.to_string();
    println!("$ {shown}");
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::from(cmd);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    // The command holds the writing ends, without which the pipe would never end.
    drop(command);

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut out = std::io::stdout();
    while reader.read_until(b'\n', &mut line)? > 0 {
        out.write_all(&line)?;
        out.flush()?;
        let text = String::from_utf8_lossy(&line);
        on_line(&anstream::adapter::strip_str(text.trim_end()).to_string());
        line.clear();
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("`{shown}` failed ({status})").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_arrive_in_order_and_without_colours() {
        let sh = Shell::new().unwrap();
        let script = "printf 'one\\n'; printf '\\033[32mtwo\\033(B\\033[m\\r\\n' >&2; echo three; exit 3";
        let mut lines = Vec::new();
        let outcome = stream(xshell::cmd!(sh, "sh -c {script}"), |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(outcome.unwrap_err().to_string().contains("exit status: 3"));
        assert!(stream(xshell::cmd!(sh, "no-such-program"), |_| ()).is_err());
    }

    #[test]
    fn the_published_crates_are_known() {
        let ws = Workspace::load().unwrap();
        let published = ws.published();
        assert!(published.contains(&"vyre-ioq") && !published.contains(&"xtask"));
        assert_eq!(ws.msrv.split('.').count(), 2);
    }
}
