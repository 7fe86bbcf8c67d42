//! Speed of the kernels at the sizes of SegVol, on two threads: the best of five runs.
//!
//! `cargo run --release -p adaptmedseg-kernels --example attention_speed`

use adaptmedseg_kernels::{AttentionShape, Epilogue, LinearShape, View, attention, gelu_erf, layer_norm, linear};
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    pool.install(|| {
        // (name, heads, queries, keys, channels)
        for (name, heads, queries, keys, dim) in [
            ("image encoder, self-attention", 12, 2048, 2048, 64),
            ("decoder, tokens to image", 8, 10, 2048, 48),
            ("decoder, image to tokens", 8, 2048, 10, 48),
            ("decoder, tokens to tokens", 8, 10, 10, 96),
            ("four times the tokens", 12, 8192, 8192, 64),
            ("long sequence, one head", 1, 1024, 32768, 64),
        ] {
            attention_speed(name, AttentionShape { batch: 1, heads, queries, keys, head_dim: dim, value_dim: dim });
        }
        for (name, inputs, outputs) in
            [("qkv", 768, 2304), ("output projection", 768, 768), ("mlp up", 768, 3072), ("mlp down", 3072, 768)]
        {
            linear_speed(name, LinearShape { rows: 2048, inputs, outputs });
        }
        let (gamma, beta) = (numbers(768), numbers(768));
        let (x, mut out) = (numbers(2048 * 768), numbers(2048 * 768));
        let seconds = best(|| layer_norm(&x, &gamma, &beta, 1e-5, &mut out));
        println!("layer_norm 2048 x 768: {:.2} ms", seconds * 1e3);
        let x = numbers(2048 * 3072);
        let mut out = x.clone();
        let seconds = best(|| gelu_erf(&mut out));
        println!("gelu_erf 2048 x 3072: {:.2} ms", seconds * 1e3);
    });
}

fn attention_speed(name: &str, shape: AttentionShape) {
    let AttentionShape { heads, queries, keys, head_dim, .. } = shape;
    // As the encoder stores them: queries, keys and values of a token side by side.
    let width = 3 * heads * head_dim;
    let strides = [0, head_dim, width, 1];
    let qkv = numbers(queries.max(keys) * width);
    let q = View { data: &qkv, strides };
    let k = View { data: &qkv[heads * head_dim..], strides };
    let v = View { data: &qkv[2 * heads * head_dim..], strides };
    let mut out = vec![0.0; queries * heads * head_dim];
    let seconds = best(|| attention(&shape, q, k, v, (head_dim as f32).powf(-0.5), &mut out));
    let operations = 4.0 * (heads * queries * keys * head_dim) as f64;
    println!(
        "{name}, {heads} x {queries} x {keys} x {head_dim}: {:.3} ms, {:.0} GF/s",
        seconds * 1e3,
        operations / seconds / 1e9
    );
}

fn linear_speed(name: &str, shape: LinearShape) {
    let LinearShape { rows, inputs, outputs } = shape;
    let (x, weight, bias) = (numbers(rows * inputs), numbers(outputs * inputs), numbers(outputs));
    let residual = numbers(rows * outputs);
    let mut out = vec![0.0; rows * outputs];
    for (kind, epilogue) in [("plain", Epilogue::None), ("gelu", Epilogue::Gelu), ("add", Epilogue::Add(&residual))] {
        let seconds = best(|| linear(&shape, &x, &weight, Some(&bias), epilogue, &mut out));
        let operations = 2.0 * (rows * inputs * outputs) as f64;
        println!(
            "{name} {rows} x {inputs} -> {outputs}, {kind}: {:.2} ms, {:.0} GF/s",
            seconds * 1e3,
            operations / seconds / 1e9
        );
    }
}

/// Seconds of the fastest of [`RUNS`] runs, after one that is not counted.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Numbers between -1 and 1 without pattern.
fn numbers(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}
