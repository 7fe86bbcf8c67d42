//! A scene, what can be asked for in it, and where the bodies of an atlas lie in it.

use super::frame::{self, Found, Frame};
use crate::phantom::{self, Appearance, Kind, Look, Scene, Tissue};
use crate::random::{Use, generator};
use adaptmedseg_model::anatomy::{Atlas, BoxPlace, Candidate, Fits};
use rand::seq::IndexedRandom;

/// Millimetres along the edges of the voxels that bodies are fitted to.
const VOXEL: f32 = 4.0;

/// A scene and what can be asked for in it.
pub(crate) struct Stage {
    pub(super) kind: Kind,
    pub(super) scene: Scene,
    pub(super) found: Vec<Found>,
    /// First voxel and end of all that is not air, (x, y, z).
    body: [[usize; 3]; 2],
    /// Where the bodies of an atlas lie in what is seen in this frame.
    fits: Option<(Frame, Fits)>,
}

impl Stage {
    /// Scene number `index` of a seed.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let (kind, scene) = phantom::scene(seed, index);
        let found = frame::find(&scene);
        let body = frame::bounds(&scene, |label| scene.tissues[usize::from(label)] != Tissue::Air);
        Self { kind, scene, found, body, fits: None }
    }

    /// The same with the bodies of an atlas fitted to how it looks once.
    pub(crate) fn fitted(seed: u64, index: u64, atlas: &Atlas) -> Self {
        let mut stage = Self::new(seed, index);
        if stage.kind != Kind::Shapes && !atlas.structures().is_empty() {
            let mut random = generator(seed, Use::Fit, index);
            let look = *[Look::Ct, Look::Mr, Look::Any].choose(&mut random).expect("there are three");
            let Scene { tissues, size, spacing, .. } = &stage.scene;
            let appearance = Appearance::new(tissues, look, &mut random);
            let count: [usize; 3] = std::array::from_fn(|axis| {
                ((size[axis] as f32 * spacing[axis] / VOXEL).round() as usize).clamp(1, size[axis])
            });
            let extent = size.map(|size| size as f32);
            let seen = Frame::around(extent.map(|extent| (extent - 1.0) / 2.0), extent, count);
            let view = frame::view(&stage.scene, &appearance, &seen, count, &[], &mut random);
            let body = stage.body.map(|corner| dhw(within(&seen, faces(corner))));
            let voxel = dhw(std::array::from_fn(|axis| seen.step[axis] * spacing[axis]));
            let [nx, ny, nz] = count;
            let fits = atlas.fits(&view.image, [nz, ny, nx], voxel, body, 1);
            stage.fits = Some((seen, fits));
        }
        stage
    }

    /// Where a box lies, of first voxel and end (x, y, z).
    pub(super) fn place(&self, corners: [[usize; 3]; 2]) -> BoxPlace {
        self.place_of_faces(corners.map(faces))
    }

    /// The same for a box by its faces.
    pub(super) fn place_of_faces(&self, corners: [[f32; 3]; 2]) -> BoxPlace {
        let body = self.body.map(|corner| dhw(faces(corner)));
        BoxPlace::new(corners.map(dhw), dhw(self.scene.spacing), body, self.scene.size[2])
    }

    /// What a box by its faces (x, y, z) may be drawn around, as the fitted bodies have it.
    pub(super) fn candidates(&self, atlas: &Atlas, corners: [[f32; 3]; 2]) -> Vec<Candidate> {
        let Some((seen, fits)) = &self.fits else { return Vec::new() };
        atlas.candidates(fits, corners.map(|corner| dhw(within(seen, corner))), None)
    }
}

/// Axes (x, y, z) as (d, h, w).
fn dhw([x, y, z]: [f32; 3]) -> [f32; 3] {
    [z, y, x]
}

/// The face of a voxel that is nearest to the scene's first.
fn faces(corner: [usize; 3]) -> [f32; 3] {
    corner.map(|at| at as f32 - 0.5)
}

/// A place of the scene in voxels of a frame.
fn within(frame: &Frame, place: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| (place[axis] - frame.start[axis]) / frame.step[axis])
}

#[cfg(test)]
mod tests {
    use super::super::atlas::{cells, whole_bodies};
    use super::*;
    use adaptmedseg_model::anatomy::GRID;

    #[test]
    fn fitted_bodies_know_what_a_box_is_drawn_around() {
        let seed = 5;
        let atlas = Atlas::new([]).with_bodies(whole_bodies(seed, 2, 0));
        let kind = |kind: Kind| (0..).find(|&index| Stage::new(seed, index).kind == kind).expect("all come up");
        let torso = kind(Kind::Torso);
        let stage = Stage::fitted(seed, torso, &atlas);
        let again = Stage::fitted(seed, torso, &atlas);
        let (mut overlaps, mut large) = (Vec::new(), 0);
        for found in stage.found.iter().filter(|found| found.voxels > 1000) {
            large += 1;
            let corners = [found.start, found.end];
            let candidates = stage.candidates(&atlas, corners.map(faces));
            assert_eq!(candidates, again.candidates(&atlas, corners.map(faces)));
            if candidates.is_empty() {
                continue;
            }
            let last = GRID as f32 - 1.0;
            let (flat, whole) = (vec![0.5; GRID * GRID * GRID], [0.0, 0.0, 0.0, last, last, last]);
            let likely = atlas.prior(&flat, [GRID; 3], &whole, &stage.place(corners), 0..0, &candidates);
            let filled = cells(&stage.scene, found);
            let both = likely.iter().zip(&filled).filter(|&(&likely, &filled)| likely > 0.25 && filled).count();
            let sum = likely.iter().filter(|&&likely| likely > 0.25).count()
                + filled.iter().filter(|&&filled| filled).count();
            overlaps.push(2.0 * both as f32 / sum.max(1) as f32);
        }
        assert!(large > 10 && 2 * overlaps.len() > large, "{} of {large} have candidates", overlaps.len());
        let mean = overlaps.iter().sum::<f32>() / overlaps.len() as f32;
        assert!(mean > 0.5, "{mean}: {overlaps:?}");
        // Of abstract shapes they know nothing.
        let shapes = Stage::fitted(seed, kind(Kind::Shapes), &atlas);
        let found = &shapes.found[0];
        assert_eq!(shapes.candidates(&atlas, [found.start, found.end].map(faces)), []);
    }
}
