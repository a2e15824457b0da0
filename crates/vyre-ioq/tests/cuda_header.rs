//! Ties the numbers of `vyre_ioq_parts.cuh` to those of the Rust sources, both ways: a number that
//! differs, one that is missing and one that Rust does not have all fail.

#![cfg(feature = "std")]

use std::collections::BTreeMap;
use std::fs;

use vyre_ioq::{Errno, Features, Flags, LoopState, abi};

type Numbers = BTreeMap<String, u64>;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn parse(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// The enumerators of the first `enum : u32` after a line of the header.
fn in_header(after: &str) -> Numbers {
    let text = read("include/vyre_ioq_parts.cuh");
    assert_eq!(text.matches(after).count(), 1, "{after:?}: once");
    let (_, rest) = text.split_once(after).expect("counted");
    let (_, rest) = rest.split_once("enum : u32 {").expect("an enum");
    let (body, _) = rest.split_once("};").expect("its end");
    let pairs: Vec<_> = body
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| item.split_once(" = ").expect("NAME = NUMBER"))
        .map(|(name, number)| (name.to_owned(), parse(number)))
        .collect();
    let numbers: Numbers = pairs.iter().cloned().collect();
    assert_eq!(numbers.len(), pairs.len(), "{after:?}: a name twice");
    numbers
}

/// The integer constants of `src/abi.rs` between two lines.
fn in_rust(from: &str, to: &str) -> Numbers {
    let text = read("src/abi.rs");
    let (_, body) = text.split_once(from).expect("where it begins");
    let (body, _) = body.split_once(to).expect("where it ends");
    body.lines()
        .filter_map(|line| {
            line.trim_start()
                .strip_prefix("pub const ")?
                .split_once(": ")
        })
        .filter_map(|(name, rest)| {
            let number = rest
                .strip_prefix("u32 = ")
                .or(rest.strip_prefix("usize = "))?;
            Some((name.to_owned(), parse(number.trim_end_matches(';'))))
        })
        .collect()
}

fn named<N: Into<String>>(pairs: impl IntoIterator<Item = (N, u32)>) -> Numbers {
    pairs
        .into_iter()
        .map(|(name, value)| (name.into(), u64::from(value)))
        .collect()
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn words_operations_and_status_words_are_those_of_rust() {
    for module in ["word", "header_word", "op", "status"] {
        let rust = in_rust(&format!("pub mod {module} {{\n"), "\n}\n");
        assert!(!rust.is_empty(), "{module} has constants");
        assert_eq!(in_header(&format!("namespace {module} {{\n")), rust);
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn sizes_version_and_magic_are_those_of_rust() {
    let mut rust = in_rust("use bytemuck", "\npub mod word");
    assert_eq!(rust.len(), 9, "the constants of ABI.md");
    rust.insert("MAGIC_LOW".into(), abi::MAGIC[0].into());
    rust.insert("MAGIC_HIGH".into(), abi::MAGIC[1].into());
    assert_eq!(in_header("---- The numbers of ABI.md."), rust);
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn flags_features_states_and_errnos_are_those_of_rust() {
    let flags = Flags::all();
    let flags = flags.iter_names().map(|(name, flag)| (name, flag.bits()));
    assert_eq!(in_header("namespace flag {\n"), named(flags));
    let features = Features::all();
    let features = features.iter_names().map(|(name, bit)| (name, bit.bits()));
    assert_eq!(in_header("namespace feature {\n"), named(features));

    let states = (0..=LoopState::Failed as u32).map(|state| {
        (
            format!("{:?}", LoopState::from_word(state)).to_uppercase(),
            state,
        )
    });
    assert_eq!(in_header("namespace state {\n"), named(states));
    let errnos = (0..4096).map(Errno::from_raw).filter_map(|errno| {
        let name = errno.name()?.strip_prefix('E').expect("as errnos begin");
        Some((name, errno.raw()))
    });
    let header =
        in_header("namespace error {  // without their E: <errno.h> has macros of those names\n");
    assert_eq!(header, named(errnos));
}
