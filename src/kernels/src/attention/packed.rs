//! The same on tiles of our own: keys and values are packed once for all blocks of queries, where a general product
//! library packs them anew for each.

use super::{AttentionShape, Divide, Softmax, State, View};
use crate::cpu::{Cpu, LANES};
use crate::matrix::{Rows, SharedOutput};
use crate::tile::{LINE, Layout, Left, PANEL, TILE, pack_panel, prefetch, product};
use rayon::prelude::*;
use std::cell::Cell;

/// Queries, and keys, below which packing does not pay.
pub(super) const LEAST: usize = 96;
/// Queries of one block: the keys and values they meet stay in the second cache.
const BLOCK_QUERIES: usize = 8 * TILE;
/// Values are fetched so many keys before they are packed.
const AHEAD: usize = 16;

thread_local! {
    /// Packed keys and values, and what a block of queries needs: kept, as fresh memory costs more than it looks.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { queries: Vec::new(), scores: Vec::new() }) };
}

#[derive(Default)]
struct Scratch {
    /// Tiles `[head_dim, TILE]`.
    queries: Vec<f32>,
    /// `[TILE, keys of a block and a little more]`.
    scores: Vec<f32>,
}

/// Sizes of one head and of its packed operands.
#[derive(Clone, Copy)]
struct Head {
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    /// Elements of the keys' panels `[head_dim, PANEL keys]`, and of the values' panels `[keys, PANEL channels]`.
    key_length: usize,
    value_length: usize,
    /// A multiple of [`PANEL`].
    block_keys: usize,
}

/// As [`attention`](super::attention), the operands checked.
///
/// # Safety
/// The processor has AVX-512; `View::check` passed for the three operands, and `out` has the length that `shape` says.
#[expect(clippy::too_many_arguments, reason = "the public function's, and two that tests vary")]
pub(super) unsafe fn attention(
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
    let head = Head {
        keys,
        head_dim,
        value_dim,
        key_length: keys.next_multiple_of(PANEL) * head_dim,
        value_length: keys * value_dim.next_multiple_of(PANEL),
        block_keys: block_keys.next_multiple_of(PANEL),
    };
    let all_heads = batch * heads;
    let length = all_heads * (head.key_length + head.value_length);
    let mut kept = PACKED.take();
    if kept.len() < length {
        kept.resize(length, 0.0);
    }
    let (all_keys, all_values) = kept[..length].split_at_mut(all_heads * head.key_length);
    let panels = keys.div_ceil(PANEL);
    all_keys.par_chunks_exact_mut(head_dim * PANEL).enumerate().for_each(|(index, panel)| {
        let k = k.head(index / panels / heads, index / panels % heads);
        let first = index % panels * PANEL;
        let count = PANEL.min(keys - first);
        if k.channel == 1 {
            pack_panel((first..first + count).map(|key| &k.data[key * k.token..][..head_dim]), panel);
        } else {
            fill(panel, count, |channel, key| k.at(first + key, channel));
        }
    });
    let panels = value_dim.div_ceil(PANEL);
    all_values.par_chunks_exact_mut(keys * PANEL).enumerate().for_each(|(index, panel)| {
        let v = v.head(index / panels / heads, index / panels % heads);
        let first = index % panels * PANEL;
        let count = PANEL.min(value_dim - first);
        fill(panel, count, |key, channel| {
            if channel == 0 {
                v.prefetch(key + AHEAD, first, count);
            }
            v.at(key, first + channel)
        });
    });

    let (all_keys, all_values) = (&*all_keys, &*all_values);
    let (width, blocks) = (heads * value_dim, queries.div_ceil(BLOCK_QUERIES));
    let output = SharedOutput::new(out);
    (0..batch * heads * blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (index, first) = (task / blocks, task % blocks * BLOCK_QUERIES);
        let rows = BLOCK_QUERIES.min(queries - first);
        let mut scratch = SCRATCH.take();
        scratch.queries.resize(rows.next_multiple_of(TILE) * head_dim, 0.0);
        let q = q.head(index / heads, index % heads);
        // In units of log 2, so that the softmax can use powers of two.
        let scale = scale * std::f32::consts::LOG2_E;
        for row in 0..rows {
            let tile = &mut scratch.queries[row / TILE * TILE * head_dim..][..TILE * head_dim];
            q.prefetch(first + row + TILE, 0, head_dim);
            for (channel, to) in tile.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                to[row % TILE] = scale * q.at(first + row, channel);
            }
        }
        let item = index / heads;
        // SAFETY: rows `first..first + rows` of `item`, columns of this head: inside `out`, whose length the caller has
        // checked, and no other task's. `out` is borrowed mutably until all are done.
        let out = unsafe { output.at((item * queries + first) * width + index % heads * value_dim) };
        // SAFETY: as above, and the processor has AVX-512 by the caller's promise.
        unsafe {
            let keys = &all_keys[index * head.key_length..][..head.key_length];
            let values = &all_values[index * head.value_length..][..head.value_length];
            attend(cpu, &head, [keys, values], &mut scratch, rows, out, width);
        }
        SCRATCH.set(scratch);
    });
    PACKED.set(kept);
}

