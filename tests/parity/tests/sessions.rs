//! Sessions in the default mode, on the golden weights of the small architecture and a volume made here.

use adaptmedseg_parity::{built_in, bundles, golden_model};
use adaptmedseg_segment::volume::{Geometry, Reorientation, Volume};
use adaptmedseg_segment::{BoxPrompt, CancelToken, ErrorKind, Hooks, Model, Point, Session, Space, Stage};
use std::sync::Arc;

fn model() -> Model {
    golden_model(bundles("stage", "stage_mini").first().expect("the committed subset has one"), &built_in)
}

/// A bright ellipsoid in a darker one, on an oblique anisotropic grid, with a texture that repeats nowhere.
fn phantom() -> Volume<f32> {
    let (s, c) = 0.3f64.sin_cos();
    let direction = [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]];
    let geometry = Geometry::new([70, 66, 20], [1.0, 1.2, 3.0], [-30.0, 12.5, 100.0], direction).expect("a grid");
    let data = (0..geometry.voxel_count())
        .map(|index| {
            let at = [index % 70, index / 70 % 66, index / (70 * 66)].map(|i| i as f32);
            let radius = |centre: [f32; 3], size: [f32; 3]| -> f32 {
                (0..3).map(|axis| ((at[axis] - centre[axis]) / size[axis]).powi(2)).sum()
            };
            let texture = ((index as u32).wrapping_mul(2_654_435_761) >> 24) as f32 / 16.0;
            let body = if radius([34.0, 32.0, 10.0], [30.0, 28.0, 9.0]) < 1.0 { 100.0 } else { 0.0 };
            let organ = if radius([28.0, 36.0, 9.0], [12.0, 9.0, 5.0]) < 1.0 { 80.0 } else { 0.0 };
            body + organ + texture
        })
        .collect();
    Volume::new(geometry, data).expect("as many voxels")
}

fn session(model: &Model, image: Volume<f32>) -> Session {
    Session::new(model, Arc::new(image)).expect("a usable image")
}

/// The phantom's organ as a box and two points, in the world.
fn prompt(session: &mut Session, grid: &Geometry) {
    let world = |ijk: [f64; 3]| grid.ijk_to_lps(ijk);
    let positive = Point { position: world([28.0, 36.0, 9.0]), space: Space::Lps, positive: true };
    let negative = Point { position: world([50.0, 20.0, 12.0]), space: Space::Lps, positive: false };
    session.add_point(positive).expect("inside");
    session.add_point(negative).expect("inside");
}

#[test]
fn every_storage_order_gives_the_same_mask_in_the_world() {
    let model = model();
    let image = phantom();
    let in_world = |stored: &Volume<f32>| {
        let mut session = session(&model, stored.clone());
        prompt(&mut session, &image.geometry);
        let mask = session.segment(&Hooks::default()).expect("a run").mask();
        assert_eq!(mask.geometry, stored.geometry, "the mask lies on the image's own grid");
        mask.geometry.reorientation_to_ras().apply(&mask)
    };
    let wanted = in_world(&image);
    let inside = wanted.data.iter().filter(|&&voxel| voxel == 1).count();
    assert!(inside > 100 && inside < wanted.data.len() / 2, "{inside} voxels: a mask worth comparing");
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for flips in 0..8 {
            let plan = Reorientation { axes, flip: std::array::from_fn(|axis| flips >> axis & 1 == 1) };
            let got = in_world(&plan.apply(&image));
            assert!(got.geometry.is_close(&wanted.geometry, 1e-6), "{plan:?}: grid");
            assert!(got.data == wanted.data, "{plan:?}: mask");
        }
    }
}

