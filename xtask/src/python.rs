//! The Python package: builds its wheel as users would, installs it, and has pytest test it.

use std::path::{Path, PathBuf};

use roxmltree::Document;

use crate::report::{Report, Skip, Tally};
use crate::workspace::{Result, Workspace, cmd, succeeds};

const PACKAGE: &str = "crates/vyre-io-python";
/// The environment, the wheel, and the report of pytest, below the target directory.
const HOME: &str = "target/python";

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let python = installed(ws)?;
    test(ws, &python, &["tests"], report)
}

/// Runs many rounds of the tests that look for leaks.
pub(crate) fn soak(ws: &Workspace, report: &mut Report) -> Result<()> {
    let python = installed(ws)?;
    test(ws, &python, &["--soak", "tests/test_flat.py"], report)
}

/// Builds the wheel and installs it into the environment, whose interpreter is returned.
fn installed(ws: &Workspace) -> Result<PathBuf> {
    let python = environment(ws)?;
    let manifest = format!("{PACKAGE}/Cargo.toml");
    let wheels = format!("{HOME}/wheels");
    ws.sh.remove_path(&wheels)?;
    // As the step `test` builds, so that both share what they compile.
    let build = ["build", "--profile", "dev", "--locked", "--manifest-path", &manifest, "--out", &wheels];
    let target = ws.target.as_os_str();
    cmd!(ws, "{python} -m maturin {build...} --interpreter {python} --target-dir {target}").run()?;
    let [wheel] = &ws.sh.read_dir(&wheels)?[..] else {
        return Err("maturin built no wheel, or several".into());
    };
    let replace = ["--quiet", "--force-reinstall", "--no-deps", "--no-index"];
    cmd!(ws, "{python} -m pip install {replace...} {wheel}").run()?;
    Ok(python)
}

/// Runs pytest in the package's directory.
fn test(ws: &Workspace, python: &Path, arguments: &[&str], report: &mut Report) -> Result<()> {
    // Its clients talk to the server of this program, too.
    let target = ws.target.as_os_str();
    cmd!(ws, "cargo build --locked -p vyre-io-cli --target-dir {target}").run()?;
    let program = ws.target.join("debug/vyre-io");
    let junit = ws.root.join(HOME).join("junit.xml");
    ws.sh.remove_path(&junit)?;
    let in_package = ws.sh.push_dir(PACKAGE);
    let pytest = cmd!(ws, "{python} -m pytest --quiet --junitxml {junit} {arguments...}");
    let outcome = pytest.env("VYRE_IO_PROGRAM", program).run();
    drop(in_package);
    if let Ok(xml) = ws.sh.read_file(&junit) {
        report.tests += tally(&xml)?;
    }
    outcome?;
    let version = cmd!(ws, "{python} --version").read()?;
    let skipped = report.tests.skipped;
    report.note = format!("{version}, {} tests, {skipped} skipped", report.tests.passed);
    if report.tests.passed == 0 { Err("no test ran".into()) } else { Ok(()) }
}

/// Makes the environment with the tools, unless it is there, and returns its interpreter.
fn environment(ws: &Workspace) -> Result<PathBuf> {
    let suits = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    if !succeeds(cmd!(ws, "python3 -c {suits}")) {
        let why = "no Python 3.11 with venv: install python3 and python3-venv with your distribution";
        return Err(Skip(why.to_owned()).into());
    }
    let home = ws.root.join(HOME).join("venv");
    let python = home.join("bin/python");
    // Also where the Python that it was made with is gone.
    if !succeeds(cmd!(ws, "{python} -c {suits}")) {
        cmd!(ws, "python3 -m venv --clear {home}").run()?;
    }
    let tools = format!("{PACKAGE}/requirements-dev.txt");
    cmd!(ws, "{python} -m pip install --quiet --disable-pip-version-check --requirement {tools}")
        .run()
        .map_err(|error| Skip(format!("the tools of {tools} cannot be installed: {error}")))?;
    Ok(python)
}

/// Reads the report of pytest.
fn tally(xml: &str) -> Result<Tally> {
    let document = Document::parse(xml)?;
    let mut tally = Tally::default();
    for suite in document.descendants().filter(|node| node.has_tag_name("testsuite")) {
        let count = |name| -> Result<u64> {
            Ok(suite.attribute(name).ok_or_else(|| format!("a suite without {name}"))?.parse()?)
        };
        let failed = count("failures")? + count("errors")?;
        let skipped = count("skipped")?;
        let passed = count("tests")?.saturating_sub(failed + skipped);
        tally += Tally { passed, failed, skipped };
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_counted() {
        let xml = r#"<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2" skipped="3"
            tests="10" time="1.0"></testsuite></testsuites>"#;
        let expected = Tally { passed: 4, failed: 3, skipped: 3 };
        assert_eq!(tally(xml).unwrap(), expected);
        assert!(tally(r#"<testsuites><testsuite name="pytest"/></testsuites>"#).is_err());
        assert!(tally("no XML").is_err());
    }
}
