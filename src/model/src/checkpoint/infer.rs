//! A model's sizes, read off its tensors.
//!
//! Widths, depths and the token grid show in the shapes. What does not (the numbers of heads, the patch size, the
//! activation) takes SegVol's value unless a configuration file says otherwise, and a file that contradicts the
//! tensors is refused with both values.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Width of an attention head in the image and text encoders of every published SegVol.
const HEAD_DIM: usize = 64;

/// The configuration of the model whose tensors have these names (those of a model folder) and shapes.
///
/// `user` may give or override any field. A tensor that is absent says nothing: the field it would have shown keeps
/// SegVol's value, and the tensor is missed when the configuration is compared with the file.
///
/// # Errors
/// [`Error::Config`] for a field of `user` that is unknown or that a tensor contradicts, and for sizes no model can
/// have.
pub fn infer_config(shapes: &BTreeMap<String, Vec<usize>>, user: Option<&Value>) -> Result<ModelConfig> {
    let empty = Value::Object(Map::new());
    let user = user.unwrap_or(&empty);
    if !user.is_object() {
        return Err(Error::config("not a JSON object"));
    }
    let mut inference = Inference { shapes, user, config: default_json(), contradictions: Vec::new() };
    inference.image_encoder()?;
    inference.text_encoder()?;
    inference.mask_decoder();
    inference.token_grid()?;
    if !inference.contradictions.is_empty() {
        return Err(Error::config(inference.contradictions.join("; ")));
    }
    let mut config = inference.config;
    overlay(&mut config, user);
    let config: ModelConfig = serde_json::from_value(config).map_err(|error| Error::config(error.to_string()))?;
    config.validate()?;
    Ok(config)
}

fn default_json() -> Value {
    serde_json::to_value(ModelConfig::default()).expect("a configuration holds nothing JSON cannot say")
}

