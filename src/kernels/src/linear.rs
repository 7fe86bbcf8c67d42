//! Linear layer with what usually follows it, done while the result is still in the cache.

use crate::cpu::{Cpu, Kernel, LANES};
use crate::gelu::gelu_in_place;
use crate::matrix::{Matrix, Rows, SharedOutput};
use rayon::prelude::*;

/// The part of the output that a thread computes at a time: on the layers of ViT-B as fast as one product of the whole,
/// and small enough to still be in the second cache for the epilogue and to feed many threads.
const BLOCK_ROWS: usize = 512;
const BLOCK_COLUMNS: usize = 384;

/// Sizes of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of the input: batch times tokens.
    pub rows: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
}

/// What is done to the result of a linear layer before it is written.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// GELU, as [`gelu_erf`](crate::gelu_erf).
    Gelu,
    /// A residual `[rows, outputs]` is added.
    Add(&'a [f32]),
}

/// `out = epilogue(x weight^T + bias)`.
///
/// # Shapes
/// - x: `[rows, inputs]`
/// - weight: `[outputs, inputs]`, as PyTorch stores it
/// - bias: `[outputs]`
/// - out: `[rows, outputs]`; what it held before does not matter
///
/// # Panics
/// If a slice is not as long as its shape says, or `inputs` is zero.
pub fn linear(
    shape: &LinearShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    linear_on(Cpu::detect(), shape, x, weight, bias, epilogue, out);
}

fn linear_on(
    cpu: Cpu,
    shape: &LinearShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let &LinearShape { rows, inputs, outputs } = shape;
    let elements = |a: usize, b: usize| a.checked_mul(b).expect("linear: size overflows");
    assert!(inputs > 0, "linear: inputs is zero");
    assert_eq!(x.len(), elements(rows, inputs), "linear: x is not [rows, inputs]");
    assert_eq!(weight.len(), elements(outputs, inputs), "linear: weight is not [outputs, inputs]");
    assert_eq!(out.len(), elements(rows, outputs), "linear: out is not [rows, outputs]");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "linear: bias is not [outputs]");
    }
    if let Epilogue::Add(residual) = epilogue {
        assert_eq!(residual.len(), out.len(), "linear: residual is not [rows, outputs]");
    }

    #[cfg(target_arch = "x86_64")]
    if cpu.is_avx512() && rows >= tiles::LEAST_ROWS {
        return tiles::linear(cpu, shape, x, weight, bias, epilogue, out);
    }
    let column_blocks = outputs.div_ceil(BLOCK_COLUMNS);
    let blocks = rows.div_ceil(BLOCK_ROWS) * column_blocks;
    let shared = SharedOutput::new(out);
    (0..blocks).into_par_iter().with_max_len(1).for_each(|block| {
        let (row, column) = (block / column_blocks * BLOCK_ROWS, block % column_blocks * BLOCK_COLUMNS);
        let (height, width) = (BLOCK_ROWS.min(rows - row), BLOCK_COLUMNS.min(outputs - column));
        let left = Matrix { data: x[row * inputs..].as_ptr(), row_stride: inputs, column_stride: 1 };
        let right = Matrix { data: weight[column * inputs..].as_ptr(), row_stride: 1, column_stride: inputs };
        // SAFETY: the block lies within `out`, whose length was checked; blocks do not overlap; `out` is borrowed
        // mutably by this function and untouched until all blocks are done.
        let mut tile = unsafe { Rows::new(shared.at(row * outputs + column), height, width, outputs) };
        // SAFETY: `x` holds `height` rows of `inputs` from `row` on and `weight` holds `width` of them from `column`
        // on: their lengths were checked. They are shared borrows, so they are not part of `out`.
        unsafe { tile.product(inputs, left, right, 1.0, false) };
        let bias = bias.map(|bias| &bias[column..column + width]);
        cpu.run(Finish { tile, height, bias, epilogue, first: row * outputs + column, stride: outputs });
    });
}

