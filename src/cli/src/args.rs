//! The arguments, and the coordinates in them.

use crate::bench::BenchArgs;
use crate::evaluate::EvaluateArgs;
use crate::phantom::PhantomArgs;
use crate::prepare::PrepareArgs;
use crate::pretrain::PretrainArgs;
use adaptmedseg_model::prior::Variant;
use adaptmedseg_segment::train::LossKind;
use adaptmedseg_segment::{BoxPrompt, EngineOptions, Modality, Mode, Point, Precision, Space};
use adaptmedseg_study::Method;
use clap::{ArgGroup, Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    2  arguments or prompts that cannot be used
    3  a file whose content cannot be used
    4  a file that cannot be read, written, or is there already
    5  not supported by this version
    6  too little memory
   70  a mistake in this program
  130  cancelled with Ctrl-C; no result was written";

/// Segment 3-D medical images from prompts: points, a box, a name.
#[derive(Debug, Parser)]
#[command(name = "adaptmedseg", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Info(InfoArgs),
    Import(ImportArgs),
    Segment(Box<SegmentArgs>),
    Prepare(PrepareArgs),
    Finetune(Box<FinetuneArgs>),
    Evaluate(Box<EvaluateArgs>),
    Pretrain(PretrainArgs),
    Phantom(PhantomArgs),
    Adapter(AdapterArgs),
    Overlay(OverlayArgs),
    Bench(BenchArgs),
}

/// Segment organs of a generated CT and a generated MR scan with the built-in model.
///
/// Nothing is downloaded. Prints Dice for each organ and kind of prompt; the model did not learn from these scans, but from
/// others that were generated in the same way.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the scans, their labels, the masks, the report and a picture
    #[arg(long, value_name = "DIR", default_value = "adaptmedseg-demo")]
    pub out: PathBuf,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// Describe a model or an image, or list the devices.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["model", "image", "devices"])))]
pub(crate) struct InfoArgs {
    /// A model folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// An image file
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The devices that models can be opened on, those of plugins in ADAPTMEDSEG_PLUGIN_PATH and beside the program too
    #[arg(long)]
    pub devices: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Make a model folder from a SegVol checkpoint.
///
/// Reads pytorch_model.bin, SegVol_v1.pth, a file of ViT pre-training (image encoder alone), and safetensors. From a
/// pickle only tensors are read; nothing in it is executed.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The checkpoint
    pub checkpoint: PathBuf,
    /// The tokenizer.json of the model's text encoder
    #[arg(long, value_name = "FILE")]
    pub tokenizer: PathBuf,
    /// The model folder to make
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Numbers that the tensors do not tell, as JSON (a config.json, or parts of one)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the model
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the weights, shown wherever the model is described
    #[arg(long)]
    pub license: Option<String>,
    /// Import although tensors are missing or unknown
    ///
    /// What is there is kept, such as an image encoder alone; unknown tensors are dropped. A model that lacks tensors
    /// cannot segment.
    #[arg(long)]
    pub allow_missing: bool,
    /// Replace a model folder that is there already
    #[arg(long)]
    pub overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// Where and how a model computes.
#[derive(Debug, Args)]
pub(crate) struct ComputeArgs {
    /// auto, cpu, or the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
    /// Threads to compute with; all cores unless given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Arithmetic of the large products: f32, bf16 or f16, as the device has it
    #[arg(long, value_name = "P", default_value = "f32", value_parser = Precision::from_str)]
    pub precision: Precision,
    /// The plugin that has the device, a file or the folder it lies in
    ///
    /// Without it plugins are looked for in the folders of ADAPTMEDSEG_PLUGIN_PATH, then beside the program.
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,
}

impl ComputeArgs {
    /// How to open the model.
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions {
            device: self.device.clone(),
            threads: self.threads,
            precision: self.precision,
            plugin: self.plugin.clone(),
        }
    }
}

