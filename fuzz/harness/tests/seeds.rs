//! The fuzz targets without a fuzzer: every committed seed, and mutants of the seeds.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use vyre_fuzz_harness::{Random, targets};

/// Number of mutants for each target.
const MUTANTS: u32 = 2_000;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    let mut seeds: Vec<_> = fs::read_dir(root.join(target))
        .expect("a directory of seeds")
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    seeds.sort();
    assert!(seeds.len() > 3, "{target} has {} seeds", seeds.len());
    seeds
}

fn body(name: &str) -> fn(&[u8]) {
    let target = targets::ALL.iter().find(|target| target.0 == name);
    target.expect("a target").1
}

fn run(body: fn(&[u8]), what: &str, input: &[u8]) {
    let ended = catch_unwind(AssertUnwindSafe(|| body(input)));
    assert!(ended.is_ok(), "{what} fails: {input:02x?}");
}

/// Changes a seed: bits, bytes, its length, or a piece of another seed.
fn mutate(random: &mut Random, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        let len = bytes.len() as u32;
        let at = random.below(len) as usize;
        match random.below(6) {
            0 if len > 0 => bytes[at] ^= 1 << random.below(8),
            1 if len > 0 => bytes[at] = random.bits() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.bits() as u8),
            4 => {
                let from = random.below(other.len() as u32) as usize;
                let piece = &other[from..][..other[from..].len().min(64)];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => bytes.extend_from_slice(&random.bits().to_le_bytes()),
        }
    }
    bytes
}

fn replay(name: &str) {
    let (body, seeds) = (body(name), seeds(name));
    for (path, bytes) in &seeds {
        run(body, path, bytes);
    }
    let mut random = Random::new(1);
    for _ in 0..MUTANTS {
        let [one, other] = [0; 2].map(|_| &seeds[random.below(seeds.len() as u32) as usize]);
        let input = mutate(&mut random, &one.1, &other.1);
        run(body, &format!("a mutant of {}", one.0), &input);
    }
    println!("{name}: {} seeds and {MUTANTS} mutants", seeds.len());
}

/// Rule: ABI-3.2.
#[test]
fn attach() {
    replay("attach");
}

/// Rule: ABI-6.21.
#[test]
fn decode() {
    replay("decode");
}

/// Rules: ABI-4.15, SEC-4.
#[test]
fn ends() {
    replay("ends");
}

/// Rules: SEC-4, SEC-5.
#[test]
fn hostile() {
    replay("hostile");
}

/// Rules: HS-8.1, HS-8.2.
#[test]
fn handshake() {
    replay("handshake");
}

/// Rules: SEC-2, SEC-17.
#[test]
fn page_cache() {
    replay("page_cache");
}

#[test]
fn every_target_is_replayed_here_and_fuzzed_there() {
    let manifest = include_str!("../../Cargo.toml");
    for (name, _) in targets::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(
            include_str!("seeds.rs").contains(&format!("replay(\"{name}\")")),
            "{name}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets::ALL.len());
}
