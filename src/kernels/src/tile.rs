//! float32 tiles for AVX-512: up to 12 rows times a panel of 32 columns, all sums in registers, both sides packed.

use std::arch::x86_64::*;

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

/// `out = tiles * panel` for `rows` rows: the tiles of [`pack_tiles`], a panel of [`pack_panel`].
///
/// # Safety
/// The processor has AVX-512F. `out` holds `rows` rows of `width`, `stride` apart, and nobody else uses them; `width` is at
/// most [`PANEL`].
pub(crate) unsafe fn product(tiles: &[f32], rows: usize, panel: &[f32], out: *mut f32, stride: usize, width: usize) {
    let inputs = panel.len() / PANEL;
    assert!(tiles.len() >= rows * inputs && width <= PANEL, "product: operands are too short");
    for row in (0..rows).step_by(TILE) {
        let tile = TILES[TILE.min(rows - row) - 1];
        // SAFETY: the tile holds its rows times `inputs` numbers from here on, as the assertion has shown, and the panel
        // `inputs` rows; of `out` these rows are there, by the caller's promise.
        unsafe {
            tile(tiles.as_ptr().add(row * inputs), inputs, panel.as_ptr(), out.add(row * stride), stride, width);
        }
    }
}

type Tile = unsafe fn(*const f32, usize, *const f32, *mut f32, usize, usize);

/// A tile for each number of rows, from 1 on.
static TILES: [Tile; TILE] = [
    tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>, tile::<9>, tile::<10>,
    tile::<11>, tile::<12>,
];

/// # Safety
/// The processor has AVX-512F. `left` is `[inner, ROWS]`, `panel` is `[inner, PANEL]`; `out` holds `ROWS` rows of `width`, at
/// most [`PANEL`], `stride` apart, and nobody else uses them.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const ROWS: usize>(
    left: *const f32,
    inner: usize,
    panel: *const f32,
    out: *mut f32,
    stride: usize,
    width: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    // SAFETY: every address lies within what the caller promises; loads and stores need no alignment, and masks leave out
    // the columns that are not there.
    unsafe {
        for at in 0..inner {
            let mut right = [_mm512_setzero_ps(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                *right = _mm512_loadu_ps(panel.add(at * PANEL + vector * 16));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*left.add(at * ROWS + row));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                let mask = ((1u64 << width.saturating_sub(vector * 16).min(16)) - 1) as u16;
                _mm512_mask_storeu_ps(out.wrapping_add(row * stride + vector * 16), mask, sum);
            }
        }
    }
}
