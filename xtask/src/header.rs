//! Generates the ABI's numbers for C and CUDA from the constants of `vyre-ioq`, so that neither can
//! change alone.

mod tables;

use std::fmt::Write;
use std::fs;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh};
use tables::{Define, Image};

/// Headers that must compile, and how: each is the first and only thing that a file includes.
const HEADERS: &[&str] = &["vyre_ioq_abi.h", "vyre_ioq.h", "vyre_ioq_wait.h"];
const DIALECTS: &[&[&str]] = &[&["-xc", "-std=c11"], &["-xc++", "-std=c++14"]];
const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];

/// Writes the files anew. Says which of them were others before.
pub(crate) fn write(ws: &Workspace) -> Result<String> {
    let mut said = Vec::new();
    for Output { path, text } in outputs()? {
        let at = ws.root.join(path);
        let same = fs::read_to_string(&at).is_ok_and(|found| found == text);
        if !same {
            fs::write(&at, text)?;
        }
        said.push(format!(
            "{path} {}",
            if same { "is as it was" } else { "is new" }
        ));
    }
    Ok(said.join("\n"))
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    for Output { path, text } in outputs()? {
        let found = fs::read_to_string(ws.root.join(path)).unwrap_or_default();
        if let Some(line) = first_difference(&found, &text) {
            return Err(format!("{path}:{line} is not what `cargo xtask header` writes").into());
        }
    }
    let abi =
        fs::read_to_string(ws.root.join("ABI.md")).map_err(|error| format!("ABI.md: {error}"))?;
    let defines = tables::defines()?;
    let rows = against_the_text(&defines, &abi)?;
    let compiled = compile(ws)?;
    report.note = format!(
        "{} constants, {rows} of them in ABI.md; {compiled}",
        defines.len()
    );
    Ok(())
}

fn first_difference(found: &str, expected: &str) -> Option<usize> {
    if found == expected {
        return None;
    }
    let same = found.lines().zip(expected.lines());
    Some(
        same.take_while(|(found, expected)| found == expected)
            .count()
            + 1,
    )
}

/// Compiles each header alone, in each dialect, with every warning an error.
fn compile(ws: &Workspace) -> Result<String> {
    let mut done = 0;
    for header in HEADERS {
        for dialect in DIALECTS {
            let compiler = if dialect[0] == "-xc" { "cc" } else { "c++" };
            let mut command = sh::program(ws, compiler);
            command.args(*dialect).args(WARNINGS);
            command.args([
                "-include",
                &format!("crates/vyre-ioq/include/{header}"),
                "/dev/null",
            ]);
            sh::run(&mut command).map_err(|error| {
                format!("{header}: {error}; if {compiler} is missing, install gcc and g++")
            })?;
            done += 1;
        }
    }
    Ok(format!("{done} compilations"))
}

/// Every row of ABI.md's tables must be a define with that number, and every define a row.
fn against_the_text(defines: &[Define], abi: &str) -> Result<usize> {
    let mut rows = 0;
    for (prefix, heading, column) in tables::SECTIONS {
        let mut stated = stated(abi, heading, column)?;
        for define in defines.iter().filter(|define| define.prefix == *prefix) {
            let at = stated.iter().position(|(name, _)| *name == define.name);
            let at = at.ok_or_else(|| format!("ABI.md, {heading}: no row {}", define.name))?;
            let (_, value) = stated.swap_remove(at);
            if value != define.value {
                let (name, ours) = (&define.name, define.value);
                return Err(format!("ABI.md, {heading}: {name} is {value}, in Rust {ours}").into());
            }
            rows += 1;
        }
        if let Some((name, _)) = stated.first() {
            return Err(format!("ABI.md, {heading}: the header lacks {name}").into());
        }
    }
    if rows != defines.len() {
        return Err("a constant of the header belongs to no table of ABI.md".into());
    }
    Ok(rows)
}

