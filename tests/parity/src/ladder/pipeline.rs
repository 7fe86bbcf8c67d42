//! Whole volumes in reference mode: file, pre-processing, zoom-out, region, zoom-in, logits, mask.

use crate::{Open, assert_close_slices, bundles, data_folder, golden_model, pipeline_run, tolerance};
use adaptmedseg_segment::volume::preprocess::{bounding_region, crop_slice};

/// The masks of [`whole_volumes`] are the reference's, to 0.999 of Dice, on an engine that computes in half precision.
///
/// # Panics
/// Where one is not.
pub fn masks_in_half_precision(open: Open) {
    let bundles = bundles("pipeline", "pipe_mini");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        let session = pipeline_run(&bundle, &data, &golden_model(&bundle, open));
        let whole = session.logits().expect("just computed");
        let crop = bounding_region(&whole.data, whole.geometry.size, |&logit| logit > -100.0).expect("a foreground");
        let mask = crop_slice(&session.outcome().expect("just computed").mask().data, whole.geometry.size, &crop);
        let wanted = bundle.bits("final.mask_bits", mask.len());
        let both = mask.iter().zip(&wanted).filter(|(voxel, wanted)| **voxel == 1 && **wanted).count();
        let [mine, theirs] =
            [mask.iter().filter(|voxel| **voxel == 1).count(), wanted.iter().filter(|wanted| **wanted).count()];
        let dice = 2.0 * both as f64 / (mine + theirs) as f64;
        println!("{}: Dice {dice:.5} with the reference in float32", bundle.name);
        assert!(dice >= 0.999, "{}: Dice {dice}", bundle.name);
    }
}

/// Whole volumes in reference mode, on the engine that `open` makes.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn whole_volumes(open: Open) {
    let bundles = bundles("pipeline", "pipe_");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        let session = pipeline_run(&bundle, &data, &golden_model(&bundle, open));
        let windows = session.outcome().expect("just computed").report().windows_total as u64;
        assert_eq!(Some(windows), bundle.json["num_windows"].as_u64(), "{}: windows", bundle.name);

        // The reference keeps to the cropped foreground, (D, H, W) of which x is the fastest axis.
        let whole = session.logits().expect("just computed");
        let size = whole.geometry.size;
        let crop = bounding_region(&whole.data, size, |&logit| logit > -100.0).expect("a foreground");
        let [w, h, d] = crop.size();
        assert_eq!(serde_json::json!([d, h, w]), bundle.json["image_shape"], "{}: foreground", bundle.name);
        let logits = crop_slice(&whole.data, size, &crop);
        assert_close_slices(&bundle, "final.logits", &logits, tolerance::PIPELINE);

        let wanted = bundle.bits("final.mask_bits", logits.len());
        let mask = crop_slice(&session.outcome().expect("just computed").mask().data, size, &crop);
        // A voxel whose logit is smaller than the error of logits may fall to either side.
        let flipped = (0..logits.len())
            .filter(|&voxel| (mask[voxel] == 1) != wanted[voxel] && logits[voxel].abs() > tolerance::PIPELINE.1);
        assert_eq!(flipped.count(), 0, "{}: mask", bundle.name);
        let near = (0..logits.len()).filter(|&voxel| (mask[voxel] == 1) != wanted[voxel]).count();
        println!("{}: {near} of {} mask voxels on the other side of zero", bundle.name, logits.len());
    }
}
