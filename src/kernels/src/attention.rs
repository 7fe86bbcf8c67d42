//! Scaled dot-product attention that never holds the whole score matrix.
//!
//! A task is one block of query rows of one head. It walks over blocks of keys: scores by a matrix product, the
//! exponential in place, then a product with the values that is added onto the output ("online softmax", Milakov and
//! Gimelshein, arXiv 1805.02867). The running maximum and sum of each row are all that is carried from block to block.

mod backward;
#[cfg(target_arch = "x86_64")]
mod packed;

pub use backward::{AttentionGradients, attention_backward};

use crate::cpu::{Cpu, Kernel, LANES};
use crate::math::{exp2, larger, max_of, sum_lanes};
use crate::matrix::{Matrix, Rows, SharedOutput};
use rayon::prelude::*;
use std::cell::Cell;

/// Queries and keys of one block: their scores (1 MiB) stay in the second cache. Of the sizes measured at 2048 tokens of
/// 64 channels the fastest; fewer queries cost more, because keys and values are packed anew for every block of them.
const BLOCK_QUERIES: usize = 512;
const BLOCK_KEYS: usize = 512;

/// Multiplications below which handing the work to other threads costs more than it saves.
const SERIAL_WORK: usize = 1 << 17;

/// One operand of [`attention`], read in place wherever it lies.
///
/// Element (batch, head, token, channel) lies at the sum of each index times its stride. An offset is a sub-slice, so
/// queries, keys and values can be read out of one projection:
///
/// ```
/// use adaptmedseg_kernels::View;
/// # let (tokens, heads, dim) = (2, 3, 4);
/// # let qkv = vec![0.0; tokens * 3 * heads * dim];
/// // [batch, tokens, 3 * heads * dim]
/// let strides = [tokens * 3 * heads * dim, dim, 3 * heads * dim, 1];
/// let query = View { data: &qkv, strides };
/// let key = View { data: &qkv[heads * dim..], strides };
/// let value = View { data: &qkv[2 * heads * dim..], strides };
/// ```
///
/// A stride of zero repeats what it steps over. The strides of a dimension of size 1 mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The elements, from the first one on.
    pub data: &'a [f32],
    /// Elements between neighbours in batch, head, token and channel.
    pub strides: [usize; 4],
}

/// Sizes of [`attention`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent items.
    pub batch: usize,
    /// Heads of each item.
    pub heads: usize,
    /// Tokens that ask.
    pub queries: usize,
    /// Tokens that are asked.
    pub keys: usize,
    /// Channels of a query and of a key.
    pub head_dim: usize,
    /// Channels of a value.
    pub value_dim: usize,
}

/// `out = softmax(scale * q k^T) v`, heads merged: ready for the output projection.
///
/// No mask. NaN and infinities come out as the formula has them: a row whose scores hold NaN or +inf is NaN, a score
/// of -inf has no weight, and a row of nothing but -inf is NaN, as in PyTorch. A weight below 2^-126 of its row's
/// largest is zero, and scores beyond 2.3e38 count as infinite.
///
/// # Shapes
/// - q: `[batch, heads, queries, head_dim]`
/// - k: `[batch, heads, keys, head_dim]`
/// - v: `[batch, heads, keys, value_dim]`
/// - out: `[batch, queries, heads * value_dim]`, contiguous; what it held before does not matter
///
/// # Panics
/// If `keys` or `head_dim` is zero, an operand's strides reach beyond its data, or `out` has another length than its
/// shape.
pub fn attention(shape: &AttentionShape, q: View, k: View, v: View, scale: f32, out: &mut [f32]) {
    attention_on(Cpu::detect(), BLOCK_KEYS, shape, q, k, v, scale, out);
}

