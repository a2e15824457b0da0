//! The report on all kernels, in Markdown.

use std::collections::BTreeMap;

use serde_json::Value;

use super::left_out::LEFT_OUT;
use super::results::{Check, FileSystem, Results};
use crate::report::Tally;

/// Returns the tables, and what failed.
pub(crate) fn all(results: &[Results]) -> String {
    [set_up(results), file_systems(results), tests(results), failures(results), left_out()].concat()
}

/// A table whose columns are the kernels.
fn table(what: &str, results: &[Results], rows: &[(String, Vec<String>)]) -> String {
    let line = |first: &str, cells: &[String]| format!("| {first} | {} |\n", cells.join(" | "));
    let head: Vec<String> = results.iter().map(|one| one.release.clone()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows: String = rows.iter().map(|(first, cells)| line(first, cells)).collect();
    format!("{}{}{rows}", line(what, &head), line("---", &rule))
}

fn set_up(results: &[Results]) -> String {
    let row = |name: &str, cell: fn(&Value) -> String| {
        (name.to_owned(), results.iter().map(|one| cell(&one.machine)).collect())
    };
    let rows = [
        row("transport", |machine| text(&machine["transport"])),
        row("flags of the ring", |machine| list(&machine["ring"]["flags"])),
        row("registered descriptor", |machine| step(&machine["ring"]["registered_ring_fd"])),
        row("registered files", |machine| step(&machine["ring"]["registered_files"])),
        row("registered buffers", |machine| step(&machine["ring"]["registered_buffers"])),
        row("missing operations", |machine| list(&machine["ring"]["missing_operations"])),
        row("wakes by", |machine| text(&machine["wakes_by"])),
    ];
    format!("## Set-up\n\n{}\n", table("", results, &rows))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("none").to_owned()
}

fn list(value: &Value) -> String {
    let names: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A step of the set-up: whether it is in use, and why not.
fn step(value: &Value) -> String {
    match value["in_use"].as_bool() {
        Some(true) => "yes".to_owned(),
        _ => format!("no: {}", text(&value["why"])),
    }
}

/// The names of all file systems, in the order of the guests.
fn names(results: &[Results]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for system in results.iter().flat_map(|one| &one.file_systems) {
        if !names.contains(&system.name.as_str()) {
            names.push(&system.name);
        }
    }
    names
}

fn file_systems(results: &[Results]) -> String {
    let rows = |cell: fn(&FileSystem) -> String| -> Vec<(String, Vec<String>)> {
        let of = |one: &Results, name: &str| one.file_systems.iter().find(|system| system.name == name).map(cell);
        let row =
            |name: &str| results.iter().map(|one| of(one, name).unwrap_or_else(|| "not run".to_owned())).collect();
        names(results).into_iter().map(|name| (name.to_owned(), row(name))).collect()
    };
    let checks = table("checks passed, by ring and by threads", results, &rows(verdict));
    let direct = table("direct I/O", results, &rows(direct));
    let cached = table("page-cache reads", results, &rows(page_cache));
    format!("## File systems\n\n{checks}\n{direct}\n{cached}\n")
}

/// Returns the number of checks that passed on each transport, and of those that were refused.
fn verdict(system: &FileSystem) -> String {
    let count = |transport: &str| {
        let of = |result: &str| {
            let is = |check: &&Check| check.transport == transport && check.result == result;
            system.checks.iter().filter(is).count()
        };
        let (passed, refused, failed) = (of("pass"), of("refused"), of("FAIL"));
        let refused = if refused > 0 { format!(" ({refused} refused)") } else { String::new() };
        if failed > 0 { format!("**{failed} FAIL**") } else { format!("{passed}{refused}") }
    };
    format!("{}, {}", count("ring"), count("threads"))
}

fn direct(system: &FileSystem) -> String {
    let alignment = &system.path["alignment"];
    match (alignment["memory"].as_u64(), alignment["offset"].as_u64()) {
        (Some(memory), Some(offset)) => format!("{memory}, {offset}: {}", text(&alignment["from"])),
        _ if system.path["direct_opens"] == Value::Bool(true) => "opens".to_owned(),
        _ => "no".to_owned(),
    }
}

fn page_cache(system: &FileSystem) -> String {
    let check = system.checks.iter().find(|check| check.name == "page-cache reads");
    check.map_or("none", |check| if check.result == "pass" { "yes" } else { "no" }).to_owned()
}

/// By package.
fn tests(results: &[Results]) -> String {
    let mut packages = BTreeMap::<&str, Vec<Tally>>::new();
    for (index, one) in results.iter().enumerate() {
        for run in &one.tests {
            let package = run.name.split("::").next().unwrap_or_default();
            let tallies = packages.entry(package).or_insert_with(|| vec![Tally::default(); results.len()]);
            tallies[index] += run.tally;
        }
    }
    if packages.is_empty() {
        return String::new();
    }
    let cell = |tally: &Tally| format!("{} / {} / {}", tally.passed, tally.failed, tally.skipped);
    let rows: Vec<_> =
        packages.iter().map(|(package, tallies)| ((*package).to_owned(), tallies.iter().map(cell).collect())).collect();
    format!("## Tests\n\n{}\n", table("passed / failed / skipped", results, &rows))
}

fn failures(results: &[Results]) -> String {
    let mut text = String::new();
    for one in results {
        for (system, Check { transport, name, text: why, .. }) in one.failed_checks() {
            text += &format!("- {}: FAIL {name} on {system} by {transport}: {why}\n", one.release);
        }
        for run in &one.tests {
            run.failed.iter().for_each(|test| text += &format!("- {}: FAIL {} {test}\n", one.release, run.name));
        }
        one.broken.iter().for_each(|what| text += &format!("- {}: FAIL {what}\n", one.release));
    }
    if text.is_empty() { "No FAIL.\n\n".to_owned() } else { format!("## Failures\n\n{text}\n") }
}

fn left_out() -> String {
    if LEFT_OUT.is_empty() {
        return String::new();
    }
    let line = |(program, test, reason): &(&str, &str, &str)| format!("| `{program}` | `{test}` | {reason} |\n");
    let rows: String = LEFT_OUT.iter().map(line).collect();
    format!("## Left out\n\n| program | test | reason |\n| --- | --- | --- |\n{rows}")
}
