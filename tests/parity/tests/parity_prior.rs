//! Hermes' modules, alone: fusion blocks, heads, selection of tokens, gradients. Their place beside the network is tested
//! in `parity_training`.

use adaptmedseg_model::parameters::{self, NamedTensors};
use adaptmedseg_model::prior::{FusionBlock, ModalityHead, PrototypeHead};
use adaptmedseg_model::train::{adaptive_dice, bce_loss, modality_loss};
use adaptmedseg_model::{Device, RawTensor};
use adaptmedseg_parity::{Bundle, assert_close, assert_close_slices, bundles, recipe_tensor};
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Gradients, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;

const BLOCK: (f32, f32) = (3e-5, 3e-5);
const PROTOTYPE: (f32, f32) = (5e-6, 5e-6);
const LOGITS: (f32, f32) = (5e-5, 5e-5);
const LOSS: f64 = 5e-6;
/// Relative to the largest element.
const GRADIENT: f32 = 2e-5;
const NORM: f64 = 1e-5;

/// One level: the pools, and the blocks.
#[derive(Module, Debug)]
struct Level {
    task_prior: Param<Tensor<2>>,
    modality_prior: Param<Tensor<3>>,
    attn_layers: Vec<FusionBlock>,
}

/// Everything in the bundle, by its names.
#[derive(Module, Debug)]
struct Hermes {
    fuse_64: Level,
    fuse_96: Level,
    out: PrototypeHead,
    mod_out: ModalityHead,
}

struct Case {
    bundle: Bundle,
    hermes: Hermes,
    inputs: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

fn index(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

impl Case {
    fn open(bundle: Bundle) -> Self {
        let device = Device::flex();
        let config = &bundle.json["config"];
        let (tasks, modalities, tokens) =
            (index(&config["task_rows"]), index(&config["modality_prior_num"]), index(&config["modality_tokens"]));
        let level = |width| Level {
            task_prior: Initializer::Zeros.init([tasks, width], &device),
            modality_prior: Initializer::Zeros.init([modalities, tokens, width], &device),
            attn_layers: (0..2).map(|_| FusionBlock::new(width, &device)).collect(),
        };
        let (input, output) = (index(&config["head_in"]), index(&config["head_out"]));
        let hermes = Hermes {
            fuse_64: level(64),
            fuse_96: level(96),
            out: PrototypeHead::new(input, output, &device),
            mod_out: ModalityHead::new(input, modalities, &device),
        };
        let seed = bundle.seed();
        let recipes = |list: &str| -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
            let entries = bundle.json[list].as_array().expect("recipes").iter();
            entries.map(|entry| (ours(entry["name"].as_str().expect("a name")), recipe_tensor(entry, seed))).collect()
        };
        let weights = recipes("extra_tensors");
        let raw = |name: &str| weights.get(name).map(|(shape, data)| RawTensor::from_f32(shape.clone(), data));
        let hermes = parameters::load(hermes, &device, raw).expect("every weight");
        let hermes = parameters::tracked(hermes, |_| true);
        let inputs = recipes("input_tensors");
        Self { bundle, hermes, inputs }
    }

    fn all() -> impl Iterator<Item = Self> {
        bundles("hermes", "hermes_modules").into_iter().map(Self::open)
    }

    fn input<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, data) = &self.inputs[&format!("input.{name}")];
        leaf(Tensor::from_data(TensorData::new(data.clone(), shape.clone()), &Device::flex()))
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let data = TensorData::new(self.bundle.floats(name), self.bundle.shape(name));
        leaf(Tensor::from_data(data, &Device::flex()))
    }

    /// The selected rows of a level's pools: task tokens, then modality tokens; -1 is the last row.
    fn priors(&self, level: &Level) -> Tensor<3> {
        let row = |value: &Value, rows: usize| match value.as_i64().expect("an index") {
            -1 => rows - 1,
            row => row as usize,
        };
        let config = &self.bundle.json["config"];
        let (tasks, modalities) = (level.task_prior.val(), level.modality_prior.val());
        let images =
            config["tgt_idx"].as_array().expect("a list").iter().zip(config["mod_idx"].as_array().expect("one"));
        let images = images.map(|(targets, modality)| {
            let mut rows: Vec<Tensor<3>> = targets
                .as_array()
                .expect("a list")
                .iter()
                .map(|target| tasks.clone().narrow(0, row(target, tasks.dims()[0]), 1).unsqueeze_dim(0))
                .collect();
            rows.push(modalities.clone().narrow(0, row(modality, modalities.dims()[0]), 1));
            Tensor::cat(rows, 1)
        });
        Tensor::cat(images.collect(), 0)
    }

    fn compare_gradients(&self, gradients: &NamedTensors, prefix: &str, norms: &Value, only: &str) {
        let bundle = &self.bundle;
        for name in bundle.json["tensors"].as_object().expect("tensors").keys() {
            // A sampled tensor is stored as its places and its values.
            let name = match name.strip_suffix(".val") {
                Some(name) => name,
                None if name.ends_with(".idx") => continue,
                None => name,
            };
            let Some(stored) = name.strip_prefix(prefix).filter(|name| name.starts_with("hermes.")) else { continue };
            let (_, got) = gradients.get(&ours(stored)).unwrap_or_else(|| panic!("no gradient of {stored}"));
            compare_gradient(bundle, name, got);
        }
        let norms =
            norms.as_object().expect("norms").iter().filter(|(name, norm)| name.starts_with(only) && norm.is_number());
        for (name, wanted) in norms {
            let wanted = wanted.as_f64().expect("a number");
            let got = gradients.get(&ours(name)).unwrap_or_else(|| panic!("no gradient of {name}"));
            let norm = got.1.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            assert!((norm - wanted).abs() <= NORM * wanted.max(1e-3), "{name}: norm {norm}, reference {wanted}");
        }
    }
}

fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.autodiff().require_grad()
}

/// `hermes.x.fn.y` -> `x.inner.y`: `fn` is no name in Rust.
fn ours(name: &str) -> String {
    name.trim_start_matches("hermes.").replace(".fn.", ".inner.")
}

fn compare_gradient(bundle: &Bundle, name: &str, got: &[f32]) {
    let limit = GRADIENT * got.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    assert_close_slices(bundle, name, got, (limit, limit));
}

fn gradient<const D: usize>(tensor: &Tensor<D>, gradients: &mut Gradients) -> Vec<f32> {
    let gradient = tensor.grad_remove(gradients).expect("it was used");
    gradient.into_data().try_into_vec().expect("float32")
}

fn plain<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().without_autodiff()
}

fn number(tensor: &Tensor<1>) -> f64 {
    f64::from(plain(tensor).into_scalar::<f32>())
}

fn assert_number(got: &Tensor<1>, wanted: &Value, what: &str) {
    let (got, wanted) = (number(got), wanted.as_f64().expect("a number"));
    assert!((got - wanted).abs() <= LOSS * wanted.abs().max(1.0), "{what}: {got}, reference {wanted}");
}

/// `[batch, channels, d, h, w]` as tokens, w fastest.
fn flatten(map: Tensor<5>) -> Tensor<3> {
    let [batch, channels, d, h, w] = map.dims();
    map.reshape([batch, channels, d * h * w]).swap_dims(1, 2)
}

/// The masks of a feature map for prototypes: `[batch, tasks, d, h, w]`.
fn masks(prototypes: Tensor<3>, map: Tensor<5>) -> Tensor<5> {
    let [batch, channels, d, h, w] = map.dims();
    let tasks = prototypes.dims()[1];
    prototypes.matmul(map.reshape([batch, channels, d * h * w])).reshape([batch, tasks, d, h, w])
}

#[test]
fn parity_fusion_blocks() {
    for case in Case::all() {
        let bundle = &case.bundle;
        let (image, priors) = (case.tensor::<3>("input.image_tokens"), case.tensor::<3>("input.prior_tokens"));
        assert_close(bundle, "input.prior_tokens", plain(&case.priors(&case.hermes.fuse_96)), (0.0, 0.0));
        let mut steps = Vec::new();
        let blocks = &case.hermes.fuse_96.attn_layers;
        let (x, p) = blocks[0].forward_with_steps(image.clone(), priors.clone(), |step| steps.push(plain(step)));
        let names = ["prior_aggregate_block", "prior_ffn", "feat_aggregate_block", "feat_ffn"];
        for (name, step) in names.iter().zip(steps) {
            assert_close(bundle, &format!("block0.{name}"), step, BLOCK);
        }
        assert_close(bundle, "stack1.image_tokens", plain(&x), BLOCK);
        assert_close(bundle, "stack1.prior_tokens", plain(&p), BLOCK);
        let (x, p) = blocks[1].forward(x, p);
        assert_close(bundle, "stack2.image_tokens", plain(&x), BLOCK);
        assert_close(bundle, "stack2.prior_tokens", plain(&p), BLOCK);
        let loss = x.square().mean() + p.square().mean();
        assert_number(&loss, &bundle.json["stack2"]["loss"], "stack2");
        let mut gradients = loss.backward();
        compare_gradient(bundle, "grad.stack2.image_tokens", &gradient(&image, &mut gradients));
        compare_gradient(bundle, "grad.stack2.prior_tokens", &gradient(&priors, &mut gradients));
        let gradients = parameters::gradients(&case.hermes, &mut gradients);
        case.compare_gradients(&gradients, "grad.stack2.", &bundle.json["stack2"]["grad_norms"], "hermes.fuse_96.attn");
    }
}

