//! The steps of `cargo xtask ci`, in the order they run.

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{
    Result, cargo_steps, consumers, faults, features, fuzz, header, package, proofs, props, readme,
    test_steps, tidy, tools, volume,
};

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Workspace, &mut Report) -> Result<()>,
}

/// What a step found out, kept also when it fails.
#[derive(Default)]
pub(crate) struct Report {
    /// One short line for the closing table.
    pub(crate) note: String,
    pub(crate) tests: Tally,
    /// Set when something could not be checked on this machine.
    pub(crate) skipped: bool,
}

impl Report {
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        self.skipped = true;
        self.note = why.into();
    }
}

pub(crate) const ALL: &[Step] = &[
    Step {
        name: "tools",
        about: "install what the other steps need",
        run: tools::run,
    },
    Step {
        name: "fmt",
        about: "formatting, and current lock files",
        run: cargo_steps::fmt,
    },
    Step {
        name: "clippy",
        about: "lints, all targets and features",
        run: cargo_steps::clippy,
    },
    Step {
        name: "docs",
        about: "documentation builds without warnings",
        run: cargo_steps::docs,
    },
    Step {
        name: "no_std",
        about: "vyre-ioq where there is no std",
        run: cargo_steps::no_std,
    },
    Step {
        name: "features",
        about: "each library with every set of its features",
        run: features::run,
    },
    Step {
        name: "header",
        about: "the headers and the tables of ABI.md are those of the Rust constants",
        run: header::step,
    },
    Step {
        name: "test",
        about: "all tests and doctests",
        run: test_steps::run,
    },
    Step {
        name: "faults",
        about: "faults of the real kernel: what hangs, fails, is full or forbidden",
        run: faults::step,
    },
    Step {
        name: "consumers",
        about: "programs as users would write them",
        run: consumers::run,
    },
    Step {
        name: "props",
        about: "property tests, many cases",
        run: props::run,
    },
    Step {
        name: "loom",
        about: "vyre-ioq in every order of its threads, within bounds",
        run: proofs::step,
    },
    Step {
        name: "hostile",
        about: "hostile words, and a soak of producers",
        run: volume::step,
    },
    Step {
        name: "fuzz",
        about: "the fuzz targets build",
        run: fuzz::step,
    },
    Step {
        name: "tidy",
        about: "rules about the text of the repository",
        run: tidy::run,
    },
    Step {
        name: "readme",
        about: "the README's first command works",
        run: readme::step,
    },
    Step {
        name: "msrv",
        about: "builds with the oldest supported Rust",
        run: cargo_steps::msrv,
    },
    Step {
        name: "package",
        about: "the published crates package",
        run: package::run,
    },
];
