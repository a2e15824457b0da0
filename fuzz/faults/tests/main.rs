//! Tests on files, limits and signals of the real kernel. See CONTRIBUTING.md, "Faults".

mod drives;
mod durability;
mod fairness;
mod hung_requests;
mod limits;
mod raw;
mod shutdown_stuck;
mod signals;
mod transfer;

fn main() -> std::process::ExitCode {
    vyre_faults::run(
        env!("CARGO_TARGET_TMPDIR"),
        &[
            drives::TESTS,
            durability::TESTS,
            fairness::TESTS,
            hung_requests::TESTS,
            limits::TESTS,
            shutdown_stuck::TESTS,
            signals::TESTS,
            transfer::TESTS,
        ],
    )
}