#[test]
fn parity_layer_over_a_map_and_its_pools() {
    for case in Case::all() {
        let level = &case.hermes.fuse_96;
        let map = case.input::<5>("image_map_96");
        let shape = map.dims();
        let mut streams = (flatten(map), case.priors(level));
        for block in &level.attn_layers {
            streams = block.forward(streams.0, streams.1);
        }
        let back = plain(&streams.0).swap_dims(1, 2).reshape(shape);
        assert_close(&case.bundle, "layer.image_map_96", back, BLOCK);
        let loss = streams.0.square().mean() + streams.1.square().mean();
        let gradients = parameters::gradients(&case.hermes, &mut loss.backward());
        for pool in ["task_prior", "modality_prior"] {
            compare_gradient(&case.bundle, &format!("grad.layer.{pool}"), &gradients[&format!("fuse_96.{pool}")].1);
        }
    }
}

#[test]
fn parity_prototype_head() {
    for case in Case::all() {
        let bundle = &case.bundle;
        let (low, high) = (case.input::<3>("task_tokens_64"), case.input::<3>("task_tokens_96"));
        let map = case.input::<5>("feature_map_32");
        let prototypes = case.hermes.out.forward(Tensor::cat(vec![low.clone(), high.clone()], 2));
        assert_close(bundle, "head.prototypes", plain(&prototypes), PROTOTYPE);
        let logits = masks(prototypes, map.clone());
        assert_close(bundle, "head.logits", plain(&logits), LOGITS);
        let loss = logits.square().mean();
        assert_number(&loss, &bundle.json["head"]["loss"], "head");
        let mut gradients = loss.backward();
        compare_gradient(bundle, "grad.head.feature_map_32", &gradient(&map, &mut gradients));
        compare_gradient(bundle, "grad.head.task_tokens_64", &gradient(&low, &mut gradients));
        compare_gradient(bundle, "grad.head.task_tokens_96", &gradient(&high, &mut gradients));
        let gradients = parameters::gradients(&case.hermes, &mut gradients);
        case.compare_gradients(&gradients, "grad.head.", &bundle.json["head"]["grad_norms"], "hermes.");
    }
}

/// Modalities by index; -1 is one that is not known.
fn targets(value: &Value) -> Vec<Option<usize>> {
    let list = value.as_array().expect("a list").iter();
    list.map(|index| usize::try_from(index.as_i64().expect("an index")).ok()).collect()
}

#[test]
fn parity_modality_head_and_its_loss() {
    for case in Case::all() {
        let bundle = &case.bundle;
        let facts = &bundle.json["modality"]["cases"];
        for (name, facts) in facts.as_object().expect("cases") {
            let targets = targets(&facts["target"]);
            let logits = case.tensor::<2>("modality.logits");
            let loss = modality_loss(logits.clone(), &targets);
            let Some(_) = facts["valid"].as_u64() else {
                assert_eq!(number(&loss), 0.0, "nothing is known");
                continue;
            };
            assert_number(&loss, &facts["loss"], name);
            let stored = format!("modality.ce_grad.{name}");
            compare_gradient(bundle, &stored, &gradient(&logits, &mut loss.backward()));
        }
        let (low, high) = (case.input::<3>("modality_tokens_64"), case.input::<3>("modality_tokens_96"));
        let logits = case.hermes.mod_out.forward(Tensor::cat(vec![low.clone(), high.clone()], 2));
        assert_close(bundle, "modality.logits", plain(&logits), PROTOTYPE);
        let mut gradients = modality_loss(logits, &targets(&facts["main"]["target"])).backward();
        compare_gradient(bundle, "grad.modality.modality_tokens_64", &gradient(&low, &mut gradients));
        compare_gradient(bundle, "grad.modality.modality_tokens_96", &gradient(&high, &mut gradients));
        let gradients = parameters::gradients(&case.hermes, &mut gradients);
        case.compare_gradients(&gradients, "grad.modality.", &bundle.json["modality"]["grad_norms"], "hermes.");
    }
}

