//! The steps that are a few commands.

use crate::report::{Report, Skip, counted};
use crate::tools::{self, BARE_TARGET};
use crate::workspace::{Result, Workspace, cmd, stream, succeeds};

/// The workspace, the programs of users, and the fuzz targets.
const MANIFESTS: &[&str] = &["Cargo.toml", "consumers/Cargo.toml", "fuzz/Cargo.toml"];

/// Checks all workspaces, since a stale lock file fails their own steps late.
pub(crate) fn fmt(ws: &Workspace, _: &mut Report) -> Result<()> {
    for at in MANIFESTS.iter().map(|manifest| ["--manifest-path", manifest]) {
        cmd!(ws, "cargo fmt --all --check {at...}").run()?;
        cmd!(ws, "cargo update --workspace --locked --quiet {at...}")
            .run()
            .map_err(|error| format!("{error}: without --locked, it updates the lock file"))?;
    }
    tools::need(ws, "taplo")?;
    Ok(cmd!(ws, "taplo fmt --check --diff").run()?)
}

pub(crate) fn typos(ws: &Workspace, _: &mut Report) -> Result<()> {
    tools::need(ws, "typos")?;
    Ok(cmd!(ws, "typos").run()?)
}

pub(crate) fn clippy(ws: &Workspace, _: &mut Report) -> Result<()> {
    let all = ["--workspace", "--all-targets", "--all-features"];
    Ok(cmd!(ws, "cargo clippy {all...} -- -D warnings").run()?)
}

pub(crate) fn docs(ws: &Workspace, _: &mut Report) -> Result<()> {
    let doc = cmd!(ws, "cargo doc --workspace --no-deps --all-features");
    Ok(doc.env("RUSTDOCFLAGS", "-D warnings").run()?)
}

/// Builds for a target that has no `std` at all: where there is one, a crate that uses it by mistake
/// still compiles.
pub(crate) fn no_std(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::need_target(ws, BARE_TARGET)?;
    for features in ["", "alloc"] {
        let with = ["--no-default-features", "--features", features, "--target", BARE_TARGET];
        cmd!(ws, "cargo build -p vyre-ioq {with...}").run()?;
    }
    BARE_TARGET.clone_into(&mut report.note);
    Ok(())
}

/// Each published crate with every set of its features. The library is built alone, as its users do,
/// before its tests: these may turn on features of the crates below, which it must not need.
pub(crate) fn features(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::need(ws, "cargo-hack")?;
    let which = ["--workspace", "--ignore-private", "--feature-powerset", "--exclude-features=default"];
    for part in ["--lib", "--tests"] {
        cmd!(ws, "cargo-hack hack clippy {which...} {part} --quiet -- -D warnings").run()?;
    }
    report.note = format!("{} crates", ws.published().len());
    Ok(())
}

pub(crate) fn msrv(ws: &Workspace, report: &mut Report) -> Result<()> {
    let msrv = ws.msrv.as_str();
    if !tools::has_toolchain(ws, msrv) {
        return Err(Skip(format!("no Rust {msrv}: run `rustup toolchain install {msrv}`")).into());
    }
    let all = ["--workspace", "--all-targets", "--all-features", "--locked"];
    cmd!(ws, "cargo +{msrv} check {all...} --target-dir target/msrv").run()?;
    report.note = format!("Rust {msrv}");
    Ok(())
}

/// Licences, sources, duplicates and layers of the dependencies.
pub(crate) fn deny(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::need(ws, "cargo-deny")?;
    cmd!(ws, "cargo-deny --all-features check bans licenses sources").run()?;
    report.note = "bans, licenses, sources".to_owned();
    Ok(())
}

/// Known vulnerabilities. The database is fetched from its repository.
pub(crate) fn advisories(ws: &Workspace, _: &mut Report) -> Result<()> {
    tools::need(ws, "cargo-deny")?;
    Ok(cmd!(ws, "cargo-deny --all-features check advisories").run()?)
}

/// Links of the documents within the repository, to headings as well.
pub(crate) fn links(ws: &Workspace, _: &mut Report) -> Result<()> {
    lychee(ws, &["--offline"])
}

/// Links of the documents that lead to other places.
pub(crate) fn web_links(ws: &Workspace, _: &mut Report) -> Result<()> {
    lychee(ws, &[])
}

fn lychee(ws: &Workspace, args: &[&str]) -> Result<()> {
    tools::need(ws, "lychee")?;
    let documents = ws.paths()?.into_iter().filter(|path| path.ends_with(".md"));
    let all = ["--no-progress", "--include-fragments", "--root-dir", "."];
    Ok(cmd!(ws, "lychee {all...} {args...} {documents...}").run()?)
}

