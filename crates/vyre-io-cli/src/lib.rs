//! The parts of `vyre-io bench` that other measurements of this project use too. This library has no stable
//! interface: depend on [`vyre-io`](https://docs.rs/vyre-io) instead.

pub mod measure;