/// The same with tiles of our own: a weight is packed once for all rows, and rows are read where they lie, where a general
/// product library packs both for each of its blocks.
#[cfg(target_arch = "x86_64")]
mod tiles {
    use super::{Epilogue, Finish, LinearShape};
    use crate::cpu::Cpu;
    use crate::matrix::{Rows, SharedOutput};
    use crate::tile::{LINE, Layout, Left, PANEL, TILE, pack_panel, pack_tiles, prefetch, product, rows_collide};
    use rayon::prelude::*;
    use std::cell::Cell;

    /// Rows below which packing a weight does not pay.
    pub(super) const LEAST_ROWS: usize = 96;
    /// Rows that a thread computes at a time, and how many of their inputs it packs, if it must: half of the second cache.
    const BLOCK_ROWS: usize = 8 * TILE;
    const BLOCK_ELEMENTS: usize = 1 << 17;
    /// Panels that it multiplies with them.
    const BLOCK_PANELS: usize = 12;

    thread_local! {
        /// Packed rows, kept from block to block.
        static TILES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
        /// Packed weights, kept from layer to layer: memory fresh from the system costs as much as a part of the product.
        static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }

    pub(super) fn linear(
        cpu: Cpu,
        &LinearShape { rows, inputs, outputs }: &LinearShape,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) {
        let mut kept = PANELS.take();
        let length = outputs.div_ceil(PANEL) * PANEL * inputs;
        if kept.len() < length {
            kept.resize(length, 0.0);
        }
        let panels = &mut kept[..length];
        let each = panels.par_chunks_exact_mut(PANEL * inputs).enumerate();
        each.for_each(|(index, panel)| pack_panel(weight.chunks_exact(inputs).skip(index * PANEL), panel));

        let pack = rows_collide(inputs);
        let most_rows = if pack { (BLOCK_ELEMENTS / inputs / TILE).max(1) * TILE } else { BLOCK_ROWS };
        let block_rows = most_rows.min(BLOCK_ROWS);
        let groups = outputs.div_ceil(PANEL * BLOCK_PANELS);
        let shared = SharedOutput::new(out);
        (0..rows.div_ceil(block_rows) * groups).into_par_iter().with_max_len(1).for_each(|block| {
            let first = block / groups * block_rows;
            let height = block_rows.min(rows - first);
            let x = &x[first * inputs..][..height * inputs];
            let mut tiles = TILES.take();
            let left = if pack {
                tiles.resize(height.next_multiple_of(TILE) * inputs, 0.0);
                pack_tiles(x, inputs, &mut tiles);
                Left { data: &tiles, rows: height, layout: Layout::Tiles }
            } else {
                Left { data: x, rows: height, layout: Layout::Rows(inputs) }
            };
            let panels = panels.chunks_exact(PANEL * inputs).enumerate();
            for (index, panel) in panels.skip(block % groups * BLOCK_PANELS).take(BLOCK_PANELS) {
                let column = index * PANEL;
                let width = PANEL.min(outputs - column);
                let bias = bias.map(|bias| &bias[column..column + width]);
                // Tile by tile, lest the rows of a panel push each other out of the first cache before they are finished.
                for row in (0..height).step_by(TILE) {
                    let left = left.tile(row, inputs);
                    let at = (first + row) * outputs + column;
                    for row in 0..left.rows {
                        let at = at + row * outputs;
                        for at in [at, at + LINE] {
                            prefetch(shared.address(at));
                            if let Epilogue::Add(residual) = epilogue {
                                prefetch(residual.as_ptr().wrapping_add(at));
                            }
                        }
                    }
                    // SAFETY: `cpu` says AVX-512. These rows and columns lie within `out`, whose length was checked; blocks
                    // do not overlap, and `out` is borrowed mutably until all are done.
                    let tile = unsafe {
                        product(left, panel, shared.at(at), outputs, width, false);
                        Rows::new(shared.at(at), left.rows, width, outputs)
                    };
                    cpu.run(Finish { tile, height: left.rows, bias, epilogue, first: at, stride: outputs });
                }
            }
            TILES.set(tiles);
        });
        PANELS.set(kept);
    }
}

/// Bias and epilogue on one block.
struct Finish<'a, 'b> {
    tile: Rows<'a>,
    height: usize,
    bias: Option<&'b [f32]>,
    epilogue: Epilogue<'b>,
    /// Where the block starts in the residual, and the width of the residual's rows.
    first: usize,
    stride: usize,
}

