//! Speed of the convolution and its gradients on the volumes of the dense prompt path, in GFLOP/s:
//! `cargo run --release -p adaptmedseg-kernels --example conv3_speed`.

use adaptmedseg_kernels::{Conv3Shape, conv3, conv3_input_gradient, conv3_weight_gradient};
use std::time::Instant;

/// The fastest of several runs, as GFLOP/s.
fn speed(flops: f64, mut run: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let best = (0..10).map(|_| time(&mut run)).fold(f64::INFINITY, f64::min);
    flops / best / 1e9
}

fn main() {
    for (edge, inputs, outputs) in [(48, 8, 16), (48, 16, 16), (24, 32, 32), (12, 64, 64)] {
        let shape = Conv3Shape { size: [edge; 3], inputs, outputs };
        let voxels = edge * edge * edge;
        let flops = 2.0 * (voxels * 27 * inputs * outputs) as f64;
        let (x, grad) = (vec![0.5; voxels * inputs], vec![0.5; voxels * outputs]);
        let mut weight = vec![0.1; 27 * inputs * outputs];
        let (mut y, mut by_x, mut by_bias) = (grad.clone(), x.clone(), vec![0.0; outputs]);
        let forward = speed(flops, || conv3(&shape, &x, &weight, None, &mut y));
        let input = speed(flops, || conv3_input_gradient(&shape, &grad, &weight, &mut by_x));
        let weights = speed(flops, || conv3_weight_gradient(&shape, &x, &grad, &mut weight, &mut by_bias));
        println!("{edge}^3, {inputs:2} -> {outputs}: forward {forward:5.0}, input {input:5.0}, weights {weights:5.0}");
    }
}
