//! `adaptmedseg adapter`: what an adapter is, and what it can be turned into.

use crate::args::{AdapterArgs, AdapterCommand};
use crate::failure::{Failure, Result};
use crate::report::text;
use adaptmedseg_segment::adapters::{Adapter, AdapterConfig};
use adaptmedseg_segment::checkpoint::ModelFolder;
use adaptmedseg_segment::{EngineOptions, Model};
use serde_json::json;
use std::path::Path;

/// Runs one of the sub-commands.
pub(crate) fn run(args: &AdapterArgs) -> Result<()> {
    match &args.command {
        AdapterCommand::Info { adapter, json } => info(adapter, *json),
        AdapterCommand::Merge { adapter, model, out, overwrite } => {
            let opened = open(model)?.open_adapter(adapter)?;
            opened.merge_into(&ModelFolder::named(model)?, out, *overwrite)?;
            crate::print(&format!("{}: a model with the adapter's corrections in its weights\n", out.display()))
        }
        AdapterCommand::ImportPeft { peft, model, out, name, license, overwrite } => {
            let base = open(model)?;
            let mut adapter = Adapter::import_peft(peft, base.config(), &adaptmedseg_model::Device::flex())?;
            let config = adapter.config_mut();
            config.base = base.hash().to_owned();
            config.base_name.clone_from(&base.description().name);
            config.name = name.clone().unwrap_or_else(|| file_name(peft));
            config.license = license.clone().unwrap_or_default();
            adapter.save(out, *overwrite)?;
            crate::print(&format!("{}: {} corrected layers\n", out.display(), adapter.lora().len()))
        }
        AdapterCommand::ExportPeft { adapter, model, out } => {
            open(model)?.open_adapter(adapter)?.export_peft(out)?;
            crate::print(&format!("{}: an adapter for PEFT\n", out.display()))
        }
    }
}

fn open(model: &Path) -> Result<Model> {
    Model::open(model, &EngineOptions::default()).map_err(Failure::from)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn info(path: &Path, as_json: bool) -> Result<()> {
    let config = Adapter::read_config(path)?;
    if as_json {
        return crate::print(&text(&json!(config)));
    }
    crate::print(&describe(&config))
}

fn describe(config: &AdapterConfig) -> String {
    let or = |value: &str, none: &str| if value.is_empty() { none.to_owned() } else { value.to_owned() };
    let list = |names: &[String]| or(&names.join(", "), "not said");
    let mut lines = vec![
        ("name", or(&config.name, "none")),
        ("licence", or(&config.license, "unknown")),
        ("base", format!("{} {}", or(&config.base_name, "any"), config.base.chars().take(12).collect::<String>())),
        ("modalities", list(&config.modalities)),
        ("tasks", list(&config.tasks)),
    ];
    if let Some(lora) = &config.lora {
        let kind = if lora.rslora { "rsLoRA" } else { "LoRA" };
        lines.push((
            "lora",
            format!("{kind}, rank {}, alpha {}, {} targets", lora.rank, lora.alpha, lora.targets.len()),
        ));
    }
    if let Some(prior) = &config.prior {
        lines.push((
            "prior",
            format!("{:?}, modalities {}; tasks {}", prior.variant, list(&prior.modalities), list(&prior.tasks)),
        ));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
}
