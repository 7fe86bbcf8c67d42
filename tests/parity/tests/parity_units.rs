//! Small rules, each alone: regions, windows, index maps, normalisation, token ids, interpolation.

use adaptmedseg_model::mask_decoder::interpolate_trilinear;
use adaptmedseg_model::nn::{Kernels, gelu};
use adaptmedseg_model::{Device, Tokenizer};
use adaptmedseg_parity::{assert_close, bundles, notes, skipped, uniform};
use adaptmedseg_segment::reference::{region_of_interest, window_starts};
use adaptmedseg_volume::preprocess::{
    CLIP_PERCENTILES, bounding_region, foreground_normalise, nearest_exact_index, nearest_index,
};
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

fn list<const N: usize>(value: &Value) -> [usize; N] {
    let numbers: Vec<usize> = indices(value);
    numbers.try_into().expect("a list of the right length")
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().expect("a list").iter().map(|number| number.as_i64().expect("a number") as usize).collect()
}

fn cases<'a>(units: &'a Value, name: &str) -> &'a [Value] {
    let cases = units[name].as_array().unwrap_or_else(|| panic!("no {name}"));
    assert!(!cases.is_empty(), "{name} is empty");
    cases
}

#[test]
fn parity_region_of_interest() {
    let Some((units, _)) = notes("units/units.json") else { return };
    for case in cases(&units, "roi") {
        let (size, window) = (list::<3>(&case["volume"]), list::<3>(&case["window"]));
        let mut coarse = vec![false; size.iter().product()];
        if !case["positive_lo"].is_array() {
            assert_eq!(region_of_interest(&coarse, size, window), None, "{case}");
            continue;
        }
        let corners = [list::<3>(&case["positive_lo"]), list::<3>(&case["positive_hi_inclusive"])];
        for [d, h, w] in corners {
            coarse[(d * size[1] + h) * size[2] + w] = true;
        }
        let [low, high] = region_of_interest(&coarse, size, window).expect("two voxels");
        let got: Vec<usize> = low.into_iter().chain(high).collect();
        assert_eq!(got, indices(&case["roi"]), "{case}");
    }
}

#[test]
fn parity_window_grid() {
    let Some((units, _)) = notes("units/units.json") else { return };
    for case in cases(&units, "window_grid_overlap_0.5") {
        let (starts, before) = window_starts(list(&case["crop"]), list(&case["window"]), 0.5);
        assert_eq!(before, list::<3>(&case["pad_before"]), "{case}");
        let wanted: Vec<[usize; 3]> = case["starts"].as_array().expect("a list").iter().map(list).collect();
        assert_eq!(starts, wanted, "{case}");
    }
}

#[test]
fn parity_index_maps() {
    let Some((units, _)) = notes("units/units.json") else { return };
    for case in cases(&units, "index_maps") {
        let [from, to] = [&case["n_in"], &case["n_out"]].map(|size| size.as_u64().expect("a size") as usize);
        let map = |rule: fn(usize, usize, usize) -> usize| (0..to).map(|i| rule(i, from, to)).collect::<Vec<_>>();
        assert_eq!(map(nearest_index), indices(&case["nearest"]), "nearest {from} -> {to}");
        assert_eq!(map(nearest_exact_index), indices(&case["nearest_exact"]), "nearest-exact {from} -> {to}");
    }
}

#[test]
fn parity_boxes_of_masks() {
    let Some((units, _)) = notes("units/units.json") else { return };
    for case in cases(&units, "generate_box") {
        let [d, h, w] = list(&case["shape"]);
        let mut mask = vec![false; d * h * w];
        for place in case["nonzero"].as_array().expect("a list") {
            let [i, j, k] = list(place);
            mask[(i * h + j) * w + k] = true;
        }
        let wanted: Vec<i64> = case["box"].as_array().expect("six").iter().map(|n| n.as_i64().expect("int")).collect();
        let got = bounding_region(&mask, [w, h, d], |&set| set).map_or(vec![-1; 6], |region| {
            let [low, high] = [region.start, region.end.map(|end| end - 1)];
            low.into_iter().rev().chain(high.into_iter().rev()).map(|index| index as i64).collect()
        });
        assert_eq!(got, wanted, "{case}");
    }
}

