//! Kernels of the CPU engine: plain slices in and out.
//!
//! The parts of a transformer where a general tensor library wastes time on a processor: attention that never stores
//! the whole score matrix, and linear layers, layer norms and GELUs that read and write their data once. Everything is
//! float32 but for the products whose names say bfloat16. Only attention has a gradient, because there a general library
//! wastes most. Nothing here knows of tensors or models.
//!
//! * **Threads.** Work is split over the rayon pool of the calling thread; no pool is ever created. A caller that wants
//!   a certain number of threads calls from inside `rayon::ThreadPool::install`. The numbers that come out do not
//!   depend on how many threads there are.
//! * **Processors.** The widest instructions of the machine (AVX-512, or AVX2 with FMA) are chosen at run time; other
//!   processors get the same code compiled for their baseline.
//! * **Memory.** Each thread of the pool keeps at most about 3 MiB of scratch between calls.
//! * **Errors.** There are none to handle: sizes are checked at the door and a wrong one is a bug in the caller, so it
//!   panics. NaN and infinity in the data are carried into the result, never hidden.

mod attention;
mod bf16;
mod conv3;
mod cpu;
mod gelu;
mod instance_norm;
mod layer_norm;
mod linear;
mod math;
mod matrix;
#[cfg(test)]
mod testing;
#[cfg(target_arch = "x86_64")]
mod tile;

pub use attention::{AttentionGradients, AttentionShape, View, attention, attention_backward};
pub use bf16::{Bf16Weight, Element, Output, attention_bf16, has_fast_bf16, linear_bf16, to_bf16};
pub use conv3::{Conv3Shape, conv3, conv3_input_gradient, conv3_weight_gradient, gather_blocks, scatter_blocks};
pub use cpu::has_avx512;
pub use gelu::gelu_erf;
pub use instance_norm::{ChannelStatistics, instance_norm_relu, instance_norm_relu_gradient};
pub use layer_norm::layer_norm;
pub use linear::{Epilogue, LinearShape, linear};
