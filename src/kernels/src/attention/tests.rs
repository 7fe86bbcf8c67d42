use super::*;
use crate::testing::{max_error, random};

/// The plain formula in double precision, element by element through the views.
fn reference(shape: &AttentionShape, q: View, k: View, v: View, scale: f32) -> Vec<f64> {
    let &AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = shape;
    let at = |view: View, index: [usize; 4]| -> f64 {
        view.data[index.iter().zip(view.strides).map(|(index, stride)| index * stride).sum::<usize>()].into()
    };
    let mut out = vec![0.0; batch * queries * heads * value_dim];
    for (row, out) in out.chunks_exact_mut(value_dim).enumerate() {
        let (b, query, h) = (row / heads / queries, row / heads % queries, row % heads);
        let score = |key| -> f64 {
            let product = |c| at(q, [b, h, query, c]) * at(k, [b, h, key, c]);
            f64::from(scale) * (0..head_dim).map(product).sum::<f64>()
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (c, out) in out.iter_mut().enumerate() {
            *out = weights.iter().enumerate().map(|(key, weight)| weight / sum * at(v, [b, h, key, c])).sum();
        }
    }
    out
}

/// Strides of `[batch, heads, tokens, channels]` without gaps.
fn contiguous([_, heads, tokens, channels]: [usize; 4]) -> [usize; 4] {
    [heads * tokens * channels, tokens * channels, channels, 1]
}

/// Inputs of variance `variance` for a shape, each contiguous.
struct Inputs {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Inputs {
    fn new(shape: AttentionShape, deviation: f32) -> Self {
        let AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = shape;
        let scaled = |count, seed| random(count, seed).iter().map(|x| x * deviation).collect();
        let q = scaled(batch * heads * queries * head_dim, 1);
        let k = scaled(batch * heads * keys * head_dim, 2);
        let v = random(batch * heads * keys * value_dim, 3);
        Self { shape, q, k, v }
    }

    fn views(&self) -> [View<'_>; 3] {
        let AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = self.shape;
        [
            View { data: &self.q, strides: contiguous([batch, heads, queries, head_dim]) },
            View { data: &self.k, strides: contiguous([batch, heads, keys, head_dim]) },
            View { data: &self.v, strides: contiguous([batch, heads, keys, value_dim]) },
        ]
    }

    fn attend(&self, cpu: Cpu, block_keys: usize, scale: f32) -> Vec<f32> {
        let [q, k, v] = self.views();
        let shape = &self.shape;
        // NaN, so that what is not written, or is added to what was there, shows.
        let mut out = vec![f32::NAN; shape.batch * shape.queries * shape.heads * shape.value_dim];
        attention_on(cpu, block_keys, shape, q, k, v, scale, &mut out);
        out
    }
}

fn shape(batch: usize, heads: usize, queries: usize, keys: usize, head_dim: usize, value_dim: usize) -> AttentionShape {
    AttentionShape { batch, heads, queries, keys, head_dim, value_dim }
}

#[test]
fn attention_agrees_with_f64_on_every_instruction_set() {
    for shape in [
        shape(1, 1, 1, 1, 1, 1),
        shape(1, 1, 1, 7, 2, 3),
        shape(2, 3, 5, 1, 8, 4),
        shape(1, 2, 10, 2048, 48, 48),
        shape(1, 2, 2048, 10, 48, 48),
        shape(2, 2, 300, 333, 64, 64),
        shape(1, 1, 513, 1025, 96, 33),
        shape(1, 2, 100, 2100, 13, 96),
        shape(3, 5, 33, 31, 80, 80),
    ] {
        let inputs = Inputs::new(shape, 1.0);
        let scale = (shape.head_dim as f32).powf(-0.5);
        let [q, k, v] = inputs.views();
        let want = reference(&shape, q, k, v, scale);
        for cpu in Cpu::available() {
            // 96: several blocks of keys with a partial last one.
            for block_keys in [BLOCK_KEYS, 96] {
                let error = max_error(&inputs.attend(cpu, block_keys, scale), &want);
                assert!(error < 2e-6, "{cpu:?}, {block_keys} keys a block, {shape:?}: error {error:e}");
            }
        }
    }
}

#[test]
fn projections_are_read_in_place() {
    // [batch, tokens, 3 * heads * dim] for q and k; v transposed, channels before tokens; then k so, too.
    let shape = shape(2, 3, 130, 130, 16, 20);
    let width = 3 * 3 * 16;
    let qkv = random(2 * 130 * width, 1);
    let strides = [130 * width, 16, width, 1];
    let q = View { data: &qkv, strides };
    let k = View { data: &qkv[3 * 16..], strides };
    let values = random(2 * 3 * 20 * 130, 2);
    let v = View { data: &values, strides: [3 * 20 * 130, 20 * 130, 1, 130] };
    let turned = View { data: &values, strides: [3 * 16 * 130, 16 * 130, 1, 130] };
    for k in [k, turned] {
        let mut out = vec![f32::NAN; 2 * 130 * 3 * 20];
        attention(&shape, q, k, v, 0.25, &mut out);
        assert!(max_error(&out, &reference(&shape, q, k, v, 0.25)) < 1e-5);
    }
}

#[test]
fn strides_of_zero_repeat_and_strides_of_single_dimensions_mean_nothing() {
    let shape = shape(1, 4, 9, 40, 8, 8);
    let (queries, keys) = (random(9 * 8, 1), random(4 * 40 * 8, 2));
    let q = View { data: &queries, strides: [usize::MAX, 0, 8, 1] };
    let k = View { data: &keys, strides: [usize::MAX, 320, 8, 1] };
    let mut out = vec![f32::NAN; 9 * 4 * 8];
    attention(&shape, q, k, k, 0.3, &mut out);
    let [q, k] = [q, k].map(|view| View { strides: [0, view.strides[1], view.strides[2], 1], ..view });
    assert!(max_error(&out, &reference(&shape, q, k, k, 0.3)) < 1e-5);

    let single = AttentionShape { queries: 1, keys: 1, head_dim: 1, ..shape };
    let q = View { data: &queries, strides: [usize::MAX, 1, usize::MAX, usize::MAX] };
    let v = View { data: &keys, strides: [usize::MAX, 320, usize::MAX, 1] };
    let mut out = vec![f32::NAN; 4 * 8];
    attention(&single, q, q, v, 0.3, &mut out);
    let want: Vec<f64> = (0..4).flat_map(|h| keys[h * 320..h * 320 + 8].iter().map(|&x| f64::from(x))).collect();
    assert_eq!(max_error(&out, &want), 0.0);
}

#[test]
fn scores_of_hundreds_neither_overflow_nor_vanish() {
    let inputs = Inputs::new(shape(1, 1, 40, 300, 64, 16), 8.0);
    let [q, k, v] = inputs.views();
    // Scores up to about 2000 both ways, so that single keys take nearly all the weight.
    for scale in [1.0, -1.0] {
        let want = reference(&inputs.shape, q, k, v, scale);
        for cpu in Cpu::available() {
            for block_keys in [BLOCK_KEYS, 64] {
                // Scores themselves are rounded to about 1e-4 here.
                let error = max_error(&inputs.attend(cpu, block_keys, scale), &want);
                assert!(error < 2e-3, "{cpu:?}: error {error:e}");
            }
        }
    }
}

/// One query of one channel, 1, so that scores are the keys themselves.
fn attend_to(keys: &[f32], block_keys: usize) -> Vec<f32> {
    let shape = shape(1, 1, 1, keys.len(), 1, 2);
    let v = (0..2 * keys.len()).map(|i| i as f32).collect();
    let inputs = Inputs { shape, q: vec![1.0], k: keys.to_vec(), v };
    let mut outs = Cpu::available().into_iter().map(|cpu| inputs.attend(cpu, block_keys, 1.0));
    let out = outs.next().expect("at least the baseline");
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
    assert!(
        outs.all(|other| other.iter().zip(&out).all(|(&a, &b)| same(a, b))),
        "instruction sets disagree on {keys:?}"
    );
    out
}

#[test]
fn infinite_and_nan_scores_come_out_as_the_formula_has_them() {
    const INF: f32 = f32::INFINITY;
    for block_keys in [BLOCK_KEYS, 2, 1] {
        // -inf has no weight, first, last or for whole blocks.
        for keys in [[-INF, -INF, -INF, 5.0], [5.0, -INF, -INF, -INF], [-INF, -INF, 5.0, -INF]] {
            let only = keys.iter().position(|&k| k == 5.0).expect("one real key") as f32;
            assert_eq!(attend_to(&keys, block_keys), [2.0 * only, 2.0 * only + 1.0], "{keys:?}");
        }
        for keys in [[-INF; 4], [1.0, INF, 2.0, 3.0], [1.0, f32::NAN, 2.0, 3.0], [f32::NAN, -INF, 1.0, 1.0]] {
            assert!(attend_to(&keys, block_keys).iter().all(|x| x.is_nan()), "{keys:?}");
        }
        assert_eq!(attend_to(&[-1e30, 2e38, -2e38, 1e38], block_keys), [2.0, 3.0]);
    }
}

#[test]
fn nan_spoils_only_what_it_reaches() {
    let mut inputs = Inputs::new(shape(1, 1, 4, 50, 8, 8), 1.0);
    inputs.q[8] = f32::NAN;
    let out = inputs.attend(Cpu::detect(), BLOCK_KEYS, 1.0);
    assert!(out[8..16].iter().all(|x| x.is_nan()));
    assert!(out[..8].iter().chain(&out[16..]).all(|x| x.is_finite()));

    let mut inputs = Inputs::new(shape(1, 1, 4, 50, 8, 8), 1.0);
    inputs.v[3] = f32::NAN;
    let out = inputs.attend(Cpu::detect(), BLOCK_KEYS, 1.0);
    assert!(out.iter().enumerate().all(|(i, x)| x.is_nan() == (i % 8 == 3)));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let inputs = Inputs::new(shape(1, 3, 700, 1500, 32, 32), 1.0);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| inputs.attend(Cpu::detect(), BLOCK_KEYS, 0.2))
    };
    assert_eq!(with_threads(1), with_threads(3));
}

