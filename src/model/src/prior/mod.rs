//! Context priors: learned tokens for a modality and a task, fused with the image tokens (Hermes, Gao et al., arXiv
//! 2306.02416). The updated task tokens, the posterior prototypes, steer the masks.
//!
//! Two gates stand between a prior and the network. They start at zero, so that an untrained prior changes nothing at
//! all, and learn with the rest.

mod additive;
mod hermes;

pub use additive::AdditivePrior;
pub use hermes::{FusionBlock, HermesPrior, ModalityHead, PrototypeHead};

use crate::error::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// How tokens and image meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// As the paper does it: cross-attention both ways; prototypes are multiplied with the up-scaled image.
    #[default]
    Hermes,
    /// As the SegVol adaptation does it: one self-attention over all tokens; prototypes are added to the mask tokens.
    Additive,
}

/// Sizes of a context prior, and what its tokens stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriorConfig {
    /// How tokens and image meet.
    pub variant: Variant,
    /// Modalities with tokens of their own; any other shares the tokens of the unknown one.
    pub modalities: Vec<String>,
    /// Tasks with tokens of their own; any other shares the tokens of the unknown one.
    pub tasks: Vec<String>,
    /// Tokens of a modality.
    pub modality_tokens: usize,
    /// Tokens of a task.
    pub task_tokens: usize,
    /// `hermes`: width of the blocks, a multiple of 32. Narrower than the image tokens, these are projected down and the
    /// blocks' update of them up again.
    pub width: usize,
    /// `hermes`: number of blocks.
    pub num_blocks: usize,
}

impl Default for PriorConfig {
    fn default() -> Self {
        Self {
            variant: Variant::Hermes,
            modalities: vec!["CT".into(), "MR".into()],
            tasks: Vec::new(),
            modality_tokens: 10,
            task_tokens: 1,
            width: 192,
            num_blocks: 2,
        }
    }
}

/// What the decoder is given of a prior.
#[derive(Clone, Debug, Default)]
pub struct MaskEffect {
    /// `[1, masks, embed_dim]`, added to the mask tokens after the transformer.
    pub tokens: Option<Tensor<3>>,
    /// `[1, 1, channels]`, added to what each mask's up-scaled image is multiplied with.
    pub weights: Option<Tensor<3>>,
}

/// A window joined with a prior.
#[derive(Clone, Debug)]
pub struct Fused {
    /// `[1, tokens, embed_dim]`: what the decoder takes for the encoder's output.
    pub image: Tensor<3>,
    /// What else the decoder is given.
    pub effect: MaskEffect,
    /// `[1, modalities]`: which modality the modality's tokens look like after they met the image.
    pub modality_logits: Option<Tensor<2>>,
}

/// The learned tokens and what joins them with an image.
#[derive(Module, Debug)]
pub struct ContextPrior {
    hermes: Option<HermesPrior>,
    additive: Option<AdditivePrior>,
    /// How much of the fusion's update reaches the image tokens.
    gate_image: Param<Tensor<1>>,
    /// How much of the prototypes reaches the masks.
    gate_mask: Param<Tensor<1>>,
}

