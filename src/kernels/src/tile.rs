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
/// Numbers of a line of the cache.
pub(crate) const LINE: usize = 16;
/// How far ahead a row is fetched while it is packed, line by line.
const AHEAD: usize = 4 * LINE;

/// Asks for the line at an address, any: what lies thousands of numbers apart is there in time only if it is asked for
/// early, as the processor cannot guess where the next one is.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    // SAFETY: a hint, which no address can make fail.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Packs up to `PANEL` rows of a weight `[outputs, inputs]` as a panel `[inputs, PANEL]`; rows beyond the last are zero.
///
/// # Panics
/// If a row is shorter than the panel.
pub(crate) fn pack_panel<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, panel: &mut [f32]) {
    let rows = rows.take(PANEL);
    for row in rows.clone() {
        (0..AHEAD).step_by(LINE).for_each(|at| prefetch(row.as_ptr().wrapping_add(at)));
    }
    // Turned in the first cache, so that what is written is whole lines.
    let mut block = [[0.0; PANEL]; LINE];
    for (index, panel) in panel.as_chunks_mut::<PANEL>().0.chunks_mut(LINE).enumerate() {
        let at = index * LINE;
        for (column, row) in rows.clone().enumerate() {
            prefetch(row.as_ptr().wrapping_add(at + AHEAD));
            for (out, &weight) in block.iter_mut().zip(&row[at..]) {
                out[column] = weight;
            }
        }
        for (out, line) in panel.iter_mut().zip(&block) {
            *out = *line;
        }
    }
}

/// Whether rows so many numbers apart are better packed: multiples of 4 KiB share a set of the first cache, which holds fewer
/// lines than a tile has rows.
pub(crate) fn rows_collide(stride: usize) -> bool {
    stride.is_multiple_of(1024)
}

/// Packs whole rows `[rows, inputs]` as tiles `[inputs, TILE]`; of the last, rows beyond the last are left as they are.
pub(crate) fn pack_tiles(x: &[f32], inputs: usize, tiles: &mut [f32]) {
    for (x, tile) in x.chunks(TILE * inputs).zip(tiles.chunks_exact_mut(TILE * inputs)) {
        for (index, tile) in tile.as_chunks_mut::<TILE>().0.chunks_mut(LINE).enumerate() {
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                for (out, &x) in tile.iter_mut().zip(&x[index * LINE..]) {
                    out[row] = x;
                }
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

impl<'a> Left<'a> {
    /// The tile that starts at a row, a multiple of [`TILE`]; rows are `inner` long.
    pub(crate) fn tile(self, row: usize, inner: usize) -> Self {
        let stride = match self.layout {
            Layout::Tiles => inner,
            Layout::Rows(stride) => stride,
        };
        Self { data: &self.data[row * stride..], rows: TILE.min(self.rows - row), ..self }
    }

    /// Elements that must be there.
    fn length(self, inner: usize) -> usize {
        match self.layout {
            Layout::Tiles => self.rows.next_multiple_of(TILE) * inner,
            Layout::Rows(stride) => self.rows.saturating_sub(1) * stride + inner,
        }
    }
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
    assert!(left.data.len() >= left.length(inner) && width <= PANEL, "product: operands are too short");
    let (tiles, row_stride) = match left.layout {
        Layout::Tiles => (&TILES, inner),
        Layout::Rows(stride) => (&ROW_TILES, stride),
    };
    for row in (0..left.rows).step_by(TILE) {
        let left = left.tile(row, inner);
        // SAFETY: the left side holds these rows of `inner` numbers, as the assertion has shown, and the panel `inner` rows;
        // of `out` these rows are there, by the caller's promise.
        unsafe {
            let (out, panel) = (out.add(row * stride), panel.as_ptr());
            tiles[left.rows - 1](left.data.as_ptr(), row_stride, inner, panel, out, stride, width, accumulate);
        }
    }
}

type Tile = unsafe fn(*const f32, usize, usize, *const f32, *mut f32, usize, usize, bool);

/// A tile for each number of rows, from 1 on: of packed rows, and of rows as they lie.
static TILES: [Tile; TILE] = tiles!(true);
static ROW_TILES: [Tile; TILE] = tiles!(false);

/// # Safety
/// The processor has AVX-512F. `left` is `[inner, TILE]` if `PACKED`, else `ROWS` rows of `inner`, `row_stride` apart;
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
                let at = if PACKED { at * TILE + row } else { row * row_stride + at };
                let left = _mm512_set1_ps(*left.add(at));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                let out = out.wrapping_add(row * stride + vector * 16);
                if width == PANEL {
                    // What reads it back at once does not wait, as it would for a store behind a mask.
                    _mm512_storeu_ps(out, sum);
                } else {
                    _mm512_mask_storeu_ps(out, mask(vector), sum);
                }
            }
        }
    }
}
