//! The C ABI: `include/adaptmedseg.h` is generated from these files, one per handle. Nothing but translation: no
//! algorithm lives here.
//!
//! Every exported function is a single call of [`guard`], where panics are caught and errors are filled in, and checks
//! its arguments through [`arg`]. No function sets anything the whole process shares: no panic hook, no allocator, no
//! thread pool, no environment variable.

// The names are C's. The contract of each function's pointers stands in its own prose, which is the header's text.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

pub mod adapter;
mod arg;
pub mod cancel;
pub mod device;
pub mod error;
pub mod finetune;
mod guard;
pub mod image;
pub mod log;
pub mod mask;
pub mod model;
pub mod prompt;
mod scalar;
pub mod session;
pub mod status;
pub mod string;
pub mod version;

#[cfg(test)]
mod tests;
