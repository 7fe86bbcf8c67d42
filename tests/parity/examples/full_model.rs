//! Writes a model folder of SegVol's sizes whose weights are random numbers: `full_model DIR [tokenizer.json]`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().ok_or("usage: full_model DIR [tokenizer.json]")?;
    adaptmedseg_parity::write_full_model(folder.as_ref(), arguments.next().as_deref().map(Path::new))
}