impl Kernel for Finish<'_, '_> {
    #[inline(always)]
    fn run<const FMA: bool>(mut self) {
        if self.bias.is_none() && matches!(self.epilogue, Epilogue::None) {
            return;
        }
        for row in 0..self.height {
            let at = self.first + row * self.stride;
            let out = self.tile.row(row);
            // A length that the compiler knows leaves no loop.
            match out.as_mut_array::<LANES>() {
                Some(out) => finish_row::<FMA>(out, self.bias, self.epilogue, at),
                None => finish_row::<FMA>(out, self.bias, self.epilogue, at),
            }
        }
    }
}

/// Bias and epilogue of a part of a row that lies at `at` in the output.
#[inline(always)]
fn finish_row<const FMA: bool>(out: &mut [f32], bias: Option<&[f32]>, epilogue: Epilogue, at: usize) {
    let length = out.len();
    if let Some(bias) = bias {
        add(out, &bias[..length]);
    }
    match epilogue {
        Epilogue::None => {}
        Epilogue::Gelu => gelu_in_place::<FMA>(out),
        Epilogue::Add(residual) => add(out, &residual[at..][..length]),
    }
}

#[inline(always)]
fn add(out: &mut [f32], other: &[f32]) {
    for (out, other) in out.iter_mut().zip(other) {
        *out += other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gelu_f64, max_error, random};

    fn check(shape: LinearShape) {
        let LinearShape { rows, inputs, outputs } = shape;
        let x = random(rows * inputs, 1);
        let weight: Vec<f32> = random(outputs * inputs, 2).iter().map(|w| w / (inputs as f32).sqrt()).collect();
        let (bias, residual) = (random(outputs, 3), random(rows * outputs, 4));
        let plain: Vec<f64> = (0..rows * outputs)
            .map(|i| {
                let (x, w) = (&x[i / outputs * inputs..][..inputs], &weight[i % outputs * inputs..][..inputs]);
                x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
            })
            .collect();
        let biased: Vec<f64> = plain.iter().enumerate().map(|(i, y)| y + f64::from(bias[i % outputs])).collect();
        let activated: Vec<f64> = biased.iter().map(|&y| gelu_f64(y)).collect();
        let summed: Vec<f64> = biased.iter().zip(&residual).map(|(y, &r)| y + f64::from(r)).collect();
        for cpu in Cpu::available() {
            for (bias, epilogue, want) in [
                (None, Epilogue::None, &plain),
                (Some(&bias[..]), Epilogue::None, &biased),
                (Some(&bias[..]), Epilogue::Gelu, &activated),
                (Some(&bias[..]), Epilogue::Add(&residual), &summed),
            ] {
                let mut got = vec![f32::NAN; rows * outputs];
                linear_on(cpu, &shape, &x, &weight, bias, epilogue, &mut got);
                let error = max_error(&got, want);
                assert!(error < 5e-6, "{cpu:?}, {shape:?}, {epilogue:.40?}: error {error:e}");
            }
        }
    }

    #[test]
    fn products_of_any_size_agree_with_f64() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (1, 768, 48),
            (10, 48, 10),
            (7, 33, 5),
            (257, 64, 769),
            (513, 100, 385),
            (110, 1024, 70),
            (0, 4, 3),
            (3, 4, 0),
        ] {
            check(LinearShape { rows, inputs, outputs });
        }
    }

    #[test]
    #[should_panic(expected = "weight is not [outputs, inputs]")]
    fn a_short_weight_is_refused() {
        let shape = LinearShape { rows: 2, inputs: 3, outputs: 4 };
        linear(&shape, &[0.0; 6], &[0.0; 11], None, Epilogue::None, &mut [0.0; 8]);
    }

    #[test]
    #[should_panic(expected = "residual is not [rows, outputs]")]
    fn a_short_residual_is_refused() {
        let shape = LinearShape { rows: 2, inputs: 3, outputs: 4 };
        linear(&shape, &[0.0; 6], &[0.0; 12], None, Epilogue::Add(&[0.0; 7]), &mut [0.0; 8]);
    }
}
