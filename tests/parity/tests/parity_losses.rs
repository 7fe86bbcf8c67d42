//! The original's losses and their gradients on given logits.

use adaptmedseg_model::Device;
use adaptmedseg_model::train::{bce_loss, dice_loss};
use adaptmedseg_parity::{Bundle, assert_close_slices, bundles};
use burn::tensor::{Tensor, TensorData};

/// Rows are the first axis: the one the Dice loss is averaged over.
fn rows(bundle: &Bundle, name: &str) -> Tensor<2> {
    let shape = bundle.shape(name);
    let rows = if shape.len() == 1 { 1 } else { shape[0] };
    let elements = bundle.floats(name);
    let count = elements.len() / rows;
    Tensor::from_data(TensorData::new(elements, [rows, count]), &Device::flex())
}

#[test]
fn parity_dice_and_cross_entropy() {
    for bundle in bundles("training", "train_").into_iter().filter(|bundle| bundle.json["values"].is_object()) {
        for (case, values) in bundle.json["values"].as_object().expect("cases") {
            // Cases without a target of their own are those of another with nothing in it.
            let (name, empty) = match case.strip_suffix("_empty_target") {
                Some(name) => (name, true),
                None => (case.as_str(), false),
            };
            let target = rows(&bundle, &format!("{name}.target"));
            let target = if empty { target.zeros_like() } else { target };
            for kind in ["dice", "bce"] {
                let logits = rows(&bundle, &format!("{name}.logits")).autodiff().require_grad();
                let loss = match kind {
                    "dice" => dice_loss(logits.clone(), target.clone()),
                    _ => bce_loss(logits.clone(), target.clone()).mean(),
                };
                let got = f64::from(loss.clone().without_autodiff().into_scalar::<f32>());
                let wanted = values[kind].as_f64().expect("a number");
                assert!((got - wanted).abs() < 5e-6, "{case} {kind}: {got}, reference {wanted}");
                if empty {
                    continue;
                }
                let gradient = logits.grad(&loss.backward()).expect("it was used");
                let gradient = gradient.into_data().try_into_vec::<f32>().expect("float32");
                let limit = (1e-5 * gradient.iter().fold(0f32, |largest, value| largest.max(value.abs()))).max(1e-9);
                assert_close_slices(&bundle, &format!("{case}.{kind}_grad"), &gradient, (limit, limit));
            }
        }
    }
}
