//! Windows to learn from: the whole volume at low resolution, or a part of it at full resolution, and what is done to
//! them so that the network does not learn them by heart (SegVol, arXiv 2311.13385, and its training code).

use adaptmedseg_model::anatomy::{Atlas, Fits};
use adaptmedseg_model::config::ZoomIn;
use adaptmedseg_segment::TrainingVolume;
use adaptmedseg_volume::Reorientation;
use adaptmedseg_volume::preprocess::resize_nearest_exact;
use rand::Rng;

/// How often a sample is the zoom-out: one in four.
const ZOOM_OUT_SHARE: f64 = 0.25;
/// How often the middle of a part is a voxel of the structure: twice as often as one outside.
const FOREGROUND_SHARE: f64 = 2.0 / 3.0;
/// How far a focused window's box is off at most, as a share of its edges.
const FOCUS_JITTER: f64 = 0.1;
/// How often each axis is flipped, and how often intensities are scaled, and shifted.
const AUGMENT_SHARE: f64 = 0.2;
/// Farthest a factor is from 1, and a shift from 0.
const INTENSITY: f32 = 0.2;

/// A window: what the network sees, and what it should find.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub image: Vec<f32>,
    pub target: Vec<f32>,
    /// Where it was taken from, and along which of (d, h, w) it was flipped since.
    place: Place,
    flips: [bool; 3],
}

/// Where a window is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The whole volume.
    Whole,
    /// The part whose first voxel this is; negative where the volume is smaller than the window.
    Part([isize; 3]),
    /// What the focused zoom-in sees around a box, inclusive corners.
    Focus([[usize; 3]; 2]),
}

fn reversed([a, b, c]: [usize; 3]) -> [usize; 3] {
    [c, b, a]
}

/// A random place, drawn as the original draws it; for a model that zooms in by focusing, the parts are focused ones.
pub(crate) fn place(volume: &TrainingVolume, size: [usize; 3], zoom_in: ZoomIn, random: &mut impl Rng) -> Place {
    if random.random_bool(ZOOM_OUT_SHARE) {
        return Place::Whole;
    }
    if zoom_in == ZoomIn::Focus {
        return tight_box(volume).map_or(Place::Whole, |[low, high]| {
            let mut corners = [low, high];
            for axis in 0..3 {
                // As a box drawn by hand, or a first mask, might be off.
                let reach = FOCUS_JITTER * (high[axis] - low[axis] + 1) as f64;
                let last = volume.size[axis] as f64 - 1.0;
                let mut moved =
                    |at: usize| (at as f64 + reach * random.random_range(-1.0..=1.0)).round().clamp(0.0, last);
                let (a, b) = (moved(low[axis]), moved(high[axis]));
                (corners[0][axis], corners[1][axis]) = (a.min(b) as usize, a.max(b) as usize);
            }
            Place::Focus(corners)
        });
    }
    let wanted = u8::from(random.random_bool(FOREGROUND_SHARE));
    let candidates = volume.mask.iter().filter(|&&value| value == wanted).count();
    if candidates == 0 {
        return Place::Whole;
    }
    let chosen = random.random_range(0..candidates);
    let voxel = volume.mask.iter().enumerate().filter(|&(_, &value)| value == wanted).nth(chosen);
    let voxel = voxel.expect("fewer than were counted").0;
    let [_, height, width] = volume.size;
    Place::Part(around([voxel / (height * width), voxel / width % height, voxel % width], volume.size, size))
}

/// First and last voxel of the structure along each axis.
fn tight_box(volume: &TrainingVolume) -> Option<[[usize; 3]; 2]> {
    let [_, height, width] = volume.size;
    let places = volume.mask.iter().enumerate().filter(|&(_, &value)| value > 0);
    let places = places.map(|(voxel, _)| [voxel / (height * width), voxel / width % height, voxel % width]);
    places.fold(None, |found, at| {
        let [low, high] = found.unwrap_or([at; 2]);
        Some([
            std::array::from_fn(|axis| low[axis].min(at[axis])),
            std::array::from_fn(|axis| high[axis].max(at[axis])),
        ])
    })
}

