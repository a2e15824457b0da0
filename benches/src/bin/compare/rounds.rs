//! Rounds: everyone is measured in each, until the rounds agree or there were enough of them.

use vyre_io_cli::measure::figure::Figure;

/// Spread above which the rounds of a figure do not agree: the distance of the quartiles, as a share of the median.
pub(crate) const STEADY: f64 = 0.05;

/// Rates by contestant and round, and those of the first contestant to compare with.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) rates: Vec<Figure>,
    /// Rates divided by that of the first contestant in the same round.
    pub(crate) ratios: Vec<Figure>,
}

impl Rounds {
    fn of(rates: &[Vec<f64>]) -> Self {
        let rates: Vec<Figure> = rates.iter().cloned().map(Figure::of).collect();
        let ratio = |rate: &Figure| rate.over(&rates[0]);
        Self {
            ratios: rates.iter().map(ratio).collect(),
            rates,
        }
    }

    /// Returns whether the rounds of a contestant agree: in its ratio, which what slows both down at a time
    /// leaves alone. The first contestant has only its rate.
    pub(crate) fn is_steady(&self, contestant: usize) -> bool {
        let figures = if contestant == 0 {
            &self.rates
        } else {
            &self.ratios
        };
        figures[contestant].spread() <= STEADY
    }

    fn all_steady(&self) -> bool {
        (0..self.rates.len()).all(|contestant| self.is_steady(contestant))
    }
}

/// Measures `contestants` in turns, in `least` to `most` rounds. Each round begins with another one.
pub(crate) fn measure<E>(
    contestants: usize,
    (least, most): (usize, usize),
    mut one: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Rounds, E> {
    let mut rates = vec![Vec::new(); contestants];
    for round in 1..=most {
        for turn in 0..contestants {
            let contestant = (turn + round - 1) % contestants;
            rates[contestant].push(one(contestant)?);
        }
        if round >= least && Rounds::of(&rates).all_steady() {
            break;
        }
    }
    Ok(Rounds::of(&rates))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn ran(rates: impl Fn(usize, usize) -> f64) -> Rounds {
        let mut rounds = [0; 3];
        let one = |contestant: usize| {
            rounds[contestant] += 1;
            Ok::<_, Infallible>(rates(contestant, rounds[contestant]))
        };
        measure(3, (5, 15), one).expect("nothing fails")
    }

    #[test]
    fn rounds_that_agree_are_enough() {
        let rounds = ran(|contestant, _| 100.0 * (contestant + 1) as f64);
        assert_eq!(rounds.rates[0].rounds.len(), 5);
        assert_eq!(rounds.ratios[2].median, 3.0);
        assert!((0..3).all(|contestant| rounds.is_steady(contestant)));
    }

    #[test]
    fn rounds_that_differ_are_repeated_and_reported() {
        let rounds = ran(|contestant, round| match contestant {
            2 => [100.0, 200.0][round % 2],
            _ => 100.0,
        });
        assert_eq!(rounds.rates[0].rounds.len(), 15);
        assert_eq!(
            [0, 1, 2].map(|contestant| rounds.is_steady(contestant)),
            [true, true, false]
        );
    }

    #[test]
    fn rounds_that_agree_later_end_the_wait() {
        let rounds = ran(|_, round| {
            if round <= 2 {
                50.0 * round as f64
            } else {
                110.0
            }
        });
        assert_eq!(rounds.rates[1].rounds.len(), 7);
    }

    /// A machine that slows down everyone in some rounds leaves the ratios alone, but not the rate.
    #[test]
    fn a_ratio_is_of_one_round() {
        let rounds = ran(|contestant, round| [100.0, 50.0][round % 2] * (contestant + 1) as f64);
        assert_eq!(rounds.ratios[1].spread(), 0.0);
        assert_eq!(
            [0, 1, 2].map(|contestant| rounds.is_steady(contestant)),
            [false, true, true]
        );
    }

    #[test]
    fn everyone_begins_in_turn_and_an_error_ends_it() {
        let mut order = Vec::new();
        let ended = measure(2, (5, 15), |contestant| {
            order.push(contestant);
            if order.len() == 6 {
                Err("broken")
            } else {
                Ok(1.0)
            }
        });
        assert_eq!(ended.expect_err("the sixth fails"), "broken");
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
    }
}
