//! The comparison with the reference as far as an engine shows: windows, whole volumes, training. What lies inside the
//! network is compared on the built-in engine alone, stage by stage; these run on any, so that a plugin is proven too.

mod pipeline;
mod sliding;
mod training;
mod window;

pub use pipeline::{masks_in_half_precision, whole_volumes};
pub use sliding::sliding_windows;
pub use training::{training, training_steps};
pub use window::windows;
