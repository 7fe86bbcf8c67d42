//! PEFT's adapter format, both ways: one folder for each adapted part of the network.

use super::files::{read_small, write_tensors};
use super::{Adapter, AdapterConfig, LoraConfig};
use crate::RawTensor;
use crate::checkpoint::MappedTensors;
use crate::checkpoint::staging::Staging;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::parameters::{self, NamedTensors};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// PEFT's description of an adapter.
pub const PEFT_CONFIG_FILE: &str = "adapter_config.json";
/// Its weights.
pub const PEFT_WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// A description longer than this is none.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The parts of the network PEFT adapters are kept for, and the class each wraps.
const PARTS: [(&str, &str); 2] = [("image_encoder", "ViT"), ("mask_decoder", "MaskDecoder")];
/// What PEFT puts before a layer's name.
const PREFIX: &str = "base_model.model.";

/// The fields of `adapter_config.json` that change what an adapter computes. Others come and go with PEFT's versions.
#[derive(Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "no_bias")]
    bias: String,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    modules_to_save: Option<Value>,
}

fn no_bias() -> String {
    "none".into()
}

impl PeftConfig {
    fn read(path: &Path) -> Result<Self> {
        let config: Self = serde_json::from_slice(&read_small(path, MAX_CONFIG_BYTES)?)
            .map_err(|error| Error::format(path, error.to_string()))?;
        let unsupported = [
            (config.peft_type != "LORA", format!("peft_type {}", config.peft_type)),
            (config.use_dora, "use_dora".into()),
            (config.fan_in_fan_out, "fan_in_fan_out".into()),
            (config.bias != "none" || config.lora_bias, "trained biases".into()),
            (!config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty(), "rank_pattern, alpha_pattern".into()),
            (config.modules_to_save.as_ref().is_some_and(|value| !value.is_null()), "modules_to_save".into()),
        ];
        match unsupported.into_iter().find(|(is, _)| *is) {
            None => Ok(config),
            Some((_, what)) => Err(Error::Unsupported {
                message: format!("{}: {what} is not supported: only plain LoRA and rsLoRA", path.display()),
                hint: None,
            }),
        }
    }
}

impl Adapter {
    /// Reads what `PeftModel.save_pretrained` wrote for SegVol: a folder with `image_encoder` or `mask_decoder` in it,
    /// or both.
    ///
    /// # Errors
    /// Neither folder; a malformed file; a kind of adapter other than LoRA; parts of different rank or alpha; layers that
    /// the model does not have, or of other sizes.
    pub fn import_peft(folder: &Path, model: &ModelConfig, device: &Device) -> Result<Self> {
        let mut found: Option<LoraConfig> = None;
        let mut tensors: BTreeMap<String, RawTensor> = BTreeMap::new();
        let mut layers = BTreeSet::new();
        for (part, _) in PARTS.iter().filter(|(part, _)| folder.join(part).is_dir()) {
            let path = folder.join(part).join(PEFT_CONFIG_FILE);
            let config = PeftConfig::read(&path)?;
            let config =
                LoraConfig { rank: config.r, alpha: config.lora_alpha, rslora: config.use_rslora, targets: Vec::new() };
            if found.as_ref().is_some_and(|other| *other != config) {
                return Err(Error::Unsupported {
                    message: format!("{}: another rank, alpha or scaling than its sister's", path.display()),
                    hint: Some("import the parts one by one".into()),
                });
            }
            found = Some(config);
            let path = folder.join(part).join(PEFT_WEIGHTS_FILE);
            let file = MappedTensors::open(&path)?;
            for (name, ..) in file.iter() {
                let layer = name.strip_prefix(PREFIX).and_then(|name| {
                    name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))
                });
                let layer =
                    layer.ok_or_else(|| Error::format(&path, format!("{name} is no part of a LoRA adapter")))?;
                layers.insert(format!("{part}.{layer}"));
                let tensor = file.get(name).ok_or_else(|| Error::format(&path, format!("{name} is not float")))?;
                tensors.insert(format!("{part}.{}", &name[PREFIX.len()..]), tensor);
            }
        }
        let Some(config) = found else {
            return Err(Error::Format {
                path: folder.to_owned(),
                message: "no PEFT adapter: neither a folder image_encoder nor mask_decoder".into(),
                hint: Some("give the folder that holds them".into()),
            });
        };
        let lora = LoraConfig { targets: layers.into_iter().collect(), ..config };
        let adapter = Self::shaped(AdapterConfig { lora: Some(lora), ..AdapterConfig::default() }, model, device)?;
        for (name, shape) in adapter.shapes() {
            match tensors.get(&name) {
                Some(tensor) if tensor.shape == shape => {}
                Some(tensor) => {
                    let message = format!("{name} is {:?}, the model wants {shape:?}", tensor.shape);
                    return Err(Error::format(folder, message));
                }
                None => return Err(Error::format(folder, format!("{name} is missing"))),
            }
        }
        let source = |name: &str| tensors.get(&adapter.public_name(name)).cloned();
        Ok(adapter.with_weights(parameters::load(adapter.weights().clone(), device, source)?))
    }

    /// Writes the corrections as PEFT would: a folder that appears whole or not at all.
    ///
    /// # Errors
    /// An adapter with a context prior, for which PEFT has no place; a name that is taken; a folder that cannot be
    /// written.
    pub fn export_peft(&self, folder: &Path) -> Result<()> {
        let (Some(config), None) = (&self.config.lora, &self.config.prior) else {
            return Err(Error::Unsupported {
                message: "PEFT's format holds low-rank corrections alone, and this adapter has a context prior".into(),
                hint: Some("train one with the method lora to use it from PEFT".into()),
            });
        };
        let staging = Staging::plan(folder, false, PEFT_CONFIG_FILE)?;
        let temporary = staging.create()?;
        for (part, class) in PARTS {
            let inside = format!("{part}.");
            let tensors: NamedTensors = self
                .tensors()
                .into_iter()
                .filter_map(|(name, tensor)| Some((format!("{PREFIX}{}", name.strip_prefix(&inside)?), tensor)))
                .collect();
            if tensors.is_empty() {
                continue;
            }
            let modules: Vec<&str> = self.layers.iter().filter_map(|layer| layer.strip_prefix(&inside)).collect();
            let description = json!({
                "peft_type": "LORA",
                "auto_mapping": { "base_model_class": class, "parent_library": "common" },
                "base_model_name_or_path": null,
                "r": config.rank,
                "lora_alpha": config.alpha,
                "use_rslora": config.rslora,
                "use_dora": false,
                "target_modules": modules,
                "bias": "none",
                "lora_bias": false,
                "fan_in_fan_out": false,
                "lora_dropout": 0.0,
                "rank_pattern": {},
                "alpha_pattern": {},
                "modules_to_save": null,
                "inference_mode": true,
                "init_lora_weights": true,
                "task_type": null,
            });
            let at = temporary.join(part);
            std::fs::create_dir(&at).map_err(|error| Error::io(&at, error))?;
            let path = at.join(PEFT_CONFIG_FILE);
            let text = serde_json::to_string_pretty(&description).expect("plain data") + "\n";
            std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
            write_tensors(&at.join(PEFT_WEIGHTS_FILE), &tensors)?;
        }
        staging.commit()
    }
}
