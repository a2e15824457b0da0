//! Every library with every set of its features: what only compiles together is found here.

use std::collections::{BTreeMap, BTreeSet};

use crate::steps::Report;
use crate::workspace::{Member, Workspace};
use crate::{Result, sh};

/// More features than this in one crate would take longer than anybody waits.
const MOST_FEATURES: usize = 6;

/// What a feature turns on, by name, as the manifest says it.
pub(crate) type Features = BTreeMap<String, Vec<String>>;

/// The library alone, as its users build it, and then its tests: these may turn on features of the
/// crates below, which the library must not need.
const PARTS: &[&str] = &["--lib", "--tests"];

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let libraries: Vec<&Member> = ws.members.iter().filter(|member| member.library).collect();
    let (mut sets, mut builds) = (0, 0);
    for member in &libraries {
        for set in sets_of(&member.name, &member.features)? {
            sets += 1;
            for part in PARTS {
                builds += 1;
                check(ws, &member.name, &set, part)?;
            }
        }
    }
    if libraries.is_empty() {
        return Err("found no library to build".into());
    }
    report.note = format!(
        "{} libraries, {sets} sets of features, {builds} builds",
        libraries.len()
    );
    Ok(())
}

fn check(ws: &Workspace, package: &str, set: &str, part: &str) -> Result<()> {
    let args = ["clippy", "-p", package, part, "--no-default-features"];
    let mut command = sh::cargo(ws, &args);
    command.args(["--quiet", "--features", set]);
    sh::run(command.args(["--", "-D", "warnings"]))
}

/// Every set of features that differs from the others, written with commas. `default` names others
/// and is left out, and a set that turns on what it does not name is the one that names it all.
fn sets_of(package: &str, features: &Features) -> Result<BTreeSet<String>> {
    let names: Vec<&str> = features
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "default")
        .collect();
    if names.len() > MOST_FEATURES {
        let many = names.len();
        return Err(format!("{package} has {many} features; at most {MOST_FEATURES}").into());
    }
    let chosen = |set: u32| {
        let picked = names.iter().enumerate();
        picked
            .filter(move |(index, _)| set >> index & 1 == 1)
            .map(|(_, name)| *name)
    };
    Ok((0..1 << names.len())
        .map(|set| {
            let all: Vec<&str> = closure(chosen(set), features).into_iter().collect();
            all.join(",")
        })
        .collect())
}

/// These features and all that they turn on in the same crate.
fn closure<'a>(chosen: impl Iterator<Item = &'a str>, features: &'a Features) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut open: Vec<&str> = chosen.collect();
    while let Some(name) = open.pop() {
        if let Some(more) = features.get(name)
            && all.insert(name)
        {
            open.extend(more.iter().map(String::as_str));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(list: &[(&str, &[&str])]) -> Features {
        list.iter()
            .map(|(name, on)| {
                let on = on.iter().map(|name| (*name).to_owned()).collect();
                ((*name).to_owned(), on)
            })
            .collect()
    }

    #[test]
    fn sets_are_all_there_and_each_once() {
        let none = features(&[]);
        assert_eq!(Vec::from_iter(sets_of("a", &none).unwrap()), [""]);
        let two = features(&[("default", &["a"]), ("a", &[]), ("b", &["dep:x"])]);
        assert_eq!(
            Vec::from_iter(sets_of("a", &two).unwrap()),
            ["", "a", "a,b", "b"]
        );
        let implied = features(&[("alloc", &[]), ("std", &["alloc", "thiserror/std"])]);
        assert_eq!(
            Vec::from_iter(sets_of("a", &implied).unwrap()),
            ["", "alloc", "alloc,std"]
        );
        let circle = features(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(Vec::from_iter(sets_of("a", &circle).unwrap()), ["", "a,b"]);
    }

    #[test]
    fn too_many_features_are_refused() {
        let many: Vec<String> = (0..=MOST_FEATURES)
            .map(|index| format!("f{index}"))
            .collect();
        let many: Vec<(&str, &[&str])> = many.iter().map(|name| (&**name, &[] as _)).collect();
        assert!(sets_of("a", &features(&many)).is_err());
        assert_eq!(sets_of("a", &features(&many[1..])).unwrap().len(), 64);
    }
}
