//! `adaptmedseg import`: a checkpoint becomes a model folder.

use crate::args::ImportArgs;
use crate::failure::Result;
use adaptmedseg_segment::checkpoint::{self, ImportOptions};

/// Imports, and prints what was found.
pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let options = ImportOptions {
        tokenizer: args.tokenizer.clone(),
        config: args.config.clone(),
        allow_missing: args.allow_missing,
        overwrite: args.overwrite,
    };
    let report = checkpoint::import(&args.checkpoint, &args.out, &options)?;
    if args.quiet { Ok(()) } else { crate::print(&format!("{report:#?}\n")) }
}
