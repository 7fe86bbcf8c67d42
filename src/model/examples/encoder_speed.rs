//! Times one pass of the full-size image encoder with the project's kernels against the same pass with Burn's own
//! operations, in turns, in one process.
//!
//! ```text
//! cargo run --release -p adaptmedseg-model --example encoder_speed [THREADS [ROUNDS]]
//! ```
//! Weights are random: the time does not depend on them.

use adaptmedseg_model::Device;
use adaptmedseg_model::config::ImageEncoderConfig;
use adaptmedseg_model::nn::Kernels;
use burn::tensor::{Distribution, Tensor};
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let threads = arguments.next().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let rounds: usize = arguments.next().unwrap_or(5);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| compare(threads, rounds));
}

fn compare(threads: usize, rounds: usize) {
    let config = ImageEncoderConfig::default();
    let device = Device::flex();
    let encoder = config.init(&device);
    let [depth, height, width] = config.image_size;
    let image = Tensor::<5>::random([1, 1, depth, height, width], Distribution::Uniform(0.0, 1.0), &device);
    let run = |kernels: Kernels| {
        let start = Instant::now();
        let out = encoder.forward_with(image.clone(), kernels).into_data().try_into_vec::<f32>().expect("float32");
        (start.elapsed().as_secs_f64(), out)
    };
    let kinds = [Kernels::Fused, Kernels::Burn];
    // The first pass of each draws the weights and warms the caches.
    let [fused, burn] = kinds.map(|kernels| run(kernels).1);
    let difference = fused.iter().zip(&burn).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (times, kernels) in times.iter_mut().zip(kinds) {
            times.push(run(kernels).0);
        }
    }
    let [fused, burn] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("image encoder, {depth}x{height}x{width}, {threads} threads, median of {rounds}:");
    println!("  own kernels {fused:.2} s, Burn's {burn:.2} s: {:.2} times as fast", burn / fused);
    println!("  largest difference of the results {difference:.1e}");
}
