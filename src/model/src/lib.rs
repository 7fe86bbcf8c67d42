//! SegVol (Du et al., arXiv 2311.13385) on Burn: the network, its configuration and its checkpoints.
//!
//! One file per part of the network, named as in the paper and in the reference implementation, so that the two can be
//! read side by side. The network works on windows of the size its configuration states, axes depth, height, width, and
//! knows neither millimetres nor files other than its weights.
//!
//! The device of a tensor decides at run time which backend computes; features of this crate decide which are built in.

pub mod adapter;
pub mod anatomy;
pub mod checkpoint;
pub mod config;
mod dense_input;
pub mod dense_prompt;
mod enclosed_regions;
mod encoder_bf16;
mod encoder_f32;
mod error;
pub mod host;
pub mod image_encoder;
pub mod linear;
pub mod mask_decoder;
pub mod nn;
pub mod parameters;
pub mod prior;
pub mod prompt_encoder;
mod segvol;
pub mod text_encoder;
mod tokenizer;
pub mod train;
pub mod transformer;
mod volume_ops;
mod window_maps;

pub use burn::tensor::{DType, Device};
pub use error::{Error, ErrorKind, Misshaped, Result, TensorMismatch};
pub use parameters::{NamedTensors, RawTensor};
pub use segvol::{Prompts, SegVol};
pub use tokenizer::Tokenizer;