/// Rows of planes, and the mean of those that count.
fn planes(map: Tensor<5>) -> Tensor<2> {
    let [batch, tasks, d, h, w] = map.dims();
    map.reshape([batch * tasks, d * h * w])
}

fn weighted(losses: Tensor<1>, weights: &[f32]) -> Tensor<1> {
    let sum: f32 = weights.iter().sum();
    let weights = Tensor::<1>::from_data(weights, &Device::flex());
    (losses * weights).sum() / sum
}

fn weights(value: &Value) -> Vec<f32> {
    let rows = value.as_array().expect("rows").iter().flat_map(|row| row.as_array().expect("a list"));
    rows.map(|weight| weight.as_f64().expect("a number") as f32).collect()
}

#[test]
fn parity_adaptive_dice() {
    for case in Case::all() {
        let bundle = &case.bundle;
        for (name, facts) in bundle.json["losses"]["cases"].as_object().expect("cases") {
            if !facts["dice"].is_number() {
                continue;
            }
            let weights = weights(&facts["weight_per_plane"]);
            let target = || planes(plain(&case.tensor::<5>(&format!("loss.{name}.target"))));
            for (kind, key) in [("dice", "dice_grad"), ("bce", "bce_grad"), ("sum", "sum_grad")] {
                let logits = case.tensor::<5>(&format!("loss.{name}.logits"));
                let rows = planes(logits.clone());
                let dice = || weighted(adaptive_dice(rows.clone(), target()), &weights);
                let bce = || weighted(bce_loss(rows.clone(), target()), &weights);
                let loss = match kind {
                    "dice" => dice(),
                    "bce" => bce(),
                    _ => dice() + bce(),
                };
                assert_number(&loss, &facts[kind], &format!("{name} {kind}"));
                let got = gradient(&logits, &mut loss.backward());
                let limit = 1e-5 * got.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                assert_close_slices(bundle, &format!("loss.{name}.{key}"), &got, (limit, limit));
            }
        }
    }
}

#[test]
fn parity_two_levels_from_image_to_gradient() {
    for case in Case::all() {
        let bundle = &case.bundle;
        let facts = &bundle.json["chain"];
        let config = &bundle.json["config"];
        let tasks = config["tgt_idx"][0].as_array().expect("a list").len();
        let mut tokens = Vec::new();
        for (name, level) in [("64", &case.hermes.fuse_64), ("96", &case.hermes.fuse_96)] {
            let mut streams = (flatten(case.input::<5>(&format!("image_map_{name}"))), case.priors(level));
            for block in &level.attn_layers {
                streams = block.forward(streams.0, streams.1);
            }
            assert_close(bundle, &format!("chain.prior_tokens_{name}"), plain(&streams.1), BLOCK);
            tokens.push(streams.1);
        }
        let tokens = Tensor::cat(tokens, 2);
        let rest = tokens.dims()[1] - tasks;
        let prototypes = case.hermes.out.forward(tokens.clone().narrow(1, 0, tasks));
        let logits = masks(prototypes, case.input::<5>("feature_map_32"));
        assert_close(bundle, "chain.logits", plain(&logits), LOGITS);
        let modality = case.hermes.mod_out.forward(tokens.narrow(1, tasks, rest));
        assert_close(bundle, "chain.modality_logits", plain(&modality), PROTOTYPE);
        let target = planes(plain(&case.tensor::<5>("chain.target")));
        let real = config["tgt_idx"].as_array().expect("rows").iter().flat_map(|row| row.as_array().expect("a list"));
        let weights: Vec<f32> = real.map(|index| if index == -1 { 0.0 } else { 1.0 }).collect();
        let dice = weighted(adaptive_dice(planes(logits.clone()), target.clone()), &weights);
        let bce = weighted(bce_loss(planes(logits), target), &weights);
        let modality = modality_loss(modality, &targets(&config["mod_idx"]));
        assert_number(&dice, &facts["dice"], "dice");
        assert_number(&bce, &facts["bce"], "bce");
        assert_number(&modality, &facts["modality_ce"], "modality");
        let loss = bce + dice + modality * 0.01;
        assert_number(&loss, &facts["total"], "total");
        let gradients = parameters::gradients(&case.hermes, &mut loss.backward());
        case.compare_gradients(&gradients, "grad.chain.", &facts["grad_norms"], "hermes.");
    }
}
