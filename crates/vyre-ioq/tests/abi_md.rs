//! Ties the tables of `ABI.md` to the constants, both ways: a constant without a row, a row without
//! a constant and a number that differs all fail.

#![cfg(feature = "std")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use vyre_ioq::state::{Observation, PeerFault, Side, State, Step, observe, step};
use vyre_ioq::{Errno, Features, Flags, LoopState, abi};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

type Numbers = BTreeMap<String, u64>;

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
fn parse(cell: &str) -> u64 {
    let first = cell.split_whitespace().next().unwrap_or_default();
    let parsed = match first.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => first.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

/// The constants listed, by name. `source` is what the source declares: the list must be complete.
macro_rules! constants {
    ($path:path, $source:expr, [$($name:ident),+ $(,)?]) => {{
        use $path as the;
        let listed: Numbers =
            [$((stringify!($name).to_owned(), u64::try_from(the::$name).expect("small"))),+].into_iter().collect();
        let names: Vec<_> = listed.keys().cloned().collect();
        assert_eq!(names, $source, "constants of the source that this test does not list");
        listed
    }};
}

/// Names of the integer constants between two lines of `src/abi.rs`, sorted.
fn declared(from: &str, to: &str, indent: &str) -> Vec<String> {
    let source = fs::read_to_string(format!("{ROOT}/src/abi.rs")).expect("the crate's own source");
    let (_, body) = source.split_once(from).expect("where it begins");
    let (body, _) = body.split_once(to).expect("where it ends");
    let prefix = format!("{indent}pub const ");
    let mut names: Vec<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix)?.split_once(": "))
        .filter(|(_, rest)| rest.starts_with("u32 ") || rest.starts_with("usize "))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    names
}

fn module(name: &str) -> Vec<String> {
    declared(&format!("pub mod {name} {{\n"), "\n}\n", "    ")
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_words_of_slot_and_header_are_those_of_the_text() {
    let Some(text) = text() else { return };
    let words = constants!(
        vyre_ioq::abi::word,
        module("word"),
        [
            OP,
            SOURCE,
            DESTINATION,
            FILE_OFFSET_LOW,
            FILE_OFFSET_HIGH,
            COUNT,
            STATUS,
            TAG,
            BUFFER_OFFSET_LOW,
            BUFFER_OFFSET_HIGH,
            FLAGS,
            DEADLINE,
            RESERVED,
        ]
    );
    assert_eq!(numbers(&text, "Slot words", "word"), words);
    let header = constants!(
        vyre_ioq::abi::header_word,
        module("header_word"),
        [
            MAGIC,
            MAJOR,
            MINOR,
            STRIDE,
            SLOTS,
            SLOTS_OFFSET,
            FEATURES,
            QUEUE_ID,
            STATE,
            HEARTBEAT,
            ASLEEP,
            DOORBELL,
            IN_USE,
            END,
        ]
    );
    assert_eq!(numbers(&text, "Header words", "word"), header);
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
    assert!(
        abi::MAGIC.map(u32::to_le_bytes).concat() == b"VYREIOQ\0" && text.contains("`VYREIOQ`")
    );
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_numbers_of_operations_states_and_sizes_are_those_of_the_text() {
    let Some(text) = text() else { return };
    let operations = constants!(
        vyre_ioq::abi::op,
        module("op"),
        [READ, WRITE, FENCE, SYNC, PREFETCH]
    );
    assert_eq!(numbers(&text, "Operations", "value"), operations);
    let states = constants!(
        vyre_ioq::abi::status,
        module("status"),
        [EMPTY, PUBLISHED, CLAIMED, OK, ERROR]
    );
    assert_eq!(numbers(&text, "Status words", "value"), states);
    let sizes = constants!(
        vyre_ioq::abi,
        declared("use bytemuck", "\npub mod word", ""),
        [
            SLOT_BYTES,
            BARE_SLOT_BYTES,
            HEADER_BYTES,
            HEADER_ALIGN,
            MAX_SLOTS,
            MAX_BARE_SLOTS,
            GROUP_SLOTS,
            ABI_MAJOR,
            ABI_MINOR,
        ]
    );
    assert_eq!(numbers(&text, "Sizes", "value"), sizes);
    let version = format!("ABI {}.{}\n", abi::ABI_MAJOR, abi::ABI_MINOR);
    assert!(
        text.lines()
            .next()
            .is_some_and(|title| format!("{title}\n").ends_with(&version))
    );
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn each_state_is_left_by_the_side_in_the_text() {
    let Some(text) = text() else { return };
    for row in &table(&text, "Status words")[2..] {
        let state = State::from_word(parse(&row[0]) as u32).expect("a state");
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

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn flags_features_loop_states_and_errnos_are_those_of_the_text() {
    let Some(text) = text() else { return };
    let named = |pairs: Vec<(&str, u64)>| -> Numbers {
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let bits = |(name, bits): (&'static str, u32)| (name, u64::from(bits));
    let flags = Flags::all()
        .iter_names()
        .map(|(name, flag)| bits((name, flag.bits())));
    assert_eq!(numbers(&text, "Flags", "value"), named(flags.collect()));
    let features = Features::all()
        .iter_names()
        .map(|(name, bit)| bits((name, bit.bits())));
    assert_eq!(
        numbers(&text, "Features", "value"),
        named(features.collect())
    );

    for (name, value) in numbers(&text, "Loop states", "value") {
        assert_eq!(format!("{:?}", LoopState::from_word(value as u32)), name);
    }
    assert_eq!(
        numbers(&text, "Loop states", "value").len(),
        LoopState::Failed as usize + 1
    );

    let errnos = (0..4096).map(Errno::from_raw).filter_map(|errno| {
        let name = errno.name()?;
        Some((name, u64::from(errno.raw())))
    });
    assert_eq!(numbers(&text, "Errno", "value"), named(errnos.collect()));
}

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
