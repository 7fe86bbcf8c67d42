//! `adaptmedseg phantom`: generated scans with labels.

use crate::args::SizeArg;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_segment::volume::{self, WriteOptions};
use adaptmedseg_study::{Phantom, PhantomModality, PhantomRegion};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Make generated scans of a torso with labels, as a data set for `finetune`.
#[derive(Debug, Args)]
pub(crate) struct PhantomArgs {
    /// Folder for the data set; it must not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many scans of each modality
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u64,
    /// What they look like
    #[arg(long, value_enum, ignore_case = true, default_value = "both")]
    pub modality: PhantomModalities,
    /// What they show
    #[arg(long, value_enum, ignore_case = true, default_value = "abdomen")]
    pub region: RegionArg,
    /// Everything random comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Voxels (x, y, z), such as 128,104,112
    #[arg(long, value_name = "X,Y,Z")]
    pub size: Option<SizeArg>,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// What phantoms look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PhantomModalities {
    /// Hounsfield units
    Ct,
    /// Arbitrary units, thick slices
    Mr,
    /// As many of each
    Both,
}

/// What phantoms show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegionArg {
    /// The upper abdomen; more of the pelvis where there is room for more
    Abdomen,
    /// From the iliac crests to the thighs: bladder, rectum, and the prostate or the uterus
    Pelvis,
}

/// Makes the data set in a temporary folder, and moves it into its place when it is complete.
pub(crate) fn run(args: &PhantomArgs) -> Result<()> {
    if args.out.exists() {
        return Err(Failure::io(format!("{} exists", args.out.display()), Some("choose another folder with --out")));
    }
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Failure::file(parent, &error))?;
    let draft = tempfile::Builder::new().prefix(".adaptmedseg-").tempdir_in(parent);
    let draft = draft.map_err(|error| Failure::file(parent, &error))?;
    interrupt::remember(draft.path());
    let bar = Bar::new(args.quiet);
    let modalities: &[PhantomModality] = match args.modality {
        PhantomModalities::Ct => &[PhantomModality::Ct],
        PhantomModalities::Mr => &[PhantomModality::Mr],
        PhantomModalities::Both => &[PhantomModality::Ct, PhantomModality::Mr],
    };
    let size = args.size.map(|size| size.0);
    let region = match args.region {
        RegionArg::Abdomen => PhantomRegion::Abdomen,
        RegionArg::Pelvis => PhantomRegion::Pelvis,
    };
    let mut pairs = Vec::new();
    let mut structures = 0;
    for index in 0..args.count {
        for &modality in modalities {
            interrupt::check()?;
            let name = format!("{}-{index:03}", modality.name().to_lowercase());
            let done = index as f64 / args.count as f64;
            bar.at(done, name.clone());
            let phantom = Phantom::new(args.seed, index, modality, region, size)?;
            let (image, labels) = (format!("{name}.nii.gz"), format!("{name}-labels.nii.gz"));
            volume::write(&draft.path().join(&image), &phantom.image, &WriteOptions::default())?;
            volume::write(&draft.path().join(&labels), &phantom.labels, &WriteOptions::default())?;
            structures += phantom.structures.len();
            pairs.extend(phantom.structures.iter().map(|(label, ids)| {
                json!({
                    "image": image, "mask": labels, "label": label, "label_id": ids,
                    "modality": modality.name(), "subject": name,
                })
            }));
        }
    }
    let path = draft.path().join("pairs.json");
    let text = serde_json::to_string_pretty(&pairs).expect("plain data") + "\n";
    fs::write(&path, text).map_err(|error| Failure::file(&path, &error))?;
    fs::rename(draft.path(), &args.out).map_err(|error| Failure::file(&args.out, &error))?;
    drop(bar);
    if args.quiet {
        return Ok(());
    }
    let scans = args.count as usize * modalities.len();
    crate::print(&format!("{}: {scans} scans with {structures} structures\n", args.out.display()))
}
