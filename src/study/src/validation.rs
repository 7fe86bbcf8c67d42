//! How good an adapter is on windows that it has not learned from.

use crate::error::Result;
use crate::run::Validation;
use adaptmedseg_engine::{Trainer, TrainingSample};
use std::collections::BTreeMap;

/// A held-out window with the names of its combinations of prompts.
pub(crate) struct HeldOut {
    pub sample: TrainingSample,
    pub combinations: Vec<&'static str>,
}

/// Loss and Dice over held-out windows; `check` is called before each and can end it.
pub(crate) fn validate(
    trainer: &dyn Trainer,
    windows: &[HeldOut],
    step: u64,
    check: &dyn Fn() -> Result<()>,
) -> Result<Validation> {
    let mut loss = 0.0;
    let mut by_prompt: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for window in windows {
        check()?;
        let evaluation = trainer.evaluate(&window.sample)?;
        loss += evaluation.loss;
        for (name, logits) in window.combinations.iter().zip(&evaluation.logits) {
            by_prompt.entry((*name).to_owned()).or_default().push(dice(logits, &window.sample.target));
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let dice_by_prompt: BTreeMap<String, f64> =
        by_prompt.into_iter().map(|(name, values)| (name, mean(&values))).collect();
    let all: Vec<f64> = dice_by_prompt.values().copied().collect();
    Ok(Validation { step, loss: loss / windows.len().max(1) as f64, dice: mean(&all), dice_by_prompt })
}

/// `2 TP / (P + T)` of the mask where logits are above zero.
pub(crate) fn dice(logits: &[f32], target: &[f32]) -> f64 {
    let (mut both, mut sum) = (0u64, 0u64);
    for (&logit, &target) in logits.iter().zip(target) {
        let (found, there) = (logit > 0.0, target > 0.5);
        both += u64::from(found && there);
        sum += u64::from(found) + u64::from(there);
    }
    if sum == 0 { 1.0 } else { 2.0 * both as f64 / sum as f64 }
}

#[cfg(test)]
mod tests {
    use super::dice;

    #[test]
    fn dice_is_twice_the_overlap_over_the_sum() {
        assert_eq!(dice(&[1.0, 1.0, -1.0, -1.0], &[1.0, 0.0, 1.0, 0.0]), 0.5);
        assert_eq!(dice(&[-1.0, -1.0], &[0.0, 0.0]), 1.0);
    }
}
