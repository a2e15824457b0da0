//! Figures as people read them.

use std::time::Duration;

use indicatif::HumanCount;

/// Formats a rate of operations per second.
pub fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.0} /s"),
    }
}

/// Formats a number, with commas.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a time in nanoseconds.
pub fn time(nanos: u64) -> String {
    let time = Duration::from_nanos(nanos);
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_that_fit() {
        assert_eq!(rate(1_234_567.0), "1.23 M/s");
        assert_eq!(rate(175_733.0), "175.7 k/s");
        assert_eq!(rate(12.0), "12 /s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(time(842), "842 ns");
        assert_eq!(time(1_234), "1.2 µs");
        assert_eq!(time(1_167_065_087), "1.2 s");
    }
}
