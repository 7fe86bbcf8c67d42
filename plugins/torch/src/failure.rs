//! What libtorch's exceptions mean. `tch` raises them as panics, the bridge returns them.

use crate::native::ffi;
use adaptmedseg_engine::{Error, ErrorKind};
use adaptmedseg_model::host;

/// How libtorch says that there is no memory: its processor's allocator, and CUDA's.
const NO_MEMORY: [&str; 3] = ["can't allocate memory", "not enough memory", "out of memory"];

/// An exception that the bridge returned.
pub(crate) fn thrown(exception: cxx::Exception) -> Error {
    meaning(exception.what())
}

/// A panic of `tch`, or of the image encoder's kernels without memory; none of another origin.
pub(crate) fn explain(panic: &str) -> Option<Error> {
    if panic.contains(host::NO_MEMORY) {
        return Some(no_memory(panic.into()));
    }
    // `called `Result::unwrap()` on an `Err` value: Torch("what\nException raised from ...")`
    let (_, text) = panic.split_once("Torch(\"")?;
    let error = meaning(&text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'"));
    if matches!(error, Error::OutOfMemory { .. }) {
        // What the failed call had taken is free by now, and better given back.
        let _ = ffi::release_cache();
    }
    Some(error)
}

fn meaning(text: &str) -> Error {
    let what = text.lines().next().unwrap_or_default().trim_end_matches("\")");
    if NO_MEMORY.iter().any(|words| what.contains(words)) {
        return no_memory(format!("libtorch: {what}"));
    }
    Error::Plugin { kind: ErrorKind::Internal, message: format!("libtorch: {what}"), hint: None }
}

fn no_memory(message: String) -> Error {
    let hint = "close other models and programs on this device, use the precision bf16, or the device `cpu`; this model \
                stays usable";
    Error::OutOfMemory { message, hint: Some(hint.into()) }
}
