//! Scaled dot-product attention on bfloat16, block by block as [`attention`](crate::attention) does it in float32.

use super::tile::{Left, PANEL, TILE, Unit, pack_columns, pack_rows, panel_elements, panel_length, product};
use super::{round_all, round_number};
use crate::cpu::{Cpu, Kernel, LANES};
use crate::math::{exp2, larger, max_of, mul_add, sum_lanes};
use crate::matrix::SharedOutput;
use half::bf16;
use rayon::prelude::*;
use std::cell::Cell;

/// Queries and keys of one block: scores (192 KiB), weights and the keys and values they meet stay in the second cache.
const BLOCK_QUERIES: usize = 8 * TILE;
const BLOCK_KEYS: usize = 512;
/// Rows of scores and weights lie a little apart from a power of two, lest all fall on the same lines of the first cache.
const STRIDE: usize = BLOCK_KEYS + LANES;

/// Self-attention of every head: `out = softmax(scale * q k^T) v`, heads merged.
///
/// Scores, exponentials and sums are float32; queries, keys, values and the weights of the values are bfloat16.
///
/// # Shapes
/// - qkv: `[tokens, 3 * heads * head_dim]`: queries, keys, values, each split into heads
/// - packed: scratch for keys and values, which grows as needed: worth keeping from call to call
/// - out: `[tokens, heads * head_dim]`; what it held before does not matter
///
/// # Panics
/// If `head_dim` is odd or zero, or a slice is not as long as its shape says.
pub fn attention_bf16(
    qkv: &[bf16],
    heads: usize,
    head_dim: usize,
    scale: f32,
    packed: &mut Vec<bf16>,
    out: &mut [bf16],
) {
    attention_on(Cpu::detect(), Unit::detect(), qkv, heads, head_dim, scale, packed, out);
}

#[expect(clippy::too_many_arguments, reason = "the public function's, and two that tests vary")]
fn attention_on(
    cpu: Cpu,
    unit: Unit,
    qkv: &[bf16],
    heads: usize,
    head_dim: usize,
    scale: f32,
    packed: &mut Vec<bf16>,
    out: &mut [bf16],
) {
    assert!(head_dim > 0 && head_dim.is_multiple_of(2), "attention_bf16: head_dim {head_dim} is not an even number");
    let width = heads.checked_mul(head_dim).expect("attention_bf16: size overflows");
    if width == 0 {
        return;
    }
    let tokens = out.len() / width;
    assert_eq!(out.len(), tokens * width, "attention_bf16: out is not whole rows of {width}");
    assert_eq!(qkv.len(), 3 * out.len(), "attention_bf16: qkv is not [tokens, 3 * heads * head_dim]");
    let row =
        |token: usize, part: usize, head: usize| &qkv[token * 3 * width + part * width + head * head_dim..][..head_dim];

    // Keys of a head as panels of `[head_dim, keys]`; then for each block of keys its values, `[keys, head_dim]`.
    let (key_length, blocks) = (panel_elements(head_dim, tokens), tokens.div_ceil(BLOCK_KEYS));
    let value_length = blocks * panel_elements(BLOCK_KEYS, head_dim);
    packed.resize(heads * (key_length + value_length), bf16::ZERO);
    packed.par_chunks_mut(key_length + value_length).enumerate().for_each(|(head, packed)| {
        let (keys, values) = packed.split_at_mut(key_length);
        for (index, panel) in keys.chunks_exact_mut(panel_length(head_dim)).enumerate() {
            let first = index * PANEL;
            let count = PANEL.min(tokens - first);
            pack_columns((first..first + count).map(|key| row(key, 1, head)), panel);
        }
        for (block, values) in values.chunks_exact_mut(panel_elements(BLOCK_KEYS, head_dim)).enumerate() {
            let first = block * BLOCK_KEYS;
            let count = BLOCK_KEYS.min(tokens - first);
            for (index, panel) in values.chunks_exact_mut(panel_length(BLOCK_KEYS)).enumerate() {
                let channel = index * PANEL;
                let channels = PANEL.min(head_dim - channel);
                let rows = (first..first + count).map(|key| &row(key, 2, head)[channel..channel + channels]);
                pack_rows(rows, panel);
            }
        }
    });

    let query_blocks = tokens.div_ceil(BLOCK_QUERIES);
    let shared = SharedOutput::new(out);
    (0..heads * query_blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (head, first) = (task / query_blocks, task % query_blocks * BLOCK_QUERIES);
        let rows = BLOCK_QUERIES.min(tokens - first);
        let queries = Left { data: &qkv[first * 3 * width + head * head_dim..], stride: 3 * width, rows };
        let (keys, values) =
            packed[head * (key_length + value_length)..][..key_length + value_length].split_at(key_length);
        let mut scratch = SCRATCH.take();
        attend(cpu, unit, &mut scratch, Head { queries, keys, values, tokens, head_dim, scale });
        for (row, (sums, total)) in
            scratch.out.chunks_exact(head_dim.next_multiple_of(PANEL)).zip(&scratch.sum).enumerate().take(rows)
        {
            // SAFETY: this head's columns of one row of this task, inside the output, whose length was checked; tasks
            // are disjoint, and the output is borrowed mutably until all are done.
            let out =
                unsafe { std::slice::from_raw_parts_mut(shared.at((first + row) * width + head * head_dim), head_dim) };
            cpu.run(Divide { sums: &sums[..head_dim], total: *total, out });
        }
        SCRATCH.set(scratch);
    });
}

