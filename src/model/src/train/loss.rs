//! What training minimises: the original's Dice and cross-entropy, and Hermes' adaptive Dice.
//!
//! All of it in float32, and in forms that neither overflow nor take the logarithm of zero.

use burn::tensor::{Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

/// What a window's loss is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// The original's: Dice for each depth slice, and cross-entropy (quirks 49 and 50).
    #[default]
    #[serde(rename = "segvol")]
    SegVol,
    /// Hermes': one Dice over the window that weighs false positives and negatives by how many there are, and
    /// cross-entropy.
    AdaptiveDice,
    /// One soft Dice over the window, and cross-entropy.
    Volume,
}

/// The loss of one window.
#[derive(Clone, Debug)]
pub struct WindowLoss {
    /// `[1]`, with its graph: Dice loss and cross-entropy together.
    pub total: Tensor<1>,
    /// `[1]`, outside autodiff: the Dice loss alone. Reading it waits for the device.
    pub dice: Tensor<1>,
    /// The cross-entropy alone, likewise.
    pub bce: Tensor<1>,
}

/// The loss of a window, or the mean of those of several.
///
/// # Shapes
/// - logits, target: `[batch, 1, D, H, W]`, targets from 0 to 1
pub fn window_loss(kind: LossKind, logits: Tensor<5>, target: Tensor<5>) -> WindowLoss {
    let [batch, _, depth, height, width] = logits.dims();
    let shape = match kind {
        LossKind::SegVol => [batch * depth, height * width],
        LossKind::AdaptiveDice | LossKind::Volume => [batch, depth * height * width],
    };
    let (logits, target) = (logits.reshape(shape), target.reshape(shape));
    let dice = match kind {
        LossKind::SegVol | LossKind::Volume => dice_loss(logits.clone(), target.clone()),
        LossKind::AdaptiveDice => adaptive_dice(logits.clone(), target.clone()).mean(),
    };
    let bce = bce_loss(logits, target).mean();
    let value = |loss: &Tensor<1>| loss.clone().without_autodiff();
    WindowLoss { dice: value(&dice), bce: value(&bce), total: dice + bce }
}

/// `1 - 2 sum(p t) / (sum p + sum t + 1)` of each row, averaged over the rows: for one window a row is a depth slice, so
/// an empty slice costs 1 (quirk 50). A target of -1 counts as 0.
///
/// # Shapes
/// - logits, target: `[rows, voxels]`
/// - output: `[1]`
pub fn dice_loss(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let (p, t) = (activation::sigmoid(logits), target.clamp_min(0.0));
    let both = (p.clone() * t.clone()).sum_dim(1) * 2.0;
    let either = p.sum_dim(1) + t.sum_dim(1) + 1.0;
    (both / either * -1.0 + 1.0).mean()
}

/// Binary cross-entropy of each row, averaged over its voxels. A target of -1 counts as 0.
///
/// # Shapes
/// - logits, target: `[rows, voxels]`
/// - output: `[rows]`
pub fn bce_loss(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let target = target.clamp_min(0.0);
    let magnitude = logits.clone().abs();
    // Half of x + |x| is max(x, 0) with the right gradient at zero.
    let positive = (logits.clone() + magnitude.clone()) * 0.5;
    let loss = positive - logits * target + (magnitude * -1.0).exp().log1p();
    loss.mean_dim(1).squeeze_dim(1)
}

/// Hermes' Dice loss of each row: `1 - TP / (TP + a FP + (1 - a) FN)`, where a is the share of false positives among the
/// errors, from 0.2 to 0.8. The gradient goes through a.
///
/// # Shapes
/// - logits, target: `[rows, voxels]`
/// - output: `[rows]`
pub fn adaptive_dice(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    const SMOOTH: f64 = 1e-6;
    let (p, t) = (activation::sigmoid(logits), target.clamp_min(0.0));
    let (not_p, not_t) = (p.clone() * -1.0 + 1.0, t.clone() * -1.0 + 1.0);
    let true_positive = (p.clone() * t.clone()).sum_dim(1);
    let false_positive = (p * not_t).sum_dim(1);
    let false_negative = (not_p * t).sum_dim(1);
    let alpha = false_positive.clone() / (false_positive.clone() + false_negative.clone() + SMOOTH);
    let alpha = alpha.clamp(0.2, 0.8);
    let beta = alpha.clone() * -1.0 + 1.0;
    let errors = alpha * false_positive + beta * false_negative;
    (true_positive.clone() / (true_positive + errors + SMOOTH) * -1.0 + 1.0).squeeze_dim(1)
}

/// Cross-entropy of the modality, averaged over the rows whose modality is known; 0 where none is.
///
/// # Shapes
/// - logits: `[rows, modalities]`
/// - output: `[1]`
pub fn modality_loss(logits: Tensor<2>, modalities: &[Option<usize>]) -> Tensor<1> {
    let device = logits.device();
    let known: Vec<(usize, usize)> =
        modalities.iter().enumerate().filter_map(|(row, modality)| Some((row, (*modality)?))).collect();
    if known.is_empty() {
        return Tensor::zeros([1], &device);
    }
    let indices = |pick: fn(&(usize, usize)) -> usize| -> Tensor<1, Int> {
        let values: Vec<i64> = known.iter().map(|pair| pick(pair) as i64).collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &device)
    };
    let rows = activation::log_softmax(logits, 1).select(0, indices(|pair| pair.0));
    let targets = indices(|pair| pair.1).unsqueeze_dim::<2>(1);
    rows.gather(1, targets).mean() * -1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn row(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &Device::flex())
    }

    #[test]
    fn cross_entropy_is_right_at_zero_and_far_from_it() {
        let logits = row(&[0.0, 0.0, 200.0, -200.0, 200.0]).autodiff().require_grad();
        let loss = bce_loss(logits.clone(), row(&[1.0, 0.0, 1.0, 1.0, -1.0])).sum();
        let value = loss.clone().without_autodiff().into_scalar::<f32>();
        assert!((value - (2.0 * 2f32.ln() + 400.0) / 5.0).abs() < 1e-4, "{value}");
        let gradient = logits.grad(&loss.backward()).expect("it was used") * 5.0;
        let gradient = gradient.into_data().try_into_vec::<f32>().expect("float32");
        assert_eq!(gradient, [-0.5, 0.5, 0.0, -1.0, 1.0]);
    }

    #[test]
    fn a_window_without_the_structure_has_a_finite_loss() {
        for kind in [LossKind::SegVol, LossKind::AdaptiveDice, LossKind::Volume] {
            let zeros = Tensor::<5>::zeros([1, 1, 2, 3, 4], &Device::flex());
            let loss = window_loss(kind, zeros.clone() - 50.0, zeros);
            let [dice, bce] = [loss.dice, loss.bce].map(Tensor::into_scalar::<f32>);
            assert!(dice.is_finite() && bce.abs() < 1e-6, "{kind:?}: {dice} {bce}");
            let ones = Tensor::<5>::ones([1, 1, 2, 3, 4], &Device::flex());
            let loss = window_loss(kind, ones.clone() * 50.0, ones);
            let [dice, bce] = [loss.dice, loss.bce].map(Tensor::into_scalar::<f32>);
            assert!(dice < 0.05 && bce < 1e-6, "{kind:?}: {dice} {bce}");
        }
    }
}