/// The first voxel of a window around a voxel, kept inside the volume where it fits, else in its middle.
fn around(centre: [usize; 3], volume: [usize; 3], window: [usize; 3]) -> [isize; 3] {
    std::array::from_fn(|axis| match volume[axis].checked_sub(window[axis]) {
        Some(last) => (centre[axis] as isize - window[axis] as isize / 2).clamp(0, last as isize),
        None => -(((window[axis] - volume[axis]) / 2) as isize),
    })
}

/// The places of a fixed grid that hold some of the structure: the whole, then parts that overlap by half.
pub(crate) fn grid(volume: &TrainingVolume, size: [usize; 3], zoom_in: ZoomIn) -> Vec<Place> {
    if zoom_in == ZoomIn::Focus {
        let focus = tight_box(volume).map(Place::Focus);
        return [Place::Whole].into_iter().chain(focus).collect();
    }
    let axes: [Vec<isize>; 3] = std::array::from_fn(|axis| match volume.size[axis].checked_sub(size[axis]) {
        None => vec![-(((size[axis] - volume.size[axis]) / 2) as isize)],
        Some(last) => {
            let step = (size[axis] / 2).max(1);
            (0..=last.div_ceil(step)).map(|index| (index * step).min(last) as isize).collect()
        }
    });
    let mut places = vec![Place::Whole];
    for &d in &axes[0] {
        for &h in &axes[1] {
            places.extend(axes[2].iter().map(|&w| Place::Part([d, h, w])));
        }
    }
    places.retain(|&place| cut(volume, place, size).target.iter().any(|&value| value > 0.0));
    places
}

/// The window at a place.
pub(crate) fn cut(volume: &TrainingVolume, place: Place, size: [usize; 3]) -> Window {
    match place {
        Place::Whole => {
            let [from, to] = [volume.size, size].map(reversed);
            let target = resize_nearest_exact(&volume.mask, from, to);
            Window {
                image: resize_nearest_exact(&volume.image, from, to),
                target: target.into_iter().map(f32::from).collect(),
                place,
                flips: [false; 3],
            }
        }
        Place::Focus(corners) => {
            let [image, target] = volume.focused(corners, size);
            Window { image, target, place, flips: [false; 3] }
        }
        Place::Part(start) => {
            let mut window = Window { image: Vec::new(), target: Vec::new(), place, flips: [false; 3] };
            window.image.reserve(size.iter().product());
            window.target.reserve(size.iter().product());
            for d in 0..size[0] as isize {
                for h in 0..size[1] as isize {
                    for w in 0..size[2] as isize {
                        let at: [isize; 3] = [start[0] + d, start[1] + h, start[2] + w];
                        let inside = (0..3).all(|axis| (0..volume.size[axis] as isize).contains(&at[axis]));
                        let [d, h, w] = at.map(|coordinate| coordinate as usize);
                        let voxel = if inside { (d * volume.size[1] + h) * volume.size[2] + w } else { 0 };
                        window.image.push(if inside { volume.image[voxel] } else { 0.0 });
                        window.target.push(if inside { f32::from(volume.mask[voxel]) } else { 0.0 });
                    }
                }
            }
            window
        }
    }
}

/// To flip (d, h, w) axes, and back.
fn flipping([d, h, w]: [bool; 3]) -> Reorientation {
    Reorientation { axes: [0, 1, 2], flip: [w, h, d] }
}

