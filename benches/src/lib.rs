//! Criterion benches over the layers of vyre-io, on one thread each: `cargo bench -p vyre-benches`.
//!
//! What crosses cores is measured by `vyre-io bench`, which pins both sides.