thread_local! {
    /// Kept from task to task.
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

/// What a thread needs for one block of queries.
struct Scratch {
    /// `[BLOCK_QUERIES, STRIDE]`
    scores: Vec<f32>,
    /// `[BLOCK_QUERIES, STRIDE]`
    weights: Vec<bf16>,
    /// `[BLOCK_QUERIES, head_dim in whole panels]`
    out: Vec<f32>,
    /// Of each row the largest score so far, and the sum of its weights.
    max: Vec<f32>,
    sum: Vec<f32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    const fn new() -> Self {
        Self { scores: Vec::new(), weights: Vec::new(), out: Vec::new(), max: Vec::new(), sum: Vec::new() }
    }

    fn reset(&mut self, channels: usize) {
        self.scores.resize(BLOCK_QUERIES * STRIDE, 0.0);
        self.weights.resize(BLOCK_QUERIES * STRIDE, bf16::ZERO);
        self.out.resize(BLOCK_QUERIES * channels, 0.0);
        self.max.clear();
        self.max.resize(BLOCK_QUERIES, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(BLOCK_QUERIES, 0.0);
    }
}

/// What one block of queries attends to.
struct Head<'a> {
    queries: Left<'a>,
    keys: &'a [bf16],
    values: &'a [bf16],
    tokens: usize,
    head_dim: usize,
    scale: f32,
}

fn attend(cpu: Cpu, unit: Unit, scratch: &mut Scratch, head: Head) {
    let channels = head.head_dim.next_multiple_of(PANEL);
    scratch.reset(channels);
    let rows = head.queries.rows;
    let key_panels = head.keys.chunks(BLOCK_KEYS / PANEL * panel_length(head.head_dim));
    let value_blocks = head.values.chunks_exact(panel_elements(BLOCK_KEYS, head.head_dim));
    for (block, (keys, values)) in key_panels.zip(value_blocks).enumerate() {
        let count = BLOCK_KEYS.min(head.tokens - block * BLOCK_KEYS);
        for (index, panel) in keys.chunks_exact(panel_length(head.head_dim)).enumerate() {
            product(unit, head.queries, panel, &mut scratch.scores[index * PANEL..], STRIDE, false);
        }
        let factor = head.scale * std::f32::consts::LOG2_E;
        cpu.run(Softmax { scratch, rows, count, channels, factor, later: block > 0 });
        // An odd key beside a zero, which the softmax has written.
        let inner = count.next_multiple_of(2);
        for (index, panel) in values.chunks_exact(panel_length(BLOCK_KEYS)).enumerate() {
            let weights = Left { data: &scratch.weights, stride: STRIDE, rows };
            product(
                unit,
                weights,
                &panel[..panel_length(inner)],
                &mut scratch.out[index * PANEL..],
                channels,
                block > 0,
            );
        }
    }
}

/// Scores of a block to weights relative to the largest score so far; what the output holds is brought to the same
/// reference.
struct Softmax<'a> {
    scratch: &'a mut Scratch,
    rows: usize,
    count: usize,
    channels: usize,
    /// From products to powers of two.
    factor: f32,
    later: bool,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let padded = self.count.next_multiple_of(LANES);
        for row in 0..self.rows {
            let scores = &mut self.scratch.scores[row * STRIDE..][..padded];
            scores[self.count..].fill(f32::NEG_INFINITY);
            let (scores, weights) =
                (scores.as_chunks::<LANES>().0, &mut self.scratch.weights[row * STRIDE..][..padded]);
            let before = self.scratch.max[row];
            let max = larger(before, max_of(scores) * self.factor);
            // While nothing but -inf was seen, -inf - max must not become NaN.
            let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let sum = exp2_and_sum::<FMA>(scores, self.factor, reference, weights.as_chunks_mut::<LANES>().0);
            if sum.is_nan() {
                weights.fill(bf16::NAN);
            }
            let shrink = if self.later { exp2::<FMA>(before - reference) } else { 0.0 };
            self.scratch.sum[row] = self.scratch.sum[row] * shrink + sum;
            self.scratch.max[row] = max;
            if self.later && shrink != 1.0 {
                for x in &mut self.scratch.out[row * self.channels..][..self.channels] {
                    *x *= shrink;
                }
            }
        }
    }
}