impl Window {
    /// What an atlas expects in a box of it, inclusive corners (d, h, w); nothing where the window is no focused one.
    pub(crate) fn expected(
        &self,
        volume: &TrainingVolume,
        (atlas, fits): (&Atlas, &Fits),
        size: [usize; 3],
        corners: &[f32; 6],
    ) -> Option<Vec<f32>> {
        let Place::Focus(around) = self.place else { return None };
        if self.flips == [false; 3] {
            return Some(volume.expected(atlas, fits, around, size, &self.image, corners));
        }
        // The atlas knows bodies as they lie.
        let plan = flipping(self.flips);
        let as_it_lies = plan.apply_to_slice(&self.image, reversed(size));
        let corners = std::array::from_fn(|index| {
            let axis = index % 3;
            if self.flips[axis] { (size[axis] - 1) as f32 - corners[(index + 3) % 6] } else { corners[index] }
        });
        let prior = volume.expected(atlas, fits, around, size, &as_it_lies, &corners);
        Some(plan.apply_to_slice(&prior, reversed(size)))
    }
}

/// Flips axes, scales and shifts intensities, each now and then.
pub(crate) fn augment(window: &mut Window, size: [usize; 3], random: &mut impl Rng) {
    let flips: [bool; 3] = std::array::from_fn(|_| random.random_bool(AUGMENT_SHARE));
    if flips.contains(&true) {
        let plan = flipping(flips);
        window.flips = flips;
        for data in [&mut window.image, &mut window.target] {
            *data = plan.apply_to_slice(data, reversed(size));
        }
    }
    if random.random_bool(AUGMENT_SHARE) {
        let factor = 1.0 + random.random_range(-INTENSITY..=INTENSITY);
        window.image.iter_mut().for_each(|value| *value *= factor);
    }
    if random.random_bool(AUGMENT_SHARE) {
        let shift = random.random_range(-INTENSITY..=INTENSITY);
        window.image.iter_mut().for_each(|value| *value += shift);
    }
}

