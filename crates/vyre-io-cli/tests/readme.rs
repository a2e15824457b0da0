//! The first command of the repository's README works as it is written.

mod common;

use std::fs;
use std::path::Path;

/// Start of the command: cargo builds and runs the binary that this test runs.
const START: &str = "cargo run --release --bin vyre-io -- copy ";

#[test]
fn the_first_command_of_the_readme_copies_a_file() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Ok(readme) = fs::read_to_string(repository.join("README.md")) else {
        return common::skipped("no README.md above: not a checkout of the repository");
    };
    let (_, block) = readme.split_once("```sh\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");
    let command = block.lines().find_map(|line| line.strip_prefix(START));
    let args: Vec<&str> = command.expect(START).split_whitespace().collect();
    let plain = |word: &&str| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/=".contains(c))
    };
    assert!(args.iter().all(plain), "needs a shell: {args:?}");

    let files: Vec<_> = args.iter().filter(|word| !word.starts_with('-')).collect();
    let [source, target] = files[..] else {
        panic!("not SRC and DST: {files:?}");
    };
    let bytes = fs::read(repository.join(source)).expect("a file of the repository");
    assert!(
        !bytes.is_empty(),
        "{source} is empty: copying it would prove nothing"
    );
    assert!(!repository.join(target).is_dir(), "{target} is a directory");

    let place = common::place();
    for path in [source, target].map(|path| place.path().join(path)) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("room");
    }
    fs::write(place.path().join(source), &bytes).expect("room");
    let mut command = common::vyre_io();
    let output = command.current_dir(&place).arg("copy").args(&args).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{}", common::stderr(&output));
    assert_eq!(
        fs::read(place.path().join(target)).expect("the copy"),
        bytes
    );
}