/// Segment an image.
///
/// The mask lies on the image's own grid: 1 in the structure, 0 elsewhere. Give at least one prompt.
#[derive(Debug, Args)]
pub(crate) struct SegmentArgs {
    /// A model folder, or `builtin`
    #[arg(long, value_name = "DIR|builtin")]
    pub model: PathBuf,
    /// The image: .nii, .nii.gz, .mha or .mhd
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// The mask to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the structure, such as "liver"
    #[arg(long)]
    pub text: Option<String>,
    /// A point in the structure, or with `,-` a point outside it; may be repeated
    #[arg(long = "point", value_name = "X,Y,Z[,+|-]", allow_hyphen_values = true)]
    pub points: Vec<PointArg>,
    /// A box around the structure: its lower corner, then its upper one
    #[arg(long = "box", value_name = "X0,Y0,Z0,X1,Y1,Z1", allow_hyphen_values = true)]
    pub bounding_box: Option<BoxArg>,
    /// A previous mask on the image's grid, whose box is the prompt
    #[arg(long, value_name = "FILE", conflicts_with = "bounding_box")]
    pub box_from_mask: Option<PathBuf>,
    /// Which 3-D image of a 4-D file, from 0
    #[arg(long, value_name = "N")]
    pub channel: Option<usize>,
    /// Space of points and box: ijk (voxel index, fastest axis first), ras or lps (millimetres), model (d,h,w)
    #[arg(long, default_value = "ijk", value_parser = Space::from_str)]
    pub space: Space,
    /// Where the scan comes from: CT or MR
    #[arg(long, value_name = "CT|MR", default_value = "unknown", hide_default_value = true,
          value_parser = Modality::from_str)]
    pub modality: Modality,
    /// An adapter of the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What is looked for, for the adapter's context prior
    #[arg(long, value_name = "NAME", requires = "adapter")]
    pub task: Option<String>,
    /// default, or reference (the original's behaviour, mistakes included)
    #[arg(long, default_value = "default", value_parser = Mode::from_str)]
    pub mode: Mode,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Write the probability of every voxel, float32, on the image's grid
    #[arg(long, value_name = "FILE")]
    pub probabilities: Option<PathBuf>,
    /// Write the logit of every voxel, float32, on the image's grid
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Write how the mask came about
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long)]
    pub overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// Let a model learn from pairs of image and mask.
///
/// What it learns is an adapter, a folder of its own: the model does not change. Part of the data is held out to tell
/// when the adapter is good; the best one is kept. Stopped, by Ctrl-C or worse, a run goes on with --resume.
#[derive(Debug, Args)]
pub(crate) struct FinetuneArgs {
    /// A model folder, or `builtin`
    #[arg(long, value_name = "DIR|builtin")]
    pub model: PathBuf,
    /// A data set of `prepare`, a list of pairs, or a folder with a pairs.json
    ///
    /// The list is an array of objects: image, mask, and optionally label, label_id, task, modality, subject, split
    /// (train or validation), channel. Files are relative to the list.
    #[arg(long, value_name = "DIR|pairs.json")]
    pub data: PathBuf,
    /// The adapter folder to make
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// lora (low-rank corrections), prior (a context prior), or lora+prior
    #[arg(long, default_value = "lora", value_parser = Method::from_str)]
    pub method: Method,
    /// Kind of context prior: hermes or additive
    #[arg(long, default_value = "hermes", value_parser = variant)]
    pub variant: Variant,
    /// Rank of the low-rank corrections
    #[arg(long, default_value_t = 8)]
    pub rank: usize,
    /// Strength of the low-rank corrections
    #[arg(long, default_value_t = 8.0)]
    pub alpha: f64,
    /// Scale corrections by alpha / rank instead of alpha / sqrt(rank)
    #[arg(long)]
    pub plain_lora: bool,
    /// Correct the decoder's MLPs and its token-to-image attention too
    #[arg(long)]
    pub all_decoder_layers: bool,
    /// Correct no layer of the image encoder: windows are then encoded once and kept, and steps are fast
    #[arg(long)]
    pub freeze_encoder: bool,
    /// An adapter to learn further, instead of a new one; tasks and modalities it does not know are added to it
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Optimiser steps
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Times each pair is learned from, instead of steps
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Highest learning rate
    #[arg(long, value_name = "F")]
    pub lr: Option<f64>,
    /// Steps in which the learning rate climbs
    #[arg(long, value_name = "N")]
    pub warmup: Option<u64>,
    /// Samples of a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub accumulation: usize,
    /// What is minimised: segvol (Dice per slice and cross-entropy), adaptive-dice, or volume (one Dice and
    /// cross-entropy)
    #[arg(long, default_value = "segvol", value_parser = loss)]
    pub loss: LossKind,
    /// Modality of all pairs, such as MR, instead of what the list says
    #[arg(long)]
    pub modality: Option<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps between validations; a tenth of all unless given
    #[arg(long, value_name = "N")]
    pub validate_every: Option<u64>,
    /// Validations without a better loss after which the run ends; 0 for never
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub patience: u64,
    /// Steps between checkpoints; a tenth of all unless given
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<u64>,
    /// Leave windows as they are: no flips, no changes of intensity
    #[arg(long)]
    pub no_augmentation: bool,
    /// Keep all activations of the encoder: faster, for more memory
    #[arg(long)]
    pub no_checkpointing: bool,
    /// Name of the adapter; that of its folder unless given
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the adapter's weights
    #[arg(long)]
    pub license: Option<String>,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Go on with a run that was stopped
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace an adapter, or an unfinished run, of this name
    #[arg(long)]
    pub overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

fn variant(text: &str) -> Result<Variant, String> {
    match text {
        "hermes" => Ok(Variant::Hermes),
        "additive" => Ok(Variant::Additive),
        _ => Err(format!("unknown variant {text:?}: hermes or additive")),
    }
}

fn loss(text: &str) -> Result<LossKind, String> {
    match text {
        "segvol" => Ok(LossKind::SegVol),
        "adaptive-dice" => Ok(LossKind::AdaptiveDice),
        "volume" => Ok(LossKind::Volume),
        _ => Err(format!("unknown loss {text:?}: segvol, adaptive-dice or volume")),
    }
}

pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is no number above zero")),
    }
}

