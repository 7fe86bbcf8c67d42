//! A generated volume: ellipsoids in intensities like those of CT, with noise.

use super::weights::Draw;
use adaptmedseg_segment::volume::{Geometry, Volume};

/// Values drawn black and white: the usual window of the abdomen.
pub(crate) const WINDOW: [f64; 2] = [-160.0, 240.0];

const SIZE: [usize; 3] = [96, 96, 64];
const SPACING: [f64; 3] = [1.5, 1.5, 2.5];
const AIR: f64 = -1000.0;
/// Standard deviation of the noise.
const NOISE: f64 = 15.0;

/// An ellipsoid: centre and half-axes in RAS millimetres from the middle of the volume, and its intensity.
struct Organ {
    centre: [f64; 3],
    radius: [f64; 3],
    intensity: f64,
}

const fn organ(centre: [f64; 3], radius: [f64; 3], intensity: f64) -> Organ {
    Organ { centre, radius, intensity }
}

/// Later ones lie over earlier ones.
const ORGANS: [Organ; 8] = [
    organ([0.0, 0.0, 0.0], [66.0, 48.0, 120.0], -100.0),     // fat
    organ([0.0, 0.0, 0.0], [60.0, 42.0, 110.0], 50.0),       // muscle
    organ([-32.0, 2.0, 62.0], [22.0, 28.0, 34.0], -800.0),   // left lung
    organ([32.0, 2.0, 62.0], [22.0, 28.0, 34.0], -800.0),    // right lung
    organ([0.0, -28.0, 0.0], [11.0, 11.0, 200.0], 400.0),    // spine
    organ([-36.0, -12.0, -18.0], [11.0, 10.0, 24.0], 160.0), // left kidney
    organ([36.0, -12.0, -38.0], [11.0, 10.0, 24.0], 160.0),  // right kidney
    LIVER,
];

const LIVER: Organ = organ([28.0, 8.0, 8.0], [27.0, 24.0, 24.0], 110.0);

/// The volume, and prompts for its liver in voxel indices.
pub(crate) struct Phantom {
    pub volume: Volume<i16>,
    pub bounding_box: [[f64; 3]; 2],
    pub inside: [f64; 3],
    pub outside: [f64; 3],
}

/// Stored as scanners do: axes towards left, posterior, superior.
fn geometry() -> Geometry {
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let origin = std::array::from_fn(|axis| -SPACING[axis] * (SIZE[axis] as f64 - 1.0) / 2.0);
    Geometry::new(SIZE, SPACING, origin, identity).expect("a grid")
}

fn ras([left, posterior, superior]: [f64; 3]) -> [f64; 3] {
    [-left, -posterior, superior]
}

/// Makes the volume of a seed.
pub(crate) fn make(seed: u64) -> Phantom {
    let geometry = geometry();
    let noise = Draw::new("phantom", seed);
    let [nx, ny, _] = SIZE;
    let value = |index: usize| {
        let ijk = [index % nx, index / nx % ny, index / (nx * ny)].map(|index| index as f64);
        let place = ras(geometry.ijk_to_lps(ijk));
        let organ = ORGANS.iter().rev().find(|organ| organ.contains(place));
        let noise = NOISE * noise.gaussian(index as u64);
        (organ.map_or(AIR, |organ| organ.intensity) + noise).round().max(-1024.0) as i16
    };
    let data = (0..geometry.voxel_count()).map(value).collect();
    let index = |place: [f64; 3]| geometry.lps_to_ijk(ras(place)).map(f64::round);
    let corner = |sign: f64| index(std::array::from_fn(|axis| LIVER.centre[axis] + sign * LIVER.radius[axis]));
    let (a, b) = (corner(-1.0), corner(1.0));
    Phantom {
        bounding_box: [
            std::array::from_fn(|axis| a[axis].min(b[axis])),
            std::array::from_fn(|axis| a[axis].max(b[axis])),
        ],
        inside: index(LIVER.centre),
        outside: index([-20.0, 20.0, 0.0]),
        volume: Volume { geometry, data },
    }
}

impl Organ {
    fn contains(&self, place: [f64; 3]) -> bool {
        (0..3).map(|axis| ((place[axis] - self.centre[axis]) / self.radius[axis]).powi(2)).sum::<f64>() <= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phantom_is_the_same_every_time_and_its_prompts_fit() {
        let phantom = make(7);
        assert_eq!(phantom.volume, make(7).volume);
        assert_ne!(phantom.volume, make(8).volume);
        let at = |ijk: [f64; 3]| f64::from(*phantom.volume.at(ijk.map(|index| index as usize)));
        assert!((at(phantom.inside) - LIVER.intensity).abs() < 5.0 * NOISE);
        assert!((at(phantom.outside) - LIVER.intensity).abs() > 1.0);
        let [low, high] = phantom.bounding_box;
        assert!((0..3).all(|axis| 0.0 <= low[axis] && low[axis] < high[axis] && high[axis] < SIZE[axis] as f64));
    }
}
