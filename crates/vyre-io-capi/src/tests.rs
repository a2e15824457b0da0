//! The boundary itself. What the functions do is tested from C and C++, in `tests`.
#![expect(unsafe_code, reason = "reads what the functions stored")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::panic::panic_any;

use vyre_io::{BufferError, StopError, TableError};

use crate::code::{Code, NAMES, vyre_io_result_name};
use crate::error::{Error, answer, given, guard, shortened};
use crate::failure::Failure;

/// An exported function that panics, as one with a bug would.
extern "C" fn broken(number: u32, error: Option<&mut MaybeUninit<Error>>) -> Code {
    guard(error, || match number {
        0 => Ok(()),
        1 => panic!("the number is {number}"),
        2 => panic_any(7),
        _ => panic_any(PanicsAgain),
    })
}

/// A payload whose drop panics.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("again");
    }
}

fn call(number: u32) -> (Code, String) {
    let mut error = MaybeUninit::uninit();
    let code = broken(number, Some(&mut error));
    // SAFETY: every call stores it.
    let error: Error = unsafe { error.assume_init() };
    assert_eq!((code, error.os_errno, error.held), (error.code, 0, 0));
    // SAFETY: a NUL ends the text, which lives as long as `error`.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    (code, message.to_str().expect("UTF-8").to_owned())
}

#[test]
fn a_panic_stops_at_the_boundary() {
    assert_eq!(call(0), (Code::Ok, String::new()));
    let said = |text: &str| (Code::Panic, format!("the library panicked: {text}"));
    assert_eq!(call(1), said("the number is 1"));
    assert_eq!(call(2), said("no message"));
    assert_eq!(call(3), said("no message"));
    assert_eq!(broken(1, None), Code::Panic);
    assert_eq!(answer(5, || panic!("no answer")), 5);
    assert_eq!(answer(5, || Some(6)), 6);
}

/// The functions of a source, each with its text.
fn exported(source: &str) -> Vec<&str> {
    let mut parts: Vec<_> = source.split("#[unsafe(no_mangle)]\n").collect();
    parts.remove(0);
    parts
}

const TAKES_OVER: &str = "    // SAFETY: the caller's promises.
    let memory = unsafe { Foreign::new(memory, len, release, context) };
";

#[test]
fn every_exported_function_is_guarded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut functions = 0;
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        let source = std::fs::read_to_string(&path).expect("a text");
        // This file looks for these words.
        if path.ends_with("tests.rs") {
            continue;
        }
        for function in exported(&source) {
            let (head, body) = function.split_once(" {\n").expect("a body");
            let (body, _) = body.split_once("\n}\n").expect("an end");
            // What comes before the guard is not guarded. This alone may: memory is taken over in any case.
            let body = body.strip_prefix(TAKES_OVER).unwrap_or(body);
            // `set` is that of the options, and some functions are short forms of others.
            let guards = [
                "guard(error, ",
                "answer(",
                "free(",
                "set(options, error, ",
                "vyre_io_",
            ];
            let guarded = guards
                .iter()
                .any(|guard| body.trim_start().starts_with(guard));
            assert!(head.contains("extern \"C\" fn vyre_io_"), "{head}");
            assert!(guarded, "{}: {head}", path.display());
            functions += 1;
        }
        // All exports are found, and unsafe code other than calls of `memory` is in its file.
        assert_eq!(
            source.matches("no_mangle").count(),
            exported(&source).len(),
            "{}",
            path.display()
        );
        let helpers = [
            "memory::",
            "Foreign::new(",
            "store_sized(",
            "store_last(",
            "store_text(",
            "store_numbers(",
        ];
        for block in source
            .split(concat!("unsafe", " {"))
            .skip(1)
            .filter(|_| !path.ends_with("memory.rs"))
        {
            let block = block.trim_start();
            let known = helpers.iter().any(|helper| block.starts_with(helper));
            assert!(
                known,
                "{}: {}",
                path.display(),
                block.lines().next().unwrap_or("")
            );
        }
    }
    assert!(functions > 150, "{functions} functions");
}