#[test]
fn parity_foreground_normalisation() {
    let Some((units, _)) = notes("units/units.json") else { return };
    let facts = &units["foreground_norm"];
    let mut data = described_volume(facts["note"].as_str().expect("a note"));
    let stats = foreground_normalise(&mut data, CLIP_PERCENTILES).expect("not constant");
    let close = |got: f32, name: &str| {
        let wanted = facts[name].as_f64().expect("a number") as f32;
        assert!((got - wanted).abs() <= 1e-6 * wanted.abs().max(1.0), "{name}: {got}, reference {wanted}");
    };
    close(stats.threshold, "threshold");
    close(stats.lower, "lower");
    close(stats.upper, "upper");
    close(stats.mean, "mean");
    close(stats.std, "std");
    for (index, wanted) in facts["first16"].as_array().expect("a list").iter().enumerate() {
        let wanted = wanted.as_f64().expect("a number") as f32;
        assert!((data[index] - wanted).abs() < 2e-6, "voxel {index}: {}, reference {wanted}", data[index]);
    }
}

/// `volume = round(u*2000-1000), u from stream "NAME" with seed SEED, reshaped A,B,C`.
fn described_volume(note: &str) -> Vec<f32> {
    assert!(note.contains("round(u*2000-1000)"), "another recipe: {note}");
    let stream = note.split('"').nth(1).expect("the name of a stream");
    let after = |word: &str| note.split(word).nth(1).unwrap_or_else(|| panic!("no {word} in {note}")).trim();
    let seed = after("seed").split(',').next().and_then(|seed| seed.parse().ok()).expect("a seed");
    let count = after("reshaped").split(',').map(|size| size.trim().parse::<u64>().expect("a size")).product();
    (0..count).map(|index| (uniform(stream, seed, index) * 2000.0 - 1000.0).round_ties_even() as f32).collect()
}

#[test]
fn parity_token_ids() {
    let Some((units, root)) = notes("units/units.json") else { return };
    let path = root.join("tokenizer.json");
    if !path.is_file() {
        return skipped(&format!("{} is absent", path.display()));
    }
    let template = units["tokenizer"]["template"].as_str().expect("a template");
    let tokenizer = Tokenizer::from_bytes(&std::fs::read(&path).expect("it can be read"), template, 77, 49408)
        .expect("the CLIP tokenizer");
    for row in units["tokenizer"]["rows"].as_array().expect("rows") {
        let word = row["word"].as_str().expect("a word");
        // Rows that are no words check the reference's tokenizer alone; here they are refused.
        match tokenizer.encode(&[word]) {
            Ok(tokens) => {
                let ids: Vec<usize> = tokens.ids[0].iter().map(|&id| id as usize).collect();
                assert_eq!(ids, indices(&row["ids"]), "{word}");
            }
            Err(error) => assert!(!word.chars().all(|c| c.is_alphabetic() || c == ' '), "{word}: {error}"),
        }
    }
    for nonsense in ["xqzvwkj", "qwxzrtpl liver", "???", ""] {
        assert!(tokenizer.encode(&[nonsense]).is_err(), "{nonsense} is no name");
    }
    for name in ["duodenum", "gallbladder", "inferior vena cava", "esophagus", "adrenal gland", "sternocleidomastoid"] {
        assert!(tokenizer.encode(&[name]).is_ok(), "{name} is a name");
    }
}

#[test]
fn parity_gelu() {
    let Some((units, _)) = notes("units/units.json") else { return };
    let numbers = |name: &str| -> Vec<f32> {
        let list = units["activations"][name].as_array().expect("a list");
        list.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
    };
    let x = numbers("x");
    for kernels in [Kernels::Fused, Kernels::Burn] {
        let got = gelu(Tensor::<1>::from_data(&x[..], &Device::flex()), kernels);
        let got = got.into_data().try_to_vec::<f32>().expect("float32");
        for ((x, got), wanted) in x.iter().zip(got).zip(numbers("gelu_erf")) {
            assert!((got - wanted).abs() < 1e-6, "{kernels:?} gelu({x}) = {got}, reference {wanted}");
        }
    }
}

#[test]
fn parity_trilinear() {
    for bundle in bundles("units", "units_tensors") {
        let inputs = bundle.json["tensors"].as_object().expect("tensors").keys();
        let cases: Vec<_> = inputs.filter_map(|name| name.strip_suffix(".in")).collect();
        assert!(!cases.is_empty(), "{}: no case", bundle.name);
        for case in cases {
            let name = format!("{case}.in");
            let data = TensorData::new(bundle.floats(&name), bundle.shape(&name));
            let size: [usize; 3] = bundle.shape(&format!("{case}.out"))[2..].try_into().expect("three axes");
            let got = interpolate_trilinear(Tensor::from_data(data, &Device::flex()), size);
            assert_close(&bundle, &format!("{case}.out"), got, (1e-5, 1e-5));
        }
    }
}
