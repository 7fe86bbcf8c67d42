//! What a sample asks of the weights: forward through encoder, context prior and decoder, and back, stage by stage.

use super::super::loss::{modality_loss, window_loss};
use super::{Learner, Sample};
use crate::adapter::Weights;
use crate::error::Result;
use crate::nn::Kernels;
use crate::parameters::{self, NamedGradients};
use crate::prior::MaskEffect;
use crate::segvol::{Prompts, SegVol};
#[cfg(feature = "flex")]
use burn::tensor::Device;
use burn::tensor::Tensor;

/// The network of one step, its learning weights leaves of the autodiff graph.
pub(super) struct Tape {
    network: SegVol,
    weights: Option<Weights>,
    /// The same network outside autodiff, for passes that leave no trace.
    plain: SegVol,
}

impl Tape {
    /// Goes back from `loss`: adds the gradients of everything that learns to `sums`, and returns those of `leaves`.
    fn back<const N: usize>(
        &self,
        loss: Tensor<1>,
        leaves: [&Tensor<3>; N],
        sums: &mut NamedGradients,
    ) -> [Tensor<3>; N] {
        let mut gradients = loss.backward();
        parameters::collect(&self.network, &mut gradients, sums);
        if let Some(weights) = &self.weights {
            parameters::collect(weights, &mut gradients, sums);
        }
        leaves.map(|leaf| {
            leaf.grad_remove(&mut gradients).unwrap_or_else(|| leaf.clone().without_autodiff().zeros_like())
        })
    }
}

/// A leaf of the autodiff graph with these values.
fn leaf(tensor: Tensor<3>) -> Tensor<3> {
    tensor.without_autodiff().autodiff().require_grad()
}

/// A number whose gradient by `output` is `gradient`.
fn pull(output: Tensor<3>, gradient: Tensor<3>) -> Tensor<1> {
    (output * gradient).sum()
}

impl Learner {
    pub(super) fn tape(&self) -> Result<Tape> {
        let base = if self.config.base.is_empty() {
            self.base.clone()
        } else {
            parameters::tracked(self.base.clone(), |name| self.learns(name))
        };
        let Some(adapter) = &self.adapter else {
            return Ok(Tape { network: base, weights: None, plain: self.base.clone() });
        };
        let weights = parameters::tracked(adapter.weights().clone(), |_| true);
        let network = base.with_whole_adapter(&adapter.with_weights(weights.clone()))?;
        Ok(Tape { network, weights: Some(weights), plain: self.base.with_whole_adapter(adapter)? })
    }

    pub(super) fn add_gradients(&self, tape: &Tape, sample: &Sample, sums: &mut NamedGradients) -> Pending {
        let encoder_learns = self.encoder_learns() && sample.embedding.is_none();
        let encoder = tape.plain.image_encoder();
        let encoded = match &sample.embedding {
            Some(embedding) => Encoded { output: embedding.clone(), stages: Vec::new() },
            None if !encoder_learns => Encoded { output: encoder.forward(sample.image.clone()), stages: Vec::new() },
            None if self.config.gradient_checkpointing => {
                let stages = encoder.hidden_states(sample.image.clone());
                let last = stages.last().expect("the embedding at least").clone();
                Encoded { output: encoder.final_norm(last), stages }
            }
            None => Encoded { output: tape.network.image_encoder().forward(sample.image.clone()), stages: Vec::new() },
        };
        let embedding = encoded.output.clone();
        let embedding = if encoder_learns { leaf(embedding) } else { embedding.without_autodiff() };

        let fused = tape.network.fuse(embedding.clone(), &sample.context);
        let cut = |tensor: &Tensor<3>| if tensor.is_tracked() { leaf(tensor.clone()) } else { tensor.clone() };
        let image = cut(&fused.image);
        let effect = MaskEffect {
            tokens: fused.effect.tokens.as_ref().map(cut),
            weights: fused.effect.weights.as_ref().map(cut),
        };
        let mut asked = Asked::default();
        let mut losses = Pending::default();
        for prompts in &sample.prompts {
            let masks = tape.network.decode(image.clone(), self.model.image_encoder.grid(), prompts, &effect);
            let logits = SegVol::upsample(masks.low_res, self.model.image_encoder.image_size);
            let loss = window_loss(self.config.loss, logits, sample.target.clone());
            losses.parts.push([loss.dice, loss.bce]);
            if !loss.total.is_tracked() {
                continue;
            }
            let nothing = image.clone();
            let [by_image, by_tokens, by_weights] = tape.back(
                loss.total,
                [&image, effect.tokens.as_ref().unwrap_or(&nothing), effect.weights.as_ref().unwrap_or(&nothing)],
                sums,
            );
            asked.add(
                by_image,
                effect.tokens.is_some().then_some(by_tokens),
                effect.weights.is_some().then_some(by_weights),
            );
        }

        // Back through the prior.
        let mut outputs: Vec<Tensor<1>> = Vec::new();
        if fused.image.is_tracked() && tape.network.has_prior() {
            outputs.extend(asked.image.clone().map(|gradient| pull(fused.image.clone(), gradient)));
        }
        for (output, gradient) in [(&fused.effect.tokens, asked.tokens), (&fused.effect.weights, asked.weights)] {
            if let (Some(output), Some(gradient)) = (output, gradient) {
                outputs.push(pull(output.clone(), gradient));
            }
        }
        if self.config.modality_loss_weight > 0.0
            && let (Some(logits), Some(row)) = (fused.modality_logits, self.modality_target(&sample.context))
        {
            let loss = modality_loss(logits, &[Some(row)]);
            losses.modality = Some(loss.clone().without_autodiff());
            outputs.push(loss * self.config.modality_loss_weight);
        }
        let mut by_embedding = asked.image;
        if let Some(loss) = outputs.into_iter().reduce(|a, b| a + b) {
            let [gradient] = tape.back(loss, [&embedding], sums);
            by_embedding = Some(gradient);
        }
        if let (true, Some(gradient)) = (encoder_learns, by_embedding) {
            self.back_through_encoder(tape, sample, encoded, gradient, sums);
        }
        losses
    }

