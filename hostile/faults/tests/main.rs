//! Tests on files, limits and signals of the real kernel. See CONTRIBUTING.md, "Faults".

mod beside;
mod ends;

fn main() -> std::process::ExitCode {
    vyre_faults::run(env!("CARGO_TARGET_TMPDIR"), &[beside::TESTS, ends::TESTS])
}
