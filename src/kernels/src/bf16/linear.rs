//! Linear layer on bfloat16.

use super::tile::{self, Left, PANEL, Unit, fill_panel, panel_elements, panel_length, product};
use super::{round, round_all};
use crate::cpu::{Cpu, Kernel};
use crate::gelu::gelu_in_place;
use crate::linear::Epilogue;
use crate::matrix::SharedOutput;
use half::bf16;
use rayon::prelude::*;

/// Rows that a thread computes at a time: whole tiles, and with their inputs they stay in the second cache.
const BLOCK_ROWS: usize = 8 * tile::TILE;
/// Panels that it computes for them, so that there is work for many threads.
const BLOCK_PANELS: usize = 24;

/// A weight `[outputs, inputs]`, packed once for [`linear_bf16`].
#[derive(Clone)]
pub struct Bf16Weight {
    panels: Vec<bf16>,
    inputs: usize,
    outputs: usize,
}

impl std::fmt::Debug for Bf16Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bf16Weight").field("inputs", &self.inputs).field("outputs", &self.outputs).finish()
    }
}

impl Bf16Weight {
    /// Rounds and packs a weight: element (output, input) lies at `output * strides[0] + input * strides[1]`.
    ///
    /// # Panics
    /// If `inputs` is odd or zero, or an element lies beyond the slice.
    pub fn pack(weight: &[f32], outputs: usize, inputs: usize, strides: [usize; 2]) -> Self {
        assert!(inputs > 0 && inputs.is_multiple_of(2), "Bf16Weight: {inputs} inputs, which is not an even number");
        let last = outputs.saturating_sub(1) * strides[0] + (inputs - 1) * strides[1];
        assert!(outputs == 0 || last < weight.len(), "Bf16Weight: the weight ends early");
        let mut panels = vec![bf16::ZERO; panel_elements(inputs, outputs)];
        panels.par_chunks_mut(panel_length(inputs)).enumerate().for_each(|(index, panel)| {
            let first = index * PANEL;
            fill_panel(inputs, PANEL.min(outputs - first), panel, |input, output| {
                round(weight[(first + output) * strides[0] + input * strides[1]])
            });
        });
        Self { panels, inputs, outputs }
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Where the result of [`linear_bf16`] goes.
#[derive(Debug)]
pub enum Output<'a> {
    /// As it was summed.
    F32(&'a mut [f32]),
    /// Added to what is there.
    AddF32(&'a mut [f32]),
    /// Rounded, for the next product.
    Bf16(&'a mut [bf16]),
}

/// `out = epilogue(x weight^T + bias)`, sums in float32.
///
/// # Shapes
/// - x: `[rows, inputs]`
/// - bias: `[outputs]`
/// - out: `[rows, outputs]`
///
/// # Panics
/// If a slice is not as long as its shape says.
pub fn linear_bf16(x: &[bf16], weight: &Bf16Weight, bias: Option<&[f32]>, epilogue: Epilogue, out: Output) {
    linear_on(Cpu::detect(), Unit::detect(), x, weight, bias, epilogue, out);
}

/// Blocks of the output that different threads write.
#[derive(Clone, Copy)]
enum Shared {
    F32(SharedOutput<f32>, bool),
    Bf16(SharedOutput<bf16>),
}

fn linear_on(
    cpu: Cpu,
    unit: Unit,
    x: &[bf16],
    weight: &Bf16Weight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: Output,
) {
    let &Bf16Weight { ref panels, inputs, outputs } = weight;
    assert_eq!(x.len() % inputs, 0, "linear_bf16: x is not whole rows of {inputs}");
    let rows = x.len() / inputs;
    let length = rows.checked_mul(outputs).expect("linear_bf16: size overflows");
    let (got, shared) = match out {
        Output::F32(out) => (out.len(), Shared::F32(SharedOutput::new(out), false)),
        Output::AddF32(out) => (out.len(), Shared::F32(SharedOutput::new(out), true)),
        Output::Bf16(out) => (out.len(), Shared::Bf16(SharedOutput::new(out))),
    };
    assert_eq!(got, length, "linear_bf16: out is not [rows, outputs]");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "linear_bf16: bias is not [outputs]");
    }
    if let Epilogue::Add(residual) = epilogue {
        assert_eq!(residual.len(), length, "linear_bf16: residual is not [rows, outputs]");
    }
    let groups = outputs.div_ceil(PANEL * BLOCK_PANELS);
    let blocks = rows.div_ceil(BLOCK_ROWS) * groups;
    (0..blocks).into_par_iter().with_max_len(1).for_each(|block| {
        let first = block / groups * BLOCK_ROWS;
        let height = BLOCK_ROWS.min(rows - first);
        let left = Left { data: &x[first * inputs..], stride: inputs, rows: height };
        let panels = panels.chunks_exact(panel_length(inputs)).enumerate();
        let mut sums = [0.0; BLOCK_ROWS * PANEL];
        for (index, panel) in panels.skip(block % groups * BLOCK_PANELS).take(BLOCK_PANELS) {
            product(unit, left, panel, &mut sums, PANEL, false);
            let column = index * PANEL;
            let width = PANEL.min(outputs - column);
            let bias = bias.map(|bias| &bias[column..column + width]);
            let at = first * outputs + column;
            cpu.run(Finish { sums: &mut sums, height, width, bias, epilogue, out: shared, at, stride: outputs });
        }
    });
}

/// Bias, epilogue and the way out of one block.
struct Finish<'a> {
    /// `[height, PANEL]`
    sums: &'a mut [f32],
    height: usize,
    width: usize,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue<'a>,
    out: Shared,
    /// Where the block starts in the output and in the residual, and the width of their rows.
    at: usize,
    stride: usize,
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (row, sums) in self.sums.as_chunks_mut::<PANEL>().0.iter_mut().enumerate().take(self.height) {
            let at = self.at + row * self.stride;
            if let Some(bias) = self.bias {
                add(&mut sums[..self.width], bias);
            }
            match self.epilogue {
                Epilogue::None => {}
                Epilogue::Gelu => gelu_in_place::<FMA>(sums),
                Epilogue::Add(residual) => add(&mut sums[..self.width], &residual[at..at + self.width]),
            }
            match self.out {
                // SAFETY: `width` columns of one row from `at` on, inside the output, whose length was checked; blocks
                // are disjoint, and the output is borrowed mutably until all are done.
                Shared::F32(out, accumulate) => unsafe {
                    let out = std::slice::from_raw_parts_mut(out.at(at), self.width);
                    if accumulate {
                        add(out, &sums[..self.width]);
                    } else {
                        out.copy_from_slice(&sums[..self.width]);
                    }
                },
                // SAFETY: as above.
                Shared::Bf16(out) => unsafe {
                    round_all(&sums[..self.width], std::slice::from_raw_parts_mut(out.at(at), self.width));
                },
            }
        }
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

    #[test]
    fn layers_of_any_size_agree_with_f64_on_rounded_operands() {
        for (rows, inputs, outputs) in [(1, 2, 1), (97, 64, 33), (12, 768, 96), (200, 30, 800), (0, 4, 3), (3, 4, 0)] {
            let x: Vec<bf16> = random(rows * inputs, 1).into_iter().map(round).collect();
            let weight: Vec<f32> = random(outputs * inputs, 2).iter().map(|w| w / (inputs as f32).sqrt()).collect();
            let (bias, residual) = (random(outputs, 3), random(rows * outputs, 4));
            let plain: Vec<f64> = (0..rows * outputs)
                .map(|i| {
                    let (x, w) = (&x[i / outputs * inputs..][..inputs], &weight[i % outputs * inputs..][..inputs]);
                    let sum: f64 = x.iter().zip(w).map(|(x, &w)| x.to_f64() * round(w).to_f64()).sum();
                    sum + f64::from(bias[i % outputs])
                })
                .collect();
            let activated: Vec<f64> = plain.iter().map(|&y| gelu_f64(y)).collect();
            let summed: Vec<f64> = plain.iter().zip(&residual).map(|(y, &r)| y + f64::from(r)).collect();
            let packed = Bf16Weight::pack(&weight, outputs, inputs, [inputs, 1]);
            let columns: Vec<f32> =
                (0..weight.len()).map(|i| weight[i % outputs.max(1) * inputs + i / outputs.max(1)]).collect();
            assert_eq!(Bf16Weight::pack(&columns, outputs, inputs, [1, outputs]).panels, packed.panels);
            for (cpu, unit) in
                Cpu::available().into_iter().flat_map(|cpu| Unit::available().into_iter().map(move |u| (cpu, u)))
            {
                let run = |epilogue, out: Output| linear_on(cpu, unit, &x, &packed, Some(&bias), epilogue, out);
                let mut got = vec![f32::NAN; rows * outputs];
                let near = |got: &[f32], want: &[f64], most: f64| {
                    let error = max_error(got, want);
                    assert!(error < most, "{cpu:?}, {unit:?}, {rows} x {inputs} x {outputs}: error {error:e}");
                };
                run(Epilogue::None, Output::F32(&mut got));
                near(&got, &plain, 1e-5);
                run(Epilogue::Gelu, Output::F32(&mut got));
                near(&got, &activated, 1e-5);
                run(Epilogue::Add(&residual), Output::F32(&mut got));
                near(&got, &summed, 1e-5);
                got.copy_from_slice(&residual);
                run(Epilogue::None, Output::AddF32(&mut got));
                near(&got, &summed, 1e-5);
                let mut rounded = vec![bf16::NAN; rows * outputs];
                run(Epilogue::None, Output::Bf16(&mut rounded));
                let rounded: Vec<f32> = rounded.iter().map(|x| x.to_f32()).collect();
                // Half of the last of 8 bits, of numbers below 8.
                near(&rounded, &plain, 8.0 / 512.0 + 1e-5);
            }
        }
    }

    #[test]
    #[should_panic(expected = "out is not [rows, outputs]")]
    fn a_short_output_is_refused() {
        let weight = Bf16Weight::pack(&[0.0; 8], 2, 4, [4, 1]);
        linear_bf16(&[bf16::ZERO; 8], &weight, None, Epilogue::None, Output::F32(&mut [0.0; 3]));
    }
}
