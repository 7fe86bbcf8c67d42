//! Importing, and opening what was imported.

use super::fixtures::{Bench, State, floats, list, official, safetensors_file, small_config, state, torch_file, value};
use crate::checkpoint::{
    CONFIG_FILE, ElementType, Layout, ModelFolder, TensorFile, WEIGHTS_FILE, expected_tensors, import,
};
use crate::config::ModelConfig;
use crate::error::Error;

/// The small model's configuration as an import of the bench writes it.
fn named() -> ModelConfig {
    ModelConfig { name: "small".into(), license: "CC0-1.0".into(), ..small_config() }
}

fn check_weights(folder: &ModelFolder) {
    for tensor in expected_tensors(folder.config()) {
        let Some(raw) = folder.tensor(&tensor.name) else {
            assert!(folder.missing().contains(&tensor.name), "{}", tensor.name);
            continue;
        };
        let count = tensor.shape.iter().product();
        let expected: Vec<f32> = (0..count).map(|index| value(&tensor.name, index)).collect();
        assert_eq!(raw.shape, tensor.shape);
        assert_eq!(raw.bytes, floats(&expected), "{}", tensor.name);
        assert!(!count.is_multiple_of(16) || raw.bytes.as_ptr().addr().is_multiple_of(64), "{}", tensor.name);
    }
}

fn encoder_state(prefix: &str) -> State {
    let state = state(&small_config(), "").into_iter();
    state
        .filter_map(|(name, tensor)| Some((format!("{prefix}{}", name.strip_prefix("image_encoder.")?), tensor)))
        .collect()
}

/// Imports a state dict and gives the error with its hint.
fn refused(bench: &Bench, state: &State) -> (Error, String) {
    let checkpoint = bench.write("x.safetensors", &safetensors_file(state));
    let before = bench.listing();
    let error = import(&checkpoint, &bench.path("out"), &bench.options).expect_err("this must be refused");
    assert_eq!(bench.listing(), before, "a failed import leaves something");
    let hint = error.hint().unwrap_or_default();
    (error, hint)
}

#[test]
fn import_reads_every_layout() {
    let config = small_config();
    let training = |key: &[u8]| [b"}(X\x05\0\0\0epochK\x07", key].concat();
    let scheduler = b"X\x09\0\0\0schedulerclr_scheduler\nCosine\n)Ru";
    let github = training(b"X\x05\0\0\0model");
    let lightning = training(b"X\x0a\0\0\0state_dict");
    for (name, layout, bytes) in [
        ("hub.bin", Layout::HuggingFace, torch_file(&state(&config, "model."), b"", b"")),
        ("v1.pth", Layout::GitHub, torch_file(&state(&config, "module."), &github, scheduler)),
        ("l.ckpt", Layout::Lightning, torch_file(&state(&config, "_model.model."), &lightning, b"u")),
        ("x.safetensors", Layout::HuggingFace, safetensors_file(&state(&config, "model."))),
        ("y.safetensors", Layout::GitHub, safetensors_file(&state(&config, "module."))),
        ("z.safetensors", Layout::Bare, safetensors_file(&state(&config, ""))),
    ] {
        let bench = Bench::new();
        let out = bench.path("out");
        let report = import(&bench.write(name, &bytes), &out, &bench.options).unwrap();
        assert_eq!((report.layout, &report.config), (layout, &named()), "{name}");
        assert_eq!((report.tensors, report.dropped.len()), (expected_tensors(&config).len(), 3), "{name}");
        assert_eq!(report.bytes, std::fs::metadata(out.join(WEIGHTS_FILE)).unwrap().len());
        assert_eq!(list(&out), ["MODEL_CARD.md", "config.json", "model.safetensors", "tokenizer.json"]);
        let folder = ModelFolder::open(&out).unwrap();
        assert_eq!(folder.config(), &named());
        assert!(folder.tokenizer().is_some());
        check_weights(&folder);
        let card = std::fs::read_to_string(out.join("MODEL_CARD.md")).unwrap();
        assert!(card.contains("CC0-1.0") && card.contains("dead weight"), "{card}");
        // A model folder's own weights are a checkpoint too.
        let again = import(&out.join(WEIGHTS_FILE), &bench.path("again"), &bench.options).unwrap();
        assert_eq!((again.layout, again.bytes), (Layout::Bare, report.bytes));
    }
}

