use super::*;

fn files<const N: usize>(list: [(&str, &str); N]) -> Files {
    list.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
}

#[test]
fn a_skip_must_be_seen() {
    let hidden = concat!("if none {\n eprintln!(\n  \"SKIP", "PED: a_test: why\"); }");
    assert_eq!(file("a.rs", hidden).len(), 1);
    let seen = concat!("let line = format!(\"SKIP", "PED: a_test: why\\n\");");
    assert_eq!(file("a.rs", seen).len(), 0);
}

#[test]
fn unfinished_work_and_ignored_tests_are_found() {
    assert_eq!(file("a.rs", concat!("// FIX", "ME: this")), ["a.rs:1: unfinished work, marked in a comment"]);
    assert_eq!(file("a.rs", concat!("#[test]\n    #[ign", "ore = \"slow\"]\nfn f() {}")).len(), 1);
    assert_eq!(file("a.rs", "fn f() {}").len(), 0);
}

#[test]
fn summaries_are_no_questions() {
    let found =
        file("a.rs", "/// Whether it is.\nfn a() {}\n    /// Returns it.\n    /// What follows may.\n//! How.\n");
    assert_eq!(found, ["a.rs:1: a doc comment that begins with a question"]);
    assert_eq!(file("a.cuh", "\n  /// What it is.\n").len(), 1);
    assert_eq!(file("a.md", "/// What it is.\n").len(), 0);
}

#[test]
fn long_files_are_found() {
    for (lines, errors) in [(LINES_WARN + 1, 0), (LINES_MAX, 0), (LINES_MAX + 1, 1)] {
        assert_eq!(file("a.rs", &"\n".repeat(lines)).len(), errors, "{lines}");
    }
    assert_eq!(file("a.md", &"\n".repeat(LINES_MAX + 1)).len(), 0);
}

#[test]
fn actions_are_pinned() {
    let errors = |action: &str| file(".github/workflows/a.yml", &format!("- uses: {action}\n")).len();
    assert_eq!(errors("a/b@0123456789abcdef0123456789abcdef01234567 # v1.2.3"), 0);
    for action in ["a/b@v1", "a/b", "a/b@0123456789abcdef", "a/b@0123456789abcdef0123456789abcdef0123456z"] {
        assert_eq!(errors(action), 1, "{action}");
    }
}

#[test]
fn manifests_take_the_lints() {
    for (text, errors) in [("[package]", 1), ("[lints]\nworkspace = true", 0), ("[workspace.lints.rust]", 0)] {
        assert_eq!(file("a/Cargo.toml", text).len(), errors, "{text}");
    }
}

#[test]
fn crates_need_their_documents() {
    let all =
        [("crates/vyre-ioq/Cargo.toml", ""), ("crates/vyre-ioq/README.md", ""), ("crates/vyre-ioq/CHANGELOG.md", "")];
    assert_eq!(crates(&files(all)), Vec::<String>::new());
    let mut changed = files(all);
    changed.remove("crates/vyre-ioq/CHANGELOG.md");
    assert_eq!(crates(&changed), ["crates/vyre-ioq/CHANGELOG.md is missing"]);
    assert_eq!(crates(&Files::new()).len(), 1);
}

#[test]
fn the_one_door_is_named_everywhere() {
    let all = ONE_DOOR.iter().map(|(path, call)| ((*path).to_owned(), format!("x\n{call}\n")));
    let mut all: Files = all.collect();
    assert_eq!(one_door(&all), Vec::<String>::new());
    assert_eq!(one_door(&Files::new()).len(), ONE_DOOR.len());
    all.insert(".ci/run".to_owned(), "cargo test".to_owned());
    assert_eq!(one_door(&all), [".ci/run: does not mention `cargo xtask ci`"]);
}

#[test]
fn brackets_that_are_no_link_are_found() {
    let links = "[`a`](b) [`c`][d] [`e`] [f]\n[`e`]: g\n";
    assert_eq!(file("a.md", links), Vec::<String>::new());
    assert_eq!(file("a.md", "an [`Op`] of\n[`Op`] s"), ["a.md: [`Op`] leads nowhere"; 2]);
}
