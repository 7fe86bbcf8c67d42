//! The learning rate: up in a straight line, down along a cosine.

use std::f64::consts::PI;

/// A learning rate as a function of the step alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Rate at the end.
    pub floor: f64,
    /// Steps on the way up.
    pub warmup: u64,
    /// All steps.
    pub total: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub(crate) fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_climbs_falls_and_ends_at_the_floor() {
        let schedule = Schedule { peak: 1.0, floor: 0.1, warmup: 4, total: 14 };
        let rates: Vec<f64> = (0..15).map(|step| schedule.rate(step)).collect();
        assert_eq!(&rates[..5], &[0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((rates[9] - 0.55).abs() < 1e-12 && (rates[14] - 0.1).abs() < 1e-12);
        let short = Schedule { warmup: 0, total: 1, ..schedule };
        assert_eq!(short.rate(0), 1.0);
    }
}
