//! What a C program cannot provoke: panics, structures of other versions, and the rule that every export is guarded.

use crate::arg::{self, Growing};
use crate::error::{Failure, ams_error, ams_error_code, ams_error_free, ams_error_hint, ams_error_message};
use crate::guard::{self, Shared};
use crate::image::{AMS_SCALAR_FLOAT64, AMS_SCALAR_INT16};
use crate::scalar::{self, Layout};
use crate::status::*;
use std::ffi::CStr;
use std::mem::size_of;
use std::ptr;
use std::sync::Mutex;

const SOURCES: [&str; 12] = [
    include_str!("cancel.rs"),
    include_str!("device.rs"),
    include_str!("error.rs"),
    include_str!("image.rs"),
    include_str!("log.rs"),
    include_str!("mask.rs"),
    include_str!("model.rs"),
    include_str!("prompt.rs"),
    include_str!("session.rs"),
    include_str!("status.rs"),
    include_str!("string.rs"),
    include_str!("version.rs"),
];

/// The text of each exported function.
fn exports() -> Vec<&'static str> {
    let body = |text: &'static str| text.split("\n}\n").next().expect("a function ends");
    SOURCES.iter().flat_map(|source| source.split("#[unsafe(no_mangle)]").skip(1).map(body)).collect()
}

#[test]
fn every_export_is_one_call_of_the_guard() {
    let exports = exports();
    let declared = SOURCES.iter().map(|source| source.matches("extern \"C\" fn ams_").count()).sum::<usize>();
    assert_eq!(exports.len(), declared, "a function for C without its attribute");
    for export in exports {
        let name = export.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a name");
        let calls = ["guard::call(", "guard::value(", "guard::free("].map(|call| export.matches(call).count());
        assert_eq!(calls.iter().sum::<usize>(), 1, "{name}");
        let fallible = export.contains("-> ams_status {") && export.contains("error: *mut *mut ams_error");
        assert_eq!(calls[0] == 1, fallible, "{name} returns a status without taking an error, or the reverse");
    }
}

#[test]
fn every_export_says_on_which_thread_and_since_when() {
    for source in SOURCES {
        for before in source.split("#[unsafe(no_mangle)]").collect::<Vec<_>>().split_last().expect("text").1 {
            let doc = before.rsplit("\n\n").next().expect("a comment");
            assert!(doc.contains("/// Thread: ") && doc.contains("Since 0.1."), "{doc}");
        }
    }
}

/// Status and message of a call.
fn run(body: impl FnOnce() -> Result<(), Failure>) -> (ams_status, String) {
    let mut error: *mut ams_error = ptr::null_mut();
    // SAFETY: `error` is a live pointer, and what it receives a live error until it is freed.
    unsafe {
        let status = guard::call(&mut error, body);
        if error.is_null() {
            assert_eq!(status, AMS_STATUS_OK);
            return (status, String::new());
        }
        assert_eq!(ams_error_code(error), status);
        let message = CStr::from_ptr(ams_error_message(error)).to_str().expect("UTF-8").to_owned();
        ams_error_free(error);
        (status, message)
    }
}

#[test]
fn a_panic_is_reported_and_poisons_what_it_happened_on() {
    let shared = Shared::new(1);
    let (status, message) = run(|| {
        let _inside = shared.enter()?;
        panic!("deliberate, number {}", 1)
    });
    assert_eq!((status, message.as_str()), (AMS_STATUS_INTERNAL, "mistake in the library: deliberate, number 1"));
    assert_eq!(run(|| shared.enter().map(drop)).0, AMS_STATUS_POISONED);

    let exclusive = Mutex::new(1);
    let (status, _) = run(|| {
        let _inside = guard::try_lock(&exclusive)?;
        panic!("deliberate")
    });
    assert_eq!(status, AMS_STATUS_INTERNAL);
    assert_eq!(run(|| guard::try_lock(&exclusive).map(drop)).0, AMS_STATUS_POISONED);

    assert_eq!(guard::value(7, || panic!("deliberate")), 7);
}

#[test]
fn a_failure_without_panic_poisons_nothing() {
    let shared = Shared::new(1);
    let fails = || {
        let _inside = shared.enter()?;
        Err(Failure::argument("no"))
    };
    assert_eq!(run(fails), (AMS_STATUS_INVALID_ARGUMENT, "no".into()));
    assert_eq!(run(|| shared.enter().map(drop)).0, AMS_STATUS_OK);
}

#[test]
fn what_is_in_use_is_busy() {
    let exclusive = Mutex::new(1);
    let _mine = exclusive.lock().expect("free");
    assert_eq!(run(|| guard::try_lock(&exclusive).map(drop)).0, AMS_STATUS_BUSY);
}

