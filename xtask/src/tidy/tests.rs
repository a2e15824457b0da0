use super::source::code_only;
use super::*;

fn files<const N: usize>(list: [(&str, &str); N]) -> Files {
    list.into_iter()
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect()
}

fn rust_errors(text: &str) -> Vec<String> {
    let mut found = Findings::default();
    rust_files(&files([("a.rs", text)]), &mut found);
    found.errors
}

#[test]
fn a_word_is_found_in_code_alone() {
    let cases = [
        (concat!("unsafe", " { x() }"), Some(1)),
        ("\n#[unsafe(no_mangle)]", Some(2)),
        ("type F = unsafe fn();", Some(1)),
        (
            concat!("fn f<'a>(x: &'a str) { '\\''; unsafe", " {} }"),
            Some(1),
        ),
        (concat!("let r = 'r'; let q = '\"'; unsafe", " {}"), Some(1)),
        (
            "r#\"a\" unsafe\"#; b\"unsafe\"; c\"unsafe\"; br##\"unsafe\"# \"##",
            None,
        ),
        (
            "// unsafe\n/* unsafe /* x */ unsafe */ \"unsafe \\\" unsafe\"",
            None,
        ),
        ("/// unsafe\nlet r#type = 1;", None),
        (concat!("/* \n */\n\"a\nb\"; unsafe", " {}"), Some(4)),
        (concat!("let four = r; unsafe", " {}"), Some(1)),
    ];
    for (source, line) in cases {
        assert_eq!(
            source::lines_with(&code_only(source), "unsafe").next(),
            line,
            "{source}"
        );
    }
}

#[test]
fn a_skip_must_be_seen() {
    let hidden = concat!("if none {\n eprintln!(\n  \"SKIP", "PED: a_test: why\"); }");
    assert_eq!(rust_errors(hidden).len(), 1);
    let seen = concat!("let line = format!(\"SKIP", "PED: a_test: why\\n\");");
    assert_eq!(rust_errors(seen).len(), 0);
}

#[test]
fn unfinished_work_is_found() {
    assert_eq!(rust_errors("fn f() { todo!() }").len(), 1);
    assert_eq!(rust_errors("#[ignore = \"slow\"]\nfn f() {}").len(), 1);
    assert_eq!(rust_errors(concat!("// FIX", "ME: this")).len(), 1);
    assert_eq!(rust_errors("// todo! in a comment\n\"#[ignore]\"").len(), 0);
}

#[test]
fn long_files_are_found() {
    let mut found = Findings::default();
    let (warn, fail) = ("\n".repeat(LINES_WARN + 1), "\n".repeat(LINES_MAX + 1));
    let edge = "\n".repeat(LINES_WARN);
    rust_files(
        &files([("a.rs", &warn), ("b.rs", &fail), ("c.rs", &edge)]),
        &mut found,
    );
    assert_eq!((found.warnings.len(), found.errors.len()), (1, 1));
}

#[test]
fn crates_need_their_documents_and_layers() {
    let all = [
        (
            "crates/vyre-ioq/Cargo.toml",
            concat!(
                "[lints]\nworkspace = true\n[dependencies]\n",
                "bitflags = \"2\""
            ),
        ),
        ("crates/vyre-ioq/README.md", ""),
        ("crates/vyre-ioq/CHANGELOG.md", ""),
        (
            "crates/vyre-uring/Cargo.toml",
            "name = \"vyre-uring\"\n[lints]\nworkspace = true",
        ),
        ("crates/vyre-uring/README.md", ""),
        ("crates/vyre-uring/CHANGELOG.md", ""),
    ];
    let errors = |files: &Files| {
        let mut found = Findings::default();
        crates(files, &mut found);
        found.errors
    };
    assert_eq!(errors(&files(all)), Vec::<String>::new());

    let mut changed = files(all);
    changed.remove("crates/vyre-ioq/CHANGELOG.md");
    assert_eq!(errors(&changed), ["crates/vyre-ioq: has no CHANGELOG.md"]);
    for line in [
        "vyre-ioq.workspace = true",
        "vyre-ioq = \"1\"",
        "[dev-dependencies.vyre-ioq]",
    ] {
        let mut changed = files(all);
        let manifest = format!("{line}\n[lints]\nworkspace = true\n");
        changed.insert("crates/vyre-uring/Cargo.toml".to_owned(), manifest);
        assert_eq!(errors(&changed).len(), 1, "{line}");
    }
    let mut changed = files(all);
    changed.insert("benches/Cargo.toml".to_owned(), "[package]".to_owned());
    assert_eq!(errors(&changed).len(), 1, "no lints");
    assert!(!errors(&Files::new()).is_empty());
}

#[test]
fn the_one_door_is_named_everywhere() {
    let all = [
        ("README.md", "```sh\ncargo xtask ci\n```"),
        (".ci/run", "exec cargo xtask ci"),
        (".github/workflows/ci.yml", "run: bash .ci/run"),
    ];
    let errors = |files: &Files| {
        let mut found = Findings::default();
        one_door(files, &mut found);
        found.errors.len()
    };
    assert_eq!(errors(&files(all)), 0);
    assert_eq!(errors(&Files::new()), ONE_DOOR.len());
    let mut changed = files(all);
    changed.insert(".ci/run".to_owned(), "cargo test".to_owned());
    assert_eq!(errors(&changed), 1);
}
