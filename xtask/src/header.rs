//! `crates/vyre-ioq/include/vyre_ioq_abi.h`: the ABI's numbers for C, written from the constants of
//! `vyre-ioq`, so that neither can change alone.

mod tables;

use std::fmt::Write;
use std::fs;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh};
use tables::{Define, Image};

const PATH: &str = "crates/vyre-ioq/include/vyre_ioq_abi.h";

/// Headers that must compile, and how: each is the first and only thing that a file includes.
const HEADERS: &[&str] = &["vyre_ioq_abi.h", "vyre_ioq.h", "vyre_ioq_wait.h"];
const DIALECTS: &[&[&str]] = &[&["-xc", "-std=c11"], &["-xc++", "-std=c++17"]];
const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];

/// Writes the file anew. Says whether it was another before.
pub(crate) fn write(ws: &Workspace) -> Result<String> {
    let path = ws.root.join(PATH);
    let text = text()?;
    let same = fs::read_to_string(&path).is_ok_and(|found| found == text);
    if !same {
        fs::write(&path, text)?;
    }
    let what = if same { "is as it was" } else { "is new" };
    Ok(format!("{PATH} {what}"))
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let text = text()?;
    let found = fs::read_to_string(ws.root.join(PATH)).unwrap_or_default();
    if let Some(line) = first_difference(&found, &text) {
        return Err(format!("{PATH}:{line} is not what `cargo xtask header` writes").into());
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

fn text() -> Result<String> {
    let mut out = String::from(HEAD);
    let mut last = None;
    for define in tables::defines()? {
        let section = define.prefix;
        if last.replace(section) != Some(section) {
            write!(out, "\n/* {} */\n", tables::title(section))?;
        }
        writeln!(
            out,
            "#define VYRE_IOQ_{section}{} {}",
            define.name,
            define.literal()
        )?;
    }
    writeln!(out, "\n/* The magic, as two words. */")?;
    for (word, value) in vyre_ioq::abi::MAGIC.iter().enumerate() {
        writeln!(out, "#define VYRE_IOQ_MAGIC_{word} {value:#x}u")?;
    }
    out.push_str(WORD);
    for image in tables::images() {
        out.push('\n');
        image.declare(&mut out)?;
    }
    out.push_str(ASSERTIONS);
    for image in tables::images() {
        image.assert(&mut out)?;
    }
    out.push_str(TAIL);
    Ok(out)
}

impl Image {
    fn declare(&self, out: &mut String) -> Result<()> {
        writeln!(out, "/* {} */\nstruct {} {{", self.about, self.name)?;
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
        writeln!(
            out,
            "VYRE_IOQ_ASSERT(sizeof(struct {name}) == {}, {text});",
            self.bytes
        )?;
        writeln!(
            out,
            "VYRE_IOQ_ASSERT(VYRE_IOQ_ALIGNOF(struct {name}) == {}, {text});",
            self.align
        )?;
        for field in &self.fields {
            let (field, at) = (field.name, field.offset);
            writeln!(
                out,
                "VYRE_IOQ_ASSERT(offsetof(struct {name}, {field}) == {at}, {text});"
            )?;
        }
        Ok(())
    }
}

const HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The numbers of the vyre I/O queue. ABI.md in the repository says what they mean.
 *
 * Written by `cargo xtask header` from the Rust sources: change those, not this file. It includes
 * nothing where it is compiled at run time for a GPU, and <stddef.h> elsewhere. */

#ifndef VYRE_IOQ_ABI_H
#define VYRE_IOQ_ABI_H
";

const WORD: &str = "
/* A word: 32 bits, little-endian in shared memory, accessed whole and atomically. */
typedef unsigned int vyre_ioq_word;

/* The two images below are private copies. Shared memory is never accessed through them: copy word
 * by word, each by an atomic access. */
";

const ASSERTIONS: &str = "
#ifndef __CUDACC_RTC__
#include <stddef.h>
#ifdef __cplusplus
#define VYRE_IOQ_ASSERT(condition, text) static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF(type) alignof(type)
#else
#define VYRE_IOQ_ASSERT(condition, text) _Static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF(type) _Alignof(type)
#endif

VYRE_IOQ_ASSERT(sizeof(vyre_ioq_word) == 4, \"a word has 32 bits\");
";

const TAIL: &str = "#endif /* __CUDACC_RTC__ */

#endif /* VYRE_IOQ_ABI_H */
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
