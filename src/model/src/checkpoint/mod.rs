//! Checkpoints: reading official ones, making model folders of them, and opening model folders.
//!
//! Files are hostile input. Nothing in a pickle is executed, sizes are checked before memory is taken, and an error
//! names the file and the tensor. [`import()`] and [`ModelFolder::open`] share one list of what a model consists of,
//! [`expected_tensors`].

mod expected;
mod folder;
mod import;
mod infer;
mod key_map;
mod pickle;
mod safetensors_file;
mod save;
pub(crate) mod staging;
mod tensor_file;
mod torch;
mod unpickler;
mod zip_index;

#[cfg(test)]
mod tests;

pub use expected::{ExpectedTensor, expected_tensors};
pub use folder::{BUILTIN, CARD_FILE, CONFIG_FILE, MappedTensors, ModelFolder, TOKENIZER_FILE, WEIGHTS_FILE};
pub use import::{ImportOptions, ImportReport, import};
pub use infer::infer_config;
pub use key_map::{Layout, model_name};
pub use save::{Companions, Precision, write_model};
pub use tensor_file::{ElementType, TensorFile, TensorView};
