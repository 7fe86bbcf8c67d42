//! Random numbers that depend on a seed and a number alone, on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random numbers are for: each use has a sequence of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// The samples of a training step.
    Step,
    /// The order of the volumes in an epoch.
    Epoch,
    /// The samples of the validation.
    Validation,
    /// Which subjects are held out.
    Split,
    /// A phantom.
    Phantom,
    /// The weights a training from scratch begins with.
    Weights,
    /// The resampling of a confidence interval.
    Bootstrap,
    /// The prompts of an evaluation.
    Prompt,
    /// A controlled shift of an image.
    Shift,
    /// Which structures of a phantom an atlas takes.
    Atlas,
    /// How a phantom looks to the bodies that are fitted to it.
    Fit,
}

/// The generator for number `index` of a use.
pub(crate) fn generator(seed: u64, purpose: Use, index: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(((purpose as u64) << 56) | (index & ((1 << 56) - 1)));
    random
}

/// The numbers below `count` in random order.
pub(crate) fn shuffled(count: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.random_range(0..=last));
    }
    order
}

/// A number for names, the same on every machine (FNV-1a; 56 bits): the index of a generator that belongs to them.
pub(crate) fn number_of(names: &[&str]) -> u64 {
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 8
}