/// Puts the fields of `over` into `base`, objects field by field.
fn overlay(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (field, value) in over {
                overlay(base.entry(field).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

struct Inference<'a> {
    shapes: &'a BTreeMap<String, Vec<usize>>,
    user: &'a Value,
    config: Value,
    contradictions: Vec<String>,
}

impl Inference<'_> {
    fn image_encoder(&mut self) -> Result<()> {
        self.take_size(
            "image_encoder.embed_dim",
            &[
                ("image_encoder.norm.weight", 0),
                ("image_encoder.norm.bias", 0),
                ("image_encoder.patch_embedding.proj.weight", 0),
                ("mask_decoder.iou_token.weight", 1),
            ],
        );
        self.take_count("image_encoder.num_layers", "image_encoder.blocks.");
        let mlp = ["image_encoder.blocks.0.mlp.linear1.weight", "image_encoder.blocks.0.mlp.linear1.bias"];
        self.take_size("image_encoder.mlp_dim", &mlp.map(|tensor| (tensor, 0)));
        self.heads("image_encoder.num_heads", "image_encoder.embed_dim")
    }

    fn text_encoder(&mut self) -> Result<()> {
        let tokens = "text_encoder.clip.embeddings.token_embedding.weight";
        let positions = "text_encoder.clip.embeddings.position_embedding.weight";
        self.take_size("text_encoder.vocab_size", &[(tokens, 0)]);
        self.take_size("text_encoder.width", &[(tokens, 1), (positions, 1)]);
        self.take_size("text_encoder.context_length", &[(positions, 0)]);
        self.take_count("text_encoder.num_layers", "text_encoder.clip.encoder.layers.");
        let mlp = ["weight", "bias"].map(|kind| format!("text_encoder.clip.encoder.layers.0.mlp.fc1.{kind}"));
        self.take_size("text_encoder.mlp_dim", &[(&mlp[0], 0), (&mlp[1], 0)]);
        self.heads("text_encoder.num_heads", "text_encoder.width")
    }

    fn mask_decoder(&mut self) {
        self.take_count("mask_decoder.num_layers", "mask_decoder.transformer.layers.");
        let mlp = ["weight", "bias"].map(|kind| format!("mask_decoder.transformer.layers.0.mlp.lin1.{kind}"));
        self.take_size("mask_decoder.mlp_dim", &[(&mlp[0], 0), (&mlp[1], 0)]);
        // Every mask has an MLP of its own.
        self.take_count("mask_decoder.num_mask_tokens", "mask_decoder.output_hypernetworks_mlps.");
        self.take_count("mask_decoder.iou_head_depth", "mask_decoder.iou_prediction_head.layers.");
        // With a single layer there is no hidden width to see.
        if self.value("mask_decoder.iou_head_depth") != &json!(1) {
            let head = ["weight", "bias"].map(|kind| format!("mask_decoder.iou_prediction_head.layers.0.{kind}"));
            self.take_size("mask_decoder.iou_head_hidden", &[(&head[0], 0), (&head[1], 0)]);
        }
        for attention in ["final_attn_token_to_image", "layers.0.cross_attn_token_to_image"] {
            let query = format!("mask_decoder.transformer.{attention}.q_proj.weight");
            if let (Some(inner @ 1..), Some(width)) = (self.size(&query, 0), self.size(&query, 1)) {
                return self.found("mask_decoder.attention_downsample_rate", json!(width / inner), &query);
            }
        }
    }

    /// The token grid from the one norm whose weights cover a volume, twice as fine as the tokens.
    fn token_grid(&mut self) -> Result<()> {
        let norms = ["mask_decoder.output_upscaling.norm.weight", "mask_decoder.output_upscaling.norm.bias"];
        let Some(norm) = norms.into_iter().find(|norm| self.shapes.contains_key(*norm)) else { return Ok(()) };
        let Some([_, fine @ ..]) = self.shapes.get(norm).map(Vec::as_slice) else { return Ok(()) };
        let Ok(fine) = <[usize; 3]>::try_from(fine) else { return Ok(()) };
        if fine.iter().any(|size| !size.is_multiple_of(2)) {
            return Err(Error::config(format!(
                "tensor {norm} covers {fine:?} elements, which is not twice a token grid"
            )));
        }
        let patch = self.value("image_encoder.patch_size").clone();
        let patch: [usize; 3] = serde_json::from_value(patch)
            .map_err(|error| Error::config(format!("image_encoder.patch_size: {error}")))?;
        let size: [usize; 3] = std::array::from_fn(|axis| (fine[axis] / 2).saturating_mul(patch[axis]));
        self.found("image_encoder.image_size", json!(size), norm);
        Ok(())
    }

    fn size(&self, tensor: &str, axis: usize) -> Option<usize> {
        self.shapes.get(tensor)?.get(axis).copied()
    }

    /// The size of an axis of the first of these tensors that is there.
    fn take_size(&mut self, field: &str, sources: &[(&str, usize)]) {
        let mut sizes = sources.iter().filter_map(|&(tensor, axis)| Some((tensor, self.size(tensor, axis)?)));
        if let Some((tensor, size)) = sizes.next() {
            self.found(field, json!(size), tensor);
        }
    }

    /// One more than the highest N of the tensors called `prefix` + N + "." + something.
    fn take_count(&mut self, field: &str, prefix: &str) {
        let names = self.shapes.range(prefix.to_owned()..).map(|(name, _)| name);
        let indices = names
            .map_while(|name| name.strip_prefix(prefix))
            .filter_map(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        if let Some(last) = indices.max() {
            self.found(field, json!(last.saturating_add(1)), &format!("{prefix}{last}.*"));
        }
    }

    /// Heads are not to be seen in any shape; their width is known.
    fn heads(&mut self, field: &str, width_field: &str) -> Result<()> {
        let width = self.value(width_field).as_u64().unwrap_or(0) as usize;
        if width > 0 && width.is_multiple_of(HEAD_DIM) {
            self.set(field, json!(width / HEAD_DIM));
        } else if lookup(self.user, field).is_none() {
            return Err(Error::config(format!(
                "{field} does not show in the tensors, and {width_field} = {width} is not a multiple of {HEAD_DIM}: \
                 give it in a configuration file"
            )));
        }
        Ok(())
    }

    /// Takes a value that `tensor` shows, and compares it with the user's.
    fn found(&mut self, field: &str, value: Value, tensor: &str) {
        if let Some(given) = lookup(self.user, field).filter(|given| **given != value) {
            self.contradictions.push(format!("{field} is given as {given}, but tensor {tensor} says {value}"));
        }
        self.set(field, value);
    }

    fn set(&mut self, field: &str, value: Value) {
        *self.config.pointer_mut(&pointer(field)).expect("a field of the configuration") = value;
    }

    /// The user's value of a field, or else the one found or the default.
    fn value(&self, field: &str) -> &Value {
        lookup(self.user, field)
            .unwrap_or_else(|| self.config.pointer(&pointer(field)).expect("a field of the configuration"))
    }
}

fn lookup<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.pointer(&pointer(field))
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::expected_tensors;

    fn shapes(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
        expected_tensors(config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect()
    }

    fn unusual() -> ModelConfig {
        let mut config = ModelConfig::default();
        config.image_encoder.image_size = [16, 64, 96];
        config.image_encoder.embed_dim = 128;
        config.image_encoder.num_layers = 11;
        config.image_encoder.num_heads = 2;
        config.image_encoder.mlp_dim = 160;
        config.text_encoder.num_layers = 3;
        config.text_encoder.width = 192;
        config.text_encoder.num_heads = 3;
        config.text_encoder.vocab_size = 100;
        config.text_encoder.context_length = 20;
        config.text_encoder.mlp_dim = 60;
        config.mask_decoder.num_layers = 3;
        config.mask_decoder.mlp_dim = 40;
        config.mask_decoder.attention_downsample_rate = 4;
        config.mask_decoder.num_mask_tokens = 2;
        config.mask_decoder.iou_head_depth = 2;
        config.mask_decoder.iou_head_hidden = 24;
        config
    }

    #[test]
    fn import_infers_every_size_that_shows() {
        for config in [ModelConfig::default(), unusual()] {
            config.validate().unwrap();
            assert_eq!(infer_config(&shapes(&config), None).unwrap(), config);
        }
    }

    #[test]
    fn import_takes_from_the_user_what_does_not_show() {
        let user = json!({"name": "mine", "image_encoder": {"patch_size": [2, 32, 16], "num_heads": 4}});
        let config = infer_config(&shapes(&unusual()), Some(&user)).unwrap();
        assert_eq!(config.name, "mine");
        assert_eq!(config.image_encoder.num_heads, 4);
        assert_eq!(config.image_encoder.image_size, [8, 128, 96]);
    }

    #[test]
    fn import_names_both_sides_of_every_contradiction() {
        let user = json!({"image_encoder": {"num_layers": 12}, "text_encoder": {"width": 512, "mlp_dim": 60}});
        let message = infer_config(&shapes(&unusual()), Some(&user)).unwrap_err().to_string();
        assert!(message.contains("image_encoder.num_layers is given as 12"), "{message}");
        assert!(message.contains("image_encoder.blocks.10.* says 11"), "{message}");
        assert!(message.contains("text_encoder.width is given as 512"), "{message}");
        assert!(!message.contains("mlp_dim"), "{message}");
    }

    #[test]
    fn import_asks_for_heads_it_cannot_know() {
        let mut config = unusual();
        config.image_encoder.embed_dim = 96;
        let message = infer_config(&shapes(&config), None).unwrap_err().to_string();
        assert!(message.contains("image_encoder.num_heads does not show"), "{message}");
    }

    #[test]
    fn import_refuses_sizes_no_model_has() {
        let mut shapes = shapes(&unusual());
        shapes.insert(format!("image_encoder.blocks.{}.x", usize::MAX), vec![1]);
        assert!(infer_config(&shapes, None).unwrap_err().to_string().contains("num_layers"));
        let unknown = json!({"image_encoder": {"layers": 1}});
        assert!(infer_config(&BTreeMap::new(), Some(&unknown)).unwrap_err().to_string().contains("layers"));
        assert!(infer_config(&BTreeMap::new(), Some(&json!([1]))).is_err());
    }
}
