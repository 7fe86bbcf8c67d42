//! Times one pass of the full-size image encoder with the project's kernels against the same pass with Burn's own
//! operations, in turns, in one process.
//!
//! ```text
//! cargo run --release -p adaptmedseg-model --example encoder_speed [THREADS [ROUNDS]]
//! ```
//! Weights are random: the time does not depend on them.

use adaptmedseg_model::checkpoint::expected_tensors;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::nn::Kernels;
use adaptmedseg_model::{Device, RawTensor, SegVol};
use burn::tensor::{DType, Distribution, Tensor};
use std::collections::HashMap;
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let threads = arguments.next().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let rounds: usize = arguments.next().unwrap_or(5);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| compare(threads, rounds));
}

/// The full-size network with random weights, laid out in memory as those of a model folder.
fn random_model(device: &Device) -> SegVol {
    let config = ModelConfig::default();
    let shapes: HashMap<String, Vec<usize>> =
        expected_tensors(&config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let random = std::cell::RefCell::new(&mut random);
    let source = |name: &str| {
        let shape = shapes.get(name)?.clone();
        let scale = if shape.len() > 1 { (12.0 / shape[shape.len() - 1] as f32).sqrt() } else { 1.0 };
        let mut random = random.borrow_mut();
        let bytes: Vec<u8> =
            (0..shape.iter().product::<usize>()).flat_map(|_| (random() * scale).to_le_bytes()).collect();
        Some(RawTensor { dtype: DType::F32, shape, bytes: bytes.into() })
    };
    config.init(device).load(device, source).expect("every tensor the network expects")
}

fn compare(threads: usize, rounds: usize) {
    let config = ModelConfig::default().image_encoder;
    let device = Device::flex();
    let model = random_model(&device);
    let encoder = model.image_encoder();
    let [depth, height, width] = config.image_size;
    let image = Tensor::<5>::random([1, 1, depth, height, width], Distribution::Uniform(0.0, 1.0), &device);
    let run = |kernels: Kernels| {
        let start = Instant::now();
        let out = encoder.forward_with(image.clone(), kernels).into_data().try_into_vec::<f32>().expect("float32");
        (start.elapsed().as_secs_f64(), out)
    };
    let kinds = [Kernels::Fused, Kernels::Burn];
    // The first pass of each warms the caches.
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
