//! From an official checkpoint to a model folder.

use super::expected;
use super::folder::{CARD_FILE, CONFIG_FILE, ModelFolder, TOKENIZER_FILE, WEIGHTS_FILE, sha256};
use super::infer::infer_config;
use super::key_map::{self, Layout, Mapped};
use super::safetensors_file::{self, Planned};
use super::staging::Staging;
use super::tensor_file::{ElementType, TensorFile};
use crate::config::{self, ModelConfig};
use crate::error::{Error, Result, TensorMismatch};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// A tokenizer larger than this is not CLIP's, which has 2.2 MB.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// How a checkpoint is imported.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The `tokenizer.json` that goes into the folder.
    pub tokenizer: PathBuf,
    /// A `config.json`, partial or whole, whose fields override what does not show in the tensors.
    pub config: Option<PathBuf>,
    /// Import although tensors are missing (they are not written) or unexpected (they are dropped).
    pub allow_missing: bool,
    /// Replace a model folder that is in the way.
    pub overwrite: bool,
    /// Name of the model; otherwise the configuration's.
    pub name: Option<String>,
    /// Licence of the weights; otherwise the configuration's.
    pub license: Option<String>,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// In which layout the checkpoint was.
    pub layout: Layout,
    /// The configuration that was written.
    pub config: ModelConfig,
    /// Number of tensors written.
    pub tensors: usize,
    /// Size of `model.safetensors`.
    pub bytes: u64,
    /// Tensors of the checkpoint that the network never uses, each with the reason.
    pub dropped: Vec<String>,
    /// Tensors the model would need and does not have; empty unless allowed.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that are unknown and were dropped; empty unless allowed.
    pub unexpected: Vec<String>,
}

/// Makes a model folder at `out` from an official checkpoint.
///
/// Nothing in the checkpoint is executed. The folder appears whole or not at all.
///
/// # Errors
/// A file that cannot be read or is malformed; [`Error::Tensors`] naming every tensor that is missing, unexpected or of
/// the wrong shape; [`Error::Config`] where the configuration contradicts the tensors; [`Error::Exists`].
pub fn import(checkpoint: &Path, out: &Path, options: &ImportOptions) -> Result<ImportReport> {
    let staging = Staging::plan(out, options.overwrite, CONFIG_FILE)?;
    let user = user_config(options)?;
    let tokenizer = read_tokenizer(&options.tokenizer)?;
    let file = TensorFile::open(checkpoint)?;
    let source = Source::map(&file)?;
    let config = infer_config(&source.shapes(&file), Some(&user)).map_err(|error| in_file(error, options))?;

    let mut mismatch = source.compare(&file, &config);
    // A value that is no tensor, where one is needed, is named as what it is; being absent too, it comes first.
    source.check_replaced(&file, &mismatch.missing)?;
    if !mismatch.misshaped.is_empty() || (!options.allow_missing && !mismatch.is_empty()) {
        mismatch.hint = Some(hint(&mismatch, source.layout));
        return Err(Error::Tensors(Box::new(mismatch)));
    }
    let plan = source.plan(&file, &mismatch);
    if plan.is_empty() {
        return Err(Error::format(checkpoint, "it has no tensor of the model"));
    }

    let folder = staging.create()?;
    let tensors = plan.len();
    let bytes = write_weights(&folder.join(WEIGHTS_FILE), plan, |name| file.get(source.names.get(name)?))?;
    let report = ImportReport {
        layout: source.layout,
        config,
        tensors,
        bytes,
        dropped: source.dropped,
        missing: mismatch.missing,
        unexpected: mismatch.unexpected,
    };
    write_file(&folder.join(CONFIG_FILE), report.config.to_json().as_bytes())?;
    write_file(&folder.join(TOKENIZER_FILE), &tokenizer)?;
    write_file(&folder.join(CARD_FILE), card(&report, &file).as_bytes())?;
    // What was written must be what would be opened.
    if options.allow_missing {
        ModelFolder::open_incomplete(folder)?
    } else {
        ModelFolder::open(folder)?
    };
    staging.commit()?;
    Ok(report)
}

