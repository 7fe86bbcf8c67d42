//! The result of one segmentation.

use crate::prompt::{Modality, Mode, PromptSet};
use adaptmedseg_volume::{Geometry, Volume};
use serde::Serialize;

/// A mask on the image's own grid, and how it came about. Kept for undo, so the mask is packed to bits.
#[derive(Clone, Debug)]
pub struct Outcome {
    geometry: Geometry,
    bits: Vec<u64>,
    report: Report,
}

impl Outcome {
    pub(crate) fn new(geometry: Geometry, mask: &[bool], mut report: Report) -> Self {
        let bits = mask
            .chunks(64)
            .map(|chunk| chunk.iter().enumerate().fold(0, |word, (bit, &set)| word | u64::from(set) << bit))
            .collect();
        report.mask_voxels = mask.iter().filter(|&&set| set).count() as u64;
        report.mask_ml = report.mask_voxels as f64 * geometry.voxel_volume_mm3() / 1000.0;
        Self { geometry, bits, report }
    }

    fn voxels_set(&self) -> impl Iterator<Item = bool> {
        (0..self.geometry.voxel_count()).map(|index| self.bits[index / 64] >> (index % 64) & 1 == 1)
    }

    /// The mask, 1 in the structure and 0 elsewhere, on the image's own grid.
    pub fn mask(&self) -> Volume<u8> {
        Volume { geometry: self.geometry.clone(), data: self.voxels_set().map(u8::from).collect() }
    }

    /// Writes the mask into a buffer of one byte per voxel, i fastest: `label` in the structure, 0 elsewhere.
    ///
    /// # Panics
    /// If `out` is not as long as the image has voxels.
    pub fn write_mask(&self, out: &mut [u8], label: u8) {
        assert_eq!(out.len(), self.geometry.voxel_count(), "one byte per voxel");
        out.iter_mut().zip(self.voxels_set()).for_each(|(out, set)| *out = if set { label } else { 0 });
    }

    /// Voxels in the structure.
    pub fn voxels(&self) -> u64 {
        self.report.mask_voxels
    }

    /// Volume of the structure in millilitres.
    pub fn volume_ml(&self) -> f64 {
        self.report.mask_ml
    }

    /// How the mask came about.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// How the volume was segmented.
    pub mode: Mode,
    /// Where the scan comes from, as the caller said.
    pub modality: Modality,
    /// The prompts.
    pub prompts: PromptSet,
    /// Windows of the zoom-in.
    pub windows_total: usize,
    /// Windows that had to be encoded, the zoom-out's included.
    pub windows_encoded: usize,
    /// Windows whose encoding was found again.
    pub windows_cached: usize,
    /// The region zoomed into, as voxels of the image: inclusive start, exclusive end. None where the zoom-out found
    /// nothing to zoom into.
    pub region: Option<[[usize; 3]; 2]>,
    /// Time of each stage.
    pub seconds: Seconds,
    /// Voxels in the mask.
    pub mask_voxels: u64,
    /// Volume of the mask in millilitres.
    pub mask_ml: f64,
    /// Anything the caller should know.
    pub notes: Vec<String>,
}

/// Seconds of wall-clock time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Normalising, cropping, resizing the image.
    pub preprocess: f64,
    /// Encoding windows.
    pub encode: f64,
    /// Encoding the text.
    pub text: f64,
    /// Decoding prompts.
    pub decode: f64,
    /// Putting windows together and the mask on its grid.
    pub stitch: f64,
    /// All of it.
    pub total: f64,
}
