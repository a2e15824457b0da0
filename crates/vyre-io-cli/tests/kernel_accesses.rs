//! Tests of the accesses of the prebuilt kernels to a queue.

/// The accesses of a kernel at system scope, and its fences there, in the order of its text. All others
/// are of memory that the host does not share.
fn system_accesses(name: &str) -> Vec<String> {
    let ptx = prebuilt(name);
    let instructions = ptx.split(|c: char| c.is_whitespace() || ";{}".contains(c));
    let accesses = instructions.filter(|word| {
        let kind = word.split('.').next();
        let is_of_system = word.contains(".sys") || word.contains(".volatile");
        matches!(kind, Some("ld" | "st" | "atom" | "red" | "fence")) && is_of_system
    });
    accesses.map(str::to_owned).collect()
}

const STORE_UNIT: &str = "st.relaxed.sys.global.b128";
const PUBLISH_UNIT: &str = "st.release.sys.global.b128";
const STORE: &str = "st.relaxed.sys.global.u32";
const PUBLISH: &str = "st.release.sys.global.u32";
/// Relaxed would do by the memory model, but ptxas makes several narrower loads of such a one.
const POLL_UNIT: &str = "ld.volatile.global.b128";
const LOAD: &str = "ld.relaxed.sys.global.u32";
const FENCE: &str = "fence.acq_rel.sys";

/// Asserts that every access of a kind stands at `at` of the given ones, and returns how many there are.
/// Each call of the header has a branch for units and one for words.
fn check(name: &str, kind: &str, at: usize, expected: &[&str]) -> usize {
    let accesses = system_accesses(name);
    let mut found = 0;
    for (index, _) in accesses.iter().enumerate().filter(|(_, it)| *it == kind) {
        let around = &accesses[index - at..][..expected.len()];
        assert_eq!(around, expected, "{name}, access {index}");
        found += 1;
    }
    assert!(found > 0, "{name} has no {kind}");
    found
}

/// Words 12 to 15 are not stored at all.
///
/// Rules: ABI-4.2, ABI-5.1, ABI-5.2, ABI-5.4.
#[test]
fn a_kernel_stores_two_units_and_then_publishes_with_the_third() {
    let store = [STORE_UNIT, STORE, STORE, STORE, STORE];
    let publish = [PUBLISH_UNIT, STORE, STORE, STORE, PUBLISH];
    let expected = [store, store, publish].concat();
    for name in ["bench", "copy"] {
        let published = check(name, PUBLISH_UNIT, 10, &expected);
        let accesses = system_accesses(name);
        let stored = accesses.iter().filter(|it| *it == STORE_UNIT).count();
        assert_eq!(stored, 2 * published, "{name}");
    }
}

/// The fence after the load makes it an acquire load.
///
/// Rules: ABI-5.3, ABI-5.6.
#[test]
fn a_kernel_polls_with_one_access_and_reads_words_after_their_status() {
    let expected = [POLL_UNIT, FENCE, LOAD, FENCE, LOAD, LOAD];
    for name in ["bench", "copy"] {
        check(name, POLL_UNIT, 0, &expected);
    }
}

/// Rules: ABI-1.2, ABI-1.3.
#[test]
fn a_kernel_makes_no_read_modify_write_and_no_other_width_on_a_queue() {
    for name in ["bench", "copy"] {
        for access in system_accesses(name) {
            let kind = access.split('.').next();
            assert!(!matches!(kind, Some("atom" | "red")), "{name}: {access}");
            let width = access.rsplit('.').next();
            let known = kind == Some("fence") || matches!(width, Some("u32" | "b128"));
            assert!(known, "{name}: {access}");
        }
    }
}

fn prebuilt(name: &str) -> &'static str {
    match name {
        "bench" => include_str!("../ptx/bench.ptx"),
        "copy" => include_str!("../ptx/copy.ptx"),
        _ => panic!("no kernel {name}"),
    }
}
