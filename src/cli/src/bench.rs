//! `adaptmedseg bench`: how fast a model runs on a device.

use crate::args::ComputeArgs;
use crate::failure::Result;
use crate::interrupt;
use crate::outputs::{Kind, Outputs};
use crate::progress::Bar;
use crate::report::text;
use adaptmedseg_study::{BenchHooks, BenchReport, bench};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// Measure how fast a model runs on a device.
///
/// Medians of several turns, on generated images. Times are comparable on one machine only; between machines compare the
/// encoder's efficiency, which is told by the machine's own float32 matrix product. Let nothing else run meanwhile.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A model folder, or `builtin`
    #[arg(long, value_name = "DIR|builtin")]
    model: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Measure the image encoder alone: seconds instead of minutes for a large model
    #[arg(long)]
    encoder_only: bool,
    /// Write the numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long)]
    overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// Measures, and prints the table.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let mut outputs = Outputs::new(args.overwrite);
    if let Some(path) = &args.json {
        outputs.plan(path, Kind::Text, &[])?;
    }
    let bar = Bar::new(args.quiet);
    let show = |what: &'static str| bar.step(what);
    let hooks = BenchHooks { progress: Some(&show), cancel: Some(interrupt::token()) };
    let report = bench(&args.model, &args.compute.options(), args.encoder_only, &hooks)?;
    if let Some(path) = &args.json {
        outputs.write_text(path, &text(&json!(report)))?;
    }
    interrupt::check()?;
    outputs.commit()?;
    drop(bar);
    if args.quiet { Ok(()) } else { crate::print(&table(&report)) }
}

fn table(report: &BenchReport) -> String {
    let mut table = format!(
        "device           {}, {} threads, {}\nmatrix product   {:.0} GFLOP/s, float32, 2048 x 768 x 3072\n\
         image encoder    {:.4} s, {:.2} of the product's speed\n",
        report.device,
        report.threads,
        report.precision,
        report.gemm_gflops,
        report.encoder_s,
        report.encoder_efficiency,
    );
    let parts = [
        ("mask decoder", report.decoder_s, ""),
        ("text encoder", report.text_s, ""),
        ("whole volume", report.segment_s, ""),
        ("training step", report.train_step_s, ", float32"),
        ("opening", Some(report.load_s), ""),
    ];
    for (name, seconds, note) in parts {
        if let Some(seconds) = seconds {
            let _ = writeln!(table, "{name:16} {seconds:.4} s{note}");
        }
    }
    if let Some(memory) = report.peak_rss_mb {
        let _ = writeln!(table, "peak memory      {memory:.0} MB");
    }
    table
}