/// `weights = 2^(factor * score - reference)`, rounded, and their sum before that. With NaN among them the sum is NaN, and
/// the weights are not to be used.
#[inline(always)]
fn exp2_and_sum<const FMA: bool>(
    scores: &[[f32; LANES]],
    factor: f32,
    reference: f32,
    weights: &mut [[bf16; LANES]],
) -> f32 {
    let mut sums = [0.0; LANES];
    for (scores, weights) in scores.iter().zip(weights) {
        for i in 0..LANES {
            let weight = exp2::<FMA>(mul_add::<FMA>(scores[i], factor, -reference));
            sums[i] += weight;
            weights[i] = round_number(weight);
        }
    }
    sum_lanes(sums)
}

/// Divides a row of the output by the sum of its weights.
struct Divide<'a> {
    sums: &'a [f32],
    total: f32,
    out: &'a mut [bf16],
}

impl Kernel for Divide<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mut rest = self.out;
        for sums in self.sums.chunks(LANES) {
            let mut scaled = [0.0; LANES];
            for (scaled, &sum) in scaled.iter_mut().zip(sums) {
                *scaled = sum / self.total;
            }
            let (out, after) = rest.split_at_mut(sums.len());
            round_all(&scaled[..sums.len()], out);
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::round;
    use super::*;
    use crate::testing::random;

    #[test]
    fn attention_agrees_with_f64_on_rounded_operands() {
        for (tokens, heads, head_dim) in [(1, 1, 2), (5, 2, 16), (97, 3, 64), (513, 1, 40), (1100, 2, 64)] {
            let width = heads * head_dim;
            let qkv: Vec<bf16> = random(tokens * 3 * width, 5).into_iter().map(round).collect();
            let scale = 1.5 / (head_dim as f32).sqrt();
            let at = |token: usize, part: usize, head: usize, c: usize| {
                qkv[token * 3 * width + part * width + head * head_dim + c].to_f64()
            };
            for (cpu, unit) in Cpu::available().into_iter().zip(Unit::available()) {
                let mut got = vec![bf16::NAN; tokens * width];
                // NaN, so that what is not packed shows.
                let mut packed = vec![bf16::NAN; 1 << 20];
                attention_on(cpu, unit, &qkv, heads, head_dim, scale, &mut packed, &mut got);
                for token in (0..tokens).step_by(tokens.div_ceil(17)).chain([tokens - 1]) {
                    for head in 0..heads {
                        let scores: Vec<f64> = (0..tokens)
                            .map(|key| {
                                let dot = (0..head_dim).map(|c| at(token, 0, head, c) * at(key, 1, head, c));
                                dot.sum::<f64>() * f64::from(scale)
                            })
                            .collect();
                        let max = scores.iter().copied().fold(f64::MIN, f64::max);
                        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                        let total: f64 = weights.iter().sum();
                        for c in 0..head_dim {
                            let want: f64 =
                                (0..tokens).map(|key| weights[key] * at(key, 2, head, c)).sum::<f64>() / total;
                            let got = got[token * width + head * head_dim + c].to_f64();
                            // Weights and result are rounded to 8 bits.
                            assert!(
                                (got - want).abs() < 1.0 / 128.0,
                                "{cpu:?} {unit:?} {tokens} {head_dim}: {got} {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nan_stays_with_its_row() {
        let (tokens, head_dim) = (40, 16);
        let mut qkv: Vec<bf16> = random(tokens * 3 * head_dim, 6).into_iter().map(round).collect();
        qkv[3 * 3 * head_dim] = bf16::NAN;
        let mut out = vec![bf16::ZERO; tokens * head_dim];
        attention_bf16(&qkv, 1, head_dim, 0.25, &mut Vec::new(), &mut out);
        for (token, row) in out.chunks_exact(head_dim).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (token == 3)), "row {token}");
        }
    }
}
