//! The built-in model on phantoms that it did not learn from.

use adaptmedseg_segment::volume::{Reorientation, Volume};
use adaptmedseg_segment::{BoxPrompt, CancelToken, EngineOptions, Error, Hooks, Model, Point, Session, Space};
use adaptmedseg_study::{Phantom, PhantomModality, PhantomRegion};
use std::path::Path;
use std::sync::Arc;

fn model() -> Model {
    Model::open(Path::new("builtin"), &EngineOptions::default()).expect("it is built in")
}

fn phantom() -> Phantom {
    Phantom::new(11, 0, PhantomModality::Ct, PhantomRegion::Abdomen, None).expect("a phantom")
}

/// The box of a mask, in voxel indices.
fn tight(mask: &[u8], [nx, ny, _]: [usize; 3]) -> BoxPrompt {
    let (mut low, mut high) = ([f64::INFINITY; 3], [0.0; 3]);
    for index in (0..mask.len()).filter(|&index| mask[index] > 0) {
        for (axis, at) in [index % nx, index / nx % ny, index / (nx * ny)].into_iter().enumerate() {
            low[axis] = f64::min(low[axis], at as f64 - 0.5);
            high[axis] = f64::max(high[axis], at as f64 + 0.5);
        }
    }
    BoxPrompt { corners: [low, high], space: Space::Ijk }
}

fn dice(found: &[u8], wanted: &[u8]) -> f64 {
    let both = found.iter().zip(wanted).filter(|&(&a, &b)| a > 0 && b > 0).count();
    let either = found.iter().chain(wanted).filter(|&&value| value > 0).count();
    2.0 * both as f64 / either as f64
}

fn middle(mask: &[u8], [nx, ny, _]: [usize; 3]) -> Point {
    let inside: Vec<usize> = (0..mask.len()).filter(|&index| mask[index] > 0).collect();
    let index = inside[inside.len() / 2];
    let position = [index % nx, index / nx % ny, index / (nx * ny)].map(|at| at as f64);
    Point { position, space: Space::Ijk, positive: true }
}

#[test]
fn a_box_finds_what_is_in_it() {
    let (model, phantom) = (model(), phantom());
    let image = Arc::new(phantom.image.clone());
    for name in ["left kidney", "right kidney", "spleen", "liver"] {
        let truth = phantom.mask(name).expect("every torso has one");
        let mut session = Session::new(&model, image.clone()).expect("an image");
        session.set_box(Some(tight(&truth, image.geometry.size))).expect("inside");
        let outcome = session.segment(&Hooks::default()).expect("a mask");
        let dice = dice(&outcome.mask().data, &truth);
        assert!(dice > 0.6, "{name}: {dice}");
        assert_eq!(outcome.report().windows_total, 1, "{name}");
    }
}

#[test]
fn a_further_point_corrects_the_mask_it_is_added_to() {
    let (model, phantom) = (model(), phantom());
    let image = Arc::new(phantom.image.clone());
    let truth = phantom.mask("left kidney").expect("every torso has one");
    let mut session = Session::new(&model, image.clone()).expect("an image");
    session.set_box(Some(tight(&truth, image.geometry.size))).expect("inside");
    let first = session.segment(&Hooks::default()).expect("a mask").mask();
    session.add_point(middle(&truth, image.geometry.size)).expect("inside");
    let corrected = session.segment(&Hooks::default()).expect("a mask").mask();
    // The same prompts at once: no mask to correct.
    let mut fresh = Session::new(&model, image.clone()).expect("an image");
    fresh.set_box(Some(tight(&truth, image.geometry.size))).expect("inside");
    fresh.add_point(middle(&truth, image.geometry.size)).expect("inside");
    let direct = fresh.segment(&Hooks::default()).expect("a mask").mask();
    assert_ne!(corrected.data, direct.data, "the earlier mask is a prompt");
    assert!(dice(&corrected.data, &truth) > dice(&first.data, &truth) - 0.05);
    assert!(session.undo());
    assert_eq!(session.outcome().expect("undone to the first").mask().data, first.data);
}

#[test]
fn points_are_followed_outwards_until_the_structure_fits() {
    let (model, phantom) = (model(), phantom());
    let image = Arc::new(phantom.image.clone());
    let truth = phantom.mask("left kidney").expect("every torso has one");
    let mut session = Session::new(&model, image.clone()).expect("an image");
    session.add_point(middle(&truth, image.geometry.size)).expect("inside");
    let outcome = session.segment(&Hooks::default()).expect("a mask");
    assert!(outcome.report().windows_encoded >= 2, "a look around, and the focused window");
    assert!(outcome.voxels() > 0);
}

#[test]
fn storage_order_does_not_change_the_mask() {
    let (model, phantom) = (model(), phantom());
    let truth = phantom.mask("spleen").expect("every torso has one");
    let run = |image: &Volume<f32>, mask: &[u8]| {
        let mut session = Session::new(&model, Arc::new(image.clone())).expect("an image");
        session.set_box(Some(tight(mask, image.geometry.size))).expect("inside");
        session.segment(&Hooks::default()).expect("a mask").mask().data
    };
    let straight = run(&phantom.image, &truth);
    let plan = Reorientation { axes: [2, 0, 1], flip: [true, false, true] };
    let turned = run(&plan.apply(&phantom.image), &plan.apply_to_slice(&truth, phantom.image.geometry.size));
    assert_eq!(plan.apply_to_slice(&straight, phantom.image.geometry.size), turned);
}

#[test]
fn a_cancelled_run_changes_nothing() {
    let (model, phantom) = (model(), phantom());
    let image = Arc::new(phantom.image.clone());
    let truth = phantom.mask("spleen").expect("every torso has one");
    let mut session = Session::new(&model, image.clone()).expect("an image");
    session.add_point(middle(&truth, image.geometry.size)).expect("inside");
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = session.segment(&Hooks { progress: None, cancel: Some(&cancel) }).map(drop).expect_err("cancelled");
    assert!(matches!(error, Error::Cancelled));
    assert!(session.outcome().is_none() && !session.can_undo());
}

#[test]
fn phantoms_are_the_same_for_a_seed_and_hold_what_they_say() {
    for modality in [PhantomModality::Ct, PhantomModality::Mr] {
        let [a, b] = [0, 0].map(|index| {
            Phantom::new(3, index, modality, PhantomRegion::Abdomen, Some([60, 52, 40])).expect("a phantom")
        });
        assert_eq!((&a.image, &a.labels), (&b.image, &b.labels));
        let other = Phantom::new(3, 1, modality, PhantomRegion::Abdomen, Some([60, 52, 40])).expect("a phantom");
        assert_ne!(a.image, other.image);
        assert_eq!(a.image.geometry.axis_codes(), "RAS");
        assert!(a.structures.len() > 20, "{} structures", a.structures.len());
        for (name, _) in &a.structures {
            assert!(a.mask(name).expect("listed").contains(&1), "{name}");
        }
    }
    // The liver lies at the right of the body, the spleen at its left.
    let phantom = phantom();
    let [nx, ..] = phantom.image.geometry.size;
    let mean_x = |name: &str| {
        let mask = phantom.mask(name).expect("every torso has one");
        let inside = (0..mask.len()).filter(|&index| mask[index] > 0);
        let (sum, count) = inside.fold((0, 0), |(sum, count), index| (sum + index % nx, count + 1));
        sum / count
    };
    assert!(mean_x("liver") > nx / 2 && mean_x("spleen") < nx / 2);
}
