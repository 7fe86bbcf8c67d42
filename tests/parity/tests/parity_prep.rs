//! Real volumes, from file to what the network is shown.

use adaptmedseg_parity::{Bundle, assert_close_slices, bundles, data_folder};
use adaptmedseg_volume::preprocess::{
    CLIP_PERCENTILES, bounding_region, crop_slice, foreground_normalise, foreground_region, min_max_normalise,
    resize_nearest_exact,
};
use adaptmedseg_volume::{ReadOptions, Region, Volume, read, read_info, read_labels};
use serde_json::{Value, json};
use std::path::Path;

/// Float32 statistics there and double precision here: a few units in the last place of a standardised voxel.
const NORMALISED: (f32, f32) = (2e-6, 2e-6);

fn dhw([x, y, z]: [usize; 3]) -> Value {
    json!([z, y, x])
}

/// The reference stores an array in the file's axis order, z fastest; here x is.
fn z_fastest(volume: &Volume<f32>) -> Vec<f32> {
    let [nx, ny, nz] = volume.geometry.size;
    (0..nx * ny * nz).map(|index| volume.data[index / (ny * nz) + nx * (index / nz % ny + ny * (index % nz))]).collect()
}

/// Compares the foreground's region, and the crop at every zoom the bundle has under `prefix`.
fn compare_crop(bundle: &Bundle, image: &Volume<f32>, facts: &Value, prefix: &str) -> Region {
    let region = foreground_region(image).expect("a foreground");
    assert_eq!(dhw(region.start), facts["start"], "{} {prefix}crop start", bundle.name);
    assert_eq!(dhw(region.end), facts["end"], "{} {prefix}crop end", bundle.name);
    let cropped = crop_slice(&image.data, image.geometry.size, &region);
    if prefix.is_empty() {
        assert_close_slices(bundle, "image", &cropped, NORMALISED);
    }
    for (zoom, size) in ZOOMS {
        let name = format!("{prefix}{zoom}.image");
        if bundle.has(&name) {
            assert_close_slices(bundle, &name, &resize_nearest_exact(&cropped, region.size(), size), NORMALISED);
        }
    }
    region
}

/// Zoom-out sizes, x first.
const ZOOMS: [(&str, [usize; 3]); 2] = [("zoom_mini", [64, 64, 16]), ("zoom_full", [256, 256, 32])];

#[test]
fn parity_preprocessing() {
    let bundles = bundles("prep", "prep_");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        let name = &bundle.name;
        let path = data.join(bundle.json["source"].as_str().expect("a file name"));
        let info = read_info(&path).expect("a header");
        let facts = &bundle.json["raw"];
        assert_eq!(json!(info.geometry.size), facts["file_shape"], "{name}: size");
        assert_eq!(json!(info.geometry.axis_codes()), facts["orientation"], "{name}: orientation");
        for (axis, zoom) in facts["zooms"].as_array().expect("zooms").iter().enumerate() {
            assert!((info.geometry.spacing[axis] - zoom.as_f64().expect("mm")).abs() < 1e-5, "{name}: spacing {axis}");
        }
        let raw = read(&path, &ReadOptions::default()).expect("a volume");
        assert_close_slices(&bundle, "m3d_image_npy", &z_fastest(&raw), (0.0, 0.0));

        let mut image = raw.clone();
        let stats = foreground_normalise(&mut image.data, CLIP_PERCENTILES).expect("not constant");
        let facts = &bundle.json["foreground_norm"];
        for (got, what) in [
            (stats.threshold, "threshold"),
            (stats.lower, "lower"),
            (stats.upper, "upper"),
            (stats.mean, "mean"),
            (stats.std, "std"),
        ] {
            let wanted = facts[&format!("{what}_f64")].as_f64().expect("a number");
            let error = (f64::from(got) - wanted).abs() / wanted.abs().max(1.0);
            assert!(error < 1e-6, "{name} {what}: {got}, reference {wanted}");
        }
        assert_close_slices(&bundle, "norm", &z_fastest(&image), (5e-6, 5e-6));

        min_max_normalise(&mut image.data).expect("not constant");
        let region = compare_crop(&bundle, &image, &bundle.json["crop"], "");
        compare_label(&bundle, &data, &image, &region);

        // The same without foreground normalisation, as the data set writer of the original leaves it (quirk 38).
        let mut plain = raw;
        min_max_normalise(&mut plain.data).expect("not constant");
        compare_crop(&bundle, &plain, &bundle.json["raw_zoom_chain"], "raw_zoom_chain.");
    }
}

/// A label goes the image's way: the same crop, the same rule of resampling.
fn compare_label(bundle: &Bundle, folder: &Path, image: &Volume<f32>, region: &Region) {
    let (Some(file), Some(value)) = (bundle.json["label"].as_str(), bundle.json["label_value"].as_i64()) else {
        return;
    };
    let labels = read_labels(&folder.join(file), &ReadOptions::default()).expect("labels");
    assert!(labels.geometry.is_close(&image.geometry, 1e-3), "{file} is on another grid");
    let mask: Vec<bool> = labels.data.iter().map(|&label| i64::from(label) == value).collect();
    let cropped = crop_slice(&mask, image.geometry.size, region);
    let facts = &bundle.json["label_stats"];
    for (zoom, size) in ZOOMS {
        let small = resize_nearest_exact(&cropped, region.size(), size);
        let sum = small.iter().filter(|&&set| set).count();
        assert_eq!(json!(sum), facts[format!("{zoom}_sum")], "{} {zoom}: label voxels", bundle.name);
        let region = bounding_region(&small, size, |&set| set).expect("a label");
        let [low, high] = [region.start, region.end.map(|end| end - 1)].map(|[x, y, z]| [z, y, x]);
        assert_eq!(json!([low, high].concat()), facts[format!("box_{zoom}")], "{} {zoom}: box", bundle.name);
        let bits = format!("{zoom}.label_bits");
        if bundle.has(&bits) {
            assert_eq!(bundle.bits(&bits, small.len()), small, "{} {bits}", bundle.name);
        }
    }
}
