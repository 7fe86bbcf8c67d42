//! Tests of this module as a whole, on checkpoints made here; none needs PyTorch or trained weights.

mod fixtures;
mod import;
mod pickle;
mod torch;
