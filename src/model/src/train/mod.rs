//! Learning: losses, gradients, the optimiser.

mod learner;
mod loss;
mod optimiser;

pub use learner::{Learner, LearnerConfig, Losses, Sample};
pub use loss::{LossKind, WindowLoss, adaptive_dice, bce_loss, dice_loss, modality_loss, window_loss};
pub use optimiser::OptimiserConfig;
