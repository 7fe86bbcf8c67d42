//! A mask as runs of voxels: all structures of a case fit into memory.

/// A mask of one byte per voxel, as the first voxel and the length of each run that is set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Runs {
    runs: Vec<(usize, usize)>,
    length: usize,
}

impl Runs {
    /// Packs a mask; every voxel other than 0 is set.
    pub(super) fn of(mask: &[u8]) -> Self {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (index, _) in mask.iter().enumerate().filter(|(_, voxel)| **voxel != 0) {
            match runs.last_mut() {
                Some((start, length)) if *start + *length == index => *length += 1,
                _ => runs.push((index, 1)),
            }
        }
        Self { runs, length: mask.len() }
    }

    /// The voxels that are set.
    pub(super) fn voxels(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().flat_map(|&(start, length)| start..start + length)
    }

    /// The mask: 1 where it is set.
    pub(super) fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0; self.length];
        self.runs.iter().for_each(|&(start, length)| mask[start..start + length].fill(1));
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    #[test]
    fn a_mask_comes_back_as_it_was() {
        for mask in [vec![], vec![0, 0], vec![1, 1], vec![1, 0, 1, 1, 0, 0, 1]] {
            let runs = Runs::of(&mask);
            assert_eq!(runs.mask(), mask);
            assert!(runs.voxels().eq((0..mask.len()).filter(|&voxel| mask[voxel] == 1)));
        }
    }
}