#[expect(clippy::too_many_arguments, reason = "the public function's, and two that tests vary")]
fn attention_on(
    cpu: Cpu,
    block_keys: usize,
    shape: &AttentionShape,
    q: View,
    k: View,
    v: View,
    scale: f32,
    out: &mut [f32],
) {
    let &AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = shape;
    assert!(keys > 0 && head_dim > 0, "attention: {shape:?} has no keys or no channels to compare");
    let width = heads.checked_mul(value_dim).expect("attention: size overflows");
    let length = batch.checked_mul(queries).and_then(|rows| rows.checked_mul(width));
    assert_eq!(Some(out.len()), length, "attention: out is not [batch, queries, heads * value_dim] of {shape:?}");
    if out.is_empty() {
        return;
    }
    q.check("q", [batch, heads, queries, head_dim]);
    k.check("k", [batch, heads, keys, head_dim]);
    v.check("v", [batch, heads, keys, value_dim]);

    #[cfg(target_arch = "x86_64")]
    if cpu.is_avx512() && queries.min(keys) >= packed::LEAST {
        // SAFETY: AVX-512 was detected; operands and output have been checked.
        return unsafe { packed::attention(cpu, block_keys, shape, q, k, v, scale, out) };
    }
    let blocks = queries.div_ceil(BLOCK_QUERIES);
    let output = SharedOutput::new(out);
    let task = |task: usize| {
        let (item, head, block) = (task / blocks / heads, task / blocks % heads, task % blocks);
        let first = block * BLOCK_QUERIES;
        let rows = BLOCK_QUERIES.min(queries - first);
        // SAFETY: these are rows `first..first + rows` of `item`, columns `head * value_dim..` of `out`, whose length
        // was checked. Every task has other ones, and `out` is borrowed mutably until all are done.
        let out = unsafe {
            Rows::new(output.at((item * queries + first) * width + head * value_dim), rows, value_dim, width)
        };
        // SAFETY: `check` has shown that these operands hold [queries, head_dim], [keys, head_dim] and
        // [keys, value_dim] elements for every item and head; shared borrows cannot be part of `out`.
        unsafe {
            let q = q.matrix(item, head, first);
            let (k, v) = (k.matrix(item, head, 0), v.matrix(item, head, 0));
            attend(cpu, Head { q, k, v, keys, head_dim, scale, block_keys }, rows, out);
        }
    };
    let tasks = batch * heads * blocks;
    if queries.saturating_mul(keys).saturating_mul(batch * heads * (head_dim + value_dim)) < SERIAL_WORK {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}

impl View<'_> {
    /// Panics unless every element of `shape` lies within the data.
    fn check(&self, name: &str, shape: [usize; 4]) {
        let last = shape.iter().zip(self.strides).try_fold(0usize, |last, (&size, stride)| {
            if size > 1 { last.checked_add((size - 1).checked_mul(stride)?) } else { Some(last) }
        });
        assert!(
            last.is_some_and(|last| last < self.data.len()),
            "attention: {name} of shape {shape:?} and strides {:?} reaches beyond its {} elements",
            self.strides,
            self.data.len()
        );
    }

    /// The matrix (token, channel) of one head, from token `first` on.
    ///
    /// # Safety
    /// `check` passed for a shape that holds this item, head and token.
    unsafe fn matrix(&self, item: usize, head: usize, first: usize) -> Matrix {
        // A stride that is never stepped over may be anything, but then its index is zero.
        let offset = item * self.strides[0] + head * self.strides[1] + first * self.strides[2];
        // SAFETY: `check` has shown that this index lies within the data.
        let data = unsafe { self.data.as_ptr().add(offset) };
        Matrix { data, row_stride: self.strides[2], column_stride: self.strides[3] }
    }
}

/// What the query rows of one task attend to. `q` starts at the task's first row.
struct Head {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    keys: usize,
    head_dim: usize,
    scale: f32,
    block_keys: usize,
}

