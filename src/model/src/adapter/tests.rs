use super::*;
use crate::config::ModelConfig;
use crate::error::ErrorKind;
use crate::prior::Variant;
use crate::train::{Learner, LearnerConfig, LossKind, OptimiserConfig, Sample};
use crate::{Prompts, SegVol};
use burn::tensor::{Distribution, Tensor};

/// Small enough that a test takes no time.
fn config() -> ModelConfig {
    let mut config = ModelConfig::default();
    config.image_encoder.image_size = [8, 16, 16];
    config.image_encoder.patch_size = [4, 8, 8];
    config.image_encoder.embed_dim = 24;
    config.image_encoder.num_layers = 2;
    config.image_encoder.num_heads = 2;
    config.image_encoder.mlp_dim = 32;
    config.text_encoder.num_layers = 1;
    config.text_encoder.vocab_size = 64;
    config.text_encoder.width = 16;
    config.text_encoder.num_heads = 2;
    config.text_encoder.mlp_dim = 16;
    config.mask_decoder.mlp_dim = 32;
    config.mask_decoder.num_heads = 2;
    config.validate().expect("a valid configuration");
    config
}

fn lora() -> AdapterConfig {
    AdapterConfig { lora: Some(LoraConfig { rank: 2, ..Default::default() }), ..Default::default() }
}

/// A network whose weights are drawn once and for all.
fn network() -> SegVol {
    let config = config();
    let device = Device::flex();
    let drawn = parameters::export(&config.init(&device));
    let raw = |name: &str| drawn.get(name).map(|(shape, data)| RawTensor::from_f32(shape.clone(), data));
    config.init(&device).load(&device, raw).expect("its own weights")
}

fn image() -> Tensor<5> {
    Tensor::random([1, 1, 8, 16, 16], Distribution::Uniform(0.0, 1.0), &Device::flex())
}

fn prompts() -> Prompts {
    Prompts {
        points: vec![([3.0, 8.0, 9.0], 1)],
        bounding_box: Some([1.0, 2.0, 3.0, 6.0, 12.0, 13.0]),
        text: None,
        dense: None,
    }
}

/// The bits of the logits: what the user of a mask can see.
fn bits(network: &SegVol, image: &Tensor<5>) -> Vec<u32> {
    let fused = network.fuse(network.image_encoder().forward(image.clone()), &AdapterContext::default());
    let masks = network.decode(fused.image, config().image_encoder.grid(), &prompts(), &fused.effect);
    let logits = masks.low_res.into_data().try_into_vec::<f32>().expect("float32");
    logits.into_iter().map(f32::to_bits).collect()
}

fn learner(network: &SegVol, adapter: Adapter) -> Learner {
    let options = LearnerConfig {
        loss: LossKind::SegVol,
        optimiser: OptimiserConfig::default(),
        gradient_checkpointing: false,
        parallel_samples: false,
        average: None,
        modality_loss_weight: 0.0,
        base: Vec::new(),
    };
    Learner::new(network.clone(), config(), Some(adapter), options, Device::flex()).expect("it fits")
}

fn trained(network: &SegVol, adapter: Adapter) -> Adapter {
    let image = image();
    let target = image.clone().greater_elem(0.5).float();
    let sample =
        Sample { image, target, prompts: vec![prompts()], context: AdapterContext::default(), embedding: None };
    let mut learner = learner(network, adapter);
    for _ in 0..3 {
        learner.step(std::slice::from_ref(&sample), 1e-2).expect("finite");
    }
    learner.adapter().expect("one").clone()
}

fn adapter(seed: u64) -> Adapter {
    Adapter::new(lora(), &config(), seed, &Device::flex()).expect("a fitting configuration")
}

#[test]
fn untrained_attached_and_detached_are_the_base_bit_for_bit() {
    let (network, image) = (network(), image());
    let base = bits(&network, &image);
    let weights = parameters::export(&network);
    assert_eq!(bits(&network.with_adapter(&adapter(1)).expect("it fits"), &image), base, "untrained");
    let trained = trained(&network, adapter(1));
    let adapted = network.with_adapter(&trained).expect("it fits");
    assert_ne!(bits(&adapted, &image), base, "trained");
    assert_eq!(bits(&adapted.without_adapter(), &image), base, "detached");
    assert_eq!(bits(&network, &image), base, "the base beside it");
    assert_eq!(parameters::export(&network), weights, "the base's weights");
}

#[test]
fn several_adapters_stand_beside_one_base() {
    let (network, image) = (network(), image());
    let first = network.with_adapter(&trained(&network, adapter(1))).expect("it fits");
    let second = network.with_adapter(&trained(&network, adapter(2))).expect("it fits");
    let (a, b) = (bits(&first, &image), bits(&second, &image));
    assert_ne!(a, b);
    assert_eq!(bits(&first, &image), a);
    // Attached to one that has another attached, it replaces that.
    let replaced = first.with_adapter(&trained(&network, adapter(2)));
    assert_ne!(bits(&replaced.expect("it fits"), &image), a);
}

