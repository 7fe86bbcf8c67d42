//! The products themselves: a few rows times a panel of columns, all sums in registers.

use half::bf16;

/// Columns of a panel: two registers of float32 sums.
pub(super) const PANEL: usize = 32;
/// Rows of a tile. With two registers of columns for each, 24 sums and two operands fit into the 32 registers there are.
pub(super) const TILE: usize = 12;

/// What multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `vdpbf16ps` on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// float32 instructions, one number at a time.
    Portable,
}

impl Unit {
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            return Self::Avx512Bf16;
        }
        Self::Portable
    }

    /// All that can be tested on this machine.
    #[cfg(test)]
    pub(super) fn available() -> Vec<Self> {
        let mut all = vec![Self::detect()];
        all.extend((all[0] != Self::Portable).then_some(Self::Portable));
        all
    }
}

/// Elements of the panels of a right side of `inner` rows and `columns` columns.
///
/// Panels lie one after another, each `[inner / 2][PANEL][2]`: two neighbouring rows of a column side by side, as the
/// instruction wants them. Rows and columns that are not there are zero.
pub(super) fn panel_elements(inner: usize, columns: usize) -> usize {
    columns.div_ceil(PANEL) * panel_length(inner)
}

/// Elements of one panel.
pub(super) fn panel_length(inner: usize) -> usize {
    inner.next_multiple_of(2) * PANEL
}

/// Fills one panel with `element(row, column)` of a right side of `inner` rows and, in this panel, `columns` columns.
#[inline(always)]
pub(super) fn fill_panel(inner: usize, columns: usize, panel: &mut [bf16], element: impl Fn(usize, usize) -> bf16) {
    for (pair, both) in panel.chunks_exact_mut(2 * PANEL).enumerate() {
        for (column, out) in both.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            for (half, out) in out.iter_mut().enumerate() {
                let row = 2 * pair + half;
                *out = if row < inner && column < columns { element(row, column) } else { bf16::ZERO };
            }
        }
    }
}

/// Numbers of a line of the cache.
const LINE: usize = 32;

/// [`fill_panel`] of up to [`PANEL`] columns, each without gaps in memory and `inner` long, an even number; columns beyond the
/// last are zero.
///
/// # Panics
/// If a column is shorter than the panel, or there are more.
pub(super) fn pack_columns<'a>(columns: impl Iterator<Item = &'a [bf16]> + Clone, panel: &mut [bf16]) {
    // Turned in the first cache, so that what is written is whole lines.
    let mut block = [[[bf16::ZERO; 2]; PANEL]; LINE / 2];
    let pairs = panel.as_chunks_mut::<2>().0.as_chunks_mut::<PANEL>().0;
    for (index, pairs) in pairs.chunks_mut(LINE / 2).enumerate() {
        for (column, numbers) in columns.clone().enumerate() {
            for (out, &pair) in block.iter_mut().zip(numbers[index * LINE..].as_chunks::<2>().0) {
                out[column] = pair;
            }
        }
        for (out, pair) in pairs.iter_mut().zip(&block) {
            *out = *pair;
        }
    }
}

/// [`fill_panel`] of rows, each without gaps in memory; what the panel has beyond them is zero.
///
/// # Panics
/// If a row is longer than a panel is wide.
pub(super) fn pack_rows<'a>(mut rows: impl Iterator<Item = &'a [bf16]>, panel: &mut [bf16]) {
    for pair in panel.as_chunks_mut::<2>().0.as_chunks_mut::<PANEL>().0 {
        let mut both = [[bf16::ZERO; PANEL]; 2];
        for (to, row) in both.iter_mut().zip(rows.by_ref()) {
            to[..row.len()].copy_from_slice(row);
        }
        for (out, (&a, &b)) in pair.iter_mut().zip(both[0].iter().zip(&both[1])) {
            *out = [a, b];
        }
    }
}

/// The left side of a product: rows of an even number of bfloat16, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub data: &'a [bf16],
    pub stride: usize,
    pub rows: usize,
}

/// `out = left * panel`, or `+=` if `accumulate`; rows of `out` hold [`PANEL`] sums and lie `out_stride` apart.
///
/// # Panics
/// If the panel is not whole pairs of rows, or a slice ends before its last row does.
pub(super) fn product(unit: Unit, left: Left, panel: &[bf16], out: &mut [f32], out_stride: usize, accumulate: bool) {
    let pairs = panel.len() / (2 * PANEL);
    assert_eq!(panel.len(), 2 * PANEL * pairs, "product: not whole pairs of rows");
    let Some(last) = left.rows.checked_sub(1) else { return };
    assert!(last * left.stride + 2 * pairs <= left.data.len(), "product: left ends early");
    assert!(last * out_stride + PANEL <= out.len(), "product: out ends early");
    let mut row = 0;
    while row < left.rows {
        let rows = TILE.min(left.rows - row);
        match unit {
            // SAFETY: the unit was detected. The assertions keep the tile's rows inside `left` and `out`, and the pairs
            // inside the panel.
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512Bf16 => unsafe {
                let left_tile = left.data.as_ptr().add(row * left.stride);
                let out_tile = out.as_mut_ptr().add(row * out_stride);
                let tile = x86::TILES[rows - 1];
                tile(left_tile, left.stride, pairs, panel.as_ptr(), out_tile, out_stride, accumulate);
            },
            Unit::Portable => {
                for row in row..row + rows {
                    let left = &left.data[row * left.stride..][..2 * pairs];
                    portable(left, panel, &mut out[row * out_stride..][..PANEL], accumulate);
                }
            }
        }
        row += rows;
    }
}

