//! Real volumes, from file to what the network is shown.

use adaptmedseg_parity::{Bundle, assert_close_slices, bundles, data_folder};
use adaptmedseg_volume::preprocess::{
    CLIP_PERCENTILES, crop_slice, foreground_normalise, foreground_region, min_max_normalise, resize_nearest_exact,
};
use adaptmedseg_volume::{ReadOptions, Region, Volume, read, read_info};
use serde_json::{Value, json};

/// Float32 statistics there and double precision here: a few units in the last place of a standardised voxel.
const NORMALISED: (f32, f32) = (2e-6, 2e-6);

fn dhw([x, y, z]: [usize; 3]) -> Value {
    json!([z, y, x])
}

fn compare_crop(image: &Volume<f32>, facts: &Value) -> Region {
    let region = foreground_region(image).expect("a foreground");
    assert_eq!(dhw(region.start), facts["start"], "crop start");
    assert_eq!(dhw(region.end), facts["end"], "crop end");
    region
}

fn compare_zoom(bundle: &Bundle, name: &str, image: &[f32], size: [usize; 3], window: [usize; 3]) {
    if bundle.has(name) {
        assert_close_slices(bundle, name, &resize_nearest_exact(image, size, window), NORMALISED);
    }
}

#[test]
fn parity_preprocessing() {
    let Some(data) = data_folder() else { return };
    for bundle in bundles("prep", "prep_") {
        let path = data.join(bundle.json["source"].as_str().expect("a file name"));
        let info = read_info(&path).expect("a header");
        assert_eq!(json!(info.geometry.size), bundle.json["raw"]["file_shape"], "size");
        assert_eq!(json!(info.geometry.axis_codes()), bundle.json["raw"]["orientation"], "orientation");
        let raw = read(&path, &ReadOptions::default()).expect("a volume");

        let mut image = raw.clone();
        let stats = foreground_normalise(&mut image.data, CLIP_PERCENTILES).expect("not constant");
        let facts = &bundle.json["foreground_norm"];
        for (got, name) in
            [(stats.threshold, "threshold"), (stats.mean, "mean"), (stats.lower, "lower"), (stats.upper, "upper")]
        {
            let wanted = facts[&format!("{name}_f64")].as_f64().expect("a number");
            let error = (f64::from(got) - wanted).abs() / wanted.abs().max(1.0);
            assert!(error < 1e-6, "{} {name}: {got}, reference {wanted}", bundle.name);
        }
        // The reference stores this one x slowest; here x is fastest.
        let [nx, ny, nz] = image.geometry.size;
        let turned: Vec<f32> = (0..nx * ny * nz)
            .map(|index| image.data[index / (ny * nz) + nx * (index / nz % ny + ny * (index % nz))])
            .collect();
        assert_close_slices(&bundle, "norm", &turned, (5e-6, 5e-6));

        min_max_normalise(&mut image.data).expect("not constant");
        let region = compare_crop(&image, &bundle.json["crop"]);
        let cropped = crop_slice(&image.data, image.geometry.size, &region);
        assert_close_slices(&bundle, "image", &cropped, NORMALISED);
        compare_zoom(&bundle, "zoom_mini.image", &cropped, region.size(), [64, 64, 16]);
        compare_zoom(&bundle, "zoom_full.image", &cropped, region.size(), [256, 256, 32]);

        // The same without foreground normalisation, as the data set writer of the original leaves it (quirk 38).
        let mut plain = raw;
        min_max_normalise(&mut plain.data).expect("not constant");
        let region = compare_crop(&plain, &bundle.json["raw_zoom_chain"]);
        let cropped = crop_slice(&plain.data, plain.geometry.size, &region);
        compare_zoom(&bundle, "raw_zoom_chain.zoom_full.image", &cropped, region.size(), [256, 256, 32]);
    }
}
