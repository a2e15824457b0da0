//! The headers under every standard that they support, by gcc and clang: without a warning, beside the
//! macros of system headers, and with the names that the golden list gives to their numbers.

#![cfg(all(feature = "std", target_os = "linux", not(miri)))]

#[path = "../golden/mod.rs"]
mod golden;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use golden::Numbers;

/// C11 to C23 and C++14 to C++23, by the names that compilers of 2022 know too.
const C: &[&str] = &["c11", "c17", "c2x", "gnu11", "gnu2x"];
const CPP: &[&str] = &["c++14", "c++17", "c++20", "c++2b", "gnu++17"];

const WARNINGS: &[&str] = &[
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wcast-align",
    "-Wundef",
    "-Werror",
];

/// Positions of the macros of system headers: nowhere, before the headers, after them.
const CLASHES: &[&[&str]] = &[&[], &["-DCLASHES_BEFORE"], &["-DCLASHES_AFTER"]];

/// A compiler: what it is called, and whether it must be there.
struct Compiler {
    name: &'static str,
    required: bool,
}

const C_COMPILERS: [Compiler; 2] = [
    Compiler {
        name: "gcc",
        required: true,
    },
    Compiler {
        name: "clang",
        required: false,
    },
];
const CPP_COMPILERS: [Compiler; 2] = [
    Compiler {
        name: "g++",
        required: true,
    },
    Compiler {
        name: "clang++",
        required: false,
    },
];

fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl Compiler {
    fn run(&self, args: &[&str]) -> Option<Output> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ran = Command::new(self.name)
            .args(args)
            .arg("-I")
            .arg(here.join("include"))
            .current_dir(here.join("tests/standards"))
            .output();
        match ran {
            Ok(output) => Some(output),
            Err(error) if self.required => {
                panic!("cannot start {} ({error}): install gcc and g++", self.name)
            }
            Err(_) => None,
        }
    }

    /// Compiles a source, or says why not.
    fn compile(&self, args: &[&str]) -> Result<(), String> {
        let output = self.run(args).expect("it was found before");
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}:\n{said}", self.name, args.join(" ")))
    }
}

/// Compiles a source under each standard, with and without the macros of system headers. Returns how many
/// compilations there were.
fn all_standards(test: &str, compiler: &Compiler, standards: &[&str], source: &[&str]) -> u32 {
    if compiler.run(&["--version"]).is_none() {
        skip(test, &format!("{} is not installed", compiler.name));
        return 0;
    }
    let mut compiled = 0;
    for standard in standards {
        let standard = format!("-std={standard}");
        if compiler
            .compile(&[&standard, "-fsyntax-only", source[0], "/dev/null"])
            .is_err()
        {
            skip(test, &format!("{} has no {standard}", compiler.name));
            continue;
        }
        for clashes in CLASHES {
            let own: &[&str] = &[&standard, "-fsyntax-only"];
            let args = [own, WARNINGS, *clashes, source].concat();
            if let Err(said) = compiler.compile(&args) {
                panic!("{said}");
            }
            compiled += 1;
        }
    }
    compiled
}

/// All compilers, of which those that are required must have known three standards at least.
fn every_compiler(test: &str, compilers: &[Compiler], standards: &[&str], source: &[&str]) {
    for compiler in compilers {
        let compiled = all_standards(test, compiler, standards, source);
        println!("{test}: {}: {compiled} compilations", compiler.name);
        assert!(compiled >= 9 || !compiler.required, "{}", compiler.name);
    }
}

#[test]
fn the_c_headers_are_clean_c() {
    let test = "the_c_headers_are_clean_c";
    every_compiler(test, &C_COMPILERS, C, &["-xc", "calls.c"]);
}

#[test]
fn the_c_headers_are_clean_cpp() {
    let test = "the_c_headers_are_clean_cpp";
    every_compiler(test, &CPP_COMPILERS, CPP, &["-xc++", "calls.c"]);
}

