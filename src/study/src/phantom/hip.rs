//! The bones of the pelvis and the muscles on them: wings that flare, muscles in their hollows and fanned out over their
//! outsides.

use super::body::{Body, SIDES, mirrored};
use super::scene::Tissue;
use super::shapes::between;
use rand::Rng;

/// Where the greater trochanter is, on which the gluteal muscles end.
const TROCHANTER: [f32; 3] = [116.0, -28.0, -160.0];

/// The wing of an iliac bone: a bent plate. All in millimetres of a body of scale 1, on the right side.
struct Wing {
    centre: [f32; 3],
    /// From the back to the front, in the axial plane; the outside is to its right.
    along: [f32; 2],
    /// How far the middle lies further out than the ends, and how far out it leans for each millimetre upwards.
    bulge: f32,
    lean: f32,
    thick: f32,
}

/// Half of the wing's length from the back to the front.
const REACH: f32 = 62.0;
/// How far its crest and its lower end are from its middle.
const CREST: f32 = 62.0;
const NECK: f32 = -60.0;

impl Wing {
    fn new(random: &mut impl Rng) -> Self {
        let angle = between(random, 0.72, 0.98);
        Self {
            centre: [84.0, -40.0, -84.0].map(|at: f32| at + between(random, -4.0, 4.0)),
            along: [angle.cos(), angle.sin()],
            bulge: between(random, 5.0, 15.0),
            lean: between(random, 0.1, 0.3),
            thick: between(random, 2.8, 4.5),
        }
    }

    /// Coordinates of a place: outwards from the plate, from the back to the front, upwards.
    fn coordinates(&self, p: [f32; 3]) -> [f32; 3] {
        let [x, y, z]: [f32; 3] = std::array::from_fn(|axis| p[axis] - self.centre[axis]);
        let [a, b] = self.along;
        let front = a * x + b * y;
        [b * x - a * y - self.plate(front, z), front, z]
    }

    /// The place that has some coordinates.
    fn place(&self, [out, front, up]: [f32; 3]) -> [f32; 3] {
        let out = out + self.plate(front, up);
        let [a, b] = self.along;
        [self.centre[0] + a * front + b * out, self.centre[1] + b * front - a * out, self.centre[2] + up]
    }

    /// How far out the plate itself lies.
    fn plate(&self, front: f32, up: f32) -> f32 {
        self.lean * up - self.bulge * (front / REACH).powi(2)
    }

    fn crest(front: f32) -> f32 {
        CREST * (1.0 - (front / REACH).powi(2))
    }

    /// Half of its length at a height.
    fn half(up: f32) -> f32 {
        18.0 + (REACH - 18.0) * ((up - NECK) / 62.0).clamp(0.0, 1.0)
    }

    /// Half of its thickness: thicker at its ends and towards the joint.
    fn half_thick(&self, front: f32, up: f32) -> f32 {
        self.thick * (1.0 + 0.9 * (front / REACH).powi(2) + 1.6 * (-up / 60.0).max(0.0))
    }

    fn holds(&self, [out, front, up]: [f32; 3]) -> bool {
        up > NECK && up < Self::crest(front) && front.abs() < Self::half(up) && out.abs() < self.half_thick(front, up)
    }
}