#[test]
fn a_failure_without_a_place_for_the_error_is_only_a_status() {
    // SAFETY: NULL is allowed.
    let status = unsafe { guard::call(ptr::null_mut(), || Err(Failure::argument("no"))) };
    assert_eq!(status, AMS_STATUS_INVALID_ARGUMENT);
    // SAFETY: NULL is allowed.
    unsafe {
        assert_eq!(ams_error_code(ptr::null()), AMS_STATUS_OK);
        assert!(CStr::from_ptr(ams_error_message(ptr::null())).is_empty());
        assert!(ams_error_hint(ptr::null()).is_null());
    }
}

#[test]
fn a_nul_inside_a_message_does_not_cut_it() {
    assert_eq!(run(|| Err(Failure::argument("a\0b"))).1, "a\u{fffd}b");
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Grown {
    struct_size: usize,
    old: u32,
    new: u64,
}

// SAFETY: `repr(C)`, the size first, and 0 is a value of every field.
unsafe impl Growing for Grown {
    const NAME: &'static str = "grown";
    const FIRST_SIZE: usize = 16;
}

#[test]
fn structures_of_older_and_newer_callers_are_understood_or_refused() {
    let read = |bytes: &[u64]| {
        run(|| {
            // SAFETY: the first word says how many bytes there are, at most; checked by hand below.
            unsafe { arg::options(bytes.as_ptr().cast::<Grown>(), "options") }.map(|grown| {
                assert_eq!((grown.old, grown.new), (5, bytes.get(2).copied().filter(|_| bytes[0] >= 24).unwrap_or(0)));
            })
        })
    };
    assert_eq!(size_of::<Grown>(), 24);
    assert_eq!(read(&[24, 5, 6]).0, AMS_STATUS_OK);
    assert_eq!(read(&[16, 5]).0, AMS_STATUS_OK, "an older caller");
    assert_eq!(read(&[32, 5, 6, 0]).0, AMS_STATUS_OK, "a newer caller that uses nothing new");
    assert_eq!(read(&[32, 5, 6, 1]).0, AMS_STATUS_UNSUPPORTED, "a newer caller that does");
    for size in [0, 1, 15, 4097, u64::MAX] {
        assert_eq!(read(&[size, 5, 6]).0, AMS_STATUS_INVALID_ARGUMENT, "{size}");
    }
    let mut old = [16u64, 0, 77];
    // SAFETY: sixteen bytes are there, as the first word says.
    unsafe { arg::result(old.as_mut_ptr().cast(), "out", &Grown { struct_size: 24, old: 8, new: 9 }) }.expect("fits");
    assert_eq!((old[0], old[1] as u32, old[2]), (16, 8, 77), "nothing is written behind the caller's structure");
}

#[test]
fn voxels_are_read_in_any_layout() {
    let bytes: Vec<u8> = std::iter::once(0).chain((0..24i16).flat_map(i16::to_ne_bytes)).collect();
    let read = |start: usize, size, strides| {
        let layout = Layout::new(size, strides, 2).unwrap_or_else(|failure| panic!("{}", failure.message));
        // SAFETY: 24 voxels start at byte 1, and the layouts below stay within them.
        unsafe { scalar::read(bytes.as_ptr().add(1 + 2 * start), AMS_SCALAR_INT16, layout) }.expect("memory")
    };
    let plain: Vec<f32> = (0..24).map(|value| value as f32).collect();
    assert_eq!(read(0, [2, 3, 4], [0; 3]), plain);
    assert_eq!(read(0, [2, 3, 4], [2, 4, 12]), plain);
    assert_eq!(read(23, [2, 3, 4], [-2, -4, -12]), plain.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(read(0, [2, 2, 2], [12, 4, 2]), [0.0, 6.0, 2.0, 8.0, 1.0, 7.0, 3.0, 9.0]);
    let double = [1.5f64, f64::NAN];
    let layout = Layout::new([2, 1, 1], [0; 3], 8).expect("packed");
    // SAFETY: two voxels.
    let voxels = unsafe { scalar::read(double.as_ptr().cast(), AMS_SCALAR_FLOAT64, layout) }.expect("memory");
    assert!(voxels[0] == 1.5 && voxels[1].is_nan());
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    for (size, strides) in [
        ([2, 2, 2], [2, 0, 8]),
        ([2, 2, 2], [1, 4, 8]),
        ([usize::MAX, 2, 2], [0; 3]),
        ([1 << 40, 1 << 40, 1], [0; 3]),
        ([2, 2, 2], [isize::MAX, 4, 8]),
        ([3, 3, 3], [isize::MIN, 4, 8]),
    ] {
        assert!(Layout::new(size, strides, 2).is_err(), "{size:?} {strides:?}");
    }
}
