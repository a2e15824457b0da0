//! Summary of the rounds of a run: median and spread.

use serde::Serialize;

/// Spread above which a figure says more about the machine than about the program.
const STEADY: f64 = 0.2;

/// Values of one figure over all rounds.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Values in the order of the rounds.
    pub rounds: Vec<f64>,
}

impl Figure {
    pub fn of(rounds: Vec<f64>) -> Self {
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

    /// Returns the ratio of this figure to another one in each round.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Self::of(pairs.map(|(over, under)| over / under).collect())
    }

    /// Returns the distance of the quartiles, as a share of the median. It is infinite without rounds.
    pub fn spread(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let quartile = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (
                sorted[place.floor() as usize],
                sorted[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        if sorted.is_empty() || self.median == 0.0 {
            return f64::INFINITY;
        }
        (quartile(0.75) - quartile(0.25)) / self.median
    }

    /// Returns whether the rounds differ so much that the median is not a measurement.
    pub fn is_unsteady(&self) -> bool {
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
    fn a_ratio_is_of_each_round() {
        let ratio = Figure::of(vec![2.0, 9.0, 4.0]).over(&Figure::of(vec![1.0, 3.0, 4.0]));
        assert_eq!(ratio.rounds, [2.0, 3.0, 1.0]);
        assert_eq!(ratio.median, 2.0);
    }

    #[test]
    fn the_spread_is_that_of_the_middle_half() {
        assert_eq!(
            Figure::of(vec![1.0, 2.0, 3.0, 4.0, 100.0]).spread(),
            2.0 / 3.0
        );
        assert_eq!(Figure::of(vec![2.0, 4.0]).spread(), 1.0 / 3.0);
        assert_eq!(Figure::of(vec![5.0]).spread(), 0.0);
        assert_eq!(Figure::of(Vec::new()).spread(), f64::INFINITY);
    }

    #[test]
    fn rounds_far_apart_are_unsteady() {
        assert!(!Figure::of(vec![95.0, 100.0, 105.0]).is_unsteady());
        assert!(Figure::of(vec![76.0, 100.0, 105.0]).is_unsteady());
    }
}