/// Paints bones and muscles of both sides, muscles first. The iliac muscles are part of the structures of `psoas`, (right,
/// left).
pub(super) fn pelvis<R: Rng>(body: &mut Body<R>, psoas: [u8; 2]) {
    let wing = Wing::new(body.random);
    let strong = between(body.random, 0.65, 1.25);
    // Planes of fat between muscles.
    let fat = body.scene.region(Tissue::Fat);
    let gap = between(body.random, 0.0, 3.5);
    for (_, sign) in SIDES {
        // Of no name: around the thigh bone, and from the sacrum to it.
        let muscle = body.scene.region(Tissue::Muscle);
        for path in [
            vec![([96.0, 14.0, -165.0], 12.0), ([104.0, 12.0, -230.0], 28.0), ([104.0, 8.0, -300.0], 30.0)],
            vec![([40.0, 4.0, -185.0], 12.0), ([66.0, -8.0, -240.0], 26.0), ([74.0, -14.0, -300.0], 26.0)],
            vec![([66.0, -50.0, -195.0], 10.0), ([74.0, -50.0, -250.0], 22.0), ([78.0, -48.0, -300.0], 24.0)],
            vec![([24.0, -68.0, -115.0], 8.0), ([66.0, -60.0, -132.0], 9.0), ([108.0, -36.0, -152.0], 5.0)],
        ] {
            let path: Vec<_> = path.into_iter().map(|(p, r): ([f32; 3], f32)| (p, r * strong)).collect();
            body.tube_of(muscle, &mirrored(&path, sign), 4.0, &[]);
        }
    }
    for ((side, sign), psoas) in SIDES.into_iter().zip(psoas) {
        let names = ["maximus", "medius", "minimus"].map(|name| format!("{side} gluteus {name}"));
        let [maximus, medius, minimus] = names.map(|name| body.scene.structure(name, Tissue::Muscle));
        // From the sacrum and the back of the wing down and out to the thigh.
        let fibres = (0..7).map(|fibre| {
            let t = fibre as f32 / 6.0;
            let from = [42.0 - 14.0 * t, -88.0 - 8.0 * t, -62.0 - 88.0 * t];
            let to = [118.0 - 14.0 * t, -52.0 + 2.0 * t, -135.0 - 80.0 * t];
            let middle: [f32; 3] = std::array::from_fn(|axis| (from[axis] + to[axis]) / 2.0);
            vec![(from, 10.0), ([middle[0], middle[1] - 18.0, middle[2]], 15.0), (to, 9.0)]
        });
        fan(body, sign, fibres.collect(), strong, &[(maximus, 0.0)]);
        // From all along the crest, and from below it, to the trochanter.
        let from_wing = |fronts: [f32; 2], below: f32, out: f32, wide: f32, end: [f32; 3]| {
            let fibre = |fibre: usize| {
                let front = fronts[0] + (fronts[1] - fronts[0]) * fibre as f32 / 6.0;
                let up = (Wing::crest(front) - below).min(45.0);
                let start = wing.place([out * 0.6, front, up]);
                let way = wing.place([out + 3.0, front * 0.65, up * 0.4 - 20.0]);
                vec![(start, wide * 0.7), (way, wide), (end, wide * 0.55)]
            };
            (0..7).map(fibre).collect::<Vec<_>>()
        };
        let [x, y, z] = TROCHANTER;
        let outer = from_wing([-48.0, 55.0], 8.0, 17.0 * strong, 12.0, [x + 8.0, y - 4.0, z]);
        fan(body, sign, outer, strong, &[(fat, gap), (medius, 0.0)]);
        let inner = from_wing([-30.0, 42.0], 42.0, 8.0 * strong, 7.0, [x, y + 10.0, z]);
        fan(body, sign, inner, strong, &[(fat, gap), (minimus, 0.0)]);
        let hollow = between(body.random, 13.0, 24.0) * strong;
        paint(body, psoas, sign, |p| {
            let [out, front, up] = wing.coordinates(p);
            // It narrows downwards, and leaves the pelvis in front.
            let low = (-up / 60.0).clamp(-0.7, 1.0);
            let across = (front - 4.0 - 16.0 * low.max(0.0)) / (44.0 - 14.0 * low);
            let thick = hollow * (1.0 - across * across).max(0.0).sqrt() * (0.75 + 0.3 * low);
            // Nothing of it beyond its borders, where the plate may have ended.
            across.abs() < 1.0 && out < 0.0 && out > -thick - wing.thick && up > NECK && up < Wing::crest(front) - 5.0
        });
        let hip = body.scene.structure(format!("{side} hip"), Tissue::Bone);
        paint(body, hip, sign, |p| wing.holds(wing.coordinates(p)));
        let socket = [([79.0, -20.0, -142.0], 25.0), ([80.0, -18.0, -150.0], 25.0)];
        body.tube_of(hip, &mirrored(&socket, sign), 2.0, &[]);
        let ring = [
            ([82.0, -30.0, -122.0], 14.0),
            ([76.0, -14.0, -150.0], 12.0),
            ([30.0, 24.0, -160.0], 7.0),
            ([8.0, 28.0, -168.0], 8.0),
        ];
        body.tube_of(hip, &mirrored(&ring, sign), 3.0, &[]);
        let sit = [
            ([76.0, -36.0, -145.0], 13.0),
            ([60.0, -44.0, -190.0], 13.0),
            ([30.0, -5.0, -195.0], 7.0),
            ([8.0, 24.0, -172.0], 7.0),
        ];
        body.tube_of(hip, &mirrored(&sit, sign), 3.0, &[]);
        let femur = body.scene.structure(format!("{side} femur"), Tissue::Bone);
        // The joint between the two.
        let joint = [([88.0, -18.0, -150.0], 24.0), ([90.0, -19.0, -151.0], 24.0)];
        body.tube_of(fat, &mirrored(&joint, sign), 1.0, &[fat, body.cavity, 1, 2]);
        let thigh = [
            ([87.0, -18.0, -150.0], 22.0),
            ([108.0, -22.0, -165.0], 15.0),
            ([117.0, -24.0, -198.0], 15.0),
            ([108.0, -10.0, -300.0], 13.0),
        ];
        body.tube_of(femur, &mirrored(&thigh, sign), 2.0, &[]);
        let trochanter = [([118.0, -28.0, -158.0], 10.0), ([116.0, -26.0, -180.0], 13.0)];
        body.tube_of(femur, &mirrored(&trochanter, sign), 2.0, &[]);
    }
    let sacrum = [
        ([0.0, -48.0, -75.0], 22.0),
        ([0.0, -66.0, -105.0], 18.0),
        ([0.0, -82.0, -135.0], 11.0),
        ([0.0, -76.0, -165.0], 6.0),
    ];
    let label = body.tube("sacrum", Tissue::Bone, &sacrum, 3.0, &[]);
    for (_, sign) in SIDES {
        for part in [
            [([10.0, -52.0, -80.0], 16.0), ([46.0, -66.0, -86.0], 12.0)],
            [([12.0, -66.0, -100.0], 15.0), ([38.0, -76.0, -106.0], 10.0)],
            [([8.0, -80.0, -122.0], 10.0), ([24.0, -84.0, -126.0], 7.0)],
        ] {
            body.tube_of(label, &mirrored(&part, sign), 2.0, &[]);
        }
    }
}

