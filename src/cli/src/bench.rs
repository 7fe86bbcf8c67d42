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
    let report = bench(&args.model, &args.compute.options(), &hooks)?;
    if let Some(path) = &args.json {
        outputs.write_text(path, &text(&json!(report)))?;
    }
    interrupt::check()?;
    outputs.commit()?;
    drop(bar);
    if args.quiet { Ok(()) } else { crate::print(&table(&report)) }
}

fn table(report: &BenchReport) -> String {
    let text = report.text_s.map_or("takes no text".to_owned(), |seconds| format!("{seconds:.4} s"));
    let memory = report.peak_rss_mb.map_or("not told by this system".to_owned(), |memory| format!("{memory:.0} MB"));
    format!(
        "device           {}, {} threads, {}\nmatrix product   {:.0} GFLOP/s, float32, 2048 x 768 x 3072\n\
         image encoder    {:.4} s, {:.2} of the product's speed\nmask decoder     {:.4} s\ntext encoder     {text}\n\
         whole volume     {:.3} s\ntraining step    {:.3} s, float32\nopening          {:.3} s\npeak memory      {memory}\n",
        report.device,
        report.threads,
        report.precision,
        report.gemm_gflops,
        report.encoder_s,
        report.encoder_efficiency,
        report.decoder_s,
        report.segment_s,
        report.train_step_s,
        report.load_s,
    )
}