thread_local! {
    /// The scores of one block, kept from task to task: fresh memory for each would cost more than it looks.
    static SCORES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Attention of up to [`BLOCK_QUERIES`] rows.
///
/// # Safety
/// `q` holds `rows`, `k` and `v` hold `keys` readable rows, `q` and `k` of `head_dim` and `v` of `out`'s width, and none
/// of it is part of `out`.
unsafe fn attend(cpu: Cpu, head: Head, rows: usize, mut out: Rows) {
    let mut scores = SCORES.take();
    let stride = head.keys.min(head.block_keys).next_multiple_of(LANES);
    if scores.len() < rows * stride {
        scores.resize(rows * stride, 0.0);
    }
    let mut state = State::default();
    let mut first = 0;
    while first < head.keys {
        let keys = head.block_keys.min(head.keys - first);
        // SAFETY: `first < keys` of the head, so both start within their operands.
        let (k, v) = unsafe { (head.k.skip_rows(first), head.v.skip_rows(first)) };
        let mut block = Rows::from_slice(&mut scores, rows, keys, stride);
        // In units of log 2, so that the softmax can use powers of two.
        // SAFETY: `q` holds `rows`, and `k` from `first` on `keys` rows of `head_dim`; scores belong to this thread.
        unsafe { block.product(head.head_dim, head.q, k.transposed(), head.scale * std::f32::consts::LOG2_E, false) };
        cpu.run(Softmax {
            scores: &mut scores,
            rows,
            keys,
            stride,
            state: state.rows(0),
            out: &mut out,
            later: first > 0,
        });
        let weights = Matrix { data: scores.as_ptr(), row_stride: stride, column_stride: 1 };
        // SAFETY: the scores hold `rows` of `keys` weights, and `v` from `first` on `keys` rows of `out`'s width.
        unsafe { out.product(keys, weights, v, 1.0, first > 0) };
        first += keys;
    }
    cpu.run(Divide { out: &mut out, rows, state: &state });
    SCORES.set(scores);
}

/// What is known of each row after some blocks of keys.
struct State {
    /// Largest score; -inf at first.
    max: [f32; BLOCK_QUERIES],
    /// Sum of `2^(score - max)`.
    sum: [f32; BLOCK_QUERIES],
}

impl State {
    /// What is known from row `first` on: of each, the largest score and the sum.
    fn rows(&mut self, first: usize) -> [&mut [f32]; 2] {
        [&mut self.max[first..], &mut self.sum[first..]]
    }
}

impl Default for State {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; BLOCK_QUERIES], sum: [0.0; BLOCK_QUERIES] }
    }
}

/// Turns a block of scores into weights, relative to the largest score so far, and brings what the output already holds
/// to the same reference.
struct Softmax<'a, 'b> {
    scores: &'a mut [f32],
    rows: usize,
    keys: usize,
    stride: usize,
    /// As [`State::rows`] has them.
    state: [&'a mut [f32]; 2],
    out: &'a mut Rows<'b>,
    /// The output already holds something.
    later: bool,
}

impl Kernel for Softmax<'_, '_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let [maxima, sums] = self.state;
        for (row, scores) in self.scores.chunks_exact_mut(self.stride).take(self.rows).enumerate() {
            let padded = self.keys.next_multiple_of(LANES);
            scores[self.keys..padded].fill(f32::NEG_INFINITY);
            let (blocks, _) = scores[..padded].as_chunks_mut::<LANES>();

            let before = maxima[row];
            let max = larger(before, max_of(blocks));
            // While nothing but -inf was seen, -inf - max must not become NaN: a later block may hold a real score.
            let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let sum = exp2_and_sum::<FMA>(blocks, reference);
            if self.later {
                let factor = exp2::<FMA>(before - reference);
                sums[row] = sums[row] * factor + sum;
                if factor != 1.0 {
                    scale_row(self.out.row(row), factor);
                }
            } else {
                sums[row] = sum;
            }
            maxima[row] = max;
        }
    }
}

#[inline(always)]
fn exp2_and_sum<const FMA: bool>(blocks: &mut [[f32; LANES]], reference: f32) -> f32 {
    let mut sum = [0.0; LANES];
    for block in blocks {
        for i in 0..LANES {
            block[i] = exp2::<FMA>(block[i] - reference);
            sum[i] += block[i];
        }
    }
    sum_lanes(sum)
}

/// Divides each row of the output by the sum of its weights.
struct Divide<'a, 'b> {
    out: &'a mut Rows<'b>,
    rows: usize,
    state: &'a State,
}

impl Kernel for Divide<'_, '_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for row in 0..self.rows {
            scale_row(self.out.row(row), 1.0 / self.state.sum[row]);
        }
    }
}

#[inline(always)]
fn scale_row(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}

#[cfg(test)]
mod tests;
