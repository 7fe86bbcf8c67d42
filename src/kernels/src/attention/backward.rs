//! The gradient of attention, without the whole score matrix: weights are computed again, block by block (Dao et al.,
//! arXiv 2205.14135, algorithm 4).
//!
//! A task is one head. It walks over blocks of queries; a block's weights against all keys are one matrix, so that a
//! row's softmax is whole and needs no correction.

use super::{AttentionShape, SERIAL_WORK, View, exp2_and_sum, max_of, scale_row};
use crate::cpu::{Cpu, Kernel, LANES};
use crate::math::sum_lanes;
use crate::matrix::{Matrix, Rows};
use rayon::prelude::*;
use std::cell::Cell;

/// Scores of one block: 1 MiB, as in the forward pass.
const BLOCK_SCORES: usize = 1 << 18;
/// Most queries of a block.
const MOST_QUERIES: usize = 512;
/// Fewest, however many keys there are: below this a matrix product is slow.
const FEWEST_QUERIES: usize = 32;

/// Where [`attention_backward`] writes, contiguous; what was there before does not matter.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// `[batch, heads, queries, head_dim]`
    pub q: &'a mut [f32],
    /// `[batch, heads, keys, head_dim]`
    pub k: &'a mut [f32],
    /// `[batch, heads, keys, value_dim]`
    pub v: &'a mut [f32],
}

/// The gradients of [`attention`](super::attention) by its three operands.
///
/// # Shapes
/// - q, k, v, shape, scale: those of the forward pass
/// - out, grad: `[batch, queries, heads * value_dim]`, contiguous: what the forward pass gave, and the gradient by it
///
/// # Panics
/// As [`attention`](super::attention), and if one of the slices has another length than its shape.
#[expect(clippy::too_many_arguments, reason = "those of the forward pass, its result, and the gradients")]
pub fn attention_backward(
    shape: &AttentionShape,
    q: View,
    k: View,
    v: View,
    scale: f32,
    out: &[f32],
    grad: &[f32],
    gradients: AttentionGradients,
) {
    backward_on(Cpu::detect(), BLOCK_SCORES, shape, [q, k, v], scale, [out, grad], gradients);
}

pub(super) fn backward_on(
    cpu: Cpu,
    block_scores: usize,
    shape: &AttentionShape,
    [q, k, v]: [View; 3],
    scale: f32,
    [out, grad]: [&[f32]; 2],
    gradients: AttentionGradients,
) {
    let &AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = shape;
    assert!(keys > 0 && head_dim > 0, "attention: {shape:?} has no keys or no channels to compare");
    let length = |sizes: [usize; 4]| sizes.into_iter().try_fold(1usize, |all, size| all.checked_mul(size));
    let check = |name: &str, found: usize, sizes: [usize; 4]| {
        assert_eq!(Some(found), length(sizes), "attention: the length of {name} for {shape:?}");
    };
    check("out", out.len(), [batch, queries, heads, value_dim]);
    check("its gradient", grad.len(), [batch, queries, heads, value_dim]);
    check("the gradient of q", gradients.q.len(), [batch, heads, queries, head_dim]);
    check("the gradient of k", gradients.k.len(), [batch, heads, keys, head_dim]);
    check("the gradient of v", gradients.v.len(), [batch, heads, keys, value_dim]);
    if out.is_empty() {
        gradients.q.fill(0.0);
        gradients.k.fill(0.0);
        gradients.v.fill(0.0);
        return;
    }
    q.check("q", [batch, heads, queries, head_dim]);
    k.check("k", [batch, heads, keys, head_dim]);
    v.check("v", [batch, heads, keys, value_dim]);

    let width = heads * value_dim;
    let block_queries = (block_scores / keys).clamp(FEWEST_QUERIES, MOST_QUERIES);
    let of_q = gradients.q.par_chunks_exact_mut(queries * head_dim);
    let of_k = gradients.k.par_chunks_exact_mut(keys * head_dim);
    let of_v = gradients.v.par_chunks_exact_mut(keys * value_dim);
    let serial = queries.saturating_mul(keys).saturating_mul(batch * heads * (head_dim + value_dim)) < SERIAL_WORK;
    let together = if serial { batch * heads } else { 1 };
    let tasks = of_q.zip(of_k).zip(of_v).enumerate().with_min_len(together).with_max_len(together);
    tasks.for_each(|(index, ((of_q, of_k), of_v))| {
        let (item, head) = (index / heads, index % heads);
        let start = item * queries * width + head * value_dim;
        // SAFETY: `check` has shown that these operands hold [queries, head_dim], [keys, head_dim] and
        // [keys, value_dim] elements for every item and head.
        let [q, k, v] = unsafe { [q.matrix(item, head, 0), k.matrix(item, head, 0), v.matrix(item, head, 0)] };
        let head = Head { q, k, v, queries, keys, head_dim, value_dim, scale, width, block_queries };
        head.backward(cpu, &out[start..], &grad[start..], AttentionGradients { q: of_q, k: of_k, v: of_v });
    });
}

