use super::*;
use crate::phantom::{Phantom, PhantomModality, PhantomRegion};

fn phantom() -> Phantom {
    Phantom::new(3, 0, PhantomModality::Mr, PhantomRegion::Abdomen, Some([48, 40, 24])).expect("a phantom")
}

/// A number for the labels of each voxel, which phantoms have by themselves.
fn regions(phantom: &Phantom) -> Vec<u32> {
    phantom.labels.data.iter().map(|&label| u32::from(label)).collect()
}

fn apply(phantom: &Phantom, shift: &str) -> Shifted {
    let shift: Shift = shift.parse().expect("a shift");
    shift.apply(&phantom.image, Some(&regions(phantom)), 7, &["set", "case"]).expect("shifted")
}

fn difference(a: &Volume<f32>, b: &Volume<f32>) -> f64 {
    let sum: f64 = a.data.iter().zip(&b.data).map(|(a, b)| f64::from((a - b).abs())).sum();
    sum / a.data.len() as f64
}

#[test]
fn every_shift_is_graded_repeats_and_stays_finite() {
    let phantom = phantom();
    for kind in ShiftKind::ALL {
        let at = |severity| apply(&phantom, &format!("{}:{severity}", kind.name()));
        let (first, last) = (at(1), at(SEVERITIES));
        assert!(last.image.data.iter().all(|value| value.is_finite()), "{kind:?}");
        assert_eq!(at(SEVERITIES).image, last.image, "{kind:?}");
        if kind == ShiftKind::Crop {
            assert!(last.image.data.len() < first.image.data.len());
            continue;
        }
        assert_eq!(first.image.geometry, phantom.image.geometry, "{kind:?}");
        let [small, large] = [&first, &last].map(|shifted| difference(&shifted.image, &phantom.image));
        assert!(0.0 < small && small < large, "{kind:?}: {small} at 1, {large} at 5");
    }
}

#[test]
fn another_case_or_seed_is_another_shift() {
    let phantom = phantom();
    let shift: Shift = "gaussian-noise:3".parse().expect("a shift");
    let shifted = |seed, case| shift.apply(&phantom.image, None, seed, &["set", case]).expect("shifted").image;
    assert_ne!(shifted(1, "a"), shifted(1, "b"));
    assert_ne!(shifted(1, "a"), shifted(2, "a"));
}

#[test]
fn truth_moves_with_the_image() {
    // An image that is its own mask: wherever it goes, the mask must go too.
    let mut phantom = phantom();
    let in_ball = |index: usize| {
        let [x, y, z] = [index % 48, index / 48 % 40, index / (48 * 40)].map(|at| at as f64);
        ((x - 21.0) / 15.0).powi(2) + ((y - 22.0) / 11.0).powi(2) + ((z - 12.0) / 8.0).powi(2) < 1.0
    };
    let mask: Vec<u8> = (0..48 * 40 * 24).map(|index| u8::from(in_ball(index))).collect();
    phantom.image.data = mask.iter().map(|&voxel| f32::from(voxel)).collect();
    for kind in ShiftKind::ALL.into_iter().filter(|kind| kind.moves()) {
        for severity in 1..=SEVERITIES {
            let shifted = apply(&phantom, &format!("{}:{severity}", kind.name()));
            let carried = shifted.carry(&mask);
            let both = carried.iter().zip(&shifted.image.data).filter(|&(&a, &b)| a > 0 && b > 0.5).count();
            let either = carried.iter().zip(&shifted.image.data).filter(|&(&a, &b)| a > 0 || b > 0.5).count();
            assert!(both as f64 >= 0.85 * either as f64, "{kind:?}:{severity}: {both} of {either}");
        }
    }
}

#[test]
fn a_crop_stays_where_it_is_in_the_world() {
    let phantom = phantom();
    let shifted = apply(&phantom, "crop:5");
    let (new, old) = (&shifted.image, &phantom.image);
    let place = old.geometry.lps_to_ijk(new.geometry.ijk_to_lps([2.0, 3.0, 1.0])).map(|x| x.round() as usize);
    assert_eq!(new.at([2, 3, 1]), old.at(place));
}

#[test]
fn names_are_read_back_and_unknown_ones_list_the_known() {
    for kind in ShiftKind::ALL {
        let shift = Shift::new(kind, 2);
        assert_eq!(shift.to_string().parse(), Ok(shift));
        assert_eq!(parse_shifts(kind.name()).expect("known").len(), 5);
    }
    assert_eq!(parse_shifts("all").expect("known").len(), 75);
    let message = |text| parse_shifts(text).expect_err("unknown");
    assert!(message("fog").contains("gaussian-noise, rician-noise") && message("fog:2").contains("tissue-remap"));
    assert!(message("blur:0").contains("from 1 to 5") && message("blur:x").contains("from 1 to 5"));
}

#[test]
fn noise_has_the_deviation_it_says() {
    let mut phantom = phantom();
    phantom.image.data = (0..phantom.image.data.len()).map(|index| (index % 101) as f32).collect();
    let shifted = apply(&phantom, "gaussian-noise:5");
    let expected = shifted.parameters["deviation"][0];
    let squares: f64 = shifted.image.data.iter().zip(&phantom.image.data).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let found = (squares / phantom.image.data.len() as f64).sqrt();
    assert!((found / expected - 1.0).abs() < 0.02, "{found}, not {expected}");
}
