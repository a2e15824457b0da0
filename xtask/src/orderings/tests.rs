use super::*;

const SOURCE: &str = "\
fn first(order: Ordering) {
    // Ordering::Acquire
    word.load(0, Ordering::Acquire);
    word.load(0, Ordering::Relaxed);
}

pub(crate) fn second<T>() {
    fence(Ordering::SeqCst);
    word.load(0, Ordering::Acquire);
    word.load(1, Ordering::Acquire);
}
";
const HEAD: &str = "\
| file | function | ordering | partner | without it | caught by |
| --- | --- | --- | --- | --- | --- |
";
const ROWS: [&str; 4] = [
    "| a.rs | `first` | Acquire | p | w | loom `a::b` |\n",
    "| a.rs | `second` | SeqCst | p | w | loom `a::b`, Miri `c::d` |\n",
    "| a.rs | `second` | Acquire | p | w | TSan `a::b` |\n",
    "| a.rs | `second` | Acquire | p | w | loom `a::b` |\n",
];

fn errors(source: &str, rows: &[&str]) -> Vec<String> {
    let table = format!("text\n\n{HEAD}{}\nmore", rows.concat());
    let files = [(TABLE.to_owned(), table), (format!("{SOURCES}a.rs"), source.to_owned())];
    check(&files.into())
}

#[test]
fn the_table_lists_each_ordering_once() {
    assert_eq!(errors(SOURCE, &ROWS), Vec::<String>::new());
    for left_out in 0..ROWS.len() {
        let mut rows = ROWS.to_vec();
        let row = rows.remove(left_out);
        assert_eq!(errors(SOURCE, &rows).len(), 1, "without {row}");
        rows.extend([row, row]);
        assert_eq!(errors(SOURCE, &rows).len(), 1, "twice {row}");
    }
    assert_eq!(errors(&SOURCE.replace("SeqCst", "Relaxed"), &ROWS).len(), 1);
    assert_eq!(errors(&SOURCE.replace("fn first", "fn third"), &ROWS).len(), 2);
    assert_eq!(check(&BTreeMap::new()).len(), 1);
}

#[test]
fn a_row_needs_a_test_that_catches() {
    for cell in ["", "loom", "loom a::b", "loom `b`", "gdb `a::b`", "loom `a::b`,"] {
        let row = format!("| a.rs | `first` | Acquire | p | w | {cell} |\n");
        assert_eq!(errors(SOURCE, &[&row]).len(), 1, "{cell}");
    }
    assert_eq!(errors(SOURCE, &[]).len(), 1);
    assert_eq!(errors(SOURCE, &["| a.rs | `first` | Acquire |\n"]).len(), 1);
}

#[test]
fn one_ordering_is_weakened_at_a_time() {
    let site = |function: &str, order: &str| Site {
        file: "a.rs".to_owned(),
        function: function.to_owned(),
        order: order.to_owned(),
    };
    let weakened = |function, order, nth| mutate::weakened(&site(function, order), SOURCE, nth);
    let without_fence = weakened("second", "SeqCst", 0).unwrap();
    let never = "if false { fence(Ordering::SeqCst); }";
    assert_eq!(without_fence, SOURCE.replace("    fence(Ordering::SeqCst);", never));
    let last = weakened("second", "Acquire", 1).unwrap();
    assert_eq!(last, SOURCE.replace("load(1, Ordering::Acquire", "load(1, Ordering::Relaxed"));
    let first = weakened("first", "Acquire", 0).unwrap();
    assert_eq!(first.matches("Ordering::Acquire").count(), 3);
    assert!(weakened("first", "Acquire", 1).is_err());
    assert!(weakened("third", "Acquire", 0).is_err());
}