impl PriorConfig {
    /// An untrained prior for image tokens of `embed_dim`, a decoder of `masks` mask tokens and `channels` of the
    /// up-scaled image. Its weights are drawn when first used, unless loaded before.
    pub fn init(&self, embed_dim: usize, masks: usize, channels: usize, device: &Device) -> ContextPrior {
        let hermes = matches!(self.variant, Variant::Hermes);
        ContextPrior {
            hermes: hermes.then(|| HermesPrior::new(self, embed_dim, channels, device)),
            additive: (!hermes).then(|| AdditivePrior::new(self, embed_dim, masks, device)),
            gate_image: Initializer::Zeros.init([1], device),
            gate_mask: Initializer::Zeros.init([1], device),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Names that are empty or said twice, a count of zero, a width that is no multiple of 32.
    pub fn validate(&self) -> Result<()> {
        for (what, names) in [("modality", &self.modalities), ("task", &self.tasks)] {
            for (index, name) in names.iter().enumerate() {
                let twice = names[..index].iter().any(|other| canonical(other) == canonical(name));
                if name.trim().is_empty() || twice {
                    return Err(Error::config(format!("prior: the {what} {name:?} is empty or said twice")));
                }
            }
        }
        let counts = [self.modality_tokens, self.task_tokens, self.num_blocks];
        if counts.contains(&0)
            || counts.iter().any(|&count| count > 1024)
            || self.width == 0
            || !self.width.is_multiple_of(32)
        {
            return Err(Error::config(format!(
                "prior: {} modality tokens, {} task tokens, {} blocks of width {}: counts are from 1 to 1024, the width \
                 is a multiple of 32",
                self.modality_tokens, self.task_tokens, self.num_blocks, self.width
            )));
        }
        Ok(())
    }

    /// Whether a modality has tokens of its own.
    pub fn knows_modality(&self, name: &str) -> bool {
        self.modality_row(Some(name)) < self.modalities.len()
    }

    /// Whether a task has tokens of its own.
    pub fn knows_task(&self, name: &str) -> bool {
        self.task_row(Some(name)) < self.tasks.len()
    }

    /// The row of a modality in the pool; the last one, the learned unknown, for none and for any other.
    pub fn modality_row(&self, name: Option<&str>) -> usize {
        row(&self.modalities, name)
    }

    /// The row of a task in the pool; the last one, the learned unknown, for none and for any other.
    pub fn task_row(&self, name: Option<&str>) -> usize {
        row(&self.tasks, name)
    }
}

fn row(names: &[String], name: Option<&str>) -> usize {
    let found = name.and_then(|name| names.iter().position(|known| canonical(known) == canonical(name)));
    found.unwrap_or(names.len())
}

/// Names are told apart without regard to case, and `MRI` is `MR`.
fn canonical(name: &str) -> String {
    let name = name.trim().to_lowercase();
    if name == "mri" { "mr".into() } else { name }
}

impl ContextPrior {
    /// Joins an encoded window with the tokens of a modality and a task.
    ///
    /// # Shapes
    /// - image: `[1, tokens, embed_dim]`, the image encoder's output
    pub fn forward(&self, image: Tensor<3>, modality_row: usize, task_row: usize) -> Fused {
        let joined = match (&self.hermes, &self.additive) {
            (Some(hermes), _) => hermes.forward(image.clone(), modality_row, task_row),
            (None, Some(additive)) => additive.forward(image.clone(), modality_row, task_row),
            (None, None) => unreachable!("one of the two is made"),
        };
        let gate = |gate: &Param<Tensor<1>>| gate.val().reshape([1, 1, 1]);
        let through = |effect: Option<Tensor<3>>| effect.map(|effect| effect * gate(&self.gate_mask));
        Fused {
            image: image + joined.update * gate(&self.gate_image),
            effect: MaskEffect { tokens: through(joined.tokens), weights: through(joined.weights) },
            modality_logits: joined.modality_logits,
        }
    }

    /// Whether both gates are shut: the prior then changes nothing, and need not be computed. One that learns is never
    /// that.
    pub fn is_identity(&self) -> bool {
        [&self.gate_image, &self.gate_mask].into_iter().all(|gate| {
            let gate = gate.val();
            !gate.is_autodiff() && gate.into_scalar::<f32>() == 0.0
        })
    }

    /// This prior with further modalities and tasks, which start as copies of the unknown one. What it has learned stays.
    ///
    /// # Errors
    /// A configuration that is not the old one with names added at the end of its lists.
    pub fn extended(mut self, old: &PriorConfig, new: &PriorConfig) -> Result<Self> {
        new.validate()?;
        let same = PriorConfig { modalities: old.modalities.clone(), tasks: old.tasks.clone(), ..new.clone() } == *old;
        if !same || !new.modalities.starts_with(&old.modalities) || !new.tasks.starts_with(&old.tasks) {
            return Err(Error::config("prior: modalities and tasks can only be added at the end"));
        }
        let (modalities, tasks) = (new.modalities.len() - old.modalities.len(), new.tasks.len() - old.tasks.len());
        self.hermes = self.hermes.map(|hermes| hermes.extended(modalities, tasks));
        self.additive = self.additive.map(|additive| additive.extended(modalities, tasks));
        Ok(self)
    }
}

/// What a variant makes of an image and its tokens, before the gates.
pub(crate) struct Joined {
    /// What is to be added to the image tokens.
    pub(crate) update: Tensor<3>,
    pub(crate) tokens: Option<Tensor<3>>,
    pub(crate) weights: Option<Tensor<3>>,
    pub(crate) modality_logits: Option<Tensor<2>>,
}

/// Learned tokens: `[rows, tokens, width]`, the last row for what has none of its own.
fn pool(rows: usize, tokens: usize, width: usize, bound: f64, device: &Device) -> Param<Tensor<3>> {
    Initializer::Uniform { min: -bound, max: bound }.init([rows, tokens, width], device)
}

/// The tokens of one row: `[1, tokens, width]`.
fn tokens_of(pool: &Param<Tensor<3>>, row: usize) -> Tensor<3> {
    pool.val().narrow(0, row, 1)
}

/// A pool with `more` rows before the last, copies of it.
fn with_rows(pool: Param<Tensor<3>>, more: usize) -> Param<Tensor<3>> {
    let (id, table, _) = pool.consume();
    let last = table.dims()[0] - 1;
    let unknown = table.clone().narrow(0, last, 1);
    let rows = std::iter::once(table).chain(std::iter::repeat_n(unknown, more)).collect();
    Param::initialized(id, Tensor::cat(rows, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_configuration_is_read_with_defaults_and_refuses_what_it_does_not_know() {
        let config: PriorConfig = serde_json::from_str(r#"{"variant": "additive", "tasks": ["liver"]}"#).expect("JSON");
        assert_eq!((config.variant, config.modality_tokens, config.task_tokens), (Variant::Additive, 10, 1));
        assert!(serde_json::from_str::<PriorConfig>(r#"{"modes": []}"#).is_err());
        for wrong in [
            PriorConfig { width: 100, ..PriorConfig::default() },
            PriorConfig { task_tokens: 0, ..PriorConfig::default() },
            PriorConfig { modalities: names(&["MR", "mri"]), ..PriorConfig::default() },
            PriorConfig { tasks: names(&[""]), ..PriorConfig::default() },
        ] {
            assert!(wrong.validate().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_rows_and_the_last_row_is_for_all_others() {
        let config = PriorConfig { tasks: names(&["liver", "Prostate"]), ..PriorConfig::default() };
        assert_eq!(
            [config.modality_row(Some("mri")), config.modality_row(Some("CT ")), config.modality_row(None)],
            [1, 0, 2]
        );
        assert_eq!([config.task_row(Some("prostate")), config.task_row(Some("spine"))], [1, 2]);
    }

    #[test]
    fn any_number_of_tokens_and_any_width_fit_the_decoder() {
        let device = Device::flex();
        let image = Tensor::<3>::random([1, 12, 64], Distribution::Normal(0.0, 1.0), &device);
        for variant in [Variant::Hermes, Variant::Additive] {
            for (task_tokens, modality_tokens, width) in [(1, 10, 32), (3, 1, 64), (2, 2, 96)] {
                let config = PriorConfig { variant, task_tokens, modality_tokens, width, ..PriorConfig::default() };
                let fused = config.init(64, 4, 24, &device).forward(image.clone(), 1, 0);
                assert_eq!(fused.image.dims(), [1, 12, 64]);
                let effect = fused.effect;
                assert_eq!(
                    effect.tokens.map(|tokens| tokens.dims()),
                    (variant == Variant::Additive).then_some([1, 4, 64])
                );
                assert_eq!(
                    effect.weights.map(|weights| weights.dims()),
                    (variant == Variant::Hermes).then_some([1, 1, 24])
                );
            }
        }
    }

    #[test]
    fn a_pool_grows_at_its_end_only() {
        let device = Device::flex();
        let old = PriorConfig { tasks: names(&["liver", "spine"]), ..PriorConfig::default() };
        let grow = |new: PriorConfig| old.init(64, 4, 24, &device).extended(&old, &new).map(|_| ());
        assert!(grow(PriorConfig { tasks: names(&["liver", "spine", "heart"]), ..old.clone() }).is_ok());
        assert!(grow(PriorConfig { tasks: names(&["spine", "liver"]), ..old.clone() }).is_err());
        assert!(grow(PriorConfig { tasks: names(&["liver"]), ..old.clone() }).is_err());
        assert!(grow(PriorConfig { width: 64, ..old.clone() }).is_err());
    }
}
