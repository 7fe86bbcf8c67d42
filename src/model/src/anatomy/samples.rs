//! A scan as bodies are fitted to it: its means over samples, and how much of these a body tells.

use super::whole_body::WholeBody;

/// Millimetres along each edge of a sample of the scan.
const SAMPLE: f32 = 7.0;
/// Bins of equal size that the intensities of samples are put into.
const BINS: usize = 24;
/// Counts of a label in a table of them.
const ROW: usize = BINS.next_power_of_two();

/// Means of a scan over samples of equal size, by bins.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    bins: Vec<u8>,
    /// Samples along (d, h, w).
    pub(super) count: [usize; 3],
    /// Where the first sample begins, and their length, in voxels.
    pub(super) low: [f32; 3],
    pub(super) edge: [f32; 3],
}

impl Samples {
    /// Of the box of the body in a scan, over all of its planes.
    pub(super) fn new(image: &[f32], size: [usize; 3], spacing: [f32; 3], body: [[f32; 3]; 2]) -> Self {
        let [mut low, mut high] = body;
        (low[0], high[0]) = (-0.5, size[0] as f32 - 0.5);
        let count: [usize; 3] = std::array::from_fn(|axis| {
            let voxels = (high[axis] - low[axis]).max(1.0);
            ((voxels * spacing[axis] / SAMPLE).round() as usize).clamp(1, voxels as usize)
        });
        let edge: [f32; 3] = std::array::from_fn(|axis| (high[axis] - low[axis]).max(1.0) / count[axis] as f32);
        let sample: [Vec<Option<usize>>; 3] = std::array::from_fn(|axis| {
            let at = |voxel: usize| (voxel as f32 - low[axis]) / edge[axis];
            (0..size[axis])
                .map(|voxel| (at(voxel) >= 0.0 && at(voxel) < count[axis] as f32).then(|| at(voxel) as usize))
                .collect()
        });
        let mut sums = vec![(0f32, 0f32); count.iter().product()];
        for (d, plane) in image.chunks_exact(size[1] * size[2]).enumerate() {
            let Some(d) = sample[0][d] else { continue };
            for (h, row) in plane.chunks_exact(size[2]).enumerate() {
                let Some(h) = sample[1][h] else { continue };
                let sums = &mut sums[(d * count[1] + h) * count[2]..][..count[2]];
                for (value, w) in row.iter().zip(&sample[2]) {
                    if let Some(w) = *w {
                        sums[w].0 += value;
                        sums[w].1 += 1.0;
                    }
                }
            }
        }
        let means: Vec<f32> = sums.into_iter().map(|(sum, count)| sum / f32::max(count, 1.0)).collect();
        let mut order: Vec<usize> = (0..means.len()).collect();
        order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
        let mut bins = vec![0; means.len()];
        for (rank, index) in order.into_iter().enumerate() {
            bins[index] = (rank * BINS / means.len()) as u8;
        }
        Self { bins, count, low, edge }
    }

    /// How much of the intensities a body tells where it lies, in nats by sample; less where it does not cover the scan.
    pub(super) fn told(&self, body: &WholeBody, cells: &[Vec<Option<usize>>; 3], shift: [i32; 3]) -> f32 {
        // Neighbours often count as the same: in turns, lest each waits for the one before it to be written.
        let mut counts = [[0u32; ROW]; 256];
        let mut others = [[0u32; ROW]; 256];
        let (mut covered, mut total) = (0u32, 0u32);
        let moved = |axis: usize, cell: Option<usize>| {
            cell.map(|cell| cell as i32 + shift[axis])
                .filter(|cell| (0..body.size[axis] as i32).contains(cell))
                .map(|cell| cell as usize)
        };
        // Cells follow one another as samples do: those that there are have no gap.
        let first = cells[2].iter().take_while(|&&cell| moved(2, cell).is_none()).count();
        let across: Vec<usize> = cells[2][first..].iter().map_while(|&cell| moved(2, cell)).collect();
        for (d, &cell) in cells[0].iter().enumerate() {
            let Some(cell_d) = moved(0, cell) else {
                total += (cells[1].len() * cells[2].len()) as u32;
                continue;
            };
            for (h, &cell) in cells[1].iter().enumerate() {
                total += cells[2].len() as u32;
                let Some(cell_h) = moved(1, cell) else { continue };
                let row = &body.labels[(cell_d * body.size[1] + cell_h) * body.size[2]..][..body.size[2]];
                let bins = &self.bins[(d * self.count[1] + h) * self.count[2] + first..][..across.len()];
                covered += across.len() as u32;
                let label = |cell: usize| usize::from(row[cell]);
                // Never beyond the row, which the compiler does not know.
                let bin = |bin: u8| usize::from(bin) % ROW;
                let (cell_pairs, bin_pairs) = (across.chunks_exact(2), bins.chunks_exact(2));
                for (&cell, &at) in cell_pairs.remainder().iter().zip(bin_pairs.remainder()) {
                    counts[label(cell)][bin(at)] += 1;
                }
                for (cells, bins) in cell_pairs.zip(bin_pairs) {
                    counts[label(cells[0])][bin(bins[0])] += 1;
                    others[label(cells[1])][bin(bins[1])] += 1;
                }
            }
        }
        if covered == 0 {
            return 0.0;
        }
        let sum = covered as f32;
        let term = |count: u32| if count > 0 { count as f32 / sum * (count as f32 / sum).ln() } else { 0.0 };
        let mut by_bin = [0u32; BINS];
        let (mut joint, mut by_label, mut labels) = (0.0, 0.0, 0);
        counts.as_flattened_mut().iter_mut().zip(others.as_flattened()).for_each(|(count, other)| *count += other);
        for counts in counts.iter().map(|counts| &counts[..BINS]) {
            let count: u32 = counts.iter().sum();
            if count > 0 {
                labels += 1;
                by_label += term(count);
                joint += counts.iter().copied().map(term).sum::<f32>();
                by_bin.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
        let by_bin: f32 = by_bin.into_iter().map(term).sum();
        // Labels of few samples tell too much by chance (Miller, 1955).
        let chance = ((labels - 1) * (BINS - 1)) as f32 / (2.0 * sum);
        (joint - by_label - by_bin - chance) * sum / total as f32
    }

    /// As [`told`](Self::told), of the samples that have a cell alone.
    pub(super) fn told_near(&self, body: &WholeBody, cells: &[Vec<Option<usize>>; 3], shift: [i32; 3]) -> f32 {
        let share: f32 =
            cells.iter().map(|cells| cells.iter().flatten().count() as f32 / cells.len().max(1) as f32).product();
        self.told(body, cells, shift) / share.max(1e-6)
    }
}
