//! The network, stage by stage, against the reference implementation.

use adaptmedseg_model::mask_decoder::{PromptTokens, Trace};
use adaptmedseg_model::prior::MaskEffect;
use adaptmedseg_model::{Device, Prompts, SegVol, Tokenizer};
use adaptmedseg_parity::{Bundle, assert_close, bundles, golden_network, skipped, tolerance};
use burn::tensor::{Tensor, TensorData};
use std::path::PathBuf;

fn tensor<const D: usize>(bundle: &Bundle, name: &str) -> Tensor<D> {
    let data = TensorData::new(bundle.floats(name), bundle.shape(name));
    Tensor::from_data(data, &Device::flex())
}

fn image(bundle: &Bundle) -> Tensor<5> {
    tensor::<5>(bundle, "input.image_u8") / 255.0
}

fn grid(config: &adaptmedseg_model::config::ModelConfig) -> [usize; 3] {
    config.image_encoder.grid()
}

#[test]
fn parity_image_encoder() {
    for bundle in bundles("stage", "stage_") {
        let (_, model) = golden_network(&bundle, &Device::flex());
        let encoder = model.image_encoder();
        let states = encoder.hidden_states(image(&bundle));
        assert_close(&bundle, "vit.patch_embedding", states[0].clone(), tolerance::VIT);
        if bundle.has("vit.block.0.norm1") {
            let (normed, attended) = encoder.blocks()[0].attention_branch(states[0].clone());
            assert_close(&bundle, "vit.block.0.norm1", normed, tolerance::VIT);
            assert_close(&bundle, "vit.block.0.attn", attended, tolerance::VIT);
        }
        let mut compared = 0;
        for (block, state) in states.iter().skip(1).enumerate() {
            let name = format!("vit.block.{block}");
            if bundle.has(&name) {
                assert_close(&bundle, &name, state.clone(), tolerance::VIT);
                compared += 1;
            }
        }
        assert!(compared > 0, "{}: no block to compare", bundle.name);
        let out = encoder.final_norm(states[states.len() - 1].clone());
        if bundle.has("vit.out") {
            assert_close(&bundle, "vit.out", out.clone(), tolerance::VIT);
        }
        let [batch, tokens, width] = out.dims();
        let volume = out.swap_dims(1, 2).reshape([batch, width, tokens]);
        assert_close(&bundle, "image_embedding", volume, tolerance::VIT);
    }
}

fn tokenizer(bundle: &Bundle, config: &adaptmedseg_model::config::ModelConfig) -> Option<Tokenizer> {
    let path: PathBuf = bundle.root.join("tokenizer.json");
    if !path.is_file() {
        skipped(&format!("{} is absent", path.display()));
        return None;
    }
    let text = &config.text_encoder;
    Some(
        Tokenizer::from_bytes(
            &std::fs::read(&path).expect("it can be read"),
            &text.template,
            text.context_length,
            text.vocab_size,
        )
        .expect("the CLIP tokenizer"),
    )
}

#[test]
fn parity_text_encoder() {
    for bundle in bundles("stage", "stage_") {
        let (config, model) = golden_network(&bundle, &Device::flex());
        let Some(tokenizer) = tokenizer(&bundle, &config) else { continue };
        let names = ["liver", "prostate", "left kidney", "background tissue"];
        for name in names {
            let key = format!("text.{}", name.replace(' ', "_"));
            if !bundle.has(&format!("{key}.input_ids")) {
                continue;
            }
            let tokens = tokenizer.encode(&[name]).expect("a known word");
            let ids: Vec<i64> = tokens.ids[0].iter().map(|&id| i64::from(id)).collect();
            assert_eq!(ids, bundle.integers(&format!("{key}.input_ids")), "{name}: token ids");
            let out = model.text_encoder().forward(&tokens);
            assert_close(&bundle, &format!("{key}.last_hidden"), out.last_hidden, tolerance::TEXT);
            assert_close(&bundle, &format!("{key}.pooled"), out.pooled, tolerance::TEXT);
            assert_close(&bundle, &format!("{key}.aligned"), out.aligned, tolerance::TEXT);
        }
        if bundle.has("text.batch.aligned") {
            let tokens = tokenizer.encode(&names).expect("known words");
            let ids: Vec<i64> = tokens.ids.iter().flatten().map(|&id| i64::from(id)).collect();
            assert_eq!(ids, bundle.integers("text.batch.input_ids"), "batch: token ids");
            assert_close(&bundle, "text.batch.aligned", model.text_encoder().forward(&tokens).aligned, tolerance::TEXT);
        }
    }
}

#[test]
fn parity_prompt_encoder() {
    for bundle in bundles("stage", "stage_") {
        let (config, model) = golden_network(&bundle, &Device::flex());
        let encoder = model.prompt_encoder();
        let dense = encoder.dense_pe(grid(&config)).swap_dims(1, 2);
        assert_close(&bundle, "prompt.dense_pe", dense, tolerance::DENSE_PE);
        let coordinates = encoder.encode_coordinates(tensor(&bundle, "pe.coords_in"));
        assert_close(&bundle, "pe.coords_out", coordinates, tolerance::PROMPT);
        for combination in combinations(&bundle) {
            let sparse = combination.sparse(&bundle, &model);
            assert_close(&bundle, &format!("combo.{}.sparse", combination.name), sparse, tolerance::PROMPT);
        }
    }
}

