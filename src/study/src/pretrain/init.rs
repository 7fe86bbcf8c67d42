//! The weights a training from scratch begins with.

use crate::phantom::between;
use crate::random::{Use, generator};
use adaptmedseg_model::NamedTensors;
use adaptmedseg_model::checkpoint::expected_tensors;
use adaptmedseg_model::config::ModelConfig;
use rand::Rng;

/// Weights for every tensor of a model, from a seed: norms do nothing, biases are zero, matrices are uniform with the
/// variance that keeps the size of activations (Glorot for attention, He for convolutions), tables of tokens are normal.
pub(crate) fn weights(config: &ModelConfig, seed: u64) -> NamedTensors {
    let tensors = expected_tensors(config).into_iter().enumerate().map(|(index, tensor)| {
        let mut random = generator(seed, Use::Weights, index as u64);
        let count: usize = tensor.shape.iter().product();
        let name = &tensor.name;
        let norm = name.contains("norm") && !name.contains("normal");
        let bound = |fan: f32| (3.0 / fan).sqrt();
        let values: Vec<f32> = if norm {
            vec![if name.ends_with("weight") { 1.0 } else { 0.0 }; count]
        } else if name.ends_with("bias") {
            vec![0.0; count]
        } else if name.contains("gaussian_matrix") {
            normal(count, 1.0, &mut random)
        } else if name.contains("embed") && !name.contains("proj")
            || name.ends_with("token.weight")
            || name.contains("mask_tokens")
        {
            normal(count, if name.contains("text_encoder") { 0.3 } else { 0.1 }, &mut random)
        } else {
            let fan: usize = match tensor.shape[..] {
                // A transposed convolution's taps do not overlap.
                [input, _, 2, 2, 2] => input,
                [_, ref rest @ ..] => rest.iter().product(),
                [] => 1,
            };
            let bound = bound(fan as f32);
            (0..count).map(|_| between(&mut random, -bound, bound)).collect()
        };
        (tensor.name, (tensor.shape, values))
    });
    tensors.collect()
}

fn normal(count: usize, deviation: f32, random: &mut impl Rng) -> Vec<f32> {
    let one = |random: &mut _| -> f32 {
        // Box and Muller.
        let (u, v): (f32, f32) = (between(random, 1e-7, 1.0), between(random, 0.0, std::f32::consts::TAU));
        (-2.0 * u.ln()).sqrt() * v.cos()
    };
    (0..count).map(|_| deviation * one(random)).collect()
}
