//! How labels look in a scan: intensities drawn anew for every scan and region, texture, partial volume, bias field,
//! noise, ghosting (domain randomisation after SynthSeg, Billot et al., arXiv 2107.09559).

use super::noise::Noise;
use super::scene::Tissue;
use super::shapes::between;
use rand::Rng;

/// What a scan looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Hounsfield units.
    Ct,
    /// Arbitrary units, tissues as in some MR sequence.
    Mr,
    /// Arbitrary units, every region by itself.
    Any,
}

/// How one region looks.
#[derive(Clone, Copy)]
struct Paint {
    mean: f32,
    /// Height of the smooth texture.
    texture: f32,
    /// What a part of the region looks like instead, and how much noise must exceed for it.
    other: Option<(f32, f32)>,
    /// Shifts the texture, so that regions do not share it.
    shift: f32,
}

/// How a scan looks: enough to render any part of it.
pub(crate) struct Appearance {
    look: Look,
    paints: Vec<Paint>,
    noise: Noise,
    scale: f32,
    /// Passes of the smoothing that stands for partial volume.
    blur: usize,
    white: f32,
    rician: bool,
    bias: f32,
    ghost: Option<(usize, f32)>,
    /// From and to which intensities become 0 and 1.
    window: [f32; 2],
}

/// Label of places outside the scene: darker than all else.
pub(crate) const OUTSIDE: u8 = u8::MAX;

impl Appearance {
    pub(crate) fn new(tissues: &[Tissue], look: Look, random: &mut impl Rng) -> Self {
        let unit = if look == Look::Ct { 1000.0 } else { 1.0 };
        let classes = classes(look, random);
        let enhanced = random.random_bool(0.6);
        let dull = between(random, 0.0, 0.05) * unit;
        let paints = tissues
            .iter()
            .map(|&tissue| {
                let class = if tissue == Tissue::Abstract || look == Look::Any {
                    if look == Look::Ct { between(random, -250.0, 400.0) } else { between(random, 0.0, 1.0) }
                } else {
                    classes[tissue as usize]
                };
                let vary = match (look, tissue) {
                    (Look::Ct, Tissue::Air) => 0.0,
                    (Look::Ct, Tissue::Fat | Tissue::Fluid | Tissue::Muscle) => 10.0,
                    (Look::Ct, Tissue::Organ) => 35.0,
                    (Look::Ct, Tissue::Vessel) => {
                        if enhanced {
                            60.0
                        } else {
                            10.0
                        }
                    }
                    (Look::Ct, Tissue::Bone | Tissue::Lesion) => 60.0,
                    (Look::Ct, _) => 20.0,
                    (_, Tissue::Air) => 0.01,
                    (_, Tissue::GreyMatter | Tissue::WhiteMatter) => 0.02,
                    _ => 0.1,
                };
                let mean = class + vary * between(random, -1.0, 1.0);
                let second = match (look, tissue) {
                    (Look::Ct, Tissue::Bowel) if random.random_bool(0.6) => {
                        Some(if random.random_bool(0.6) { -900.0 } else { between(random, 60.0, 350.0) })
                    }
                    (Look::Ct, Tissue::Bone) => Some(mean * between(random, 0.3, 1.6)),
                    (_, Tissue::Bowel | Tissue::Abstract) if random.random_bool(0.4) => {
                        Some(between(random, 0.0, 1.0) * unit * 0.5)
                    }
                    (_, Tissue::Organ | Tissue::Lesion) if random.random_bool(0.2) => {
                        Some(mean + between(random, -0.25, 0.25) * if look == Look::Ct { 300.0 } else { 1.0 })
                    }
                    _ => None,
                };
                let textured = if look == Look::Ct { between(random, 0.0, 20.0) } else { between(random, 0.0, 0.09) };
                Paint {
                    mean,
                    texture: if tissue == Tissue::Air { dull * 0.2 } else { textured },
                    other: second.map(|value| (value, between(random, 0.0, 0.5))),
                    shift: between(random, 0.0, 1000.0),
                }
            })
            .collect();
        let window = match look {
            Look::Ct => [between(random, -1030.0, -900.0), between(random, 300.0, 1200.0)],
            _ => [between(random, -0.02, 0.08), between(random, 0.7, 1.5)],
        };
        Self {
            look,
            paints,
            noise: Noise::new(random),
            scale: between(random, 7.0, 30.0),
            blur: random.random_range(0..3),
            white: if look == Look::Ct { between(random, 3.0, 35.0) } else { between(random, 0.005, 0.07) },
            rician: look == Look::Mr,
            bias: if look == Look::Ct { 0.0 } else { between(random, 0.0, 0.45) },
            ghost: (look == Look::Mr && random.random_bool(0.25))
                .then(|| (random.random_range(6..30), between(random, 0.03, 0.15))),
            window,
        }
    }