    /// Whether the samples of a step can be one batch, on a device that gains by it.
    pub(super) fn as_batch(&self, samples: &[Sample]) -> bool {
        #[cfg(feature = "flex")]
        if self.device.clone().without_autodiff() == Device::flex() {
            return false;
        }
        let alone = |sample: &Sample| sample.prompts.len() == 1 && sample.embedding.is_none();
        self.config.parallel_samples && self.adapter.is_none() && samples.iter().all(alone)
    }

    /// The mean losses of samples as one batch; adds the sum of their gradients.
    pub(super) fn add_batch_gradients(&self, tape: &Tape, samples: &[Sample], sums: &mut NamedGradients) -> Pending {
        // Prompts of one kind side by side.
        let mut samples: Vec<&Sample> = samples.iter().collect();
        samples.sort_by_key(|sample| sample.prompts[0].kind());
        let all = |part: fn(&Sample) -> &Tensor<5>| {
            Tensor::cat(samples.iter().map(|sample| part(sample).clone()).collect(), 0)
        };
        let prompts: Vec<&Prompts> = samples.iter().map(|sample| &sample.prompts[0]).collect();
        let size = &self.model.image_encoder;
        let image = tape.network.image_encoder().forward(all(|sample| &sample.image));
        let masks = tape.network.decode_batch(image, size.grid(), &prompts, &MaskEffect::default());
        let logits = SegVol::upsample(masks.low_res, size.image_size);
        let loss = window_loss(self.config.loss, logits, all(|sample| &sample.target));
        if loss.total.is_tracked() {
            let [] = tape.back(loss.total * samples.len() as f64, [], sums);
        }
        Pending { parts: vec![[loss.dice, loss.bce]], modality: None, samples: samples.len() }
    }

    fn back_through_encoder(
        &self,
        tape: &Tape,
        sample: &Sample,
        encoded: Encoded,
        gradient: Tensor<3>,
        sums: &mut NamedGradients,
    ) {
        let Encoded { output, mut stages } = encoded;
        let Some(last) = stages.pop() else {
            let [] = tape.back(pull(output, gradient), [], sums);
            return;
        };
        let encoder = tape.network.image_encoder();
        let input = leaf(last);
        let [mut gradient] = tape.back(pull(encoder.final_norm(input.clone()), gradient), [&input], sums);
        for (block, stage) in encoder.blocks().iter().zip(stages).rev() {
            let input = leaf(stage);
            let output = block.forward(input.clone(), Kernels::default());
            [gradient] = tape.back(pull(output, gradient), [&input], sums);
        }
        let embedded = encoder.patch_embedding().forward(sample.image.clone());
        if embedded.is_tracked() {
            let [] = tape.back(pull(embedded, gradient), [], sums);
        }
    }
}

/// The encoder's output.
struct Encoded {
    /// With its graph, unless there are stages.
    output: Tensor<3>,
    /// The input of every block and of the final norm, where the graph is made again on the way back.
    stages: Vec<Tensor<3>>,
}

/// The losses of a sample, or the mean ones of several, still on the device: what follows is handed to it without waiting
/// for them.
pub(super) struct Pending {
    /// How many there are.
    pub(super) samples: usize,
    /// Dice loss and cross-entropy of each combination of prompts.
    pub(super) parts: Vec<[Tensor<1>; 2]>,
    pub(super) modality: Option<Tensor<1>>,
}

impl Default for Pending {
    /// Of one sample, without any yet.
    fn default() -> Self {
        Self { samples: 1, parts: Vec::new(), modality: None }
    }
}

/// What the decoder asks of its inputs: gradients, added up over the combinations of prompts.
#[derive(Default)]
struct Asked {
    image: Option<Tensor<3>>,
    tokens: Option<Tensor<3>>,
    weights: Option<Tensor<3>>,
}

impl Asked {
    fn add(&mut self, image: Tensor<3>, tokens: Option<Tensor<3>>, weights: Option<Tensor<3>>) {
        let sum = |sum: &mut Option<Tensor<3>>, more: Option<Tensor<3>>| {
            *sum = match (sum.take(), more) {
                (Some(sum), Some(more)) => Some(sum + more),
                (sum, more) => sum.or(more),
            };
        };
        sum(&mut self.image, Some(image));
        sum(&mut self.tokens, tokens);
        sum(&mut self.weights, weights);
    }
}