/// Describe an adapter, or turn it into something else.
#[derive(Debug, Args)]
pub(crate) struct AdapterArgs {
    #[command(subcommand)]
    pub command: AdapterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// Describe an adapter
    Info {
        /// The adapter folder
        adapter: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a model whose weights have the adapter's corrections in them
    Merge {
        /// The adapter folder
        adapter: PathBuf,
        /// The model it was made for
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// The model folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replace a model folder that is there already
        #[arg(long)]
        overwrite: bool,
    },
    /// Make an adapter of what PEFT saved for SegVol
    ImportPeft {
        /// The folder that holds `image_encoder` or `mask_decoder`, or both
        peft: PathBuf,
        /// The model it was made for
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// The adapter folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Name of the adapter
        #[arg(long)]
        name: Option<String>,
        /// Licence of its weights
        #[arg(long)]
        license: Option<String>,
        /// Replace an adapter folder that is there already
        #[arg(long)]
        overwrite: bool,
    },
    /// Write an adapter as PEFT would
    ExportPeft {
        /// The adapter folder
        adapter: PathBuf,
        /// The model it was made for
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Draw slices of an image with a mask over them.
///
/// Three rows: axial, coronal, sagittal; the patient's right and front are at the left, as in radiology. Voxels keep
/// their proportions.
#[derive(Debug, Args)]
pub(crate) struct OverlayArgs {
    /// The image
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// A mask on the image's grid; every voxel that is not 0 is drawn
    #[arg(long, value_name = "FILE")]
    pub mask: PathBuf,
    /// The picture to write
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Which 3-D image of a 4-D file, from 0
    #[arg(long, value_name = "N")]
    pub channel: Option<usize>,
    /// Slices per row, spread over the mask
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub slices: u8,
    /// Values drawn black and white; percentiles 1 and 99 unless given
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    pub window: Option<WindowArg>,
    /// Replace a picture that is there already
    #[arg(long)]
    pub overwrite: bool,
}

impl SegmentArgs {
    /// Whether there is anything to go by.
    pub(crate) fn has_prompt(&self) -> bool {
        self.text.is_some() || !self.points.is_empty() || self.bounding_box.is_some() || self.box_from_mask.is_some()
    }
}

/// `X,Y,Z`, `X,Y,Z,+` or `X,Y,Z,-`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PointArg {
    position: [f64; 3],
    positive: bool,
}

/// Two corners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BoxArg([[f64; 3]; 2]);

/// Voxels along each axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SizeArg(pub [usize; 3]);

/// The values drawn black and white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WindowArg(pub [f64; 2]);

impl PointArg {
    /// The prompt, in `space`.
    pub(crate) fn prompt(self, space: Space) -> Point {
        Point { position: self.position, space, positive: self.positive }
    }
}

impl BoxArg {
    /// The prompt, in `space`.
    pub(crate) fn prompt(self, space: Space) -> BoxPrompt {
        BoxPrompt { corners: self.0, space }
    }
}

/// `N` numbers with commas between them.
fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() != N {
        return Err(format!("{} values where {N} are needed", parts.len()));
    }
    let mut values = [0.0_f64; N];
    for (value, part) in values.iter_mut().zip(parts) {
        *value = part.parse().map_err(|_| format!("{part:?} is not a number"))?;
        if !value.is_finite() {
            return Err(format!("{part:?} is not finite"));
        }
    }
    Ok(values)
}

impl FromStr for PointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (position, positive) = match text.rsplit_once(',').map(|(front, last)| (front, last.trim())) {
            Some((front, "+")) => (front, true),
            Some((front, "-")) => (front, false),
            _ => (text, true),
        };
        Ok(Self { position: numbers(position)?, positive })
    }
}

