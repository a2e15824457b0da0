//! Checks of `vyre-io copy` in the directory.

use std::path::Path;
use std::process::Command;

use vyre_faults::pattern;

use crate::{Check, Passed, Place};

pub(crate) const CHECKS: &[(&str, Check)] = &[("copy", copy), ("copy --direct", copy_direct)];

/// Past a page, and more than a block of every kind of copy. On an emulated processor, to start a program takes long.
const SMALL: usize = 4097;
const LARGE: usize = (4 << 20) + 1;

fn copy(place: &Place) -> Passed {
    copies(place, &[SMALL, LARGE], &[])
}

fn copy_direct(place: &Place) -> Passed {
    copies(place, &[LARGE], &["--direct"])
}

/// Copies files into the directory, within it, onto an existing file, and out of it. Returns what the command warned
/// of.
fn copies(place: &Place, sizes: &[usize], options: &[&str]) -> Passed {
    let other = tempfile::tempdir().expect("a directory");
    let [from, back] = ["from", "back"].map(|name| other.path().join(name));
    let [first, second] = ["first", "second"].map(|name| place.dir.join(name));
    let mut warnings = String::new();
    for &size in sizes {
        let bytes = pattern(size, size);
        std::fs::write(&from, &bytes).expect("a file");
        for (source, destination) in [
            (&from, &first),
            (&first, &second),
            (&from, &second),
            (&second, &back),
        ] {
            let warned = copied(place, options, source, destination);
            let what = format!(
                "{size} bytes from {} to {}",
                source.display(),
                destination.display()
            );
            let found =
                std::fs::read(destination).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(found == bytes, "{what}: wrong bytes");
            if warnings.is_empty() {
                warnings = warned;
            }
        }
        for path in [&first, &second, &back] {
            std::fs::remove_file(path).expect("the file");
        }
    }
    let left: Vec<_> = std::fs::read_dir(&place.dir)
        .expect("the directory")
        .flatten()
        .collect();
    let left = left
        .iter()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(".vyre-io-"));
    assert!(left.is_none(), "{left:?} is left behind");
    Passed::Pass(warnings)
}

/// Runs one copy, which must succeed. Returns what it said on standard error.
fn copied(place: &Place, options: &[&str], source: &Path, destination: &Path) -> String {
    let mut command = Command::new(place.command.as_ref().expect("the command"));
    command
        .args(["copy", "--verify", "--transport", place.name])
        .args(options)
        .args([source, destination]);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    said
}