#[test]
fn nothing_is_written_for_no_queries() {
    for empty in [shape(0, 1, 1, 1, 1, 1), shape(1, 0, 1, 1, 1, 1), shape(1, 1, 0, 1, 1, 1), shape(1, 1, 1, 1, 1, 0)] {
        let none = View { data: &[], strides: [0; 4] };
        attention(&empty, none, none, none, 1.0, &mut []);
    }
}

#[test]
#[should_panic(expected = "k of shape [1, 1, 3, 4] and strides [12, 12, 4, 1] reaches beyond its 11 elements")]
fn a_view_beyond_its_data_is_refused() {
    let view = View { data: &[0.0; 12], strides: [12, 12, 4, 1] };
    let short = View { data: &view.data[..11], ..view };
    attention(&shape(1, 1, 3, 3, 4, 4), view, short, view, 1.0, &mut [0.0; 12]);
}

#[test]
#[should_panic(expected = "reaches beyond")]
fn strides_that_overflow_are_refused() {
    let view = View { data: &[0.0; 12], strides: [12, 12, 4, 1] };
    let wide = View { strides: [12, 12, usize::MAX / 2 + 1, 1], ..view };
    attention(&shape(1, 1, 3, 3, 4, 4), wide, view, view, 1.0, &mut [0.0; 12]);
}