/// Packages what would be published and builds each package alone, as its users will.
///
/// Cargo takes what is in a registry to be immutable, also in the temporary one of the dry run: it would
/// not compile a crate again whose version stayed the same. So each run has a directory of its own.
pub(crate) fn publish(ws: &Workspace, report: &mut Report) -> Result<()> {
    ws.sh.remove_path("target/publish")?;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos().to_string();
    let to = ["--target-dir", &format!("target/publish/{now}")];
    let mut verified = Vec::new();
    let dry = ["--dry-run", "--locked", "--allow-dirty"];
    stream(cmd!(ws, "cargo publish --workspace {dry...} {to...}"), |line| {
        let name = line.trim_start().strip_prefix("Verifying ").and_then(|line| line.split(' ').next());
        verified.extend(name.map(str::to_owned));
    })?;
    ws.sh.remove_path("target/publish")?;
    verified.sort_unstable();
    let mut published = ws.published();
    published.sort_unstable();
    if verified != published || published.is_empty() {
        return Err(format!("verified {verified:?}, expected {published:?}").into());
    }
    report.note = format!("{} crates", verified.len());
    Ok(())
}

/// Builds the published crates with the oldest versions that they allow of what they name.
pub(crate) fn minimal_versions(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::nightly(ws, &[])?;
    let copy = ws.copy("target/minimal-versions/copy")?;
    cmd!(copy, "cargo +nightly update -Zdirect-minimal-versions").run()?;
    let crates = ws.published().into_iter().flat_map(|name| ["-p", name]);
    cmd!(copy, "cargo check --locked --all-features --target-dir ../target {crates...}").run()?;
    report.note = format!("{} crates", ws.published().len());
    Ok(())
}

/// Compares the public interfaces with those of a commit: `SEMVER_BASELINE`, or `origin/main`.
pub(crate) fn semver(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::need(ws, "cargo-semver-checks")?;
    let base = std::env::var("SEMVER_BASELINE").unwrap_or_else(|_| "origin/main".to_owned());
    // The library of the command is no interface, that of C has a check of its own, and Rust cannot use that of Python.
    let others = ["vyre-io-cli", "vyre-io-capi", "vyre-io-python"];
    let libraries = ws.published().into_iter().filter(|name| !others.contains(name));
    let libraries = libraries.flat_map(|name| ["-p", name]);
    cmd!(ws, "cargo-semver-checks semver-checks {libraries...} --baseline-rev {base}").run()?;
    report.note = format!("against {base}");
    Ok(())
}

/// The lines that the tests of the workspace run. Figures inform; none fails.
pub(crate) fn coverage(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::need(ws, "cargo-llvm-cov")?;
    cmd!(ws, "rustup component add llvm-tools").run()?;
    let what = ["--workspace", "--all-features", "--exclude=xtask", "--exclude=vyre-benches"];
    counted(cmd!(ws, "cargo-llvm-cov llvm-cov {what...} --no-report"), &mut report.tests)?;
    let lcov = ["--lcov", "--output-path", "target/coverage.lcov"];
    cmd!(ws, "cargo-llvm-cov llvm-cov report {lcov...}").run()?;
    let summary = cmd!(ws, "cargo-llvm-cov llvm-cov report --json --summary-only").read()?;
    let summary: serde_json::Value = serde_json::from_str(&summary)?;
    let lines = summary["data"][0]["totals"]["lines"]["percent"].as_f64();
    report.note = format!("{:.1} % of lines", lines.ok_or("no total in the summary")?);
    Ok(())
}

/// The proofs. A proof that is missing or a case that cannot be reached is a failure.
pub(crate) fn kani(ws: &Workspace, report: &mut Report) -> Result<()> {
    if !succeeds(cmd!(ws, "cargo kani --version")) {
        return Err(Skip("no Kani: run `cargo install kani-verifier && cargo kani setup`".into()).into());
    }
    let mut unreachable = false;
    stream(cmd!(ws, "cargo kani -p vyre-ioq"), |line| {
        unreachable |= line.contains("Status: UNSATISFIABLE");
        if let Some(rest) = line.strip_prefix("Complete - ") {
            rest.clone_into(&mut report.note);
        }
    })?;
    let complete = report.note.contains("successfully verified harnesses, 0 failures");
    if unreachable || !complete || report.note.starts_with("0 ") {
        return Err("a case cannot be reached, or no proof ran".into());
    }
    Ok(())
}
