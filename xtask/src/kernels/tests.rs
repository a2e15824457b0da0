//! From the lines of a guest to the report.

use super::results::Results;
use super::table;
use crate::report::Tally;

/// A guest whose checks and tests end as given.
fn guest(check: &str, test: &str, last: &str) -> Results {
    Results::of(&format!(
        "@@ kernel 6.1.0\n@@ doctor \n{{\n \"transport\": \"ring\",\n \"ring\": {{\"flags\": [\"A\", \"B\"]}}\n}}\n@@ end 0\n\
         @@ fs ext4\nring\tdirect\tpass\nthreads\tdirect\t{check}\twhy so\n1 failed\n@@ end 0\n\
         @@ doctor ext4\n{{\"paths\": [{{\"alignment\": {{\"memory\": 4, \"offset\": 512, \"from\": \"statx\"}}}}]}}\n@@ end 0\n\
         @@ test vyre-a::b\ntest one ... ok\ntest two ... {test}\nSKIPPED: one: no reason\n\
         test result: X. 2 passed; 0 failed; 0 ignored\n@@ end 0\n{last}\n"
    ))
}

#[test]
fn a_guest_without_a_fault_passes() {
    let results = guest("refused", "ok", "@@ done");
    assert!(results.passed(), "{:?}", results.broken);
    assert_eq!(results.tally(), Tally { passed: 1, failed: 0, skipped: 1 });
    let text = table::all(&[results]);
    for part in ["| ring |", "| A, B |", "| ext4 | 1, 0 (1 refused) |", "| 4, 512: statx |", "| 1 / 0 / 1 |", "No FAIL"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn each_fault_of_a_guest_fails() {
    for (check, test, last, said) in [
        ("FAIL", "ok", "@@ done", "FAIL direct on ext4 by threads: why so"),
        ("pass", "FAILED", "@@ done", "FAIL vyre-a::b two"),
        ("pass", "ok", "", "the guest ended early"),
        ("pass", "ok", "@@ broken XFS\n@@ done", "FAIL broken XFS"),
        ("pass", "ok", "@@ complaint BUG: here\n@@ done", "BUG: here"),
        ("pass", "ok", "@@ test vyre-a::c\n@@ end 137\n@@ done", "vyre-a::c ended with status 137"),
        ("pass", "ok", "@@ fs tmpfs\n@@ end 0\n@@ done", "the checks on tmpfs ended with status 0"),
        (
            "FAIL",
            "ok",
            "@@ fs tmpfs\nring\tdirect\tpass\n@@ end 137\n@@ done",
            "the checks on tmpfs ended with status 137",
        ),
        ("pass", "ok", "@@ doctor ext4\nnothing\n@@ end 1\n@@ done", "doctor on"),
    ] {
        let results = guest(check, test, last);
        assert!(!results.passed(), "{said}");
        let text = table::all(&[results]);
        assert!(text.contains(said), "{said}: {text}");
    }
}