impl FromStr for BoxArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [x0, y0, z0, x1, y1, z1] = numbers(text)?;
        Ok(Self([[x0, y0, z0], [x1, y1, z1]]))
    }
}

impl FromStr for SizeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let values = numbers::<3>(text)?;
        match values.iter().find(|value| value.fract() != 0.0 || **value < 1.0) {
            Some(value) => Err(format!("{value} is no number of voxels")),
            None => Ok(Self(values.map(|value| value as usize))),
        }
    }
}

impl FromStr for WindowArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let window: [f64; 2] = numbers(text)?;
        if window[0] < window[1] { Ok(Self(window)) } else { Err("the first value must be below the second".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn segment(extra: &[&str]) -> Result<SegmentArgs, clap::Error> {
        let fixed = ["adaptmedseg", "segment", "--model", "m", "--image", "i.nii", "--out", "o.nii"];
        match Arguments::try_parse_from(fixed.iter().chain(extra))?.command {
            Command::Segment(args) => Ok(*args),
            _ => unreachable!("segment was asked for"),
        }
    }

    #[test]
    fn the_arguments_do_not_contradict_one_another() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn negative_coordinates_are_taken_as_they_are() {
        let args = segment(&["--point", "-12.5,3,4", "--point=-1,-2,-3,-", "--box", "-1,-2,-3,4,5,6"]).expect("valid");
        let expected = [([-12.5, 3.0, 4.0], true), ([-1.0, -2.0, -3.0], false)];
        assert_eq!(args.points, expected.map(|(position, positive)| PointArg { position, positive }));
        assert_eq!(args.bounding_box, Some(BoxArg([[-1.0, -2.0, -3.0], [4.0, 5.0, 6.0]])));
    }

    #[test]
    fn coordinates_that_are_none_are_named() {
        let message = |text: &str| text.parse::<PointArg>().expect_err("no point");
        assert_eq!(message("1,2"), "2 values where 3 are needed");
        assert_eq!(message("1,2,x"), "\"x\" is not a number");
        assert_eq!(message("1,2,nan"), "\"nan\" is not finite");
        assert_eq!(message("1,2,3,4"), "4 values where 3 are needed");
        assert!("1,2,3".parse::<BoxArg>().is_err());
        assert!("5,5".parse::<WindowArg>().is_err());
        assert_eq!("-160,240".parse(), Ok(WindowArg([-160.0, 240.0])));
        assert_eq!("40, 36,30".parse(), Ok(SizeArg([40, 36, 30])));
        assert!("40,36,0".parse::<SizeArg>().is_err() && "40,36,1.5".parse::<SizeArg>().is_err());
    }

    #[test]
    fn there_is_one_box_only() {
        assert!(!segment(&[]).expect("valid, until it is run").has_prompt());
        assert!(segment(&["--text", "liver"]).expect("valid").has_prompt());
        assert!(segment(&["--box", "1,1,1,2,2,2", "--box-from-mask", "m.nii"]).is_err());
        let args = segment(&["--text", "liver", "--modality", "mri", "--space", "RAS"]).expect("valid");
        assert_eq!((args.modality, args.space), (Modality::Mr, Space::Ras));
    }
}