#[test]
#[should_panic(expected = "out is not [batch, queries, heads * value_dim]")]
fn a_wrong_output_is_refused() {
    let view = View { data: &[0.0; 12], strides: [12, 12, 4, 1] };
    attention(&shape(1, 1, 3, 3, 4, 4), view, view, view, 1.0, &mut [0.0; 13]);
}

#[test]
#[should_panic(expected = "no keys")]
fn attention_to_nothing_is_refused() {
    let view = View { data: &[0.0; 12], strides: [12, 12, 4, 1] };
    attention(&shape(1, 1, 3, 0, 4, 4), view, view, view, 1.0, &mut [0.0; 12]);
}

/// Gradients by q, k and v of the plain formula, in double precision.
fn reference_backward(inputs: &Inputs, scale: f32, grad: &[f32]) -> [Vec<f64>; 3] {
    let AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = inputs.shape;
    let mut of = [inputs.q.len(), inputs.k.len(), inputs.v.len()].map(|length| vec![0.0; length]);
    for item in 0..batch * heads {
        let row = |data: &[f32], tokens: usize, token: usize, width: usize, c: usize| -> f64 {
            data[(item * tokens + token) * width + c].into()
        };
        for query in 0..queries {
            let score = |key: usize| -> f64 {
                (0..head_dim)
                    .map(|c| row(&inputs.q, queries, query, head_dim, c) * row(&inputs.k, keys, key, head_dim, c))
                    .sum::<f64>()
                    * f64::from(scale)
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let weights: Vec<f64> = weights.into_iter().map(|weight| weight / sum).collect();
            let (b, h) = (item / heads, item % heads);
            let grad = &grad[((b * queries + query) * heads + h) * value_dim..][..value_dim];
            let by_weight: Vec<f64> = (0..keys)
                .map(|key| (0..value_dim).map(|c| f64::from(grad[c]) * row(&inputs.v, keys, key, value_dim, c)).sum())
                .collect();
            let mean: f64 = weights.iter().zip(&by_weight).map(|(weight, by)| weight * by).sum();
            for key in 0..keys {
                let by_score = weights[key] * (by_weight[key] - mean) * f64::from(scale);
                for c in 0..head_dim {
                    of[0][(item * queries + query) * head_dim + c] += by_score * row(&inputs.k, keys, key, head_dim, c);
                    of[1][(item * keys + key) * head_dim + c] += by_score * row(&inputs.q, queries, query, head_dim, c);
                }
                for c in 0..value_dim {
                    of[2][(item * keys + key) * value_dim + c] += weights[key] * f64::from(grad[c]);
                }
            }
        }
    }
    of
}

fn backward(inputs: &Inputs, cpu: Cpu, block: usize, scale: f32, out: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
    let mut of = [inputs.q.len(), inputs.k.len(), inputs.v.len()].map(|length| vec![f32::NAN; length]);
    let [q, k, v] = &mut of;
    backward::backward_on(
        cpu,
        block,
        &inputs.shape,
        inputs.views(),
        scale,
        [out, grad],
        AttentionGradients { q, k, v },
    );
    of
}

#[test]
fn gradients_agree_with_f64_on_every_instruction_set() {
    for shape in [
        shape(1, 1, 1, 1, 1, 1),
        shape(2, 3, 5, 7, 8, 4),
        shape(1, 2, 70, 33, 16, 48),
        shape(1, 2, 300, 40, 24, 24),
        shape(2, 1, 9, 600, 48, 48),
    ] {
        let inputs = Inputs::new(shape, 1.0);
        let scale = (shape.head_dim as f32).powf(-0.5);
        let grad = random(shape.batch * shape.queries * shape.heads * shape.value_dim, 4);
        let want = reference_backward(&inputs, scale, &grad);
        for cpu in Cpu::available() {
            let out = inputs.attend(cpu, 512, scale);
            // Blocks of all queries, and of the fewest.
            for block in [1 << 18, 1] {
                for (got, want) in backward(&inputs, cpu, block, scale, &out, &grad).iter().zip(&want) {
                    let largest = want.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
                    let error = max_error(got, want);
                    assert!(error < 2e-5 * largest, "{shape:?} {cpu:?} {block}: {error}");
                }
            }
        }
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let shape = shape(1, 5, 200, 130, 16, 16);
    let inputs = Inputs::new(shape, 1.0);
    let grad = random(5 * 200 * 16, 4);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let out = inputs.attend(Cpu::detect(), 512, 0.25);
            backward(&inputs, Cpu::detect(), 1 << 18, 0.25, &out, &grad)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "the gradient of k")]
fn a_gradient_of_another_length_is_refused() {
    let inputs = Inputs::new(shape(1, 1, 2, 3, 4, 5), 1.0);
    let [q, k, v] = inputs.views();
    let (mut of_q, mut of_k, mut of_v) = (vec![0.0; 8], vec![0.0; 11], vec![0.0; 15]);
    let gradients = AttentionGradients { q: &mut of_q, k: &mut of_k, v: &mut of_v };
    attention_backward(&inputs.shape, q, k, v, 1.0, &[0.0; 10], &[0.0; 10], gradients);
}
