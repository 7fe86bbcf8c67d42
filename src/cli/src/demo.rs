//! `adaptmedseg demo`: the built-in model on generated scans that it did not learn from.

use crate::args::DemoArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::overlay::{self, Picture};
use crate::progress::Bar;
use crate::report::{model_json, text};
use adaptmedseg_segment::volume::{self, Volume, WriteOptions};
use adaptmedseg_segment::{BoxPrompt, EngineOptions, Modality, Model, Point, Session, Space};
use adaptmedseg_study::{Phantom, PhantomModality, PhantomRegion};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The demonstration is the same every time. The built-in model learned from phantoms of other seeds.
const SEED: u64 = 2026;
/// What it writes.
const NAMES: [&str; 8] = [
    "ct.nii.gz",
    "ct-labels.nii.gz",
    "ct-mask.nii.gz",
    "mr.nii.gz",
    "mr-labels.nii.gz",
    "mr-mask.nii.gz",
    "report.json",
    "overlay.png",
];
/// What is looked for, where a phantom has it.
const ORGANS: [&str; 10] = [
    "liver",
    "spleen",
    "right kidney",
    "left kidney",
    "stomach",
    "urinary bladder",
    "prostate",
    "aorta",
    "vertebra L3",
    "left iliopsoas",
];
/// Smallest structure that is looked for, in millilitres.
const MIN_ML: f64 = 5.0;
/// How the organs are prompted.
const PROMPTS: [&str; 4] = ["box", "1 point", "box+points", "text"];

/// Makes everything in a temporary folder, and moves it into its place when it is complete.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let fresh = !args.out.exists();
    prepare(&args.out)?;
    let made = make_and_move(args);
    if made.is_err() && fresh {
        // Empty by now, or something else has been put there.
        let _ = fs::remove_dir(&args.out);
    }
    made
}

fn make_and_move(args: &DemoArgs) -> Result<()> {
    let draft = tempfile::Builder::new()
        .prefix(".adaptmedseg-")
        .tempdir_in(&args.out)
        .map_err(|error| Failure::file(&args.out, &error))?;
    interrupt::remember(draft.path());
    let summary = make(draft.path(), args)?;
    interrupt::check()?;
    for name in NAMES {
        let target = args.out.join(name);
        // Our own, of an earlier demonstration: `prepare` has seen to that.
        let _ = if target.is_dir() { fs::remove_dir_all(&target) } else { fs::remove_file(&target) };
        fs::rename(draft.path().join(name), &target).map_err(|error| Failure::file(&target, &error))?;
    }
    if args.quiet { Ok(()) } else { crate::print(&summary) }
}

/// The folder: a new one, an empty one, or that of an earlier demonstration, which is replaced.
fn prepare(out: &Path) -> Result<()> {
    fs::create_dir_all(out).map_err(|error| Failure::file(out, &error))?;
    let entries = fs::read_dir(out).map_err(|error| Failure::file(out, &error))?;
    let foreign = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| !NAMES.contains(&name.as_str()));
    match foreign {
        Some(name) => Err(Failure::io(
            format!("{}: not empty, it holds {name}", out.display()),
            Some("choose another folder with --out"),
        )),
        None => Ok(()),
    }
}

/// One organ: Dice of each kind of prompt, and the mask that the box gave.
struct Found {
    name: &'static str,
    ml: f64,
    dice: [f64; 4],
    mask: Vec<u8>,
}

fn make(folder: &Path, args: &DemoArgs) -> Result<String> {
    let bar = Bar::new(args.quiet);
    let started = Instant::now();
    let model = Model::open(Path::new("builtin"), &EngineOptions::default())?;
    let mut summary = String::new();
    let mut scans = Vec::new();
    let mut pictures = Vec::new();
    for (index, modality) in [PhantomModality::Ct, PhantomModality::Mr].into_iter().enumerate() {
        bar.step("making a scan");
        let phantom = Phantom::new(SEED, index as u64, modality, PhantomRegion::Abdomen, None)?;
        let prefix = modality.name().to_lowercase();
        let found = segment(&model, &phantom, modality, &bar)?;
        // Later organs do not take what earlier ones have.
        let mut mask = vec![0; phantom.labels.data.len()];
        for (label, organ) in found.iter().enumerate() {
            for (to, &set) in mask.iter_mut().zip(&organ.mask) {
                if set > 0 && *to == 0 {
                    *to = label as u8 + 1;
                }
            }
        }
        let mask = Volume { geometry: phantom.image.geometry.clone(), data: mask };
        let path = |what: &str| folder.join(format!("{prefix}{what}.nii.gz"));
        volume::write(&path(""), &phantom.image, &WriteOptions::default())?;
        volume::write(&path("-labels"), &phantom.labels, &WriteOptions::default())?;
        volume::write(&path("-mask"), &mask, &WriteOptions::default())?;
        let window = (modality == PhantomModality::Ct).then_some([-160.0, 240.0]);
        pictures.push(overlay::draw(&phantom.image, &mask, 4, window));
        table(&mut summary, modality, &found);
        scans.push(scan_json(modality, &found));
    }
    bar.step("writing");
    let picture = folder.join("overlay.png");
    Picture::stacked(&pictures).write(&picture, &args.out.join("overlay.png"))?;
    let report = json!({
        "model": model_json(model.description(), Path::new("builtin")),
        "seed": SEED,
        "seconds": started.elapsed().as_secs_f64(),
        "scans": scans,
    });
    let path = folder.join("report.json");
    fs::write(&path, text(&report)).map_err(|error| Failure::file(&path, &error))?;
    drop(bar);
    let _ = write!(
        summary,
        "{}: scans, labels and masks as .nii.gz, report.json, overlay.png ({:.1} s)\n\
         The scans are generated, and so were those the model learned from: see its card for real ones.\n\
         A demonstration, not for clinical use.\n",
        args.out.display(),
        started.elapsed().as_secs_f64(),
    );
    Ok(summary)
}

