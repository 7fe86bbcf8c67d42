//! Windows of scenes: where they lie, and what the network sees there.

use crate::phantom::{Appearance, OUTSIDE, Scene};
use rand::Rng;

/// A structure of a scene: where it is.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Index into the scene's structures.
    pub(crate) index: usize,
    /// First voxel and end along each axis, (x, y, z).
    pub(crate) start: [usize; 3],
    pub(crate) end: [usize; 3],
    pub(crate) voxels: usize,
}

/// Structures of fewer voxels than this are not asked for.
const MIN_VOXELS: usize = 20;

/// First voxel and end (x, y, z) of the labels that `wanted` says.
pub(crate) fn bounds(scene: &Scene, wanted: impl Fn(u8) -> bool) -> [[usize; 3]; 2] {
    let [nx, ny, _] = scene.size;
    let (mut start, mut end) = (scene.size, [0; 3]);
    for (index, _) in scene.labels.iter().enumerate().filter(|&(_, &label)| wanted(label)) {
        for (axis, at) in [index % nx, index / nx % ny, index / (nx * ny)].into_iter().enumerate() {
            (start[axis], end[axis]) = (start[axis].min(at), end[axis].max(at + 1));
        }
    }
    [start, end]
}

/// The structures of a scene that are large enough.
pub(crate) fn find(scene: &Scene) -> Vec<Found> {
    let mut boxes = vec![([usize::MAX; 3], [0usize; 3], 0usize); 256];
    let [nx, ny, _] = scene.size;
    for (index, &label) in scene.labels.iter().enumerate() {
        let (start, end, count) = &mut boxes[usize::from(label)];
        for (axis, at) in [index % nx, index / nx % ny, index / (nx * ny)].into_iter().enumerate() {
            start[axis] = start[axis].min(at);
            end[axis] = end[axis].max(at + 1);
        }
        *count += 1;
    }
    let structures = scene.structures.iter().enumerate().map(|(index, structure)| {
        let mut found = Found { index, start: [usize::MAX; 3], end: [0; 3], voxels: 0 };
        for &label in &structure.labels {
            let (start, end, count) = boxes[usize::from(label)];
            for axis in 0..3 {
                found.start[axis] = found.start[axis].min(start[axis]);
                found.end[axis] = found.end[axis].max(end[axis]);
            }
            found.voxels += count;
        }
        found
    });
    structures.filter(|found| found.voxels >= MIN_VOXELS).collect()
}

/// A window over a scene: the place of its first voxel and the step to the next along each axis, in voxels of the scene,
/// (x, y, z).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) start: [f32; 3],
    pub(crate) step: [f32; 3],
}

impl Frame {
    /// The frame of `count` voxels along each axis that is `extent` scene voxels wide around a place.
    pub(crate) fn around(centre: [f32; 3], extent: [f32; 3], count: [usize; 3]) -> Self {
        let step: [f32; 3] = std::array::from_fn(|axis| extent[axis] / count[axis] as f32);
        Self { start: std::array::from_fn(|axis| centre[axis] - extent[axis] / 2.0 + step[axis] / 2.0), step }
    }
}

/// What is in a frame, arrays row-major (D, H, W).
pub(crate) struct View {
    /// From 0 to 1, and 0 outside the scene.
    pub(crate) image: Vec<f32>,
    /// From 0 to 1.
    pub(crate) target: Vec<f32>,
}

/// One axis of the grid that is rendered, and of the window that is sampled from it.
struct Axis {
    /// Voxels of the scene that the rendered grid has; `None` outside.
    voxels: Vec<Option<usize>>,
    /// Distance of rendered voxels, in voxels of the scene, and the place of the first.
    step: f32,
    first: f32,
    /// For each voxel of the window the rendered one before it, and the share of the one after it.
    taps: Vec<(usize, f32)>,
}

impl Axis {
    fn new(start: f32, step: f32, count: usize, size: usize) -> Self {
        let voxel = |place: f32| (place >= -0.5 && place < size as f32 - 0.5).then(|| place.round().max(0.0) as usize);
        if step >= 1.0 {
            // Coarser than the scene: rendered as it is seen.
            let voxels = (0..count).map(|index| voxel(start + index as f32 * step)).collect();
            return Self { voxels, step, first: start, taps: (0..count).map(|index| (index, 0.0)).collect() };
        }
        // Finer: rendered on the scene's voxels, then interpolated, as a scan would be.
        let first = start.floor();
        let length = ((count as f32 - 1.0) * step + start - first).floor() as usize + 2;
        let voxels = (0..length).map(|index| voxel(first + index as f32)).collect();
        let taps = (0..count).map(|index| {
            let place = start + index as f32 * step - first;
            (place as usize, place - place.floor())
        });
        Self { voxels, step: 1.0, first, taps: taps.collect() }
    }
}

/// Renders a frame. `count` is the window's size (x, y, z); `labels` are those of the structure.
pub(crate) fn view(
    scene: &Scene,
    appearance: &Appearance,
    frame: &Frame,
    count: [usize; 3],
    labels: &[u8],
    random: &mut impl Rng,
) -> View {
    let axes: [Axis; 3] =
        std::array::from_fn(|axis| Axis::new(frame.start[axis], frame.step[axis], count[axis], scene.size[axis]));
    let size: [usize; 3] = std::array::from_fn(|axis| axes[axis].voxels.len());
    let mut rendered = Vec::with_capacity(size.iter().product());
    for z in &axes[2].voxels {
        for y in &axes[1].voxels {
            for x in &axes[0].voxels {
                rendered.push(match (x, y, z) {
                    (Some(x), Some(y), Some(z)) => scene.labels[x + scene.size[0] * (y + scene.size[1] * z)],
                    _ => OUTSIDE,
                });
            }
        }
    }
    let spacing: [f32; 3] = std::array::from_fn(|axis| axes[axis].step * scene.spacing[axis]);
    let origin: [f32; 3] = std::array::from_fn(|axis| axes[axis].first * scene.spacing[axis]);
    let mut image = appearance.render(&rendered, size, origin, spacing, random);
    appearance.normalise(&mut image);
    let mut inside = [false; 256];
    labels.iter().for_each(|&label| inside[usize::from(label)] = true);
    for (value, &label) in image.iter_mut().zip(&rendered) {
        if label == OUTSIDE {
            *value = 0.0;
        }
    }
    let target = rendered.iter().map(|&label| f32::from(inside[usize::from(label)])).collect();
    View { image: sample(image, size, &axes), target: sample(target, size, &axes) }
}

/// Linear interpolation along each axis in turn.
fn sample(mut data: Vec<f32>, mut size: [usize; 3], axes: &[Axis; 3]) -> Vec<f32> {
    for (axis, Axis { taps, .. }) in axes.iter().enumerate() {
        if taps.len() == size[axis] && taps.iter().all(|tap| tap.1 == 0.0) {
            continue;
        }
        let stride: usize = size[..axis].iter().product();
        let outer: usize = size[axis + 1..].iter().product();
        let mut out = Vec::with_capacity(stride * taps.len() * outer);
        for block in data.chunks_exact(stride * size[axis]) {
            for &(before, share) in taps {
                let after = (before + 1).min(size[axis] - 1);
                let (a, b) = (&block[before * stride..][..stride], &block[after * stride..][..stride]);
                out.extend(a.iter().zip(b).map(|(a, b)| a + share * (b - a)));
            }
        }
        size[axis] = taps.len();
        data = out;
    }
    data
}
