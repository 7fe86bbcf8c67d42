//! The suite over the built-in engine behind a table in this process, and what a host makes of plugins that are wrong.

use adaptmedseg_conformance::{self as suite, Target, flex, mini};
use adaptmedseg_engine::plugin::abi::*;
use adaptmedseg_engine::plugin::host::Plugin;
use adaptmedseg_engine::{Engine, ErrorKind, ModelSource};
use adaptmedseg_parity::ladder;

fn target() -> Target {
    Target { plugin: Plugin::linked(flex::init).expect("a plugin"), device: "inproc:cpu".into() }
}

suite::suite!(
    Some(target());
    about,
    refusals,
    volumes_that_do_not_fit,
    embeddings,
    concurrent_calls,
    texts,
    adapters,
    states,
    finetune_as_flex,
    weights_as_flex,
    cancelling,
    builtin_masks,
);

fn open(source: &ModelSource) -> Box<dyn Engine> {
    target().open(source)
}

#[test]
fn parity_windows() {
    ladder::windows(&open);
}

#[test]
fn parity_sliding_windows() {
    ladder::sliding_windows(&open);
}

#[test]
fn parity_training() {
    ladder::training(&open);
}

#[test]
fn panics_and_a_lack_of_memory_come_back_as_errors() {
    let open = |device: &str| {
        let target = Target { device: device.into(), ..target() };
        target.plugin.open(&mini(), &target.options()).map(drop).unwrap_err()
    };
    let error = open(flex::PANICS);
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("on purpose"), "{error}");
    let error = open(flex::EXHAUSTED);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert_eq!(error.hint().as_deref(), Some("close something"));
    open("inproc:other");
}

unsafe extern "C" fn newer(_: u32, _: *mut ams_plugin, _: *const ams_plugin_call) -> ams_plugin_status {
    AMS_PLUGIN_NOT_IMPLEMENTED
}

unsafe extern "C" fn empty(_: u32, _: *mut ams_plugin, _: *const ams_plugin_call) -> ams_plugin_status {
    AMS_PLUGIN_OK
}

unsafe extern "C" fn refusing(_: u32, _: *mut ams_plugin, call: *const ams_plugin_call) -> ams_plugin_status {
    // SAFETY: a call of the host's.
    unsafe { ((*call).fail)(call, c"the licence has run out".as_ptr(), c"renew it".as_ptr()) };
    AMS_PLUGIN_UNSUPPORTED
}

unsafe extern "C" fn silent(_: u32, _: *mut ams_plugin, _: *const ams_plugin_call) -> ams_plugin_status {
    4711
}

/// The table of the built-in engine with one slot taken out.
macro_rules! without {
    ($name:ident, $slot:ident) => {
        unsafe extern "C" fn $name(
            version: u32,
            plugin: *mut ams_plugin,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status {
            // SAFETY: by contract.
            unsafe {
                let status = flex::init(version, plugin, call);
                (*plugin).$slot = None;
                status
            }
        }
    };
}
without!(without_decode, decode);
without!(without_trainer_step, trainer_step);

unsafe extern "C" fn without_options(
    version: u32,
    plugin: *mut ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: by contract.
    unsafe {
        let status = flex::init(version, plugin, call);
        ((*plugin).encode_text, (*plugin).text_free, (*plugin).check_text) = (None, None, None);
        ((*plugin).model_memory, (*plugin).model_release_memory) = (None, None);
        status
    }
}

#[test]
fn a_plugin_that_is_wrong_is_refused_by_name() {
    let refused = |init| {
        let error = Plugin::linked(init).unwrap_err();
        (error.kind(), error.to_string(), error.hint())
    };
    let (kind, message, _) = refused(newer);
    assert!(kind == ErrorKind::Unsupported && message.contains("version 1"), "{message}");
    let (kind, message, _) = refused(empty);
    assert!(kind == ErrorKind::Internal && message.contains("`describe`"), "{message}");
    let (_, message, _) = refused(without_decode);
    assert!(message.contains("`decode`"), "{message}");
    let (_, message, _) = refused(without_trainer_step);
    assert!(message.contains("`trainer_step`"), "{message}");
    let (kind, message, hint) = refused(refusing);
    assert_eq!((kind, message.as_str()), (ErrorKind::Unsupported, "the licence has run out"));
    assert_eq!(hint.as_deref(), Some("renew it"));
    let (kind, message, _) = refused(silent);
    assert!(kind == ErrorKind::Internal && message.contains("4711"), "{message}");
}

#[test]
fn optional_slots_may_stay_empty() {
    let target = Target { plugin: Plugin::linked(without_options).expect("a plugin"), ..target() };
    let engine = target.open(&mini());
    let error = engine.encode_text("liver").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(engine.memory(), None);
    engine.release_memory();
    suite::embeddings(&target);
}