/// Fibres that lie side by side, painted once for each of `layers`: a label, and by how much wider they are.
fn fan<R: Rng>(body: &mut Body<R>, sign: f32, fibres: Vec<Vec<([f32; 3], f32)>>, strong: f32, layers: &[(u8, f32)]) {
    let paths: Vec<_> = fibres
        .into_iter()
        .map(|fibre| {
            let fibre = mirrored(&fibre, sign);
            fibre.into_iter().map(|(p, r)| (body.place(p, 2.5), body.scale * strong * r)).collect::<Vec<_>>()
        })
        .collect();
    for &(label, wider) in layers {
        for path in &paths {
            let path: Vec<_> = path.iter().map(|&(p, r)| (p, r + wider)).collect();
            body.scene.tube(label, &path, &[]);
        }
    }
}

/// Paints what `inside` says of the right side's places of a body of scale 1.
fn paint<R: Rng>(body: &mut Body<R>, label: u8, sign: f32, inside: impl Fn([f32; 3]) -> bool) {
    let (origin, scale) = (body.origin, body.scale);
    let corner =
        |x: f32, y: f32, z: f32| -> [f32; 3] { std::array::from_fn(|axis| origin[axis] + scale * [x, y, z][axis]) };
    let bounds = if sign > 0.0 {
        [corner(0.0, -130.0, -160.0), corner(160.0, 60.0, 10.0)]
    } else {
        [corner(-160.0, -130.0, -160.0), corner(0.0, 60.0, 10.0)]
    };
    let noise = body.noise.clone();
    body.scene.paint(label, bounds, &[], |p| {
        // A rough surface.
        let p: [f32; 3] =
            std::array::from_fn(|axis| p[axis] + 2.5 * noise.scaled(p.map(|at| at + 37.0 * axis as f32), 22.0));
        let [x, y, z]: [f32; 3] = std::array::from_fn(|axis| (p[axis] - origin[axis]) / scale);
        inside([sign * x, y, z])
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::torso::torso;
    use crate::random::{Use, generator};

    #[test]
    fn places_and_coordinates_of_a_wing_belong_together() {
        let wing = Wing::new(&mut generator(1, Use::Phantom, 0));
        for at in [[0.0, 0.0, 0.0], [-7.0, 30.0, -20.0], [12.0, -55.0, 40.0]] {
            let found = wing.coordinates(wing.place(at));
            assert!((0..3).all(|axis| (found[axis] - at[axis]).abs() < 1e-3), "{at:?}: {found:?}");
        }
        // Outwards is to the right and backwards, and upwards it leans out.
        let [inner, outer] = [-5.0, 5.0].map(|out| wing.place([out, 0.0, 0.0]));
        assert!(outer[0] > inner[0] && outer[1] < inner[1]);
        assert!(wing.place([0.0, 0.0, 40.0])[0] > wing.place([0.0, 0.0, -40.0])[0]);
    }

    #[test]
    fn muscles_lie_where_they_do_in_a_body() {
        let scene = torso([110, 90, 60], [3.4; 3], -90.0, &mut generator(5, Use::Phantom, 3));
        let middle = |name: &str| -> [f32; 3] {
            let structure = scene.structures.iter().find(|structure| structure.name == name).expect(name);
            let inside: Vec<usize> =
                (0..scene.labels.len()).filter(|&index| structure.labels.contains(&scene.labels[index])).collect();
            assert!(inside.len() > 50, "{name}: {} voxels", inside.len());
            let at = |index: usize| [index % 110, index / 110 % 90, index / 9900].map(|at| at as f32);
            let sum = inside
                .iter()
                .map(|&index| at(index))
                .fold([0.0; 3], |sum, at| std::array::from_fn(|axis| sum[axis] + at[axis]));
            sum.map(|sum| sum / inside.len() as f32)
        };
        // Sideways from the middle of the body.
        for (side, sign) in SIDES {
            let out = |name: &str| sign * (middle(&format!("{side} {name}"))[0] - 54.5);
            assert!(0.0 < out("iliopsoas") && out("iliopsoas") < out("hip"), "{side}");
            assert!(out("hip") < out("gluteus minimus") && out("gluteus minimus") < out("gluteus medius"), "{side}");
            assert!(out("gluteus medius") < 52.0);
            let back = |name: &str| middle(&format!("{side} {name}"))[1];
            assert!(back("gluteus maximus") < back("hip") && back("hip") < back("iliopsoas"), "{side}");
        }
    }
}
