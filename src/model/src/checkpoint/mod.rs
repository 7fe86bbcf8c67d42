//! stub, to be replaced
#![allow(missing_docs)]
use crate::config::ModelConfig;
use std::collections::BTreeMap;
pub fn model_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.")?;
    if name.contains("mask_downscaling") { return None; }
    Some(name.replace("patch_embeddings.1.", "proj.").replace("clip_text_model.text_model.", "clip.")
        .replace("output_upscaling.0.", "output_upscaling.conv1.").replace("output_upscaling.1.", "output_upscaling.norm.").replace("output_upscaling.3.", "output_upscaling.conv2."))
}
pub fn infer_config(shapes: &BTreeMap<String, Vec<usize>>, _: Option<()>) -> crate::Result<ModelConfig> {
    let mut c = ModelConfig::default();
    c.image_encoder.num_layers = shapes.keys().filter(|k| k.starts_with("image_encoder.blocks") && k.ends_with("qkv.weight")).count();
    c.text_encoder.num_layers = shapes.keys().filter(|k| k.starts_with("text_encoder.clip.encoder.layers") && k.ends_with("fc1.weight")).count();
    let s = &shapes["mask_decoder.output_upscaling.norm.weight"];
    c.image_encoder.image_size = [s[1] / 2 * 4, s[2] / 2 * 16, s[3] / 2 * 16];
    Ok(c)
}
pub struct ModelFolder;
impl ModelFolder {
    pub fn open(_: &std::path::Path) -> crate::Result<Self> { unimplemented!() }
    pub fn config(&self) -> &ModelConfig { unimplemented!() }
    pub fn tensor(&self, _: &str) -> Option<crate::RawTensor> { None }
    pub fn tokenizer(&self) -> Option<&std::path::Path> { None }
    pub fn parameters(&self) -> u64 { 0 }
    pub fn weight_bytes(&self) -> u64 { 0 }
}