#[test]
fn a_merged_adapter_computes_the_same() {
    let (network, image) = (network(), image());
    let adapted = network.with_adapter(&trained(&network, adapter(1))).expect("it fits");
    let (beside, merged) = (bits(&adapted, &image), bits(&adapted.clone().merged(), &image));
    let far = beside.iter().zip(&merged).map(|(&a, &b)| (f32::from_bits(a) - f32::from_bits(b)).abs());
    assert!(far.fold(0.0, f32::max) < 1e-4);
}

#[test]
fn the_same_seed_gives_the_same_adapter() {
    assert_eq!(adapter(7).tensors(), adapter(7).tensors());
    assert_ne!(adapter(7).tensors(), adapter(8).tensors());
}

#[test]
fn an_adapter_folder_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mr");
    let written = trained(&network(), adapter(3));
    written.save(&path, false).expect("written");
    let read = Adapter::open(&path, &config(), &Device::flex()).expect("read");
    assert_eq!((read.config(), read.tensors()), (written.config(), written.tensors()));
    assert!(matches!(written.save(&path, false), Err(Error::Exists { .. })));
    written.save(&path, true).expect("replaced");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "{:?}", names.pop());
}

#[test]
fn a_damaged_or_foreign_adapter_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mr");
    let open = |config: &ModelConfig| Adapter::open(&path, config, &Device::flex()).map(|_| ()).unwrap_err();
    std::fs::create_dir(&path).expect("a folder");
    assert!(open(&config()).to_string().contains("not an adapter folder"));
    std::fs::remove_dir(&path).expect("gone");
    adapter(3).save(&path, false).expect("written");
    let mut wider = config();
    wider.image_encoder.mlp_dim = 40;
    let error = open(&wider).to_string();
    assert!(error.contains("image_encoder.blocks.0.mlp.linear1.lora_B.weight: F32 [32, 2], should be"), "{error}");
    let json = path.join(ADAPTER_CONFIG_FILE);
    std::fs::write(&json, "{\"lora\": {\"rank\": 2}, \"surprise\": 1}").expect("written");
    let error = open(&config());
    assert!(error.kind() == ErrorKind::Format && error.to_string().contains("surprise"), "{error}");
}

#[test]
fn peft_folders_go_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peft");
    let written = trained(&network(), adapter(4));
    written.export_peft(&path).expect("written");
    let read = Adapter::import_peft(&path, &config(), &Device::flex()).expect("read");
    assert_eq!(read.tensors(), written.tensors());
    let mut narrow = config();
    narrow.image_encoder.num_layers = 1;
    let error = Adapter::import_peft(&path, &narrow, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("no layer of the model is called") && error.contains("blocks.1"), "{error}");
    let config_path = path.join("mask_decoder").join(PEFT_CONFIG_FILE);
    let text = std::fs::read_to_string(&config_path).expect("text");
    std::fs::write(&config_path, text.replace("\"use_dora\": false", "\"use_dora\": true")).expect("written");
    let error = Adapter::import_peft(&path, &config(), &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("use_dora is not supported"), "{error}");
}

#[test]
fn further_layers_are_an_option_and_unknown_ones_an_error() {
    let count = |lora: &LoraConfig| lora.targets_in(&config()).expect("known").len();
    let default = LoraConfig::default();
    // Three in each of two blocks of the encoder; four in each of two of the transformer; two at its end.
    assert_eq!(count(&default), 3 * 2 + 4 * 2 + 2);
    assert_eq!(count(&default.clone().with_further_targets()), 16 + 4 * 2);
    assert_eq!(count(&default.clone().only("mask_decoder.")), 10);
    let wrong = LoraConfig { targets: vec!["image_encoder.blocks.*.attn.kqv".into()], ..default };
    assert!(wrong.targets_in(&config()).unwrap_err().to_string().contains("attn.kqv"));
    assert!(Adapter::new(AdapterConfig::default(), &config(), 0, &Device::flex()).is_err(), "no part at all");
}

