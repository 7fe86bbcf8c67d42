//! Whole volumes: masks are those of the built-in engine, and a cancelled run leaves a usable session.

use crate::{Target, mini};
use adaptmedseg_engine::ModelSource;
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_parity::{built_in, model_of};
use adaptmedseg_segment::{BoxPrompt, CancelToken, ErrorKind, Hooks, Model, Point, Progress, Session, Space};
use adaptmedseg_volume::{Geometry, Volume};
use std::sync::Arc;

/// A bright ellipsoid in a darker one, on an anisotropic grid.
fn phantom() -> Volume<f32> {
    let direction = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let geometry = Geometry::new([70, 66, 20], [1.0, 1.2, 3.0], [-30.0, 12.5, 100.0], direction).expect("a grid");
    let data = (0..geometry.voxel_count()).map(|index| {
        let at = [index % 70, index / 70 % 66, index / (70 * 66)].map(|i| i as f32);
        let within = |centre: [f32; 3], size: [f32; 3]| {
            (0..3).map(|axis| ((at[axis] - centre[axis]) / size[axis]).powi(2)).sum::<f32>() < 1.0
        };
        let texture = ((index as u32).wrapping_mul(2_654_435_761) >> 24) as f32 / 16.0;
        let body = if within([34.0, 32.0, 10.0], [30.0, 28.0, 9.0]) { 100.0 } else { 0.0 };
        body + texture + if within([28.0, 36.0, 9.0], [12.0, 9.0, 5.0]) { 80.0 } else { 0.0 }
    });
    Volume::new(geometry.clone(), data.collect()).expect("as many voxels")
}

fn session(model: &Model) -> Session {
    let mut session = Session::new(model, Arc::new(phantom())).expect("a usable image");
    let corners = [[16.0, 27.0, 4.0], [40.0, 45.0, 14.0]];
    session.set_box(Some(BoxPrompt { corners, space: Space::Ijk })).expect("a box");
    let point = |position, positive| Point { position, space: Space::Ijk, positive };
    session.add_point(point([28.0, 36.0, 9.0], true)).expect("inside");
    session.add_point(point([50.0, 20.0, 12.0], false)).expect("inside");
    session
}

/// A cancelled run changes nothing, and the session runs again.
///
/// # Panics
/// Where it does not.
pub fn cancelling(target: &Target) {
    let model = model_of("mini", &mini(), &|source| target.open(source));
    let mut session = session(&model);
    let token = CancelToken::new();
    let stop = |progress: Progress| {
        if progress.done == 1 {
            token.cancel();
        }
    };
    let error = session.segment(&Hooks { progress: Some(&stop), cancel: Some(&token) }).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(session.outcome().is_none());
    session.segment(&Hooks::default()).expect("it can be run again");
}

/// The built-in model's mask is the one the built-in engine finds.
///
/// # Panics
/// Where it is not.
pub fn builtin_masks(target: &Target) {
    let source = ModelSource::of(&ModelFolder::builtin().expect("it is built in"));
    let mask = |model: Model| {
        let mut session = session(&model);
        session.segment(&Hooks::default()).expect("a run").mask().data.clone()
    };
    let wanted = mask(model_of("builtin", &source, &built_in));
    let got = mask(model_of("builtin", &source, &|source| target.open(source)));
    let count = |mask: &[u8]| mask.iter().filter(|&&voxel| voxel == 1).count();
    let both = wanted.iter().zip(&got).filter(|(a, b)| **a == 1 && **b == 1).count();
    assert!(count(&wanted) > 500, "{} voxels: a mask worth comparing", count(&wanted));
    let dice = 2.0 * both as f64 / (count(&wanted) + count(&got)) as f64;
    println!("{}: Dice with the built-in engine {dice:.5}", target.device);
    assert!(dice > 0.999, "Dice {dice}");
}