#[test]
fn a_further_prompt_runs_only_the_decoder_and_steps_can_be_undone() {
    let model = model();
    let image = phantom();
    let grid = image.geometry.clone();
    let mut session = session(&model, image);
    prompt(&mut session, &grid);
    let first = session.segment(&Hooks::default()).expect("a run").clone();
    assert!(first.report().windows_encoded > 1, "{:?}", first.report());
    session.add_point(Point { position: [30.0, 38.0, 9.0], space: Space::Ijk, positive: true }).expect("inside");
    let second = session.segment(&Hooks::default()).expect("a run").clone();
    assert_eq!(second.report().windows_encoded, 0, "{:?}", second.report());
    assert!(first.mask().data != second.mask().data, "a further point changes the mask");

    assert!(session.undo());
    assert_eq!(session.outcome().expect("the first").mask().data, first.mask().data);
    assert_eq!(session.prompts().points.len(), 2, "the prompts come back with the mask");
    assert!(session.logits().is_err(), "only the last run's logits are kept");
    assert!(session.undo() && session.outcome().is_none() && !session.undo());
    assert!(session.redo() && session.redo() && !session.redo());
    assert_eq!(session.outcome().expect("the second").mask().data, second.mask().data);
    let probabilities = session.probabilities().expect("the last run's");
    let above = probabilities.data.iter().filter(|&&value| value > 0.5).count() as u64;
    assert_eq!(above, second.voxels());
}

#[test]
fn negative_points_reach_the_windows() {
    let model = model();
    let image = phantom();
    let place = |position, positive| Point { position, space: Space::Ijk, positive };
    let run = |points: &[Point]| {
        let mut session = session(&model, image.clone());
        points.iter().for_each(|point| session.add_point(*point).expect("inside"));
        session.segment(&Hooks::default()).expect("a run");
        session.logits().expect("just computed").data
    };
    let alone = run(&[place([28.0, 36.0, 9.0], true)]);
    let against = run(&[place([28.0, 36.0, 9.0], true), place([40.0, 30.0, 9.0], false)]);
    assert!(alone != against);
}

#[test]
fn a_cancelled_run_changes_nothing() {
    let model = model();
    let image = phantom();
    let grid = image.geometry.clone();
    let mut session = session(&model, image);
    prompt(&mut session, &grid);
    let token = CancelToken::new();
    let stop = |progress: adaptmedseg_segment::Progress| {
        if progress.stage == Stage::ZoomIn && progress.done == 1 {
            token.cancel();
        }
    };
    let error = session.segment(&Hooks { progress: Some(&stop), cancel: Some(&token) }).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(session.outcome().is_none() && !session.can_undo() && session.prompts().points.len() == 2);
    session.segment(&Hooks::default()).expect("it can be run again");
}

#[test]
fn progress_only_grows_and_reaches_one() {
    let model = model();
    let image = phantom();
    let mut session = session(&model, image);
    session
        .set_box(Some(BoxPrompt { corners: [[15.0, 25.0, 3.0], [40.0, 46.0, 15.0]], space: Space::Ijk }))
        .expect("a box");
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |progress: adaptmedseg_segment::Progress| seen.borrow_mut().push(progress.fraction);
    session.segment(&Hooks { progress: Some(&note), cancel: None }).expect("a run");
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]), "{seen:?}");
    assert_eq!(seen.last(), Some(&1.0));
}

#[test]
fn unusable_input_is_named() {
    let model = model();
    let mut constant = phantom();
    constant.data.fill(7.0);
    let error = Session::new(&model, Arc::new(constant)).map(drop).unwrap_err();
    assert!(error.to_string().contains("constant image: every voxel is 7"), "{error}");

    let mut holes = phantom();
    holes.data[5] = f32::NAN;
    holes.data[6] = f32::INFINITY;
    let mut session = session(&model, holes);
    assert_eq!(session.non_finite().total(), 2);
    let error = session.segment(&Hooks::default()).map(drop).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidArgument, "no prompt"));
    let empty = vec![0; session.geometry().voxel_count()];
    assert!(session.set_box_from_mask(&empty).unwrap_err().to_string().contains("empty"));
    assert!(session.set_box_from_mask(&[1]).is_err());
    let mut mask = empty;
    mask[30 + 70 * (30 + 66 * 9)] = 1;
    session.set_box_from_mask(&mask).expect("one voxel is a box");
    session.segment(&Hooks::default()).expect("a run");
}