fn portable(left: &[bf16], panel: &[bf16], out: &mut [f32], accumulate: bool) {
    for (column, out) in out.iter_mut().enumerate() {
        let mut sum = if accumulate { *out } else { 0.0 };
        for (left, panel) in left.as_chunks::<2>().0.iter().zip(panel.chunks_exact(2 * PANEL)) {
            sum += left[0].to_f32() * panel[2 * column].to_f32() + left[1].to_f32() * panel[2 * column + 1].to_f32();
        }
        *out = sum;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{PANEL, TILE};
    use half::bf16;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Registers of a row's sums.
    const VECTORS: usize = PANEL / 16;

    type Tile = unsafe fn(*const bf16, usize, usize, *const bf16, *mut f32, usize, bool);

    /// A tile for each number of rows, from 1 on.
    pub(super) static TILES: [Tile; TILE] = [
        tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>, tile::<9>, tile::<10>,
        tile::<11>, tile::<12>,
    ];

    /// # Safety
    /// The processor has AVX512-BF16. `left` holds `ROWS` rows of `2 * pairs`, `stride` apart; `panel` `pairs` times two
    /// rows of `PANEL`; `out` `ROWS` rows of `PANEL`, `out_stride` apart, that nothing else uses.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const ROWS: usize>(
        left: *const bf16,
        stride: usize,
        pairs: usize,
        panel: *const bf16,
        out: *mut f32,
        out_stride: usize,
        accumulate: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        // SAFETY: every address lies within what the caller promises; a register is 32 bfloat16 or 16 float32, loads and
        // stores need no alignment, and `__m512bh` has the size of what it is made from.
        unsafe {
            if accumulate {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_loadu_ps(out.add(row * out_stride + vector * 16));
                    }
                }
            }
            for pair in 0..pairs {
                let mut right = [_mm512_setzero_si512(); VECTORS];
                for (vector, right) in right.iter_mut().enumerate() {
                    *right = _mm512_loadu_si512(panel.add((pair * VECTORS + vector) * 32).cast());
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let both = left.add(row * stride + 2 * pair).cast::<i32>().read_unaligned();
                    let both = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(both));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm512_dpbf16_ps(*sum, both, transmute::<__m512i, __m512bh>(right));
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(out.add(row * out_stride + vector * 16), sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::round;
    use super::*;
    use crate::testing::{max_error, random};

    #[test]
    fn products_agree_with_f64() {
        for (rows, inner) in [(1usize, 2usize), (12, 64), (13, 30), (25, 768), (0, 4), (11, 7)] {
            let stride = inner.next_multiple_of(2) + 6;
            let left: Vec<bf16> = random(rows * stride + 8, 1).into_iter().map(round).collect();
            let right: Vec<bf16> = random(inner * PANEL, 2).into_iter().map(round).collect();
            let mut panel = vec![bf16::NAN; panel_length(inner)];
            fill_panel(inner, PANEL - 3, &mut panel, |row, column| right[row * PANEL + column]);
            let before = random(rows * PANEL, 3);
            let want = |accumulate: bool| -> Vec<f64> {
                let element = |row: usize, column: usize| -> f64 {
                    let start = if accumulate { f64::from(before[row * PANEL + column]) } else { 0.0 };
                    let columns = if column < PANEL - 3 { inner } else { 0 };
                    let products =
                        (0..columns).map(|i| left[row * stride + i].to_f64() * right[i * PANEL + column].to_f64());
                    start + products.sum::<f64>()
                };
                (0..rows * PANEL).map(|at| element(at / PANEL, at % PANEL)).collect()
            };
            for (unit, accumulate) in Unit::available().into_iter().flat_map(|unit| [(unit, false), (unit, true)]) {
                let mut got = before.clone();
                product(unit, Left { data: &left, stride, rows }, &panel, &mut got, PANEL, accumulate);
                let error = max_error(&got, &want(accumulate));
                assert!(error < 2e-5 * (inner as f64).sqrt(), "{unit:?}, {rows} x {inner}: error {error:e}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "left ends early")]
    fn a_short_left_side_is_refused() {
        let (left, panel) = ([bf16::ZERO; 7], [bf16::ZERO; 2 * PANEL]);
        let left = Left { data: &left, stride: 6, rows: 2 };
        product(Unit::Portable, left, &panel, &mut [0.0; 2 * PANEL], PANEL, false);
    }
}
