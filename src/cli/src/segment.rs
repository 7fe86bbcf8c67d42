//! `adaptmedseg segment`: one image, its prompts, one mask.

use crate::args::SegmentArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::outputs::{Kind, Outputs};
use crate::progress::Bar;
use crate::report::{self, Run};
use adaptmedseg_segment::volume::{self, ReadOptions, Scalar, Volume, WriteOptions};
use adaptmedseg_segment::{LoadedAdapter, Model, Session};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Segments, and prints one line.
pub(crate) fn run(args: &SegmentArgs) -> Result<()> {
    if !args.has_prompt() {
        return Err(Failure::usage("no prompt", "give --text, --point, --box or --box-from-mask"));
    }
    let outputs = plan(args)?;
    let bar = Bar::new(args.quiet);
    bar.step("reading the image");
    let started = Instant::now();
    let info = volume::read_info(&args.image)?;
    let read = ReadOptions { channel: args.channel, ..ReadOptions::default() };
    let image = Arc::new(volume::read(&args.image, &read)?);
    let previous = args.box_from_mask.as_deref().map(|path| previous_mask(path, &image)).transpose()?;
    let read_seconds = started.elapsed().as_secs_f64();
    interrupt::check()?;

    bar.step("opening the model");
    let opened = Instant::now();
    let model = Model::open(&args.model, &args.compute.options())?;
    let open_seconds = opened.elapsed().as_secs_f64();
    let mut session = Session::new(&model, image).map_err(|error| Failure::from(error).in_file(&args.image))?;
    add_prompts(&mut session, args, previous.as_deref())?;
    let estimate = session.estimate_memory();
    bar.during(|hooks| session.segment(hooks).map(drop))?;

    bar.step("writing");
    let writing = Instant::now();
    write_volumes(args, &outputs, &session)?;
    let outcome = session.outcome().expect("segmented above");
    let run = Run {
        info: &info,
        image: &args.image,
        channel: args.channel,
        model_path: &args.model,
        model: model.description(),
        adapter: session.adapter().map(LoadedAdapter::config),
        task: session.task(),
        non_finite: session.non_finite(),
        outcome,
        mask: &args.out,
        estimate,
        read_seconds,
        open_seconds,
        write_seconds: writing.elapsed().as_secs_f64(),
        total_seconds: started.elapsed().as_secs_f64(),
    };
    if let Some(path) = &args.report {
        outputs.write_text(path, &report::text(&run.json()))?;
    }
    interrupt::check()?;
    outputs.commit()?;
    drop(bar);
    if args.quiet { Ok(()) } else { crate::print(&run.summary()) }
}

/// Checks every output before anything is computed.
fn plan(args: &SegmentArgs) -> Result<Outputs> {
    let inputs: Vec<&Path> = std::iter::once(args.image.as_path()).collect();
    let mut outputs = Outputs::new(args.overwrite);
    let files = [
        (Some(&args.out), Kind::Image),
        (args.probabilities.as_ref(), Kind::Image),
        (args.logits.as_ref(), Kind::Image),
        (args.report.as_ref(), Kind::Text),
    ];
    for (path, kind) in files {
        if let Some(path) = path {
            outputs.plan(path, kind, &inputs)?;
        }
    }
    Ok(outputs)
}

/// Reads a mask that must lie on the image's grid.
fn previous_mask(path: &Path, image: &Volume<f32>) -> Result<Vec<u8>> {
    let mask = volume::read_labels(path, &ReadOptions::default())?;
    crate::overlay::check_same_grid(path, &mask.geometry, &image.geometry)?;
    Ok(mask.data.into_iter().map(|label| u8::from(label != 0)).collect())
}

fn add_prompts(session: &mut Session, args: &SegmentArgs, previous: Option<&[u8]>) -> Result<()> {
    session.set_mode(args.mode);
    session.set_modality(args.modality);
    if let Some(path) = &args.adapter {
        let adapter = session.model().load_adapter(path, false)?;
        session.set_adapter(Some(&adapter))?;
        session.set_task(args.task.as_deref())?;
    }
    for point in &args.points {
        session.add_point(point.prompt(args.space))?;
    }
    if let Some(bounding_box) = args.bounding_box {
        session.set_box(Some(bounding_box.prompt(args.space)))?;
    }
    if let Some(mask) = previous {
        session.set_box_from_mask(mask)?;
    }
    Ok(session.set_text(args.text.as_deref())?)
}

fn write_volumes(args: &SegmentArgs, outputs: &Outputs, session: &Session) -> Result<()> {
    let outcome = session.outcome().expect("segmented before");
    write(outputs, &args.out, &outcome.mask(), &args.image)?;
    if let Some(path) = &args.probabilities {
        write(outputs, path, &session.probabilities()?, &args.image)?;
    }
    if let Some(path) = &args.logits {
        write(outputs, path, &session.logits()?, &args.image)?;
    }
    Ok(())
}

/// Writes a planned volume on the grid of the file `source`.
fn write<T: Scalar>(outputs: &Outputs, target: &Path, volume: &Volume<T>, source: &Path) -> Result<()> {
    interrupt::check()?;
    Ok(volume::write_like(&outputs.draft(target), volume, source, &WriteOptions::default())?)
}
