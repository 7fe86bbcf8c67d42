//! Labelled phantoms: bodies and abstract scenes with CT-like and MR-like appearance, from a seed.
//!
//! They are what the built-in model learns from and what the demonstration shows. Anatomy is drawn from textbook sizes,
//! and every scan looks different: a network that has seen enough of them has learned to follow prompts and edges, not
//! one scanner's grey values.

mod appearance;
mod body;
mod head;
mod hip;
mod noise;
mod scene;
mod shapes;
mod skeleton;
mod torso;

pub(crate) use appearance::{Appearance, Look, OUTSIDE, smooth};
pub(crate) use noise::Noise;
pub(crate) use scene::{Scene, Tissue};
pub(crate) use shapes::between;

use crate::error::{Error, Result};
use crate::random::{Use, generator};
use adaptmedseg_volume::{Geometry, Volume};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What a phantom shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Torso,
    Head,
    Shapes,
}

/// How a phantom's image looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PhantomModality {
    /// Hounsfield units.
    Ct,
    /// Arbitrary units, from 0 to about 1000.
    Mr,
}

impl PhantomModality {
    /// `CT` or `MR`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ct => "CT",
            Self::Mr => "MR",
        }
    }
}

/// What part of the torso a phantom shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PhantomRegion {
    /// The upper abdomen where there is room for little else, more of the pelvis where there is more.
    #[default]
    Abdomen,
    /// From the iliac crests to the thighs: bladder, rectum, and the prostate or the uterus.
    Pelvis,
}

/// A generated scan of a torso with its labels.
#[derive(Clone, Debug)]
pub struct Phantom {
    /// The image.
    pub image: Volume<f32>,
    /// A label for each voxel, 0 for nothing; on the image's grid.
    pub labels: Volume<u8>,
    /// Names of structures and the labels they are made of; those with at least one voxel. Structures may overlap, as the
    /// liver and the lesions in it.
    pub structures: Vec<(String, Vec<u8>)>,
}

impl Phantom {
    /// Draws phantom number `index` of a seed: a torso of `size` voxels (x, y, z), 3 mm wide for CT; slices of MR are
    /// thicker.
    ///
    /// # Errors
    /// A size that is too small or too large.
    pub fn new(
        seed: u64,
        index: u64,
        modality: PhantomModality,
        region: PhantomRegion,
        size: Option<[usize; 3]>,
    ) -> Result<Self> {
        let size = size.unwrap_or(match modality {
            PhantomModality::Ct => [128, 104, 112],
            PhantomModality::Mr => [128, 104, 48],
        });
        if size.iter().any(|&size| !(8..=512).contains(&size)) {
            let [x, y, z] = size;
            return Err(Error::argument(
                format!("a phantom of {x} x {y} x {z} voxels cannot be made"),
                "give sizes from 8 to 512",
            ));
        }
        let mut random = generator(seed, Use::Phantom, index);
        let thickness = if modality == PhantomModality::Ct { 3.0 } else { 5.0 };
        let spacing = [3.0, 3.0, thickness];
        let (lowest, highest) = match region {
            PhantomRegion::Abdomen => (-20.0, 60.0),
            PhantomRegion::Pelvis => (-160.0, -110.0),
        };
        let middle = between(&mut random, lowest, highest);
        let scene = torso::torso(size, spacing, middle, &mut random);
        let (look, scale) = match modality {
            PhantomModality::Ct => (Look::Ct, 1.0),
            PhantomModality::Mr => (Look::Mr, 1000.0),
        };
        let appearance = Appearance::new(&scene.tissues, look, &mut random);
        let image = appearance.render(&scene.labels, size, [0.0; 3], spacing, &mut random);
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        // The scene's axes run to the right, front and top; the file's coordinates are LPS.
        let direction = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], identity[2]];
        let spacing = spacing.map(f64::from);
        let origin = std::array::from_fn(|axis| {
            let half = (size[axis] as f64 - 1.0) / 2.0 * spacing[axis];
            if axis < 2 { half } else { -half }
        });
        let geometry = Geometry::new(size, spacing, origin, direction)?;
        let mut seen = [false; 256];
        scene.labels.iter().for_each(|&label| seen[usize::from(label)] = true);
        let structures = scene.named(&seen);
        Ok(Self {
            image: Volume::new(geometry.clone(), image.into_iter().map(|value| (value * scale).round()).collect())?,
            structures,
            labels: Volume::new(geometry, scene.labels)?,
        })
    }

    /// The mask of a structure: one byte per voxel, 1 inside; `None` for an unknown name.
    pub fn mask(&self, name: &str) -> Option<Vec<u8>> {
        let (_, labels) = self.structures.iter().find(|(known, _)| known == name)?;
        Some(self.labels.data.iter().map(|label| u8::from(labels.contains(label))).collect())
    }
}

/// A torso from the neck to the thighs, of voxels `spacing` millimetres wide.
pub(crate) fn whole_torso(spacing: f32, random: &mut impl Rng) -> Scene {
    let size = [432.0, 336.0, 660.0].map(|extent: f32| (extent / spacing) as usize);
    torso::torso(size, [spacing; 3], 0.0, random)
}

/// A head with its neck, of voxels `spacing` millimetres wide.
pub(crate) fn whole_head(spacing: f32, random: &mut impl Rng) -> Scene {
    let size = [204.0, 240.0, 252.0].map(|extent: f32| (extent / spacing) as usize);
    head::head(size, [spacing; 3], random)
}

/// A scene to learn from: number `index` of a seed.
pub(crate) fn scene(seed: u64, index: u64) -> (Kind, Scene) {
    let mut random = generator(seed, Use::Phantom, index);
    let kind = match random.random_range(0..20) {
        0..11 => Kind::Torso,
        11..14 => Kind::Head,
        _ => Kind::Shapes,
    };
    let voxels = |extent: f32, spacing: f32| (extent / spacing) as usize;
    let scene = match kind {
        Kind::Torso => {
            let plane = between(&mut random, 2.0, 3.4);
            let thick = if random.random_bool(0.5) { plane } else { between(&mut random, 2.0, 6.0) };
            let height = if random.random_bool(0.3) {
                between(&mut random, 55.0, 150.0)
            } else {
                between(&mut random, 150.0, 420.0)
            };
            let size = [
                voxels(between(&mut random, 300.0, 400.0), plane),
                voxels(between(&mut random, 230.0, 300.0), plane),
                voxels(height, thick),
            ];
            let middle = between(&mut random, -160.0, 200.0);
            torso::torso(size, [plane, plane, thick], middle, &mut random)
        }
        Kind::Head => {
            let plane = between(&mut random, 1.6, 2.6);
            let thick = if random.random_bool(0.6) { plane } else { between(&mut random, 1.6, 5.0) };
            let extent = [between(&mut random, 165.0, 200.0), between(&mut random, 190.0, 230.0)];
            let size =
                [voxels(extent[0], plane), voxels(extent[1], plane), voxels(between(&mut random, 100.0, 210.0), thick)];
            head::head(size, [plane, plane, thick], &mut random)
        }
        Kind::Shapes => {
            let plane = between(&mut random, 2.0, 3.5);
            let thick = if random.random_bool(0.6) { plane } else { between(&mut random, 2.0, 6.0) };
            let size = [
                voxels(between(&mut random, 180.0, 300.0), plane),
                voxels(between(&mut random, 180.0, 260.0), plane),
                voxels(between(&mut random, 80.0, 260.0), thick),
            ];
            shapes::scene(size, [plane, plane, thick], &mut random)
        }
    };
    (kind, scene)
}