/// Names, in capitals, and numbers of the first table under a heading. A cell such as `0 and 1` or
/// `12 to 15` counts by its first number.
fn stated(abi: &str, heading: &str, column: &str) -> Result<Vec<(String, u32)>> {
    let (_, section) = abi
        .split_once(&format!("\n### {heading}\n"))
        .ok_or_else(|| format!("ABI.md has no section {heading}"))?;
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows: Vec<Vec<&str>> = lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let at = |title| {
        let head = rows
            .first()
            .ok_or_else(|| format!("ABI.md, {heading}: no table"))?;
        let found = head.iter().position(|cell| *cell == title);
        found.ok_or_else(|| format!("ABI.md, {heading}: no column {title}"))
    };
    let (name, number) = (at("name")?, at(column)?);
    let mut stated = Vec::new();
    for row in rows.iter().skip(2) {
        let cell = row[number].split(' ').next().unwrap_or_default();
        let value = match cell.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => cell.parse(),
        };
        let value = value.map_err(|_| format!("ABI.md, {heading}: `{cell}` is no number"))?;
        stated.push((row[name].to_uppercase(), value));
    }
    Ok(stated)
}

/// A generated file.
struct Output {
    path: &'static str,
    text: String,
}

fn outputs() -> Result<[Output; 2]> {
    Ok([
        Output {
            path: "crates/vyre-ioq/include/vyre_ioq_abi.h",
            text: c_header()?,
        },
        Output {
            path: "crates/vyre-ioq/include/vyre_ioq_abi.cuh",
            text: cuda_header()?,
        },
    ])
}

