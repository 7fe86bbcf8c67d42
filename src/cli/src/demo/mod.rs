//! `adaptmedseg demo`: the whole job on a generated volume with a generated model.

mod phantom;
mod weights;

use crate::args::DemoArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::overlay;
use crate::progress::Bar;
use crate::report::{self, Run};
use adaptmedseg_segment::volume::{self, ReadOptions, WriteOptions};
use adaptmedseg_segment::{BoxPrompt, Model, OpenOptions, Point, Session, Space};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The demonstration is the same every time.
const SEED: u64 = 7;
/// What it writes.
const NAMES: [&str; 5] = ["volume.nii.gz", "model", "mask.nii.gz", "report.json", "overlay.png"];

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

fn make(folder: &Path, args: &DemoArgs) -> Result<String> {
    let bar = Bar::new(args.quiet);
    bar.step("making a volume and a model");
    let [volume_path, model_path, mask_path, report_path, picture_path] = NAMES.map(|name| folder.join(name));
    let phantom = phantom::make(SEED);
    volume::write(&volume_path, &phantom.volume, &WriteOptions::default())?;
    weights::write(&model_path, SEED)?;
    interrupt::check()?;

    // From here on as with files of the user's.
    let started = Instant::now();
    let info = volume::read_info(&volume_path)?;
    let image = Arc::new(volume::read(&volume_path, &ReadOptions::default())?);
    let read_seconds = started.elapsed().as_secs_f64();
    let opened = Instant::now();
    let model = Model::open(&model_path, &OpenOptions::default())?;
    let open_seconds = opened.elapsed().as_secs_f64();
    let mut session = Session::new(&model, image.clone())?;
    session.set_box(Some(BoxPrompt { corners: phantom.bounding_box, space: Space::Ijk }))?;
    session.add_point(Point { position: phantom.inside, space: Space::Ijk, positive: true })?;
    session.add_point(Point { position: phantom.outside, space: Space::Ijk, positive: false })?;
    let estimate = session.estimate_memory();
    bar.during(|hooks| session.segment(hooks).map(drop))?;

    bar.step("writing");
    let writing = Instant::now();
    let outcome = session.outcome().expect("segmented above");
    let mask = outcome.mask();
    volume::write_like(&mask_path, &mask, &volume_path, &WriteOptions::default())?;
    overlay::draw(&image, &mask, 4, Some(phantom::WINDOW)).write(&picture_path, &args.out.join("overlay.png"))?;
    let [shown_volume, shown_model, shown_mask, ..] = NAMES.map(|name| args.out.join(name));
    let run = Run {
        info: &info,
        image: &shown_volume,
        channel: None,
        model_path: &shown_model,
        model: model.description(),
        adapter: None,
        task: None,
        non_finite: session.non_finite(),
        outcome,
        mask: &shown_mask,
        estimate,
        read_seconds,
        open_seconds,
        write_seconds: writing.elapsed().as_secs_f64(),
        total_seconds: started.elapsed().as_secs_f64(),
    };
    fs::write(&report_path, report::text(&run.json())).map_err(|error| Failure::file(&report_path, &error))?;
    drop(bar);
    Ok(format!(
        "{}{}: volume.nii.gz, model/, mask.nii.gz, report.json, overlay.png\n\
         The volume is generated and the weights are random numbers: the mask shows that everything runs here,\n\
         it says nothing about quality. For real results make a model with `adaptmedseg import`.\n",
        run.summary(),
        args.out.display(),
    ))
}