    /// Renders labels on a grid, x fastest, whose voxel 0 lies at `origin` millimetres. Places outside get the lowest
    /// intensity.
    pub(crate) fn render(
        &self,
        labels: &[u8],
        size: [usize; 3],
        origin: [f32; 3],
        spacing: [f32; 3],
        random: &mut impl Rng,
    ) -> Vec<f32> {
        let [nx, ny, nz] = size;
        let outside = if self.look == Look::Ct { -1024.0 } else { 0.0 };
        let mut out = Vec::with_capacity(labels.len());
        let mut voxels = labels.iter();
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    let label = *voxels.next().expect("a label for each voxel");
                    let Some(paint) = self.paints.get(usize::from(label)).filter(|_| label != OUTSIDE) else {
                        out.push(outside);
                        continue;
                    };
                    let p = [x, y, z];
                    let p: [f32; 3] =
                        std::array::from_fn(|axis| origin[axis] + p[axis] as f32 * spacing[axis] + paint.shift);
                    let field = self.noise.scaled(p, self.scale);
                    out.push(match paint.other {
                        Some((other, from)) if field > from => other,
                        _ => paint.mean + paint.texture * field,
                    });
                }
            }
        }
        for _ in 0..self.blur {
            smooth(&mut out, size);
        }
        if let Some((shift, strength)) = self.ghost {
            let clean = out.clone();
            for (index, value) in out.iter_mut().enumerate() {
                let (x, y, z) = (index % nx, index / nx % ny, index / (nx * ny));
                *value += strength * clean[x + nx * ((y + shift) % ny + ny * z)];
            }
        }
        let bias_scale = 130.0;
        let mut state = random.random::<u64>() | 1;
        for (index, value) in out.iter_mut().enumerate() {
            if self.bias > 0.0 {
                let p = [index % nx, index / nx % ny, index / (nx * ny)];
                let p: [f32; 3] = std::array::from_fn(|axis| origin[axis] + p[axis] as f32 * spacing[axis]);
                *value *= (self.bias * self.noise.scaled(p, bias_scale)).exp();
            }
            if labels[index] == OUTSIDE {
                continue;
            }
            let noise = self.white * normal(&mut state);
            *value = if self.rician {
                ((*value + noise).powi(2) + (self.white * normal(&mut state)).powi(2)).sqrt()
            } else {
                *value + noise
            };
        }
        out
    }

    /// Intensities as the pre-processing of a volume would leave them, from 0 to 1.
    pub(crate) fn normalise(&self, image: &mut [f32]) {
        let [low, high] = self.window;
        for value in image {
            *value = ((*value - low) / (high - low)).clamp(0.0, 1.0);
        }
    }
}

/// Mean intensity of each tissue in a scan.
fn classes(look: Look, random: &mut impl Rng) -> [f32; 14] {
    let enhanced = random.random_bool(0.6);
    if look == Look::Ct {
        let vessel = if enhanced { between(random, 90.0, 320.0) } else { 40.0 };
        let organ = if enhanced { between(random, 60.0, 140.0) } else { 55.0 };
        let bone = between(random, 200.0, 600.0);
        return [
            -1000.0,
            -850.0,
            -100.0,
            50.0,
            organ,
            vessel,
            bone,
            8.0,
            30.0,
            38.0,
            28.0,
            between(random, 10.0, 110.0),
            between(random, 60.0, 140.0),
            0.0,
        ];
    }
    let suppressed = random.random_bool(0.3);
    let mut of = |low: f32, high: f32| between(random, low, high);
    let fat = if suppressed { of(0.08, 0.3) } else { of(0.55, 1.0) };
    [
        of(0.0, 0.04),
        of(0.02, 0.12),
        fat,
        of(0.1, 0.5),
        of(0.2, 0.8),
        of(0.03, 1.0),
        of(0.05, 0.4),
        of(0.05, 1.0),
        of(0.1, 0.7),
        of(0.25, 0.75),
        of(0.25, 0.85),
        of(0.05, 1.0),
        of(0.1, 0.7),
        0.5,
    ]
}

/// A normal number, near enough: the sum of four uniform ones.
#[inline]
fn normal(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    let sum: u32 =
        state.to_le_bytes().chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))).sum();
    // Variance of a uniform number below 65536, four times.
    (sum as f32 - 131_070.0) / 37_837.0
}

/// A pass of 1-2-1 smoothing along every axis.
pub(crate) fn smooth(image: &mut [f32], [nx, ny, nz]: [usize; 3]) {
    for (stride, count) in [(1, nx), (nx, ny), (nx * ny, nz)] {
        if count < 3 {
            continue;
        }
        let starts = (0..image.len()).filter(|index| index / stride % count == 0);
        for start in starts.collect::<Vec<_>>() {
            let mut before = image[start];
            for step in 0..count {
                let index = start + step * stride;
                let own = image[index];
                let after = if step + 1 < count { image[index + stride] } else { own };
                image[index] = 0.25 * before + 0.5 * own + 0.25 * after;
                before = own;
            }
        }
    }
}
