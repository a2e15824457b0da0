//! What the rounds of a run came to: their middle, and how far they lie apart.

use serde::Serialize;

/// A spread beyond which a figure says more about the machine than about the program.
const STEADY: f64 = 0.2;

/// One figure over all rounds.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// In the order of the rounds.
    pub(super) rounds: Vec<f64>,
}

impl Figure {
    pub(super) fn of(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        };
        Self {
            median,
            min: sorted.first().copied().unwrap_or(0.0),
            max: sorted.last().copied().unwrap_or(0.0),
            rounds,
        }
    }

    /// Whether the rounds lie so far apart that the median is no measurement.
    pub(super) fn is_unsteady(&self) -> bool {
        self.max - self.min > STEADY * self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Figure::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        let none = Figure::of(Vec::new());
        assert_eq!((none.median, none.min, none.max), (0.0, 0.0, 0.0));
    }

    #[test]
    fn rounds_far_apart_are_unsteady() {
        assert!(!Figure::of(vec![95.0, 100.0, 105.0]).is_unsteady());
        assert!(Figure::of(vec![76.0, 100.0, 105.0]).is_unsteady());
    }
}
