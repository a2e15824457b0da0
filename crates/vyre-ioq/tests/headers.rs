//! Holds the numbers of the generated headers to the golden list, both ways: a number that differs, one
//! that is missing and one that the list does not have all fail.

#![cfg(feature = "std")]

mod golden;

use golden::Numbers;
use vyre_ioq::headers;

fn parse(text: &str) -> Option<u32> {
    let text = text.trim_end_matches('u');
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Numbers by name, from pairs of which none may come twice.
fn once(pairs: Vec<(&str, u32)>) -> Numbers {
    let count = pairs.len();
    let named = pairs.into_iter();
    let numbers: Numbers = named
        .map(|(name, number)| (name.to_owned(), number))
        .collect();
    assert_eq!(numbers.len(), count, "a name twice");
    numbers
}

/// The version, as three numbers.
fn version() -> [u32; 3] {
    let parts = env!("CARGO_PKG_VERSION").split(['.', '-']);
    let numbers: Vec<u32> = parts
        .take(3)
        .map(|part| part.parse().expect("a number"))
        .collect();
    numbers.try_into().expect("three numbers")
}

/// Macros of a text that stand for a number, without `VYRE_IOQ_`; those of the version are checked and
/// left out.
fn macros(text: &str) -> Numbers {
    let defines = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define VYRE_IOQ_"))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name, parse(number)?)));
    let mut numbers = once(defines.collect());
    let [major, minor, patch] = version();
    for (part, expected) in [
        ("VERSION_MAJOR", major),
        ("VERSION_MINOR", minor),
        ("VERSION_PATCH", patch),
        ("VERSION", major * 10_000 + minor * 100 + patch),
    ] {
        assert_eq!(numbers.remove(part), Some(expected), "{part}");
    }
    numbers
}

#[test]
fn the_c_header_has_the_golden_numbers() {
    assert_eq!(macros(headers::C_ABI), golden::all());
}

#[test]
fn the_cuda_header_has_the_golden_numbers() {
    let (_, text) = headers::CUDA_FILES[0];
    let (_, body) = text.split_once("\nenum : u32 {\n").expect("an enum");
    let (body, _) = body.split_once("\n};").expect("its end");
    let enumerators = body
        .lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .map(|(name, number)| {
            let (number, _) = number.split_once(',').expect("NAME = NUMBER,");
            (name, parse(number).expect("a number"))
        });
    assert_eq!(once(enumerators.collect()), golden::all());
    assert!(
        macros(text).is_empty(),
        "the version, and no number besides"
    );
}

/// C programs compare attach errors by number, and so do programs that mix the two headers.
#[test]
fn both_headers_number_the_attach_errors_alike() {
    let enumerators = |text: &'static str, start: &str| {
        let (_, body) = text.split_once(start).expect("the enum");
        let (body, _) = body.split_once("};").expect("its end");
        let names = body.lines().map(str::trim).filter(|line| {
            let first = line.chars().next();
            first.is_some_and(|first| first.is_ascii_uppercase())
        });
        names
            .map(|line| {
                let name: String = line
                    .chars()
                    .take_while(|&c| c.is_ascii_uppercase() || c == '_')
                    .collect();
                name.trim_start_matches("VYRE_IOQ_ATTACH_").to_owned()
            })
            .collect::<Vec<_>>()
    };
    let c = enumerators(headers::C_ABI, "enum vyre_ioq_attach_error {");
    let (_, text) = headers::CUDA_FILES[0];
    let cuda = enumerators(text, "enum class AttachError : u32 {");
    assert_eq!((c[0].as_str(), cuda[0].as_str()), ("OK", "NONE"));
    assert_eq!(c[1..], cuda[1..]);
    assert_eq!(
        c[1..],
        [
            "MISALIGNED",
            "TOO_SHORT",
            "BAD_MAGIC",
            "MAJOR_VERSION",
            "BAD_STRIDE",
            "BAD_SLOTS_OFFSET",
            "RESERVED_NOT_ZERO",
            "BAD_SLOT_COUNT",
            "BARE_LENGTH",
        ]
    );
}