#[test]
fn every_code_has_its_name() {
    let source = include_str!("code.rs");
    let (_, source) = source.split_once("pub enum Code {").expect("the enum");
    let (source, _) = source.split_once("\n}\n").expect("its end");
    let variants = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    let mut found = 0;
    for (name, number) in variants {
        let number: u32 = number.parse().expect("a number");
        let (code, text) = NAMES[found];
        assert_eq!(
            (format!("{code:?}"), code as u32),
            (name.to_owned(), number)
        );
        let shouted: String = name
            .char_indices()
            .fold(String::new(), |text, (at, letter)| {
                let gap = if at > 0 && letter.is_uppercase() {
                    "_"
                } else {
                    ""
                };
                format!("{text}{gap}{}", letter.to_ascii_uppercase())
            });
        assert_eq!(text.to_str(), Ok(shouted.as_str()));
        // SAFETY: the function returns texts that live for ever.
        let said = unsafe { CStr::from_ptr(vyre_io_result_name(number)) };
        assert_eq!(said, text);
        found += 1;
    }
    assert_eq!(found, NAMES.len());
    for unknown in [8, 1000, u32::MAX] {
        // SAFETY: as above.
        let said = unsafe { CStr::from_ptr(vyre_io_result_name(unknown)) };
        assert_eq!(said, c"unknown");
    }
}

#[test]
fn errors_keep_their_numbers() {
    let errno = vyre_io::uring::Errno::NOMEM;
    let failure = Failure::from(BufferError::Map { len: 5, errno });
    assert_eq!(
        (failure.code, failure.os_errno),
        (Code::Map, errno.raw_os_error())
    );
    let failure = Failure::from(StopError::Stuck { operations: 3 });
    assert_eq!((failure.code, failure.held), (Code::Stuck, 3));
    let reason = TableError::InFlight {
        handle: 9,
        requests: 4,
    };
    let failure = Failure::from(TableError::Loop {
        index: 1,
        reason: Box::new(reason),
    });
    assert_eq!((failure.code, failure.held), (Code::InFlight, 4));
    assert!(
        failure.message.starts_with("loop 1: handle 0x9"),
        "{}",
        failure.message
    );
    assert_eq!(Failure::ended().code, Code::Ended);
    let null = given(None::<&u32>, "table").expect_err("it is NULL");
    assert_eq!(
        (null.code, null.message.as_str()),
        (Code::NullPointer, "table is NULL")
    );
}

#[test]
fn texts_are_cut_at_characters() {
    assert_eq!(shortened("abc", 5), "abc");
    assert_eq!(shortened("abc", 2), "ab");
    assert_eq!(shortened("aé", 2), "a");
    assert_eq!(shortened("é", 0), "");
    let long = guard_with(&"é".repeat(400));
    assert_eq!(long.len(), 498, "whole characters below 500 bytes");
    assert_eq!(guard_with("a\0b"), "a?b");
}

fn guard_with(text: &str) -> String {
    let mut error = MaybeUninit::uninit();
    guard(Some(&mut error), || Err(Failure::argument(text)));
    // SAFETY: every call stores it.
    let error: Error = unsafe { error.assume_init() };
    // SAFETY: a NUL ends the text, which lives as long as `error`.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    message.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_texts_name_the_version_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    let cmake = include_str!("../CMakeLists.txt");
    assert!(cmake.contains(&format!("project(vyre_io VERSION {version} ")));
    let header = include_str!("../include/vyre_io.h");
    assert!(header.contains(&format!("#define VYRE_IO_VERSION \"{version}\"\n")));
}

#[test]
fn what_threads_may_share_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<crate::buffer::Buffer>();
    shared::<crate::queue::Queue>();
    shared::<crate::io_loop::Loop>();
    shared::<crate::group::Group>();
    shared::<crate::active_guard::ActiveGuard>();
    sent::<crate::file_table::FileTable>();
    sent::<crate::buffer_table::BufferTable>();
    sent::<crate::loop_options::LoopOptions>();
    sent::<crate::loop_builder::LoopBuilder>();
    sent::<crate::group_builder::GroupBuilder>();
}