#[test]
fn a_stopped_training_goes_on_as_if_it_had_not_stopped() {
    let network = network();
    let sample = |seed: f64| {
        let image = image();
        let target = image.clone().greater_elem(seed).float();
        Sample { image, target, prompts: vec![prompts()], context: AdapterContext::default(), embedding: None }
    };
    let samples: Vec<Sample> = (1..5).map(|index| sample(0.2 * f64::from(index))).collect();
    let mut whole = learner(&network, adapter(5));
    let mut state = None;
    for (index, sample) in samples.iter().enumerate() {
        if index == 2 {
            state = Some(whole.state());
        }
        whole.step(std::slice::from_ref(sample), 1e-2).expect("finite");
    }
    let mut resumed = learner(&network, adapter(6));
    resumed.restore(&state.expect("taken")).expect("its own");
    assert_eq!(resumed.steps(), 2);
    for sample in &samples[2..] {
        resumed.step(std::slice::from_ref(sample), 1e-2).expect("finite");
    }
    assert_eq!(whole.state(), resumed.state());
    assert!(resumed.restore(&NamedTensors::new()).is_err());
    assert_eq!(whole.state(), resumed.state(), "a refused state changes nothing");
}

fn prior(variant: Variant) -> AdapterConfig {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let prior = PriorConfig {
        variant,
        modalities: names(&["CT", "MR"]),
        tasks: names(&["liver", "prostate"]),
        width: 32,
        ..PriorConfig::default()
    };
    AdapterConfig { prior: Some(prior), ..AdapterConfig::default() }
}

/// The bits of the logits for a modality and a task.
fn bits_for(network: &SegVol, image: &Tensor<5>, modality: &str, task: &str) -> Vec<u32> {
    let context = AdapterContext { modality: Some(modality.into()), task: Some(task.into()) };
    let fused = network.fuse(network.image_encoder().forward(image.clone()), &context);
    let masks = network.decode(fused.image, config().image_encoder.grid(), &prompts(), &fused.effect);
    let logits = masks.low_res.into_data().try_into_vec::<f32>().expect("float32");
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn untrained_priors_are_the_base_bit_for_bit_and_trained_ones_know_their_context() {
    let (network, image) = (network(), image());
    let base = bits(&network, &image);
    for variant in [Variant::Hermes, Variant::Additive] {
        let untrained = Adapter::new(prior(variant), &config(), 1, &Device::flex()).expect("it fits");
        let attached = network.with_adapter(&untrained).expect("it fits");
        assert_eq!(bits_for(&attached, &image, "MR", "prostate"), base, "{variant:?}");
        let trained = trained(&network, untrained);
        let attached = network.with_adapter(&trained).expect("it fits");
        let mr = bits_for(&attached, &image, "MR", "prostate");
        assert_ne!(mr, base, "{variant:?}");
        assert_eq!(mr, bits_for(&attached, &image, "MRI", "Prostate"), "case and MRI make no difference");
        assert_ne!(mr, bits_for(&attached, &image, "CT", "prostate"), "{variant:?}: modality");
        assert_ne!(mr, bits_for(&attached, &image, "MR", "liver"), "{variant:?}: task");
        assert_eq!(bits_for(&attached, &image, "PET", "spine"), bits(&attached, &image), "others are the unknown");
        assert_eq!(bits(&attached.without_adapter(), &image), base, "{variant:?}: detached");
    }
}

#[test]
fn a_trained_pool_takes_new_modalities_and_tasks() {
    let (network, image) = (network(), image());
    for variant in [Variant::Hermes, Variant::Additive] {
        let old = Adapter::new(prior(variant), &config(), 2, &Device::flex()).expect("it fits");
        let old = trained(&network, old);
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let new = old.clone().extended(&names(&["MRI", "PET"]), &names(&["liver", "spine"])).expect("new names");
        let prior = new.config().prior.as_ref().expect("one");
        assert_eq!(
            (&prior.modalities, &prior.tasks),
            (&names(&["CT", "MR", "PET"]), &names(&["liver", "prostate", "spine"]))
        );
        let [before, after] = [&old, &new].map(|adapter| network.with_adapter(adapter).expect("it fits"));
        for (modality, task) in [("MR", "liver"), ("CT", "prostate")] {
            let same = bits_for(&before, &image, modality, task);
            assert_eq!(bits_for(&after, &image, modality, task), same, "{variant:?} {modality} {task}");
        }
        // New rows start as the unknown one, and are learned on their own.
        assert_eq!(bits_for(&after, &image, "PET", "spine"), bits(&after, &image));
        let folder = tempfile::tempdir().expect("a folder");
        new.save(&folder.path().join("pool"), false).expect("written");
        let read = Adapter::open(&folder.path().join("pool"), &config(), &Device::flex()).expect("read");
        assert_eq!(read.tensors(), new.tensors());
        assert!(new.extended(&names(&[" "]), &[]).is_err());
    }
}

#[test]
fn a_prior_cannot_become_a_peft_adapter() {
    let adapter = Adapter::new(prior(Variant::Hermes), &config(), 1, &Device::flex()).expect("it fits");
    let folder = tempfile::tempdir().expect("a folder");
    let error = adapter.export_peft(&folder.path().join("peft")).unwrap_err().to_string();
    assert!(error.contains("context prior"), "{error}");
    assert!(!folder.path().join("peft").exists());
}
