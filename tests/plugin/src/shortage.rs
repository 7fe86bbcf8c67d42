//! Too little memory on a device that is this machine's processor: the address space of the process is made small.

use crate::{Target, prompts, window};
use adaptmedseg_engine::{ErrorKind, ModelSource};
use adaptmedseg_model::RawTensor;
use adaptmedseg_model::checkpoint::expected_tensors;
use adaptmedseg_model::config::ModelConfig;

/// Room that is left: enough for all but the widest layer, 1 GB for one window.
const ROOM: u64 = 400 << 20;

/// A model of 2048 tokens whose one wide layer holds 131072 numbers for each of them.
fn wide() -> ModelSource {
    let mut config = ModelConfig::default();
    let image = &mut config.image_encoder;
    (image.embed_dim, image.num_layers, image.num_heads, image.mlp_dim) = (96, 1, 6, 131_072);
    let text = &mut config.text_encoder;
    (text.num_layers, text.vocab_size, text.width, text.num_heads, text.mlp_dim) = (1, 64, 16, 2, 16);
    config.mask_decoder.mlp_dim = 32;
    let tensors = expected_tensors(&config).into_iter().map(|tensor| {
        let count: usize = tensor.shape.iter().product();
        let values: Vec<f32> = (0..count).map(|index| ((index * 37) % 101) as f32 / 1e5).collect();
        (tensor.name, RawTensor::from_f32(tensor.shape, &values))
    });
    ModelSource { tensors: tensors.collect(), tokenizer: None, config }
}

/// The call fails with a hint, and the model works again when there is memory.
///
/// # Panics
/// Where it does not, or the limit cannot be set.
#[cfg(target_os = "linux")]
pub fn too_little_memory(target: &Target) {
    let engine = target.open(&wide());
    let window = window(engine.as_ref(), 1);
    engine.encode_image(&window, None).expect("there is memory");
    engine.release_memory();
    let before = limit(None);
    let status = std::fs::read_to_string("/proc/self/statm").expect("it can be read");
    let pages: u64 = status.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
    limit(Some(libc::rlimit { rlim_cur: pages * 4096 + ROOM, ..before }));
    let error = engine.encode_image(&window, None).map(drop);
    limit(Some(before));
    let error = error.unwrap_err();
    println!("{error} ({:?})", error.hint());
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(error.hint().is_some(), "{error}");
    let embedding = engine.encode_image(&window, None).expect("there is memory again");
    engine.decode(&embedding, &prompts(), None).expect("prompts");
}

/// The limit of this process's address space, which is set where one is given.
#[cfg(target_os = "linux")]
fn limit(new: Option<libc::rlimit>) -> libc::rlimit {
    let mut limit = new.unwrap_or(libc::rlimit { rlim_cur: 0, rlim_max: 0 });
    // SAFETY: a structure to read or to fill.
    let status = unsafe {
        match new {
            Some(new) => libc::setrlimit(libc::RLIMIT_AS, &raw const new),
            None => libc::getrlimit(libc::RLIMIT_AS, &raw mut limit),
        }
    };
    assert_eq!(status, 0, "the limit of the address space");
    limit
}

/// Elsewhere there is no such limit.
#[cfg(not(target_os = "linux"))]
pub fn too_little_memory(_target: &Target) {
    let _ = (ROOM, wide, window, prompts, ErrorKind::OutOfMemory);
    adaptmedseg_parity::skipped("the address space can be limited on Linux only");
}
