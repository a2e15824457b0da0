//! Checks what requests and copies do in a directory, whatever its file system, by io_uring and by threads.
//!
//! `check DIR [VYRE-IO]` prints a line for each check: the transport, the check, `pass`, `refused` or `FAIL`, and what
//! there is to say, with tabs between them. VYRE-IO is the command whose copies are checked. The status is 1 if a
//! check fails. A refusal is no failure: a file system need not offer direct I/O or page-cache reads, if it says so.

mod copies;
mod requests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vyre_uring::TransportChoice;

/// The end of a check that did not fail.
enum Passed {
    /// All was as it must be. The text may say how.
    Pass(String),
    /// The file system does not offer it, and an error said so.
    Refused(String),
}

impl Passed {
    const QUIETLY: Self = Self::Pass(String::new());
}

/// Subject of the checks.
struct Place {
    /// The directory.
    dir: PathBuf,
    /// The transport, and its name for `vyre-io --transport`.
    transport: TransportChoice,
    name: &'static str,
    /// The command, if it is checked.
    command: Option<PathBuf>,
}

type Check = fn(&Place) -> Passed;

/// Prints the line of a check. Returns whether it passed.
fn passes(place: &Place, name: &str, check: Check) -> bool {
    let (ok, result, text) = match catch_unwind(AssertUnwindSafe(|| check(place))) {
        Ok(Passed::Pass(text)) => (true, "pass", text),
        Ok(Passed::Refused(text)) => (true, "refused", text),
        Err(panic) => (false, "FAIL", said(panic.as_ref())),
    };
    println!(
        "{}\t{name}\t{result}\t{}",
        place.name,
        text.replace(['\n', '\t'], " ")
    );
    ok
}

/// Returns the text of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
        .to_owned()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(dir) = arguments.next().filter(|dir| Path::new(dir).is_dir()) else {
        eprintln!("usage: check DIR [VYRE-IO]");
        return ExitCode::from(2);
    };
    let command = arguments.next().map(PathBuf::from);
    let mut failed = 0;
    for (transport, name) in [
        (TransportChoice::Ring, "ring"),
        (TransportChoice::ThreadPool, "threads"),
    ] {
        let place = Place {
            dir: dir.clone().into(),
            transport,
            name,
            command: command.clone(),
        };
        let checks = requests::CHECKS
            .iter()
            .chain(copies::CHECKS.iter().filter(|_| command.is_some()));
        failed += checks
            .filter(|(name, check)| !passes(&place, name, *check))
            .count();
    }
    println!("{failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