/// Fills a panel with `element(row, column)`; columns from `columns` on are zero.
fn fill(panel: &mut [f32], columns: usize, element: impl Fn(usize, usize) -> f32) {
    for (row, to) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (column, to) in to[..columns].iter_mut().enumerate() {
            *to = element(row, column);
        }
        to[columns..].fill(0.0);
    }
}

/// Attention of one block of queries.
///
/// # Safety
/// The processor has AVX-512; `out` holds `rows` rows of `value_dim`, `stride` apart, that nobody else uses.
unsafe fn attend(
    cpu: Cpu,
    head: &Head,
    [key_panels, value_panels]: [&[f32]; 2],
    scratch: &mut Scratch,
    rows: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // A little apart from a power of two, lest all rows fall on the same lines of the first cache.
    let stride = head.block_keys.min(head.keys.next_multiple_of(LANES)) + LANES;
    let scores = &mut scratch.scores;
    if scores.len() < TILE * stride {
        scores.resize(TILE * stride, 0.0);
    }
    let queries = Left { data: &scratch.queries, rows, layout: Layout::Tiles };
    let mut state = State::default();
    let panels = head.block_keys / PANEL;
    for (block, key_panels) in key_panels.chunks(panels * head.head_dim * PANEL).enumerate() {
        let first = block * head.block_keys;
        let keys = head.block_keys.min(head.keys - first);
        let later = block > 0;
        // Tile by tile, whose scores stay in the first cache until they have become weights and met the values.
        for row in (0..rows).step_by(TILE) {
            let queries = queries.tile(row, head.head_dim);
            for (index, panel) in key_panels.chunks_exact(head.head_dim * PANEL).enumerate() {
                let column = index * PANEL;
                // SAFETY: the scores hold as many rows of `stride` as a tile has, and belong to this thread.
                unsafe {
                    let to = scores[column..].as_mut_ptr();
                    product(queries, panel, to, stride, PANEL.min(keys - column), false);
                }
            }
            let rows = queries.rows;
            // SAFETY: the caller's promise about `out`.
            let (out, mut out_rows) = unsafe {
                let out = out.add(row * out_stride);
                (out, Rows::new(out, rows, head.value_dim, out_stride))
            };
            let state = state.rows(row);
            cpu.run(Softmax { scores, rows, keys, stride, state, out: &mut out_rows, later });
            let weights = Left { data: scores, rows, layout: Layout::Rows(stride) };
            for (index, panel) in value_panels.chunks_exact(head.keys * PANEL).enumerate() {
                let (column, panel) = (index * PANEL, &panel[first * PANEL..][..keys * PANEL]);
                let width = PANEL.min(head.value_dim - column);
                // SAFETY: these columns of the rows that the caller has promised.
                unsafe { product(weights, panel, out.add(column), out_stride, width, later) };
            }
        }
    }
    // SAFETY: the caller's promise about `out`.
    let mut out = unsafe { Rows::new(out, rows, head.value_dim, out_stride) };
    cpu.run(Divide { out: &mut out, rows, state: &state });
}

/// One head of an operand.
#[derive(Clone, Copy)]
struct HeadView<'a> {
    data: &'a [f32],
    token: usize,
    channel: usize,
}

impl HeadView<'_> {
    #[inline(always)]
    fn at(self, token: usize, channel: usize) -> f32 {
        self.data[token * self.token + channel * self.channel]
    }

    /// Asks for these channels of a token, which need not be there.
    #[inline(always)]
    fn prefetch(self, token: usize, first: usize, channels: usize) {
        for channel in (first..first + channels).step_by(LINE) {
            prefetch(self.data.as_ptr().wrapping_add(token * self.token + channel * self.channel));
        }
    }
}

impl<'a> View<'a> {
    fn head(self, item: usize, head: usize) -> HeadView<'a> {
        let [items, heads, token, channel] = self.strides;
        HeadView { data: &self.data[item * items + head * heads..], token, channel }
    }
}