/// The tensors of a checkpoint under the names of a model folder.
struct Source {
    layout: Layout,
    prefix: &'static str,
    /// Our name -> the checkpoint's.
    names: BTreeMap<String, String>,
    dropped: Vec<String>,
}

impl Source {
    fn map(file: &TensorFile) -> Result<Self> {
        let Some((layout, prefix)) = key_map::layout(&file.names().chain(file.others()).collect::<Vec<_>>()) else {
            let message = match (file.names().next(), file.others().next()) {
                (Some(first), _) => {
                    format!("none of its {} tensors is one of SegVol's; the first is {first}", file.names().len())
                }
                (None, Some(other)) => {
                    format!("it holds no tensors; {other} is {}", file.not_a_tensor(other).unwrap_or_default())
                }
                (None, None) => "it holds no tensors".into(),
            };
            return Err(Error::Format {
                path: file.path().to_path_buf(),
                message,
                hint: Some("give pytorch_model.bin or SegVol_v1.pth, or safetensors with the same names".into()),
            });
        };
        let mut source = Self { layout, prefix, names: BTreeMap::new(), dropped: Vec::new() };
        for name in file.names() {
            match key_map::map(name, layout, prefix) {
                Mapped::Model(ours) => {
                    if let Some(other) = source.names.insert(ours, name.to_owned()) {
                        return Err(Error::format(file.path(), format!("{other} and {name} are the same tensor")));
                    }
                }
                Mapped::Dropped(why) => source.dropped.push(format!("{name}: {why}")),
                Mapped::Ignored => source.dropped.push(format!("{name}: not part of the image encoder")),
            }
        }
        Ok(source)
    }

    fn shapes(&self, file: &TensorFile) -> BTreeMap<String, Vec<usize>> {
        self.infos(file).map(|(name, _, shape)| (name.to_owned(), shape.to_vec())).collect()
    }

    fn infos<'a>(&'a self, file: &'a TensorFile) -> impl Iterator<Item = (&'a str, ElementType, &'a [usize])> {
        self.names.iter().map(|(ours, name)| {
            let (element, shape) = file.info(name).expect("the name comes from the file");
            (ours.as_str(), element, shape)
        })
    }

    fn compare(&self, file: &TensorFile, config: &ModelConfig) -> TensorMismatch {
        let mut mismatch = expected::compare(file.path(), config, self.infos(file), ElementType::is_float);
        // Unexpected tensors are looked for in the checkpoint, so they keep its names.
        mismatch.unexpected = mismatch.unexpected.iter().map(|ours| self.names[ours].clone()).collect();
        mismatch
    }

    /// An error if the checkpoint has something else in the place of a missing tensor.
    fn check_replaced(&self, file: &TensorFile, missing: &[String]) -> Result<()> {
        for name in file.others() {
            if let Mapped::Model(ours) = key_map::map(name, self.layout, self.prefix)
                && missing.contains(&ours)
            {
                let what = file.not_a_tensor(name).unwrap_or_default();
                return Err(Error::format(file.path(), format!("{name} should be a tensor and is {what}")));
            }
        }
        Ok(())
    }

    fn plan(&self, file: &TensorFile, mismatch: &TensorMismatch) -> Vec<Planned> {
        let wanted = self.infos(file).filter(|(ours, ..)| !mismatch.unexpected.contains(&self.names[*ours]));
        wanted
            .map(|(ours, element, shape)| {
                let element = if element == ElementType::F64 { ElementType::F32 } else { element };
                Planned { name: ours.to_owned(), element, shape: shape.to_vec() }
            })
            .collect()
    }
}