#[test]
fn import_accepts_the_text_model_of_newer_transformers() {
    let bench = Bench::new();
    let state = state(&small_config(), "model.").into_iter();
    let state: State = state.map(|(name, tensor)| (name.replace(".text_model.", "."), tensor)).collect();
    let checkpoint = bench.write("x.bin", &torch_file(&state, b"", b""));
    import(&checkpoint, &bench.path("out"), &bench.options).unwrap();
    check_weights(&ModelFolder::open(bench.path("out")).unwrap());
}

#[test]
fn import_names_every_tensor_that_is_wrong() {
    let bench = Bench::new();
    let mut state = state(&small_config(), "model.");
    state.remove("model.mask_decoder.mask_tokens.weight");
    state.remove("model.text_encoder.dim_align.bias");
    state.insert("model.head.weight".into(), (vec![1], vec![0.0]));
    state.insert("stray".into(), (vec![1], vec![0.0]));
    let qkv = format!("model.{}", official("image_encoder.blocks.1.attn.qkv.weight"));
    state.insert(qkv, (vec![3, 64], vec![0.0; 192]));
    let (error, _) = refused(&bench, &state);
    let Error::Tensors(mismatch) = &error else { panic!("{error}") };
    assert_eq!(mismatch.missing, ["text_encoder.dim_align.bias", "mask_decoder.mask_tokens.weight"]);
    assert_eq!(mismatch.unexpected, ["model.head.weight", "stray"]);
    assert_eq!(mismatch.misshaped.len(), 1);
    let text = error.to_string();
    assert!(text.contains("image_encoder.blocks.1.attn.qkv.weight: [3, 64], should be [192, 64]"), "{text}");
}

#[test]
fn import_with_any_one_tensor_missing_names_just_that() {
    let bench = Bench::new();
    let complete = state(&small_config(), "");
    for tensor in expected_tensors(&small_config()) {
        let mut state = complete.clone();
        state.remove(&official(&tensor.name));
        let (error, _) = refused(&bench, &state);
        let Error::Tensors(mismatch) = &error else { panic!("{}: {error}", tensor.name) };
        assert_eq!((mismatch.missing.as_slice(), mismatch.misshaped.len()), (&[tensor.name][..], 0));
    }
}

#[test]
fn import_may_go_without_tensors_but_not_with_wrong_ones() {
    let mut bench = Bench::new();
    bench.options.allow_missing = true;
    let mut state = state(&small_config(), "model.");
    state.remove("model.text_encoder.dim_align.bias");
    state.insert("stray".into(), (vec![1], vec![0.0]));
    let checkpoint = bench.write("x.safetensors", &safetensors_file(&state));
    let report = import(&checkpoint, &bench.path("out"), &bench.options).unwrap();
    assert_eq!(report.missing, ["text_encoder.dim_align.bias"]);
    assert_eq!(report.unexpected, ["stray"]);
    let error = ModelFolder::open(bench.path("out")).unwrap_err().to_string();
    assert!(error.contains("missing (1):\n    text_encoder.dim_align.bias"), "{error}");
    let folder = ModelFolder::open_incomplete(bench.path("out")).unwrap();
    assert_eq!(folder.missing(), ["text_encoder.dim_align.bias"]);
    check_weights(&folder);

    state.insert("model.text_encoder.dim_align.bias".into(), (vec![3], vec![0.0; 3]));
    std::fs::remove_dir_all(bench.path("out")).unwrap();
    assert!(matches!(refused(&bench, &state).0, Error::Tensors(_)));
}

