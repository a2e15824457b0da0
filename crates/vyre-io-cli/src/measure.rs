//! Measurements: cores, files with stamps, the raw loop, summaries of rounds, and plots.

pub mod bare_pool;
pub mod block_numbers;
pub mod cores;
pub mod figure;
pub mod plot;
pub mod raw_loop;
pub mod stamp;
pub mod units;