/// The user's configuration, with name and licence put in.
fn user_config(options: &ImportOptions) -> Result<Value> {
    let mut user = options.config.as_deref().map_or_else(|| Ok(json!({})), config::read_json)?;
    if let Value::Object(fields) = &mut user {
        for (field, value) in [("name", &options.name), ("license", &options.license)] {
            if let Some(value) = value {
                fields.insert(field.into(), json!(value));
            }
        }
    }
    Ok(user)
}

/// An error about the configuration, with the file it comes from.
fn in_file(error: Error, options: &ImportOptions) -> Error {
    match (error, &options.config) {
        (Error::Config { message }, Some(path)) => Error::config(format!("{}: {message}", path.display())),
        (error, _) => error,
    }
}

/// The tokenizer, of bounded size and recognisably one. The text encoder reads it in earnest.
fn read_tokenizer(path: &Path) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_TOKENIZER_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_TOKENIZER_BYTES {
        return Err(Error::format(path, format!("longer than {MAX_TOKENIZER_BYTES} bytes: not CLIP's tokenizer")));
    }
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::format(path, format!("not a tokenizer.json: {error}")))?;
    if json.pointer("/model/vocab").is_none() {
        return Err(Error::format(path, "not a tokenizer.json: it has no model with a vocabulary"));
    }
    Ok(bytes)
}

fn write_weights<'a>(
    path: &Path,
    plan: Vec<Planned>,
    data: impl Fn(&str) -> Option<super::tensor_file::TensorView<'a>>,
) -> Result<u64> {
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        let bytes = safetensors_file::write(&mut out, plan, data)?;
        out.into_inner()?.sync_all()?;
        Ok(bytes)
    };
    write().map_err(|error| Error::io(path, error))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create_new(path).and_then(|mut file| file.write_all(bytes)).map_err(|error| Error::io(path, error))
}

fn hint(mismatch: &TensorMismatch, layout: Layout) -> String {
    let positions = |name: &str| name == "image_encoder.patch_embedding.position_embeddings";
    let grid_unknown = mismatch.missing.iter().any(|name| name == "mask_decoder.output_upscaling.norm.weight");
    if grid_unknown && mismatch.misshaped.iter().any(|tensor| positions(&tensor.name)) {
        "the window's size does not show in these tensors: give image_encoder.image_size in a configuration file".into()
    } else if layout == Layout::VitPretrain {
        "this is an encoder-only pre-training checkpoint; allow missing tensors to import the image encoder alone"
            .into()
    } else if mismatch.misshaped.is_empty() {
        "is this the checkpoint you meant? Allowing missing tensors imports it as it is".into()
    } else {
        "is this the checkpoint you meant? Sizes that do not show in the tensors can be given in a configuration file"
            .into()
    }
}

/// `MODEL_CARD.md`: where the model comes from, and what it is not.
fn card(report: &ImportReport, file: &TensorFile) -> String {
    let config = &report.config;
    let [depth, height, width] = config.image_encoder.image_size;
    let source = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut card = format!(
        "# {name}\n\n\
         Imported by AdaptMedSeg {version} from `{source}`, layout: {layout}.\n\n\
         * Licence of the weights: {license}\n\
         * Window: {depth} x {height} x {width} voxels (D x H x W)\n\
         * Tensors: {tensors}, `{WEIGHTS_FILE}` {bytes} bytes\n\
         * SHA-256 of `{source}`: `{hash}`\n\n\
         The weights are those of the imported file. What they were trained on, and how well they segment, is for \
         their publisher to say. Not a medical device: results need a qualified person's review.\n",
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
        layout = report.layout.name(),
        license = config.license,
        tensors = report.tensors,
        bytes = report.bytes,
        hash = sha256(file.bytes()),
    );
    let lists = [
        ("Missing", &report.missing),
        ("Unknown, left out", &report.unexpected),
        ("Unused, left out", &report.dropped),
    ];
    for (heading, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        card.push_str(&format!("\n## {heading} ({})\n\n", names.len()));
        names.iter().for_each(|name| card.push_str(&format!("* {name}\n")));
    }
    card
}
