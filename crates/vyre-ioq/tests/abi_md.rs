//! Holds the tables of `ABI.md` to the golden numbers and to the state machine, both ways: a number
//! without a row, a row without a number and one that differs all fail.

#![cfg(feature = "std")]

mod common;
mod golden;

use std::fs;
use std::io::Write;

use vyre_ioq::abi;
use vyre_ioq::state::{Observation, PeerFault, Side, State, Step, observe, step};

use golden::Numbers;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The text, or nothing in a packaged crate, which does not hold the repository's root.
fn text() -> Option<String> {
    let path = format!("{ROOT}/../../ABI.md");
    let text = fs::read_to_string(&path).ok();
    if text.is_none() {
        let test = std::thread::current();
        let test = test.name().unwrap_or("abi_md");
        let line = format!("SKIPPED: {test}: no {path}: not a checkout of the repository\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    text
}

/// Rows of the first table under a heading, by cell.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = text
        .split_once(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let rows: Vec<Vec<String>> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect();
    assert!(rows.len() > 2, "{heading}: a table with rows");
    assert!(
        rows.iter().all(|row| row.len() == rows[0].len()),
        "{heading}: even rows"
    );
    rows
}

/// Names and numbers of a table that has a column `name` and one called `number`.
fn numbers(text: &str, heading: &str, number: &str) -> Numbers {
    let rows = table(text, heading);
    let column = |title: &str| {
        let found = rows[0].iter().position(|cell| cell == title);
        found.unwrap_or_else(|| panic!("{heading}: no column {title}"))
    };
    let (name, number) = (column("name"), column(number));
    let read: Vec<_> = rows[2..]
        .iter()
        .map(|row| (row[name].clone(), parse(&row[number])))
        .collect();
    let numbers: Numbers = read.iter().cloned().collect();
    assert_eq!(numbers.len(), read.len(), "{heading}: a name twice");
    numbers
}

/// The first number of a cell.
fn parse(cell: &str) -> u32 {
    let first = cell.split_whitespace().next().unwrap_or_default();
    let parsed = match first.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => first.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_tables_have_the_golden_numbers() {
    let Some(text) = text() else { return };
    for (heading, number, prefix) in [
        ("Sizes", "value", ""),
        ("Slot words", "word", "WORD_"),
        ("Header words", "word", "HEADER_WORD_"),
        ("Operations", "value", "OP_"),
        ("Status words", "value", "STATUS_"),
        ("Flags", "value", "FLAG_"),
        ("Features", "value", "FEATURE_"),
        ("Loop states", "value", "STATE_"),
        ("Errno", "value", "ERRNO_"),
    ] {
        let golden = golden::section(prefix);
        assert_eq!(numbers(&text, heading, number), golden, "{heading}");
    }
    let version = format!("ABI {}.{}\n", abi::ABI_MAJOR, abi::ABI_MINOR);
    let title = text.lines().next().expect("a title");
    assert!(format!("{title}\n").ends_with(&version), "{title}");
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn bare_words_and_lines_of_the_header_are_where_the_text_says() {
    let Some(text) = text() else { return };
    for row in &table(&text, "Slot words")[2..] {
        let bare = (parse(&row[0]) as usize) < abi::BARE_SLOT_BYTES / common::WORD;
        assert_eq!(row[2], if bare { "yes" } else { "no" }, "{row:?}");
    }
    for row in table(&text, "Header words")[2..]
        .iter()
        .filter(|row| row[1] != "END")
    {
        assert_eq!(parse(&row[2]), parse(&row[0]) / 16, "{row:?}");
        assert_eq!(
            row[3].starts_with("host"),
            !["2", "4 to 7"].contains(&row[2].as_str()),
            "{row:?}: one writer a line"
        );
    }
    let last = table(&text, "Slot words").pop().expect("rows");
    assert_eq!(last[0], "12 to 15");
    assert!(golden::MAGIC.map(u32::to_le_bytes).concat() == b"VYREIOQ\0");
    assert!(text.contains("`VYREIOQ`"));
}

/// Rules: ABI-1.4, ABI-4.1.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn each_state_is_left_by_the_side_in_the_text() {
    let Some(text) = text() else { return };
    for row in &table(&text, "Status words")[2..] {
        let state = State::from_word(parse(&row[0])).expect("a state");
        assert_eq!(
            row[2],
            format!("{:?}", state.mover()).to_lowercase(),
            "{row:?}"
        );
    }
}

/// The states that a cell names: `OK or ERROR`, say.
fn named_states(cell: &str) -> Vec<u32> {
    cell.split([' ', ','])
        .filter(|word| !["", "or"].contains(word))
        .map(|name| {
            let named = |state: &State| format!("{state:?}").to_uppercase() == name;
            let state = State::ALL.into_iter().find(named);
            state.unwrap_or_else(|| panic!("{name} in {cell}")).word()
        })
        .collect()
}

/// Rule: ABI-4.1.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_steps_are_those_of_the_text() {
    let Some(text) = text() else { return };
    let mut told = Vec::new();
    for row in &table(&text, "Steps")[2..] {
        for (from, to) in named_states(&row[1])
            .into_iter()
            .flat_map(|from| named_states(&row[2]).into_iter().map(move |to| (from, to)))
        {
            told.push((row[3].clone(), from, to, row[0].clone()));
        }
    }
    let mut legal = Vec::new();
    let words = State::ALL.map(State::word);
    for side in [Side::Device, Side::Host] {
        for (from, to) in words.iter().flat_map(|&from| words.map(|to| (from, to))) {
            if let Ok(step) = step(side, from, to) {
                let name = match step {
                    Step::Publish => "publish",
                    Step::Announce => "announce",
                    Step::CompleteOk | Step::CompleteError => "complete",
                    Step::Recycle => "recycle",
                };
                let side = format!("{side:?}").to_lowercase();
                legal.push((side, from, to, name.to_owned()));
            }
        }
    }
    told.sort();
    legal.sort();
    assert_eq!(told, legal);
}

/// Rule: ABI-4.15.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_verdicts_are_those_of_the_text() {
    let Some(text) = text() else { return };
    let rows = table(&text, "Verdicts");
    let words = State::ALL.map(State::word).into_iter().chain([3, 0x100]);
    for (owed, word) in words.flat_map(|word| [(false, word), (true, word)]) {
        let mine = |row: &&Vec<String>| row[0] == if owed { "yes" } else { "no" };
        let names = |row: &&Vec<String>| {
            row[1] != "any other word" && named_states(&row[1]).contains(&word)
        };
        let row = rows[2..].iter().filter(mine).find(names);
        let other = |row: &&Vec<String>| row[1] == "any other word";
        let row = row.or_else(|| rows[2..].iter().filter(mine).find(other));
        let verdict = match observe(owed, word) {
            Observation::Idle => "nothing to do",
            Observation::Request => "a request",
            Observation::Owed => "as it should be",
            Observation::Fault(PeerFault::ForgedClaim) => "fault: forged claim",
            Observation::Fault(PeerFault::UnknownStatus(_)) => "fault: unknown status",
            Observation::Fault(PeerFault::Overwritten(_)) => "fault: overwritten",
            Observation::Fault(_) => "fault: not in the table",
        };
        let told = &row.expect("a row for every word")[2];
        assert_eq!(
            told.split(';').next(),
            Some(verdict),
            "owed {owed}, {word:#x}"
        );
    }
}

/// Rule: ABI-3.2.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn there_is_one_attach_rule_for_each_attach_error() {
    let Some(text) = text() else { return };
    let rules: Vec<_> = table(&text, "Attach rules")
        .drain(2..)
        .map(|row| row[0].clone())
        .collect();
    let mut sorted = rules.clone();
    sorted.sort();
    let mut variants = common::attach_error_variants();
    variants.sort();
    assert_eq!(sorted, variants);
}
