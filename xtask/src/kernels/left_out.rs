//! Tests that the guests do not run.

/// The program, a part of the test's name, and the reason.
pub(crate) const LEFT_OUT: &[(&str, &str, &str)] = &[];

/// Returns the arguments by which a test program leaves tests out.
pub(crate) fn arguments(program: &str) -> String {
    let skip = |(_, test, _): &(&str, &str, &str)| format!("--skip {test} ");
    LEFT_OUT.iter().filter(|(of, ..)| *of == program).map(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_that_is_left_out_exists() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (program, test, reason) in LEFT_OUT {
            assert!(!reason.is_empty());
            let (package, target) = program.split_once("::").unwrap();
            let dir = if package == "vyre-faults" { "fuzz/faults" } else { &format!("crates/{package}") };
            let test = test.rsplit("::").next().unwrap();
            let needle = format!("fn {test}");
            assert!(holds(&root.join(dir), &needle), "{program}: {target} has no {test}");
        }
    }

    fn holds(dir: &std::path::Path, needle: &str) -> bool {
        std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return holds(&path, needle);
            }
            path.extension().is_some_and(|extension| extension == "rs")
                && std::fs::read_to_string(path).unwrap().contains(needle)
        })
    }
}