/// Enumerators of the attach errors, after the one for success: ABI.md, section 3.
const ATTACH_ERRORS: &[&str] = &[
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

/// Tables whose numbers have names at run time: prefix, function and what its argument is.
const NAMED: &[(&str, &str, &str)] = &[
    ("OP_", "op_name", "an operation"),
    ("STATUS_", "status_name", "a status word"),
    ("STATE_", "state_name", "a host's state"),
    (
        "ERRNO_",
        "errno_name",
        "an errno that the host itself stores",
    ),
];

fn c_header() -> Result<String> {
    let mut out = String::from(C_HEAD);
    version(&mut out)?;
    let mut last = None;
    let defines = tables::defines()?;
    for define in &defines {
        let section = define.prefix;
        if last.replace(section) != Some(section) {
            write!(out, "\n/* {} */\n", tables::title(section))?;
        }
        let literal = define.literal();
        writeln!(out, "#define VYRE_IOQ_{section}{} {literal}", define.name)?;
    }
    writeln!(out, "\n/* The magic, as two words. */")?;
    for (word, value) in vyre_ioq::abi::MAGIC.iter().enumerate() {
        writeln!(out, "#define VYRE_IOQ_MAGIC_{word} {value:#x}u")?;
    }
    out.push_str(C_WORD);
    for image in tables::images() {
        out.push('\n');
        image.declare(&mut out)?;
    }
    out.push_str("\n/** Why memory is no queue: the rules of ABI.md, section 3. */\n");
    out.push_str("enum vyre_ioq_attach_error {\n    VYRE_IOQ_ATTACH_OK = 0,\n");
    for (number, name) in ATTACH_ERRORS.iter().enumerate() {
        let comma = if number + 1 < ATTACH_ERRORS.len() {
            ","
        } else {
            ""
        };
        writeln!(out, "    VYRE_IOQ_ATTACH_{name}{comma}")?;
    }
    out.push_str("};\n");
    out.push_str(C_ASSERTIONS);
    for image in tables::images() {
        image.assert(&mut out)?;
    }
    let unsigned = "vyre_ioq_word value";
    for (prefix, function, what) in NAMED {
        let numbers = defines.iter().filter(|define| define.prefix == *prefix);
        let cases = numbers.map(|define| (define.name.clone(), define.name.clone()));
        let function = format!("vyre_ioq_{function}");
        let about = format!("Returns the name of {what}; \"unknown\" for any other number.");
        let start =
            format!("\n/** {about} */\nstatic inline const char *{function}({unsigned})\n{{\n");
        name_function(&mut out, &start, &format!("VYRE_IOQ_{prefix}"), cases)?;
    }
    let cases = attach_cases("OK");
    let start = "\n/** Returns the name of an attach error, such as \"BAD_MAGIC\". */\n\
        static inline const char *vyre_ioq_attach_error_name(enum vyre_ioq_attach_error value)\n{\n";
    name_function(&mut out, start, "VYRE_IOQ_ATTACH_", cases)?;
    out.push_str(C_TAIL);
    Ok(out)
}

fn cuda_header() -> Result<String> {
    let mut out = String::from(CUDA_HEAD);
    version(&mut out)?;
    out.push_str(CUDA_TYPES);
    let mut last = None;
    let defines = tables::defines()?;
    for define in &defines {
        let section = define.prefix;
        if last.replace(section) != Some(section) {
            let blank = if section.is_empty() { "" } else { "\n" };
            writeln!(out, "{blank}    // {}", tables::title(section))?;
        }
        writeln!(out, "    {section}{} = {},", define.name, define.literal())?;
    }
    writeln!(out, "\n    // The magic, as two words.")?;
    for (word, value) in vyre_ioq::abi::MAGIC.iter().enumerate() {
        writeln!(out, "    MAGIC_{word} = {value:#x}u,")?;
    }
    out.push_str("};\n\n/// Why memory is no queue: the rules of ABI.md, section 3.\n");
    out.push_str("enum class AttachError : u32 {\n    NONE,\n");
    for name in ATTACH_ERRORS {
        writeln!(out, "    {name},")?;
    }
    out.push_str("};\n");
    for (prefix, function, what) in NAMED {
        let numbers = defines.iter().filter(|define| define.prefix == *prefix);
        let cases = numbers.map(|define| (define.name.clone(), define.name.clone()));
        let about = format!("Returns the name of {what}; \"unknown\" for any other number.");
        let start = format!(
            "\n/// {about}\nVYRE_IOQ_HOST_DEVICE inline const char *{function}(u32 value) {{\n"
        );
        name_function(&mut out, &start, prefix, cases)?;
    }
    let start = "\n/// Returns the name of an attach error, such as \"BAD_MAGIC\".\n\
        VYRE_IOQ_HOST_DEVICE inline const char *name(AttachError value) {\n";
    name_function(&mut out, start, "AttachError::", attach_cases("NONE"))?;
    out.push_str(CUDA_TAIL);
    Ok(out)
}

fn attach_cases(success: &str) -> impl Iterator<Item = (String, String)> {
    let all = [success].into_iter().chain(ATTACH_ERRORS.iter().copied());
    let cases: Vec<_> = all.map(|name| (name.to_owned(), name.to_owned())).collect();
    cases.into_iter()
}

/// Writes a function that returns the name of a number, after its `start`.
fn name_function(
    out: &mut String,
    start: &str,
    prefix: &str,
    cases: impl Iterator<Item = (String, String)>,
) -> Result<()> {
    writeln!(out, "{start}    switch (value) {{")?;
    for (constant, name) in cases {
        writeln!(
            out,
            "    case {prefix}{constant}:\n        return \"{name}\";"
        )?;
    }
    // Of an enum, every number has a case: so that a compiler warns of one that is missing.
    out.push_str("    default:\n        return \"unknown\";\n    }\n}\n");
    Ok(())
}

/// The version of the headers, which is that of the crate.
fn version(out: &mut String) -> Result<()> {
    let version = vyre_ioq::headers::VERSION;
    let parts: Vec<u32> = version
        .split(['.', '-'])
        .take(3)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [major, minor, patch] = parts[..] else {
        return Err(format!("{version} is no version").into());
    };
    write!(
        out,
        "\n/* The version of these headers: the crate vyre-ioq {version}. */\n\
         #define VYRE_IOQ_VERSION_MAJOR {major}\n\
         #define VYRE_IOQ_VERSION_MINOR {minor}\n\
         #define VYRE_IOQ_VERSION_PATCH {patch}\n\
         #define VYRE_IOQ_VERSION {}\n",
        major * 10000 + minor * 100 + patch
    )?;
    Ok(())
}

impl Image {
    fn declare(&self, out: &mut String) -> Result<()> {
        writeln!(out, "/** {} */\nstruct {} {{", self.about, self.name)?;
        for field in &self.fields {
            let array = match field.words {
                1 => String::new(),
                words => format!("[{words}]"),
            };
            writeln!(out, "    vyre_ioq_word {}{array};", field.name)?;
        }
        out.push_str("};\n");
        Ok(())
    }

    fn assert(&self, out: &mut String) -> Result<()> {
        let name = self.name;
        let text = format!("\"{name}: ABI.md\"");
        let mut claim = |what: &str, value: usize| {
            writeln!(out, "VYRE_IOQ_ASSERT_({what} == {value}, {text});")
        };
        claim(&format!("sizeof(struct {name})"), self.bytes)?;
        claim(&format!("VYRE_IOQ_ALIGNOF_(struct {name})"), self.align)?;
        for field in &self.fields {
            claim(
                &format!("offsetof(struct {name}, {})", field.name),
                field.offset,
            )?;
        }
        Ok(())
    }
}

const C_HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_ioq_abi.h
 * @brief The numbers of the vyre I/O queue. ABI.md in the repository defines what they mean.
 *
 * Generated by `cargo xtask header` from the Rust sources; do not edit. Includes <stddef.h>, and nothing
 * where NVRTC compiles it.
 */
#ifndef VYRE_IOQ_ABI_H
#define VYRE_IOQ_ABI_H
";

const C_WORD: &str = "
/** A word: 32 bits, little-endian in shared memory, accessed whole and atomically. */
typedef unsigned int vyre_ioq_word;

/* The two structs below are private copies. Do not access shared memory through them: copy it word by
 * word, by atomic accesses. */
";

const C_ASSERTIONS: &str = "
#ifndef __CUDACC_RTC__
#include <stddef.h>
#ifdef __cplusplus
#define VYRE_IOQ_ASSERT_(condition, text) static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF_(type) alignof(type)
#else
#define VYRE_IOQ_ASSERT_(condition, text) _Static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF_(type) _Alignof(type)
#endif

VYRE_IOQ_ASSERT_(sizeof(vyre_ioq_word) == 4, \"a word has 32 bits\");
";

const C_TAIL: &str = "#endif /* __CUDACC_RTC__ */

#endif /* VYRE_IOQ_ABI_H */
";

const CUDA_HEAD: &str = "\
// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_ioq_abi.cuh
/// @brief The numbers of the vyre I/O queue, for CUDA. ABI.md in the repository defines what they mean.
///
/// Generated by `cargo xtask header` from the Rust sources; do not edit. Include vyre_ioq.cuh, which
/// includes this file.
#ifndef VYRE_IOQ_ABI_CUH
#define VYRE_IOQ_ABI_CUH
";

const CUDA_TYPES: &str = "
/// Before a function: the device may call it.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VYRE_IOQ_DEVICE __device__
#define VYRE_IOQ_HOST_DEVICE __host__ __device__
#else
#define VYRE_IOQ_DEVICE
#define VYRE_IOQ_HOST_DEVICE
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 700
#error \"vyre_ioq.cuh needs sm_70 or later: earlier GPUs have no memory orderings in PTX\"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error \"vyre_ioq.cuh needs a little-endian machine: it stores words in the machine's byte order\"
#endif

namespace vyre_ioq {

using u32 = unsigned int;
using u64 = unsigned long long;

enum : u32 {
";

const CUDA_TAIL: &str = "}  // namespace vyre_ioq
#endif  // VYRE_IOQ_ABI_CUH
";

#[cfg(test)]
mod tests {
    use super::*;

    const ABI: &str = "x\n### Flags\n\ntext\n\n| value | name | n |\n| --- | --- | --- |\n\
        | 1 | DURABLE | |\n| 0x2 to 3 | exact | |\n\nafter\n";

    #[test]
    fn tables_are_read() {
        let stated = stated(ABI, "Flags", "value").unwrap();
        assert_eq!(stated, [("DURABLE".to_owned(), 1), ("EXACT".to_owned(), 2)]);
        assert!(super::stated(ABI, "Flag", "value").is_err());
        assert!(super::stated(ABI, "Flags", "worth").is_err());
        assert!(super::stated(ABI, "Flags", "n").is_err(), "no number");
    }

    #[test]
    fn a_number_that_differs_is_found_and_so_is_a_row_too_many_or_too_few() {
        let abi = include_str!("../../ABI.md");
        let defines = tables::defines().unwrap();
        assert_eq!(against_the_text(&defines, abi).unwrap(), defines.len());
        let wrong = [
            abi.replace("| 0x10 | OK |", "| 0x12 | OK |"),
            abi.replace("| 34 | ERANGE |", "| 34 | EDOM |"),
            abi.replace("| 2 | EXACT |", "| 2 | EXACT | x | y |\n| 4 | MORE |"),
            abi.replace("### Loop states", "### States of the loop"),
        ];
        for text in wrong {
            assert!(text != abi && against_the_text(&defines, &text).is_err());
        }
        assert!(against_the_text(&defines[1..], abi).is_err());
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }
}