/// The volume cut in two along its depth, three quarters of the structure's depth in the first part; `None` where the
/// structure is too flat for that.
pub(crate) fn halves(volume: &TrainingVolume) -> Option<[TrainingVolume; 2]> {
    let slice = volume.size[1] * volume.size[2];
    let holds = |d: usize| volume.mask[d * slice..(d + 1) * slice].contains(&1);
    let (first, last) = ((0..volume.size[0]).find(|&d| holds(d))?, (0..volume.size[0]).rfind(|&d| holds(d))?);
    let cut = first + (3 * (last - first + 1)).div_ceil(4);
    if cut > last {
        return None;
    }
    Some([0..cut, cut..volume.size[0]].map(|slices| {
        let voxels = slices.start * slice..slices.end * slice;
        TrainingVolume {
            image: volume.image[voxels.clone()].to_vec(),
            mask: volume.mask[voxels].to_vec(),
            size: [slices.len(), volume.size[1], volume.size[2]],
            spacing: volume.spacing,
            body: volume.body,
            lost: 0,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Use, generator};
    use adaptmedseg_model::anatomy::{BoxPlace, CELLS};

    fn volume(size: [usize; 3]) -> TrainingVolume {
        let count = size.iter().product();
        let mut mask = vec![0; count];
        mask[count / 2..count / 2 + 20].fill(1);
        let image = (0..count).map(|voxel| voxel as f32 / count as f32).collect();
        let body = [[-0.5; 3], size.map(|size| size as f32 - 0.5)];
        TrainingVolume { image, mask, size, spacing: [1.0; 3], body, lost: 0 }
    }

    #[test]
    fn a_part_keeps_every_voxel_at_its_place() {
        let volume = volume([6, 10, 14]);
        for index in 0..200 {
            let mut random = generator(1, Use::Step, index);
            let place = place(&volume, [4, 12, 8], ZoomIn::Sliding, &mut random);
            let window = cut(&volume, place, [4, 12, 8]);
            assert_eq!(window.image.len(), 4 * 12 * 8);
            if let Place::Part(start) = place {
                assert!((0..=2).contains(&start[0]) && start[1] == -1 && (0..=6).contains(&start[2]), "{start:?}");
                let voxel = ((start[0] + 1) * 10 + 4) * 14 + start[2] + 3;
                assert_eq!(window.image[(12 + 5) * 8 + 3], volume.image[voxel as usize]);
                assert!(window.image[..8].iter().all(|&value| value == 0.0), "padding before the first row");
            }
        }
    }

    #[test]
    fn a_focusing_model_learns_from_windows_around_the_structure() {
        let volume = volume([12, 20, 20]);
        let places = grid(&volume, [8; 3], ZoomIn::Focus);
        assert_eq!(places.len(), 2);
        let [whole, focused] = [0, 1].map(|index| cut(&volume, places[index], [8; 3]));
        let share = |window: &Window| window.target.iter().sum::<f32>() / window.target.len() as f32;
        assert!(share(&focused) > 2.0 * share(&whole), "{} {}", share(&focused), share(&whole));
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..50 {
            let place = place(&volume, [8; 3], ZoomIn::Focus, &mut generator(1, Use::Step, index));
            assert_eq!(cut(&volume, place, [8; 3]).image.len(), 512);
            seen.insert(format!("{place:?}"));
        }
        assert!(seen.len() > 5, "boxes are off, and not always alike");
    }

    #[test]
    fn what_an_atlas_expects_is_flipped_with_the_window() {
        let (volume, size) = (volume([12, 20, 20]), [8; 3]);
        let [whole, window] = [0, 1].map(|index| cut(&volume, grid(&volume, size, ZoomIn::Focus)[index], size));
        let place = BoxPlace { edges: [8.0; 3], offset: [0.0; 2], cut: [false; 2] };
        let atlas = Atlas::new([(place, (0..CELLS).map(|cell| cell < CELLS / 3 && cell % 2 == 0).collect())]);
        let fits = volume.fits(&atlas, 1);
        let expected =
            window.expected(&volume, (&atlas, &fits), size, &[1.0, 2.0, 2.0, 6.0, 5.0, 4.0]).expect("a focused window");
        let plan = flipping([true, false, true]);
        let flip = |data: &[f32]| plan.apply_to_slice(data, size);
        assert_ne!(flip(&expected), expected);
        let flipped = Window { image: flip(&window.image), flips: [true, false, true], ..window };
        let found = flipped.expected(&volume, (&atlas, &fits), size, &[1.0, 2.0, 3.0, 6.0, 5.0, 5.0]);
        assert_eq!(found, Some(flip(&expected)));
        assert_eq!(whole.expected(&volume, (&atlas, &fits), size, &[1.0, 2.0, 2.0, 6.0, 5.0, 4.0]), None);
    }

    #[test]
    fn image_and_target_are_flipped_together() {
        let size = [2, 3, 4];
        let numbers: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let start = Window { image: numbers.clone(), target: numbers, place: Place::Whole, flips: [false; 3] };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..300 {
            let mut window = start.clone();
            augment(&mut window, size, &mut generator(5, Use::Step, index));
            seen.insert(window.target[0] as usize);
            let (factor, shift) = (window.image[1] - window.image[0], window.target[1] - window.target[0]);
            // Whatever was scaled and shifted, the order of voxels is one.
            assert!((factor * shift) > 0.0);
        }
        // Every corner has come to the front.
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 3, 8, 11, 12, 15, 20, 23]);
    }

    #[test]
    fn the_grid_covers_the_structure_and_nothing_empty() {
        let volume = volume([6, 10, 14]);
        let places = grid(&volume, [4, 4, 4], ZoomIn::Sliding);
        assert_eq!(places[0], Place::Whole);
        assert!(places.len() > 2);
        assert!(places.iter().all(|&place| cut(&volume, place, [4, 4, 4]).target.contains(&1.0)));
    }

    #[test]
    fn a_volume_is_cut_so_that_both_parts_hold_some_of_the_structure() {
        let mut whole = volume([8, 4, 4]);
        whole.mask.fill(0);
        whole.mask[16..16 * 7].fill(1);
        let [first, second] = halves(&whole).expect("deep enough");
        assert_eq!((first.size[0], second.size[0]), (6, 2));
        assert!(first.mask.contains(&1) && second.mask.contains(&1));
        assert_eq!([first.image, second.image].concat(), whole.image);
        whole.mask.fill(0);
        whole.mask[16..20].fill(1);
        assert!(halves(&whole).is_none());
    }
}
