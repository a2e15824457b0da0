//! Criterion benches over the layers of vyre-io: `cargo bench -p vyre-benches`.
//!
//! `queue` and `engine` count one core's work. `finding` hands requests from one pinned core to
//! another, and measures the floor of that beside. `vyre-io bench` has the whole stack. The program `compare`
//! measures it beside others: `cargo xtask compare`.

pub mod turns;
