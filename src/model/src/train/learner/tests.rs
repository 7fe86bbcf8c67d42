use super::*;
use crate::RawTensor;
use crate::checkpoint::expected_tensors;
use crate::dense_prompt::{DenseInput, input_tensor};
use burn::tensor::TensorData;
use std::collections::HashMap;

fn config() -> ModelConfig {
    let mut config = ModelConfig::default();
    config.image_encoder.image_size = [16; 3];
    config.image_encoder.patch_size = [8; 3];
    config.image_encoder.embed_dim = 48;
    config.image_encoder.num_layers = 1;
    config.image_encoder.num_heads = 2;
    config.image_encoder.mlp_dim = 32;
    config.text_encoder.num_layers = 1;
    config.text_encoder.vocab_size = 64;
    config.text_encoder.width = 16;
    config.text_encoder.num_heads = 2;
    config.text_encoder.mlp_dim = 16;
    config.prompt_encoder.mixed_axes = false;
    config.prompt_encoder.dense = true;
    config.mask_decoder.mlp_dim = 32;
    config.mask_decoder.num_heads = 2;
    config.validate().expect("a valid configuration");
    config
}

/// Weights that are all different, without drawing: another test may have just set the seed.
fn network(config: &ModelConfig, device: &Device) -> SegVol {
    let shapes: HashMap<String, Vec<usize>> =
        expected_tensors(config).into_iter().map(|of| (of.name, of.shape)).collect();
    let raw = |name: &str| {
        let shape = shapes.get(name)?;
        let norm = name.contains("norm") && name.ends_with("weight");
        let value = |index: usize| f32::from(norm) + 0.2 * (1.7 * index as f32 + name.len() as f32).sin();
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        Some(RawTensor::from_f32(shape.clone(), &values))
    };
    config.init(device).load(device, raw).expect("all there are")
}

fn sample(index: usize, device: &Device) -> Sample {
    let window: Vec<f32> = (0..4096).map(|voxel| ((voxel * 31 + index * 7) % 64) as f32 / 64.0).collect();
    let bounding_box = (index != 1).then_some([2.0, 3.0, 4.0, 9.0, 10.0, 11.0 + index as f32]);
    let points = (0..index).map(|point| ([4.0 + point as f32, 5.0, 6.0], 1)).collect::<Vec<_>>();
    let input = DenseInput {
        window: &window,
        size: [16; 3],
        points: &points,
        bounding_box,
        mask: None,
        prior: None,
        propose: false,
    };
    let dense = Some(input_tensor(&input, device));
    let text = (index == 3).then(|| Tensor::from_data(TensorData::new(window[..48].to_vec(), [1, 48]), device));
    let target = window.iter().map(|value| value.round()).collect::<Vec<f32>>();
    let volume = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, 1, 16, 16, 16]), device);
    Sample {
        image: volume(window),
        target: volume(target),
        prompts: vec![Prompts { points, bounding_box, text, dense }],
        context: AdapterContext::default(),
        embedding: None,
    }
}

#[test]
fn a_batch_has_the_mean_loss_and_the_gradients_of_its_samples() {
    let (device, config) = (Device::flex(), config());
    let options = LearnerConfig {
        loss: LossKind::Volume,
        optimiser: OptimiserConfig::default(),
        gradient_checkpointing: false,
        parallel_samples: true,
        average: None,
        modality_loss_weight: 0.0,
        base: vec![String::new()],
    };
    let network = network(&config, &device);
    let learner = Learner::new(network, config, None, options, device.clone()).expect("weights that learn");
    // Prompts of three kinds, two of them alike, out of order.
    let samples: Vec<Sample> = [1, 0, 3, 1, 0].map(|index| sample(index, &device)).into();
    let (mut one_by_one, mut batch) = (NamedGradients::new(), NamedGradients::new());
    let tape = learner.tape().expect("a tape");
    let each = samples.iter().map(|sample| learner.add_gradients(&tape, sample, &mut one_by_one)).collect();
    let each = learner.read(each).expect("losses");
    let together = learner.add_batch_gradients(&learner.tape().expect("a tape"), &samples, &mut batch);
    let together = learner.read(vec![together]).expect("losses").remove(0);
    let mean = each.iter().map(|losses| losses.total).sum::<f64>() / samples.len() as f64;
    assert!((together.total - mean).abs() < 1e-5, "{} {mean}", together.total);
    assert_eq!(batch.keys().collect::<Vec<_>>(), one_by_one.keys().collect::<Vec<_>>());
    assert!(batch.len() > 100, "{}", batch.len());
    let length = |gradient: &Tensor<1>| gradient.clone().square().sum().sqrt().into_scalar::<f32>();
    let longest = batch.values().map(length).fold(0.0, f32::max);
    for (name, gradient) in &batch {
        let off = length(&(gradient.clone() - one_by_one[name].clone()));
        assert!(off < 1e-4 * (length(gradient) + 0.01 * longest), "{name}: {off} of {}", length(gradient));
    }
}