/// One head.
struct Head {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    scale: f32,
    /// Elements between rows of the output.
    width: usize,
    block_queries: usize,
}

thread_local! {
    /// Weights and their gradients, kept from task to task.
    static BLOCKS: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

impl Head {
    /// `out` and `grad` start at this head's first element.
    fn backward(&self, cpu: Cpu, out: &[f32], grad: &[f32], gradients: AttentionGradients) {
        let [mut weights, mut scores] = BLOCKS.take();
        let stride = self.keys.next_multiple_of(LANES);
        let most = self.block_queries.min(self.queries);
        for block in [&mut weights, &mut scores] {
            if block.len() < most * stride {
                block.resize(most * stride, 0.0);
            }
        }
        let mut of_k = Rows::from_slice(gradients.k, self.keys, self.head_dim, self.head_dim);
        let mut of_v = Rows::from_slice(gradients.v, self.keys, self.value_dim, self.value_dim);
        for first in (0..self.queries).step_by(self.block_queries) {
            let rows = self.block_queries.min(self.queries - first);
            let (out, grad) = (&out[first * self.width..], &grad[first * self.width..]);
            // SAFETY: `first < queries` of the head.
            let q = unsafe { self.q.skip_rows(first) };
            let of_out = Matrix { data: grad.as_ptr(), row_stride: self.width, column_stride: 1 };

            let mut block = Rows::from_slice(&mut weights, rows, self.keys, stride);
            // SAFETY: `q` from `first` on holds `rows`, `k` holds `keys` rows of `head_dim`; weights are this thread's.
            unsafe {
                let scale = self.scale * std::f32::consts::LOG2_E;
                block.product(self.head_dim, q, self.k.transposed(), scale, false);
            }
            cpu.run(Softmax { scores: &mut weights, rows, keys: self.keys, stride });
            let softmax = Matrix { data: weights.as_ptr(), row_stride: stride, column_stride: 1 };
            // SAFETY: weights are `rows` of `keys`, the gradient has `rows` of `value_dim`.
            unsafe { of_v.product(rows, softmax.transposed(), of_out, 1.0, first > 0) };

            let mut block = Rows::from_slice(&mut scores, rows, self.keys, stride);
            // SAFETY: the gradient has `rows`, `v` has `keys` rows of `value_dim`; scores are this thread's.
            unsafe { block.product(self.value_dim, of_out, self.v.transposed(), 1.0, false) };
            cpu.run(ScoreGradient { weights: &weights, scores: &mut scores, out, grad, rows, stride, head: self });
            let of_scores = Matrix { data: scores.as_ptr(), row_stride: stride, column_stride: 1 };
            let of_q = &mut gradients.q[first * self.head_dim..];
            let mut of_q = Rows::from_slice(of_q, rows, self.head_dim, self.head_dim);
            // SAFETY: scores are `rows` of `keys`; `k` has `keys`, `q` from `first` on `rows` rows of `head_dim`.
            unsafe {
                of_q.product(self.keys, of_scores, self.k, 1.0, false);
                of_k.product(rows, of_scores.transposed(), q, 1.0, first > 0);
            }
        }
        BLOCKS.set([weights, scores]);
    }
}

/// Turns scores, in units of log 2, into weights.
struct Softmax<'a> {
    scores: &'a mut [f32],
    rows: usize,
    keys: usize,
    stride: usize,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for scores in self.scores.chunks_exact_mut(self.stride).take(self.rows) {
            scores[self.keys..].fill(f32::NEG_INFINITY);
            let (blocks, _) = scores.as_chunks_mut::<LANES>();
            let max = max_of(blocks);
            let sum = exp2_and_sum::<FMA>(blocks, if max == f32::NEG_INFINITY { 0.0 } else { max });
            scale_row(scores, 1.0 / sum);
        }
    }
}

/// From the gradient by the weights to that by the scores: `w (g - sum(out * grad)) * scale`, row by row.
struct ScoreGradient<'a> {
    weights: &'a [f32],
    scores: &'a mut [f32],
    out: &'a [f32],
    grad: &'a [f32],
    rows: usize,
    stride: usize,
    head: &'a Head,
}

impl Kernel for ScoreGradient<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Head { keys, value_dim, width, scale, .. } = *self.head;
        for row in 0..self.rows {
            let (out, grad) = (&self.out[row * width..][..value_dim], &self.grad[row * width..][..value_dim]);
            let mut lanes = [0.0; LANES];
            for (index, (a, b)) in out.iter().zip(grad).enumerate() {
                lanes[index % LANES] += a * b;
            }
            let all = sum_lanes(lanes);
            let weights = &self.weights[row * self.stride..][..keys];
            let scores = &mut self.scores[row * self.stride..][..keys];
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score = weight * (*score - all) * scale;
            }
        }
    }
}
