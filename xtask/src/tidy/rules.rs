//! The numbered rules of ABI.md, SECURITY.md and docs/handshake.md: each has a test, and each number that is cited exists.
//!
//! A test cites its rules in a line of its comment, as in `/// Rules: ABI-6.7, SEC-5.`

use std::collections::{BTreeMap, BTreeSet};

/// The files that define rules, with the prefix of the names of their rules.
const TEXTS: &[(&str, &str)] = &[("ABI.md", "ABI-"), ("SECURITY.md", "SEC-"), ("docs/handshake.md", "HS-")];

/// Returns the counts, for the closing table.
pub(super) fn check(files: &BTreeMap<String, String>, errors: &mut Vec<String>) -> String {
    let defined = defined(files, errors);
    let mut tests: BTreeMap<&str, u32> = defined.iter().map(|rule| (rule.as_str(), 0)).collect();
    let mut citations = 0;
    // The tests of this check name rules that do not exist.
    let others = files.iter().filter(|(path, _)| !path.starts_with("xtask/"));
    for (path, text) in others {
        for (number, line) in text.lines().enumerate() {
            let at = format!("{path}:{}", number + 1);
            let names = names(line);
            for name in names.iter().filter(|name| !defined.contains(**name)) {
                errors.push(format!("{at}: there is no rule {name}"));
            }
            if !cites(line) {
                continue;
            }
            if names.is_empty() || !is_test(path) || !above_function(text, number) {
                errors.push(format!("{at}: rules are cited above no test"));
            }
            for name in names {
                citations += 1;
                tests.entry(name).and_modify(|tests| *tests += 1);
            }
        }
    }
    for (rule, _) in tests.iter().filter(|(_, tests)| **tests == 0) {
        errors.push(format!("{rule}: no test cites this rule"));
    }
    format!("{} rules, {citations} citations by tests", defined.len())
}

/// Names of the rules that have an anchor in the texts.
fn defined(files: &BTreeMap<String, String>, errors: &mut Vec<String>) -> BTreeSet<String> {
    let mut defined = BTreeSet::new();
    for (path, prefix) in TEXTS {
        let text = files.get(*path).map_or("", String::as_str);
        for anchor in text.split("<a id=\"").skip(1) {
            let (id, rest) = anchor.split_once("\">").unwrap_or_default();
            let name = rest.split_once("</a>").unwrap_or_default().0;
            if !name.starts_with(prefix) || id != name.to_lowercase() {
                errors.push(format!("{path}: the anchor `{id}` of rule `{name}` is wrong"));
            } else if !defined.insert(name.to_owned()) {
                errors.push(format!("{path}: {name} is defined twice"));
            }
        }
    }
    defined
}

/// Returns all that looks like the name of a rule.
fn names(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (_, prefix) in TEXTS {
        for (at, _) in line.match_indices(prefix) {
            let number = &line[at + prefix.len()..];
            let end = number.find(|c: char| !c.is_ascii_digit() && c != '.');
            let name = line[at..][..prefix.len() + end.unwrap_or(number.len())].trim_end_matches('.');
            if name.len() > prefix.len() {
                names.push(name);
            }
        }
    }
    names
}

fn cites(line: &str) -> bool {
    let comment = line.trim_start().trim_start_matches('/').trim_start();
    line.trim_start().starts_with("//") && (comment.starts_with("Rule: ") || comment.starts_with("Rules: "))
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Returns true if nothing but comments and attributes lies between a line and a function below it.
fn above_function(text: &str, line: usize) -> bool {
    let mut below = text.lines().skip(line + 1).map(str::trim_start);
    let item = below.find(|line| !line.starts_with("//") && !line.starts_with('#'));
    item.is_some_and(|item| item.contains("fn "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(rules: &str, test: &str) -> Vec<String> {
        let files = [("ABI.md", rules), ("a/tests/b.rs", test)];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let mut errors = Vec::new();
        check(&BTreeMap::from(files), &mut errors);
        errors
    }

    #[test]
    fn rules_without_tests_and_numbers_without_rules_are_found() {
        let rule = "- **<a id=\"abi-1.2\">ABI-1.2</a>** Text.";
        let test = "/// Rule: ABI-1.2.\n#[test]\nfn a() {}\n";
        assert_eq!(errors(rule, test), [""; 0]);
        assert_eq!(errors(rule, "").len(), 1, "no test");
        assert_eq!(errors(rule, "// Like ABI-1.2.\nfn a() {}\n").len(), 1);
        assert_eq!(errors(rule, "/// Rule: ABI-1.2.\nstruct A;\n").len(), 1);
        assert_eq!(errors("", test).len(), 1, "no rule");
        assert_eq!(errors(rule, &format!("{test}// As ABI-1.3 says\n")).len(), 1);
        assert_eq!(errors(&format!("{rule}\n{rule}"), test).len(), 1, "twice");
        let other = rule.replace("id=\"abi-1.2", "id=\"abi-1.1");
        assert_eq!(errors(&other, "").len(), 2, "a wrong anchor defines no rule");
    }
}