/// One mixture of prompts, named as in the bundle: `text_box_points`, `box_batch2`.
struct Combination {
    name: String,
}

fn combinations(bundle: &Bundle) -> Vec<Combination> {
    let names = bundle.json["tensors"].as_object().expect("tensors").keys();
    let mut found: Vec<Combination> = names
        .filter_map(|name| name.strip_prefix("combo.")?.strip_suffix(".iou"))
        .map(|name| Combination { name: name.to_owned() })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "{}: no combination of prompts", bundle.name);
    found
}

impl Combination {
    fn has(&self, kind: &str) -> bool {
        self.name.split('_').any(|part| part == kind)
    }

    fn text(&self, bundle: &Bundle) -> Option<Tensor<2>> {
        self.has("text").then(|| tensor(bundle, "text.liver.aligned"))
    }

    fn boxes(&self, bundle: &Bundle) -> Option<Tensor<2>> {
        let name = if self.has("batch2") { "prompt.box_batch2" } else { "prompt.box" };
        self.has("box").then(|| tensor(bundle, name))
    }

    fn points(&self, bundle: &Bundle) -> Option<(Tensor<3>, Tensor<2>)> {
        self.has("points").then(|| (tensor(bundle, "prompt.points"), tensor(bundle, "prompt.point_labels")))
    }

    fn sparse(&self, bundle: &Bundle, model: &SegVol) -> Tensor<3> {
        model.prompt_encoder().forward(self.points(bundle), self.boxes(bundle), self.text(bundle))
    }
}

#[test]
fn parity_mask_decoder() {
    for bundle in bundles("stage", "stage_") {
        let (config, model) = golden_network(&bundle, &Device::flex());
        let embedding = model.image_encoder().forward(image(&bundle));
        for combination in combinations(&bundle) {
            let name = &combination.name;
            let mut trace = Trace::default();
            let masks = model.mask_decoder().forward_traced(
                embedding.clone(),
                model.prompt_encoder().dense_pe(grid(&config)),
                model.prompt_encoder().dense_prompt(),
                PromptTokens { sparse: combination.sparse(&bundle, &model), text: combination.text(&bundle) },
                &MaskEffect::default(),
                &mut trace,
            );
            for (key, low_res) in [("masks", masks.low_res.clone()), ("low_res", masks.low_res.clone().narrow(1, 0, 1))]
            {
                if bundle.has(&format!("combo.{name}.{key}")) {
                    assert_close(&bundle, &format!("combo.{name}.{key}"), low_res, tolerance::LOGITS);
                }
            }
            assert_close(&bundle, &format!("combo.{name}.iou"), masks.iou, tolerance::IOU);
            let logits = SegVol::upsample(masks.low_res, config.image_encoder.image_size);
            assert_close(&bundle, &format!("combo.{name}.logits"), logits, tolerance::LOGITS);
            compare_trace(&bundle, name, trace);
        }
    }
}

fn compare_trace(bundle: &Bundle, combination: &str, trace: Trace) {
    let key = |stage: &str| format!("decoder.{combination}.{stage}");
    if !bundle.has(&key("tokens")) {
        return;
    }
    assert_close(bundle, &key("tokens"), trace.tokens.expect("noted"), tolerance::PROMPT);
    for (layer, streams) in trace.layers.into_iter().enumerate() {
        assert_close(bundle, &key(&format!("layer.{layer}.queries")), streams.queries, tolerance::DECODER);
        assert_close(bundle, &key(&format!("layer.{layer}.keys")), streams.keys, tolerance::DECODER);
    }
    assert_close(bundle, &key("hs"), trace.hs.expect("noted"), tolerance::DECODER);
    assert_close(bundle, &key("up.ln"), trace.normed.expect("noted"), tolerance::DECODER);
    assert_close(bundle, &key("up.out"), trace.upscaled.expect("noted"), tolerance::DECODER);
    assert_close(bundle, &key("hyper"), trace.hyper.expect("noted"), tolerance::DECODER);
    if let Some(text) = trace.text {
        assert_close(bundle, &key("text_down"), text, tolerance::DECODER);
    }
}

#[test]
fn parity_one_call_decodes_like_the_stages() {
    for bundle in bundles("stage", "stage_").into_iter().filter(|bundle| bundle.has("combo.text_box_points.masks")) {
        let (config, model) = golden_network(&bundle, &Device::flex());
        let embedding = model.image_encoder().forward(image(&bundle));
        let corners = bundle.floats("prompt.box");
        let places = bundle.floats("prompt.points");
        let labels = bundle.floats("prompt.point_labels");
        let points =
            places.chunks_exact(3).zip(labels).map(|(place, label)| ([place[0], place[1], place[2]], label as i8));
        let prompts = Prompts {
            points: points.collect(),
            bounding_box: Some(corners.try_into().expect("six numbers")),
            text: Some(tensor(&bundle, "text.liver.aligned")),
            dense: None,
        };
        let masks = model.decode(embedding, grid(&config), &prompts, &MaskEffect::default());
        assert_close(&bundle, "combo.text_box_points.masks", masks.low_res, tolerance::LOGITS);
    }
}
