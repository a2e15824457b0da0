//! Tests on files, limits and signals of the real kernel. See CONTRIBUTING.md, "Faults".

mod beside;
mod ends;
mod kept;
mod limits;
mod lost;
mod mapper;
mod raw;
mod shares;
mod short;
mod signals;

fn main() -> std::process::ExitCode {
    vyre_faults::run(
        env!("CARGO_TARGET_TMPDIR"),
        &[
            beside::TESTS,
            ends::TESTS,
            kept::TESTS,
            limits::TESTS,
            lost::TESTS,
            mapper::TESTS,
            shares::TESTS,
            short::TESTS,
            signals::TESTS,
        ],
    )
}
