//! `adaptmedseg import`: a checkpoint becomes a model folder.

use crate::args::ImportArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use adaptmedseg_segment::checkpoint::{self, ImportOptions, ImportReport};
use std::fmt::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Imports, and prints what was found.
pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let options = ImportOptions {
        tokenizer: args.tokenizer.clone(),
        config: args.config.clone(),
        allow_missing: args.allow_missing,
        overwrite: args.overwrite,
        name: args.name.clone(),
        license: args.license.clone(),
    };
    let report = import(&args.checkpoint, &args.out, options)?;
    if args.quiet { Ok(()) } else { crate::print(&summary(&report, args)) }
}

/// The import looks at no cancel token, so it runs beside a thread that does. Where the user asks to stop, the process
/// ends, and what the import has written so far is removed.
fn import(checkpoint: &Path, out: &Path, options: ImportOptions) -> Result<ImportReport> {
    if let Some(name) = out.file_name() {
        // The name under which the import writes: the folder's own, with the number of the process.
        let mut temporary = name.to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        interrupt::remember(&out.with_file_name(temporary));
    }
    let (sender, receiver) = channel();
    let (checkpoint, out) = (checkpoint.to_owned(), out.to_owned());
    let worker = std::thread::spawn(move || {
        let _ = sender.send(checkpoint::import(&checkpoint, &out, &options));
    });
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(report) => return Ok(report?),
            Err(RecvTimeoutError::Timeout) => interrupt::check()?,
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Err(Failure::io("the import ended without a result", None)),
            },
        }
    }
}

fn summary(report: &ImportReport, args: &ImportArgs) -> String {
    let config = &report.config;
    let image = &config.image_encoder;
    let text = &config.text_encoder;
    let by = |sizes: [usize; 3]| sizes.map(|size| size.to_string()).join(" x ");
    let mut summary = format!(
        "{}: model {} made of {}\nlayout     {}\nlicence    {}\nwindow     {} voxels, patches of {}\n\
         image      {} layers of width {}, {} heads\ntext       {} layers of width {}, {} tokens\n\
         tensors    {}, {:.1} MB\n",
        args.out.display(),
        config.name,
        args.checkpoint.display(),
        report.layout.name(),
        config.license,
        by(image.image_size),
        by(image.patch_size),
        image.num_layers,
        image.embed_dim,
        image.num_heads,
        text.num_layers,
        text.width,
        text.vocab_size,
        report.tensors,
        report.bytes as f64 / 1e6,
    );
    let lists = [
        ("dropped, the network does not use them", &report.dropped),
        ("missing", &report.missing),
        ("dropped, unknown", &report.unexpected),
    ];
    for (heading, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        let _ = writeln!(summary, "{heading} ({}):", names.len());
        names.iter().for_each(|name| summary.push_str(&format!("  {name}\n")));
    }
    summary
}
