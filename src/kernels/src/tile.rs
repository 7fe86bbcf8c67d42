//! float32 tiles for AVX-512: up to 12 rows times a panel of 32 columns, all sums in registers, both sides packed.

use std::arch::x86_64::*;

macro_rules! tiles {
    ($packed:literal) => {
        [
            tile::<1, $packed>,
            tile::<2, $packed>,
            tile::<3, $packed>,
            tile::<4, $packed>,
            tile::<5, $packed>,
            tile::<6, $packed>,
            tile::<7, $packed>,
            tile::<8, $packed>,
            tile::<9, $packed>,
            tile::<10, $packed>,
            tile::<11, $packed>,
            tile::<12, $packed>,
        ]
    };
}

/// Columns of a panel: two registers of sums.
pub(crate) const PANEL: usize = 32;
const VECTORS: usize = PANEL / 16;
/// Rows of a tile: 24 sums and what they are made of fit into the 32 registers there are.
pub(crate) const TILE: usize = 12;
/// Rows of a panel that are filled together, so that the first cache holds them.
const FILL_ROWS: usize = 64;

/// Packs rows `first..first + PANEL` of a weight `[outputs, inputs]` as a panel `[inputs, PANEL]`; rows beyond the last
/// are zero.
///
/// # Panics
/// If the panel has another size.
pub(crate) fn pack_panel(weight: &[f32], inputs: usize, first: usize, panel: &mut [f32]) {
    let rows = weight.chunks_exact(inputs).skip(first).take(PANEL);
    let panel = panel.as_chunks_mut::<PANEL>().0;
    assert_eq!(panel.len(), inputs);
    for (chunk, panel) in panel.chunks_mut(FILL_ROWS).enumerate() {
        for (column, row) in rows.clone().enumerate() {
            for (out, &weight) in panel.iter_mut().zip(&row[chunk * FILL_ROWS..]) {
                out[column] = weight;
            }
        }
    }
}

/// Packs whole rows `[rows, inputs]` as tiles, each `[inputs, rows of the tile]`.
pub(crate) fn pack_tiles(x: &[f32], inputs: usize, tiles: &mut [f32]) {
    for (x, tile) in x.chunks(TILE * inputs).zip(tiles.chunks_mut(TILE * inputs)) {
        let rows = x.len() / inputs;
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            for (out, &x) in tile[row..].iter_mut().step_by(rows).zip(x) {
                *out = x;
            }
        }
    }
}

/// The left side of a product.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) layout: Layout,
}

/// How a left side lies in memory.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// The tiles of [`pack_tiles`].
    Tiles,
    /// Rows, so many elements apart.
    Rows(usize),
}

/// `out = left * panel`, or `+=` if `accumulate`; a panel of [`pack_panel`].
///
/// # Safety
/// The processor has AVX-512F. `out` holds the rows of `left`, each of `width` and `stride` apart, and nobody else uses
/// them; `width` is at most [`PANEL`].
pub(crate) unsafe fn product(left: Left, panel: &[f32], out: *mut f32, stride: usize, width: usize, accumulate: bool) {
    let inner = panel.len() / PANEL;
    let Some(last) = left.rows.checked_sub(1) else { return };
    let row_stride = match left.layout {
        Layout::Tiles => inner,
        Layout::Rows(stride) => stride,
    };
    assert!(left.data.len() >= last * row_stride + inner && width <= PANEL, "product: operands are too short");
    for row in (0..left.rows).step_by(TILE) {
        let rows = TILE.min(left.rows - row);
        let tiles = match left.layout {
            Layout::Tiles => &TILES,
            Layout::Rows(_) => &ROW_TILES,
        };
        // SAFETY: the left side holds these rows of `inner` numbers from here on, as the assertion has shown, and the panel
        // `inner` rows; of `out` these rows are there, by the caller's promise.
        unsafe {
            let left = left.data.as_ptr().add(row * row_stride);
            let out = out.add(row * stride);
            tiles[rows - 1](left, row_stride, inner, panel.as_ptr(), out, stride, width, accumulate);
        }
    }
}

type Tile = unsafe fn(*const f32, usize, usize, *const f32, *mut f32, usize, usize, bool);

/// A tile for each number of rows, from 1 on: of packed rows, and of rows as they lie.
static TILES: [Tile; TILE] = tiles!(true);
static ROW_TILES: [Tile; TILE] = tiles!(false);

/// # Safety
/// The processor has AVX-512F. `left` is `[inner, ROWS]` if `PACKED`, else `ROWS` rows of `inner`, `row_stride` apart;
/// `panel` is `[inner, PANEL]`; `out` holds `ROWS` rows of `width`, at most [`PANEL`], `stride` apart, and nobody else uses
/// them.
#[expect(clippy::too_many_arguments, reason = "three matrices")]
#[target_feature(enable = "avx512f")]
unsafe fn tile<const ROWS: usize, const PACKED: bool>(
    left: *const f32,
    row_stride: usize,
    inner: usize,
    panel: *const f32,
    out: *mut f32,
    stride: usize,
    width: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let mask = |vector: usize| ((1u64 << width.saturating_sub(vector * 16).min(16)) - 1) as u16;
    // SAFETY: every address lies within what the caller promises; loads and stores need no alignment, and masks leave out
    // the columns that are not there.
    unsafe {
        if accumulate {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_maskz_loadu_ps(mask(vector), out.wrapping_add(row * stride + vector * 16));
                }
            }
        }
        for at in 0..inner {
            let mut right = [_mm512_setzero_ps(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                *right = _mm512_loadu_ps(panel.add(at * PANEL + vector * 16));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let at = if PACKED { at * ROWS + row } else { row * row_stride + at };
                let left = _mm512_set1_ps(*left.add(at));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                _mm512_mask_storeu_ps(out.wrapping_add(row * stride + vector * 16), mask(vector), sum);
            }
        }
    }
}