#[test]
fn the_cuda_header_is_clean_cpp() {
    let test = "the_cuda_header_is_clean_cpp";
    every_compiler(test, &CPP_COMPILERS, CPP, &["-xc++", "calls.cpp"]);
}

/// Each header may be the first and only one.
#[test]
fn each_header_compiles_alone() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut headers = 0;
    for entry in std::fs::read_dir(include).expect("the folder of the headers") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        let (is_c, is_cuda) = (name.ends_with(".h"), name.ends_with(".cuh"));
        if !is_c && !is_cuda {
            continue;
        }
        let [gcc, gpp] = [&C_COMPILERS[0], &CPP_COMPILERS[0]];
        let cases: &[(&Compiler, &str, &str)] = if is_cuda || name == "vyre_ioq_shim.h" {
            &[(gpp, "-std=c++14", "-xc++")]
        } else {
            &[(gcc, "-std=c11", "-xc"), (gpp, "-std=c++14", "-xc++")]
        };
        for (compiler, standard, language) in cases {
            let args: &[&str] = &[
                standard,
                language,
                "-fsyntax-only",
                "-include",
                name,
                "/dev/null",
            ];
            if let Err(said) = compiler.compile(&[args, WARNINGS].concat()) {
                panic!("{said}");
            }
        }
        headers += 1;
    }
    assert!(headers >= 8, "{headers} headers");
}

/// Compiles and runs a source. Returns the names that it printed, with their numbers.
fn names(source: &[&str], compiler: &Compiler) -> Numbers {
    let name = source[1].replace('.', "-");
    let program: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = program.to_str().expect("UTF-8");
    let args = [source, &["-O1", "-pthread", "-o", output]].concat();
    if let Err(said) = compiler.compile(&args) {
        panic!("{said}");
    }
    let ran = Command::new(&program).output().expect("just compiled");
    assert!(ran.status.success(), "{}: {}", source[1], ran.status);
    let printed = String::from_utf8(ran.stdout).expect("UTF-8");
    let pairs = printed.lines().filter_map(|line| line.rsplit_once(' '));
    pairs
        .map(|(name, number)| (name.to_owned(), number.parse().expect("a number")))
        .collect()
}

/// Returns the lines that the sources print: the tables that have names, and the two enums of each header.
fn expected(result_kind: &str, results: &[&str], attach_success: &str) -> Numbers {
    let mut expected: Numbers = golden::all();
    expected.retain(|name, _| {
        ["OP_", "STATUS_", "STATE_", "ERRNO_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    let attach = [
        attach_success,
        "MISALIGNED",
        "TOO_SHORT",
        "BAD_MAGIC",
        "MAJOR_VERSION",
        "BAD_STRIDE",
        "BAD_SLOTS_OFFSET",
        "RESERVED_NOT_ZERO",
        "BAD_SLOT_COUNT",
        "BARE_LENGTH",
    ];
    for (kind, names) in [(result_kind, results), ("attach", &attach)] {
        for (number, name) in (0..).zip(names) {
            expected.insert(format!("{kind} {name}"), number);
        }
    }
    expected
}

#[test]
fn every_number_of_the_c_header_has_its_name() {
    let results = [
        "OK",
        "PENDING",
        "QUEUE_FULL",
        "HOST_GONE",
        "TIMED_OUT",
        "INVALID_SLOT",
    ];
    let found = names(&["-std=c11", "calls.c"], &C_COMPILERS[0]);
    assert_eq!(found, expected("result", &results, "OK"));
}

#[test]
fn every_number_of_the_cuda_header_has_its_name() {
    let results = [
        "PENDING",
        "COMPLETED",
        "QUEUE_FULL",
        "HOST_GONE",
        "TIMED_OUT",
    ];
    let found = names(&["-std=c++14", "calls.cpp"], &CPP_COMPILERS[0]);
    assert_eq!(found, expected("wait", &results, "NONE"));
}
