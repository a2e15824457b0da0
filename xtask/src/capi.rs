//! libvyre_io as its users have it: the generated header, the installed package, and C and C++ programs against it.

mod interface;

use std::path::{Path, PathBuf};

use crate::header::first_difference;
use crate::report::{Report, Skip, Tally};
use crate::tools;
use crate::workspace::{Result, Workspace, cmd, stream, succeeds};

pub(crate) const CRATE: &str = "crates/vyre-io-capi";
const HEADER: &str = "crates/vyre-io-capi/include/vyre_io.h";
/// The symbols, the numbers and the layouts.
const INTERFACE: &str = "crates/vyre-io-capi/interface.txt";

/// A way to build and run the programs.
struct Setting {
    name: &'static str,
    /// The C and the C++ compiler.
    compilers: [&'static str; 2],
    flags: &'static str,
    link: &'static str,
    /// The command before each program.
    runner: &'static str,
}

const SHARED: &str = "vyre_io::vyre_io";
const STATIC: &str = "vyre_io::static";
const GCC: [&str; 2] = ["gcc", "g++"];
const CLANG: [&str; 2] = ["clang", "clang++"];
const SANITIZED: &str = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all";
/// valgrind of 2022 cannot read newer debug information.
const PLAIN: &str = "-O1 -gdwarf-4";
/// Memory that is only possibly lost belongs to threads of the library, and to the variables of threads. Without the fair
/// scheduler, a thread that spins starves the others.
const VALGRIND: &str = "valgrind;--quiet;--error-exitcode=99;--leak-check=full;--show-leak-kinds=definite;\
                        --errors-for-leak-kinds=definite;--fair-sched=try";

const SETTINGS: &[Setting] = &[
    Setting { name: "gcc", compilers: GCC, flags: "-O1", link: SHARED, runner: "" },
    Setting { name: "gcc, static", compilers: GCC, flags: "-O1", link: STATIC, runner: "" },
    Setting { name: "clang", compilers: CLANG, flags: "-O1", link: SHARED, runner: "" },
    Setting { name: "gcc, sanitizers", compilers: GCC, flags: SANITIZED, link: STATIC, runner: "" },
    Setting { name: "clang, sanitizers", compilers: CLANG, flags: SANITIZED, link: SHARED, runner: "" },
    Setting { name: "valgrind", compilers: GCC, flags: PLAIN, link: SHARED, runner: VALGRIND },
];

/// Writes the header and the list of the interface anew. Says which of them have changed.
pub(crate) fn write(ws: &Workspace) -> Result<String> {
    let mut said = Vec::new();
    // The list is made from the new header.
    for (path, text) in [(HEADER, header as fn(&Workspace) -> Result<String>), (INTERFACE, interface::text)] {
        let (at, text) = (ws.root.join(path), text(ws)?);
        let same = std::fs::read_to_string(&at).is_ok_and(|found| found == text);
        if !same {
            std::fs::write(&at, text)?;
        }
        let what = if same { "is unchanged" } else { "has changed" };
        said.push(format!("{path} {what}"));
    }
    Ok(said.join("\n"))
}

fn header(ws: &Workspace) -> Result<String> {
    tools::need(ws, "cbindgen")?;
    let from = ["--config", "crates/vyre-io-capi/cbindgen.toml", "--lockfile", "Cargo.lock"];
    let text = cmd!(ws, "cbindgen --quiet {from...} --crate vyre-io-capi {CRATE}").quiet().read()?;
    Ok(format!("{}\n", text.trim_end()))
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    compare(ws, HEADER, &header(ws)?)?;
    let packages = ["cmake", "clang", "valgrind"];
    let missing = tools::debian(ws, &packages)?;
    if missing.contains(&"cmake") {
        return Err(Skip("the header is right; no cmake to build the rest: install it".into()).into());
    }
    compare(ws, INTERFACE, &interface::text(ws)?)?;
    let prefix = install(ws)?;
    let mut ran = Vec::new();
    for (index, setting) in SETTINGS.iter().enumerate() {
        let Setting { name, .. } = setting;
        match lacking(ws, setting, index)? {
            None => {
                test(ws, setting, index, &prefix, &mut report.tests)?;
                ran.push(*name);
            }
            Some(why) => {
                println!("  skipped, and counted: {name}: {why}");
                report.tests.skipped += 1;
            }
        }
    }
    with_pkg_config(ws, &prefix, report)?;
    if report.tests.passed == 0 {
        return Err("no test ran".into());
    }
    report.note = format!("{} of {} settings: {}", ran.len(), SETTINGS.len(), ran.join("; "));
    Ok(())
}

fn compare(ws: &Workspace, path: &str, text: &str) -> Result<()> {
    let found = std::fs::read_to_string(ws.root.join(path)).unwrap_or_default();
    match first_difference(&found, text) {
        None => Ok(()),
        Some(line) => Err(format!("{path}:{line} is not what `cargo xtask header` writes").into()),
    }
}

fn folder(ws: &Workspace) -> PathBuf {
    ws.target.join("capi")
}

/// Builds the library and installs it into a folder, as users do. Without optimisation, since it is only tested.
fn install(ws: &Workspace) -> Result<PathBuf> {
    let (build, prefix) = (folder(ws).join("build"), folder(ws).join("prefix"));
    ws.sh.remove_path(&prefix)?;
    let target = format!("-DVYRE_IO_TARGET_DIR={}", ws.target.display());
    let options = ["-DVYRE_IO_PROFILE=dev", &target];
    cmd!(ws, "cmake -S {CRATE} -B {build} {options...}").ignore_stdout().run()?;
    cmd!(ws, "cmake --build {build}").ignore_stdout().run()?;
    cmd!(ws, "cmake --install {build} --prefix {prefix}").ignore_stdout().run()?;
    Ok(prefix)
}

/// Returns the reason that this machine cannot run a setting.
fn lacking(ws: &Workspace, setting: &Setting, index: usize) -> Result<Option<String>> {
    let Setting { compilers: [cc, cxx], flags, runner, .. } = *setting;
    for program in [cc, cxx].into_iter().chain(runner.split(';').next().filter(|name| !name.is_empty())) {
        if !succeeds(cmd!(ws, "{program} --version")) {
            return Ok(Some(format!("no {program}: install it")));
        }
    }
    let program = folder(ws).join(format!("try-{index}"));
    ws.sh.create_dir(folder(ws))?;
    let source = folder(ws).join("try.c");
    ws.sh.write_file(&source, "int main(void) { return 0; }\n")?;
    let each = flags.split(' ');
    if !succeeds(cmd!(ws, "{cc} {each...} {source} -o {program}")) || !succeeds(cmd!(ws, "{program}")) {
        return Ok(Some(format!("{cc} cannot build with {flags}: install its sanitizers")));
    }
    Ok(None)
}

fn test(ws: &Workspace, setting: &Setting, index: usize, prefix: &Path, tally: &mut Tally) -> Result<()> {
    let Setting { name, compilers: [cc, cxx], flags, link, runner } = *setting;
    println!("  {name}:");
    let build = folder(ws).join(format!("tests-{index}"));
    // A cache keeps the paths of packages that it found once.
    ws.sh.remove_path(&build)?;
    let options = [
        format!("-DCMAKE_C_COMPILER={cc}"),
        format!("-DCMAKE_CXX_COMPILER={cxx}"),
        format!("-DCMAKE_C_FLAGS={flags}"),
        format!("-DCMAKE_CXX_FLAGS={flags}"),
        format!("-DCMAKE_PREFIX_PATH={}", prefix.display()),
        format!("-DVYRE_IO_LINK={link}"),
        format!("-DVYRE_IO_RUNNER={runner}"),
    ];
    cmd!(ws, "cmake -S {CRATE}/tests -B {build} {options...}").quiet().ignore_stdout().run()?;
    cmd!(ws, "cmake --build {build} --parallel 2").quiet().ignore_stdout().run()?;
    let mut found = Tally::default();
    let outcome = stream(cmd!(ws, "ctest --test-dir {build} --output-on-failure"), |line| {
        found += counted(line).unwrap_or_default();
    });
    *tally += found;
    outcome?;
    match found.passed {
        0 => Err(format!("{name}: no test ran").into()),
        _ => Ok(()),
    }
}

/// Reads `100% tests passed, 0 tests failed out of 3`.
fn counted(line: &str) -> Option<Tally> {
    let (_, rest) = line.split_once("% tests passed, ")?;
    let (failed, rest) = rest.split_once(' ')?;
    let (_, total) = rest.split_once("out of ")?;
    let failed = failed.parse().ok()?;
    let passed = total.trim().parse::<u64>().ok()?.checked_sub(failed)?;
    Some(Tally { passed, failed, skipped: 0 })
}

/// Builds an example by what pkg-config says, and runs it.
fn with_pkg_config(ws: &Workspace, prefix: &Path, report: &mut Report) -> Result<()> {
    if !succeeds(cmd!(ws, "pkg-config --version")) {
        println!("  skipped, and counted: pkg-config is not installed");
        report.tests.skipped += 1;
        return Ok(());
    }
    let libraries = ["lib", "lib64"].map(|lib| prefix.join(lib));
    let found = std::env::join_paths(libraries.iter().map(|lib| lib.join("pkgconfig")))?;
    let libraries = std::env::join_paths(libraries)?;
    let program = folder(ws).join("with-pkg-config");
    for kind in [None, Some("--static")] {
        let said = cmd!(ws, "pkg-config --cflags --libs {kind...} vyre_io").env("PKG_CONFIG_PATH", &found).read()?;
        // By `-lvyre_io`, the linker takes the shared library, which needs none of what the static one needs.
        let said = if kind.is_some() { said.replace("-lvyre_io", "-l:libvyre_io.a") } else { said };
        let said: Vec<_> = said.split_whitespace().collect();
        cmd!(ws, "cc -std=c11 {CRATE}/examples/read_file.c -o {program} {said...}").run()?;
        let read = cmd!(ws, "{program} {CRATE}/tests/CMakeLists.txt 14").env("LD_LIBRARY_PATH", &libraries).read()?;
        if !read.starts_with("# Builds the e") {
            return Err(format!("the example that pkg-config built reads {read:?}").into());
        }
        report.tests += Tally { passed: 1, ..Tally::default() };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_ctest_is_read() {
        let tally = |passed, failed| Some(Tally { passed, failed, skipped: 0 });
        assert_eq!(counted("100% tests passed, 0 tests failed out of 3"), tally(3, 0));
        assert_eq!(counted("67% tests passed, 1 tests failed out of 3"), tally(2, 1));
        assert_eq!(counted("Total Test time (real) =   0.02 sec"), None);
    }
}