#[test]
fn import_takes_an_encoder_alone_only_when_told_so() {
    let mut bench = Bench::new();
    let mut state = encoder_state("model.encoder.");
    state.insert("model.decoder.weight".into(), (vec![1], vec![0.0]));
    let config = bench.write("small.json", br#"{"image_encoder": {"image_size": [8, 32, 16]}}"#);
    let (_, hint) = refused(&bench, &state);
    assert!(hint.contains("image_encoder.image_size"), "{hint}");
    bench.options.config = Some(config);
    let (_, hint) = refused(&bench, &state);
    assert!(hint.contains("encoder-only pre-training checkpoint"), "{hint}");

    bench.options.allow_missing = true;
    let bytes = torch_file(&state, b"}X\x0a\0\0\0state_dict", b"s");
    let report = import(&bench.write("vit.ckpt", &bytes), &bench.path("out"), &bench.options).unwrap();
    assert_eq!(report.layout, Layout::VitPretrain);
    assert!(report.dropped.iter().any(|name| name.starts_with("model.decoder.weight")));
    let error = ModelFolder::open(bench.path("out")).unwrap_err();
    assert!(error.hint().unwrap().contains("image encoder only"));
    check_weights(&ModelFolder::open_incomplete(bench.path("out")).unwrap());
}

#[test]
fn import_names_what_stands_where_a_tensor_should() {
    let mut bench = Bench::new();
    let marker = bench.path("pwned");
    let mut state = state(&small_config(), "model.");
    state.remove("model.text_encoder.dim_align.bias");
    let command = format!("touch {}", marker.display());
    let mut attack = b"(X\x21\0\0\0model.text_encoder.dim_align.biascos\nsystem\n(X".to_vec();
    attack.extend((command.len() as u32).to_le_bytes());
    attack.extend(command.as_bytes());
    attack.extend(b"tRu");
    let checkpoint = bench.write("x.bin", &torch_file(&state, b"", &attack));
    for allow_missing in [false, true] {
        bench.options.allow_missing = allow_missing;
        let error = import(&checkpoint, &bench.path("out"), &bench.options).unwrap_err().to_string();
        assert!(error.contains("model.text_encoder.dim_align.bias should be a tensor"), "{error}");
        assert!(error.contains("os.system"), "{error}");
    }
    assert!(!marker.exists() && !bench.path("out").exists());
}

#[test]
fn import_refuses_a_configuration_the_tensors_contradict() {
    let mut bench = Bench::new();
    bench.options.config = Some(bench.write("c.json", br#"{"image_encoder": {"num_layers": 3}}"#));
    let (error, _) = refused(&bench, &state(&small_config(), ""));
    let text = error.to_string();
    assert!(text.contains("c.json") && text.contains("given as 3") && text.contains("says 2"), "{text}");
    bench.options.config = Some(bench.write("c.json", br#"{"text_encoder": {"activation": "gelu"}}"#));
    let checkpoint = bench.write("x.safetensors", &safetensors_file(&state(&small_config(), "")));
    let report = import(&checkpoint, &bench.path("out"), &bench.options).unwrap();
    assert_eq!(report.config.text_encoder.activation, crate::config::TextActivation::Gelu);
}

#[test]
fn import_keeps_half_precision_and_narrows_double() {
    let bench = Bench::new();
    let config = small_config();
    let tensors = expected_tensors(&config);
    let data: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| {
            let values = (0..tensor.shape.iter().product()).map(|at| value(&tensor.name, at));
            let (dtype, bytes): (_, Vec<u8>) = match index % 3 {
                0 => (safetensors::Dtype::F16, values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect()),
                1 => (safetensors::Dtype::F64, values.flat_map(|v| f64::from(v).to_le_bytes()).collect()),
                _ => (safetensors::Dtype::BF16, values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect()),
            };
            (tensor.name.clone(), dtype, tensor.shape.clone(), bytes)
        })
        .collect();
    let views = data.iter().map(|(name, dtype, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let checkpoint = bench.write("x.safetensors", &safetensors::serialize(views, None).unwrap());
    import(&checkpoint, &bench.path("out"), &bench.options).unwrap();
    let file = TensorFile::open(bench.path("out").join(WEIGHTS_FILE)).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        let view = file.get(&tensor.name).unwrap();
        let first = value(&tensor.name, 0);
        match index % 3 {
            0 => assert_eq!(
                (view.element, &view.bytes[..2]),
                (ElementType::F16, &half::f16::from_f32(first).to_le_bytes()[..])
            ),
            1 => assert_eq!((view.element, &view.bytes[..4]), (ElementType::F32, &first.to_le_bytes()[..])),
            _ => assert_eq!(view.element, ElementType::BF16),
        }
        let start = view.bytes.as_ptr().addr() - file.bytes().as_ptr().addr();
        assert!(start.is_multiple_of(view.element.size()));
    }
    ModelFolder::open(bench.path("out")).unwrap();
}

#[test]
fn import_integers_are_no_weights() {
    let bench = Bench::new();
    let mut names: Vec<_> = expected_tensors(&small_config());
    let last = names.pop().unwrap();
    let zeros = |count: usize| vec![0u8; count];
    let data: Vec<_> = names
        .iter()
        .map(|tensor| (tensor, safetensors::Dtype::F32))
        .chain([(&last, safetensors::Dtype::I32)])
        .map(|(tensor, dtype)| (tensor, dtype, zeros(4 * tensor.shape.iter().product::<usize>())))
        .collect();
    let views = data.iter().map(|(tensor, dtype, bytes)| {
        (&tensor.name, safetensors::tensor::TensorView::new(*dtype, tensor.shape.clone(), bytes).unwrap())
    });
    let checkpoint = bench.write("x.safetensors", &safetensors::serialize(views, None).unwrap());
    let error = import(&checkpoint, &bench.path("out"), &bench.options).unwrap_err().to_string();
    assert!(error.contains(&format!("{}: type I32", last.name)), "{error}");
}

#[test]
fn import_replaces_only_a_model_folder_and_only_when_told_so() {
    let mut bench = Bench::new();
    let checkpoint = bench.write("x.safetensors", &safetensors_file(&state(&small_config(), "")));
    let out = bench.path("out");
    import(&checkpoint, &out, &bench.options).unwrap();
    assert!(matches!(import(&checkpoint, &out, &bench.options), Err(Error::Exists { .. })));
    bench.options.overwrite = true;
    std::fs::write(out.join("old"), b"").unwrap();
    import(&checkpoint, &out, &bench.options).unwrap();
    assert!(!out.join("old").exists());
    // From itself, while it is mapped.
    import(&out.join(WEIGHTS_FILE), &out, &bench.options).unwrap();
    check_weights(&ModelFolder::open(&out).unwrap());

    let precious = bench.path("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.txt"), b"years").unwrap();
    let error = import(&checkpoint, &precious, &bench.options).unwrap_err().to_string();
    assert!(error.contains("is not a model folder"), "{error}");
    assert_eq!(list(&precious), ["thesis.txt"]);
    assert_eq!(bench.listing(), ["out", "precious", "tokenizer.json", "x.safetensors"]);
}

#[test]
fn import_refuses_a_file_that_is_no_tokenizer() {
    let mut bench = Bench::new();
    for text in ["", "[1]", r#"{"model": 3}"#] {
        bench.options.tokenizer = bench.write("t.json", text.as_bytes());
        let (error, _) = refused(&bench, &state(&small_config(), ""));
        assert!(error.to_string().contains("not a tokenizer.json"), "{error}");
    }
}

#[test]
fn import_folder_errors_say_what_is_wrong() {
    let bench = Bench::new();
    let checkpoint = bench.write("x.safetensors", &safetensors_file(&state(&small_config(), "")));
    let out = bench.path("out");
    let said = |path: &std::path::Path| ModelFolder::open(path).unwrap_err().to_string();
    import(&checkpoint, &out, &bench.options).unwrap();
    assert!(said(&checkpoint).contains("a file, not a model folder"));
    assert!(said(&bench.path("nowhere")).contains("nowhere"));
    let config = std::fs::read_to_string(out.join(CONFIG_FILE)).unwrap();
    let with = |from: &str, to: &str| std::fs::write(out.join(CONFIG_FILE), config.replace(from, to)).unwrap();
    with("\"num_layers\": 2", "\"num_layers\": 3");
    assert!(said(&out).contains("image_encoder.blocks.2.attn.qkv.weight"));
    with("\"num_heads\"", "\"number_of_heads\"");
    assert!(said(&out).contains("unknown field `number_of_heads`"));
    with("\"format_version\": 1", "\"format_version\": 99");
    assert!(said(&out).contains("format_version 99"));
    std::fs::write(out.join(CONFIG_FILE), vec![b' '; 2 << 20]).unwrap();
    assert!(said(&out).contains("longer than"));
    std::fs::remove_file(out.join(CONFIG_FILE)).unwrap();
    assert!(said(&out).contains("it has no config.json"));
}

#[test]
fn import_damaged_weights_are_refused() {
    let bench = Bench::new();
    let checkpoint = bench.write("x.safetensors", &safetensors_file(&state(&small_config(), "")));
    let out = bench.path("out");
    import(&checkpoint, &out, &bench.options).unwrap();
    let weights = out.join(WEIGHTS_FILE);
    let good = std::fs::read(&weights).unwrap();
    let hash = ModelFolder::open(&out).unwrap().tensors().hash().to_owned();
    assert_eq!(hash.len(), 64);
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    assert!(header.is_multiple_of(64));
    for length in (0..header).step_by(97).chain([good.len() - 1]) {
        std::fs::write(&weights, &good[..length]).unwrap();
        assert!(ModelFolder::open(&out).is_err());
    }
    for (name, bytes) in [
        ("longer", [&good[..], b"\0"].concat()),
        ("huge header", {
            let mut bytes = good.clone();
            bytes[..8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
            bytes
        }),
    ] {
        std::fs::write(&weights, bytes).unwrap();
        assert!(ModelFolder::open(&out).is_err(), "{name}");
    }
    for at in (0..header).step_by(31) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        std::fs::write(&weights, &bytes).unwrap();
        drop(ModelFolder::open(&out));
    }
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    assert_ne!(ModelFolder::open(&out).unwrap().tensors().hash(), hash);
}
