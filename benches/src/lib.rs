//! Criterion benches over the layers of vyre-io; see `benches/`.