/// Segments the organs of a phantom, prompted from its labels.
fn segment(model: &Model, phantom: &Phantom, modality: PhantomModality, bar: &Bar) -> Result<Vec<Found>> {
    let image = Arc::new(phantom.image.clone());
    let voxel_ml = image.geometry.voxel_volume_mm3() / 1000.0;
    let mut session = Session::new(model, image.clone())?;
    session.set_modality(match modality {
        PhantomModality::Ct => Modality::Ct,
        PhantomModality::Mr => Modality::Mr,
    });
    let mut found = Vec::new();
    for name in ORGANS {
        let Some(truth) = phantom.mask(name) else { continue };
        let inside: Vec<usize> = (0..truth.len()).filter(|&index| truth[index] > 0).collect();
        let ml = inside.len() as f64 * voxel_ml;
        if ml < MIN_ML {
            continue;
        }
        let [nx, ny, _] = image.geometry.size;
        let place = |index: usize| [index % nx, index / nx % ny, index / (nx * ny)].map(|at| at as f64);
        let (mut low, mut high) = ([f64::INFINITY; 3], [0.0; 3]);
        for &index in &inside {
            for (axis, at) in place(index).into_iter().enumerate() {
                low[axis] = f64::min(low[axis], at - 0.5);
                high[axis] = f64::max(high[axis], at + 0.5);
            }
        }
        // The voxels nearest to the middle, and a quarter and three quarters of the way through.
        let point = |share: f64| Point {
            position: place(inside[((inside.len() - 1) as f64 * share) as usize]),
            space: Space::Ijk,
            positive: true,
        };
        let middle: [f64; 3] = std::array::from_fn(|axis| (low[axis] + high[axis]) / 2.0);
        let off = |index: usize| -> f64 { (0..3).map(|axis| (place(index)[axis] - middle[axis]).powi(2)).sum() };
        let nearest = inside.iter().copied().min_by(|&a, &b| off(a).total_cmp(&off(b))).expect("it is not empty");
        let centre = Point { position: place(nearest), space: Space::Ijk, positive: true };
        let mut masks = Vec::new();
        for prompt in PROMPTS {
            interrupt::check()?;
            session.clear_prompts();
            if prompt.contains("box") {
                session.set_box(Some(BoxPrompt { corners: [low, high], space: Space::Ijk }))?;
            }
            if prompt == "1 point" {
                session.add_point(centre)?;
            }
            if prompt == "box+points" {
                for share in [0.25, 0.5, 0.75] {
                    session.add_point(point(share))?;
                }
            }
            if prompt == "text" {
                session.set_text(Some(name))?;
            }
            bar.during(|hooks| session.segment(hooks).map(drop))?;
            masks.push(session.outcome().expect("segmented above").mask().data);
        }
        let dice = std::array::from_fn(|index| dice(&masks[index], &truth));
        found.push(Found { name, ml, dice, mask: masks.swap_remove(0) });
    }
    Ok(found)
}

fn dice(found: &[u8], truth: &[u8]) -> f64 {
    let both = found.iter().zip(truth).filter(|&(&a, &b)| a > 0 && b > 0).count();
    let either = found.iter().chain(truth).filter(|&&value| value > 0).count();
    2.0 * both as f64 / either.max(1) as f64
}

fn table(out: &mut String, modality: PhantomModality, found: &[Found]) {
    let _ =
        writeln!(out, "Dice, {:<11}{:>5}  {}", modality.name(), "ml", PROMPTS.map(|p| format!("{p:>10}")).join(" "));
    for organ in found {
        let dice = organ.dice.map(|dice| format!("{dice:>10.3}")).join(" ");
        let _ = writeln!(out, "  {:<15}{:>5.0}  {dice}", organ.name, organ.ml);
    }
    let mean = |column: usize| found.iter().map(|organ| organ.dice[column]).sum::<f64>() / found.len().max(1) as f64;
    let means = [0, 1, 2, 3].map(|column| format!("{:>10.3}", mean(column))).join(" ");
    let _ = writeln!(out, "  {:<15}{:>5}  {means}\n", "mean", "");
}

fn scan_json(modality: PhantomModality, found: &[Found]) -> Value {
    let organs = found.iter().enumerate().map(|(index, organ)| {
        let dice: serde_json::Map<String, Value> =
            PROMPTS.iter().zip(organ.dice).map(|(prompt, dice)| ((*prompt).to_owned(), json!(dice))).collect();
        json!({"name": organ.name, "label": index + 1, "ml": organ.ml, "dice": dice})
    });
    json!({"modality": modality.name(), "structures": organs.collect::<Vec<_>>()})
}
