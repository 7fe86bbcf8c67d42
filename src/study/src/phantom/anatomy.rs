//! Bodies: a torso from the lungs to the thighs, and a head. Coordinates are RAS millimetres from the middle of the
//! fourth lumbar vertebra's front, or from the middle of the brain.
//!
//! Sizes and places are those of an adult as anatomy textbooks give them, each varied by itself. Nothing is measured from
//! a scan.

use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use super::shapes::{between, walk};
use rand::Rng;

/// What the painting of one body shares.
struct Body<'a, R> {
    scene: Scene,
    random: &'a mut R,
    noise: Noise,
    /// Place of the origin in the scene, millimetres from its middle.
    origin: [f32; 3],
    /// Scale of everything.
    scale: f32,
    /// Region inside the wall of the body that organs may take.
    cavity: u8,
}

impl<R: Rng> Body<'_, R> {
    fn place(&mut self, p: [f32; 3], jitter: f32) -> [f32; 3] {
        std::array::from_fn(|axis| {
            self.origin[axis] + self.scale * (p[axis] + jitter * between(self.random, -1.0, 1.0))
        })
    }

    fn radii(&mut self, radii: [f32; 3], vary: f32) -> [f32; 3] {
        let all = between(self.random, 1.0 - vary, 1.0 + vary);
        radii.map(|r| self.scale * r * all * between(self.random, 1.0 - vary / 2.0, 1.0 + vary / 2.0))
    }

    /// An ellipsoid of varied size, place and surface.
    fn shape(&mut self, centre: [f32; 3], radii: [f32; 3], vary: f32, bumps: f32) -> Ellipsoid {
        let centre = self.place(centre, 6.0);
        let radii = self.radii(radii, vary);
        let smallest = radii.iter().copied().fold(f32::INFINITY, f32::min);
        let (a, b) = (between(self.random, -0.3, 0.3), between(self.random, -0.3, 0.3));
        Ellipsoid::new(centre, radii).turned(a, b).bumpy(bumps, smallest.max(12.0) * between(self.random, 0.7, 1.4))
    }

    fn organ(&mut self, name: &str, tissue: Tissue, centre: [f32; 3], radii: [f32; 3], bumps: f32) -> u8 {
        let label = self.scene.structure(name, tissue);
        let shape = self.shape(centre, radii, 0.2, bumps);
        self.scene.ellipsoid(label, &shape, &self.noise, &[self.cavity]);
        label
    }

    /// Another part of an organ.
    fn also(&mut self, label: u8, centre: [f32; 3], radii: [f32; 3], bumps: f32) {
        let shape = self.shape(centre, radii, 0.15, bumps);
        self.scene.ellipsoid(label, &shape, &self.noise, &[self.cavity]);
    }

    /// A path of varied places; radii vary together.
    fn path(&mut self, points: &[([f32; 3], f32)], jitter: f32) -> Vec<([f32; 3], f32)> {
        let all = self.scale * between(self.random, 0.8, 1.2);
        points.iter().map(|&(p, r)| (self.place(p, jitter), r * all * between(self.random, 0.9, 1.1))).collect()
    }

    fn tube(&mut self, name: &str, tissue: Tissue, points: &[([f32; 3], f32)], jitter: f32, over: &[u8]) -> u8 {
        let label = self.scene.structure(name, tissue);
        self.tube_of(label, points, jitter, over);
        label
    }

    fn tube_of(&mut self, label: u8, points: &[([f32; 3], f32)], jitter: f32, over: &[u8]) {
        let path = self.path(points, jitter);
        self.scene.tube(label, &path, over);
    }

    /// Small round things inside an organ, part of it and structures of their own.
    fn lesions(&mut self, organ: u8, name: &str, tissue: Tissue, radius: [f32; 2]) {
        let inside: Vec<usize> =
            (0..self.scene.labels.len()).filter(|&index| self.scene.labels[index] == organ).collect();
        if inside.is_empty() {
            return;
        }
        for _ in 0..self.random.random_range(1..4) {
            let index = inside[self.random.random_range(0..inside.len())];
            let [nx, ny, _] = self.scene.size;
            let voxel = [index % nx, index / nx % ny, index / (nx * ny)];
            let centre: [f32; 3] = std::array::from_fn(|axis| {
                (voxel[axis] as f32 - (self.scene.size[axis] as f32 - 1.0) / 2.0) * self.scene.spacing[axis]
            });
            let label = self.scene.structure(name, tissue);
            self.scene.belongs_to(label, organ);
            let radius = between(self.random, radius[0], radius[1]);
            let radii = std::array::from_fn(|_| radius * between(self.random, 0.7, 1.3));
            let shape = Ellipsoid::new(centre, radii).bumpy(between(self.random, 0.0, 0.3), radius);
            self.scene.ellipsoid(label, &shape, &self.noise, &[organ]);
        }
    }
}

/// Mirrors a path.
fn mirrored(points: &[([f32; 3], f32)], side: f32) -> Vec<([f32; 3], f32)> {
    points.iter().map(|&([x, y, z], r)| ([side * x, y, z], r)).collect()
}

const SIDES: [(&str, f32); 2] = [("right", 1.0), ("left", -1.0)];

/// Draws a torso, or a part of one. `middle` is where the volume's middle lies, millimetres above the origin.
pub(crate) fn torso(size: [usize; 3], spacing: [f32; 3], middle: f32, random: &mut impl Rng) -> Scene {
    let warp = (between(random, 3.0, 12.0), between(random, 70.0, 140.0));
    let scene = Scene::new(size, spacing, Tissue::Air, warp, random);
    let scale = between(random, 0.85, 1.12);
    let noise = Noise::new(random);
    let mut body = Body { scene, random, noise, origin: [0.0, 10.0, -middle], scale, cavity: 0 };
    wall(&mut body);
    skeleton(&mut body);
    chest(&mut body);
    vessels(&mut body);
    abdomen(&mut body);
    pelvis(&mut body);
    bowel(&mut body);
    body.scene.finished()
}

fn wall<R: Rng>(body: &mut Body<R>) {
    let fat = body.scene.region(Tissue::Fat);
    let muscle = body.scene.region(Tissue::Muscle);
    let cavity = body.scene.region(Tissue::Fat);
    let thick = between(body.random, 4.0, 35.0);
    let wall = between(body.random, 8.0, 18.0);
    let (a, b) = (body.scale * between(body.random, 125.0, 150.0), body.scale * between(body.random, 82.0, 105.0));
    let [x0, y0, z0] = body.origin;
    let noise = body.noise.clone();
    for (label, out) in [(fat, wall + thick), (muscle, wall), (cavity, 0.0)] {
        let bounds = [[-400.0, -400.0, -900.0], [400.0, 400.0, 900.0]];
        body.scene.paint(label, bounds, &[], |[x, y, z]| {
            // Wider at the hips and chest than at the waist; the legs part below.
            let height = z - z0;
            let waist = 1.0 + 0.08 * ((height - 60.0) / 120.0).powi(2).min(1.5);
            let bump = 6.0 * noise.scaled([x, y, z], 90.0);
            let (a, b) = (a * waist + out + bump, b + out + bump);
            let across = if height < -170.0 { x.abs() - 75.0 } else { x };
            let a = if height < -170.0 { a * 0.55 } else { a };
            (((across - x0) / a).abs().powf(2.4) + ((y - y0 + 10.0) / b).abs().powf(2.4)) < 1.0
        });
    }
    body.cavity = cavity;
}

fn skeleton<R: Rng>(body: &mut Body<R>) {
    let everywhere: &[u8] = &[];
    let muscle = body.scene.region(Tissue::Muscle);
    // Muscles along the spine first, so that bones lie in them.
    for (side, sign) in SIDES {
        let back = [
            ([32.0, -78.0, -110.0], 15.0),
            ([34.0, -80.0, 0.0], 22.0),
            ([36.0, -84.0, 120.0], 19.0),
            ([30.0, -86.0, 300.0], 14.0),
        ];
        let autochthon =
            body.tube(&format!("{side} autochthon"), Tissue::Muscle, &mirrored(&back, sign), 4.0, everywhere);
        let _ = autochthon;
        let psoas = [
            ([26.0, -38.0, 90.0], 8.0),
            ([36.0, -34.0, 30.0], 17.0),
            ([52.0, -24.0, -50.0], 22.0),
            ([75.0, 5.0, -120.0], 19.0),
            ([80.0, -15.0, -180.0], 10.0),
        ];
        body.tube(&format!("{side} iliopsoas"), Tissue::Muscle, &mirrored(&psoas, sign), 4.0, everywhere);
        for (name, centre, radii) in [
            ("gluteus maximus", [78.0, -92.0, -125.0], [45.0, 24.0, 60.0]),
            ("gluteus medius", [108.0, -52.0, -85.0], [18.0, 38.0, 48.0]),
            ("gluteus minimus", [100.0, -28.0, -95.0], [12.0, 26.0, 32.0]),
        ] {
            let label = body.scene.structure(format!("{side} {name}"), Tissue::Muscle);
            let shape = body.shape([sign * centre[0], centre[1], centre[2]], radii, 0.15, 0.12);
            body.scene.ellipsoid(label, &shape, &body.noise, everywhere);
        }
    }
    let _ = muscle;
    let disc = body.scene.region(Tissue::Muscle);
    let spine = body.path(
        &[
            ([0.0, -45.0, -70.0], 17.0),
            ([0.0, -30.0, 0.0], 18.0),
            ([0.0, -36.0, 80.0], 16.0),
            ([0.0, -55.0, 170.0], 14.0),
            ([0.0, -60.0, 320.0], 13.0),
        ],
        3.0,
    );
    body.scene.tube(disc, &spine, everywhere);
    let height = body.scale * between(body.random, 30.0, 35.0);
    let along = |z: f32| -> [f32; 3] {
        // The place on the spine at a height.
        let at = spine.windows(2).find(|pair| z <= pair[1].0[2]).unwrap_or(&spine[spine.len() - 2..]);
        let t = ((z - at[0].0[2]) / (at[1].0[2] - at[0].0[2])).clamp(-0.5, 1.5);
        std::array::from_fn(|axis| at[0].0[axis] + t * (at[1].0[axis] - at[0].0[axis]))
    };
    let first = spine[0].0[2] + height * 0.7;
    for number in 0..12 {
        let z = first + number as f32 * height;
        let [x, y, _] = along(z);
        let size = body.scale * (23.0 - 0.6 * number as f32);
        let name = if number < 5 { format!("vertebra L{}", 5 - number) } else { format!("vertebra T{}", 17 - number) };
        let label = body.scene.structure(name, Tissue::Bone);
        let half = height * 0.4;
        let bounds = [[x - size, y - size, z - half], [x + size, y + size, z + half]];
        body.scene.paint(label, bounds, everywhere, |[px, py, pz]| {
            let waist = 0.88 + 0.12 * ((pz - z) / half).powi(2);
            ((px - x) / (size * waist)).powi(2) + ((py - y) / (size * 0.75 * waist)).powi(2) < 1.0
        });
        let back = y - size * 0.75;
        let process = between(body.random, 18.0, 30.0);
        let thin = between(body.random, 3.0, 4.5);
        body.scene.tube(
            label,
            &[([x, back - 14.0, z], thin), ([x, back - 14.0 - process, z - 10.0], thin)],
            everywhere,
        );
        for (_, sign) in SIDES {
            let reach = between(body.random, 22.0, 38.0);
            let arch = [
                ([x + sign * 13.0, back + 4.0, z + 4.0], 4.5),
                ([x + sign * 13.0, back - 12.0, z], 5.0),
                ([x, back - 15.0, z - 2.0], 4.0),
            ];
            body.scene.tube(label, &arch, everywhere);
            body.scene.tube(
                label,
                &[
                    ([x + sign * 14.0, back - 8.0, z + 2.0], 4.0),
                    ([x + sign * (14.0 + reach), back - 12.0, z + 2.0], 3.0),
                ],
                everywhere,
            );
        }
        // Ribs from the first thoracic level that is in the chest.
        if number >= 5 {
            for (side, sign) in SIDES {
                let label = body.scene.structure(format!("{side} rib {}", 17 - number), Tissue::Bone);
                let length = if number == 5 {
                    0.45
                } else if number == 6 {
                    0.6
                } else {
                    0.85
                };
                let (a, b) = (body.scale * (128.0 - 3.0 * (number as f32 - 7.0).abs()), body.scale * 88.0);
                let thin = body.scale * between(body.random, 4.0, 6.0);
                let drop = body.scale * between(body.random, 55.0, 80.0);
                let rib: Vec<_> = (0..10)
                    .map(|step| {
                        let t = step as f32 / 9.0 * length;
                        let angle = t * std::f32::consts::PI;
                        let place = [
                            x + sign * (18.0 + (a - 18.0) * angle.sin().max(angle / 3.0)),
                            -10.0 + body.origin[1] - b * angle.cos(),
                            z + 10.0 - drop * t,
                        ];
                        (place, thin)
                    })
                    .collect();
                body.scene.tube(label, &rib, everywhere);
            }
        }
    }
    let canal = body.scene.structure("spinal cord", Tissue::Fluid);
    let cord: Vec<_> = (0..14)
        .map(|step| {
            let z = first + (step as f32 - 0.5) * height;
            let [x, y, _] = along(z);
            ([x, y - body.scale * 24.0, z], body.scale * 7.0)
        })
        .collect();
    body.scene.tube(canal, &cord, everywhere);
    let sacrum = [
        ([0.0, -48.0, -75.0], 24.0),
        ([0.0, -66.0, -105.0], 20.0),
        ([0.0, -80.0, -135.0], 12.0),
        ([0.0, -76.0, -160.0], 6.0),
    ];
    let label = body.tube("sacrum", Tissue::Bone, &sacrum, 3.0, everywhere);
    for (_, sign) in SIDES {
        let wing = [([sign * 10.0, -52.0, -82.0], 18.0), ([sign * 42.0, -62.0, -92.0], 14.0)];
        body.tube_of(label, &wing, 2.0, everywhere);
    }
    for (side, sign) in SIDES {
        let hip = body.scene.structure(format!("{side} hip"), Tissue::Bone);
        let plate = Ellipsoid::new(body.place([sign * 84.0, -34.0, -80.0], 4.0), body.radii([9.0, 48.0, 52.0], 0.12))
            .turned(sign * between(body.random, -0.65, -0.35), between(body.random, -0.2, 0.2))
            .bumpy(0.15, 25.0);
        body.scene.ellipsoid(hip, &plate, &body.noise, everywhere);
        let ring = [
            ([82.0, -30.0, -120.0], 15.0),
            ([74.0, -15.0, -150.0], 13.0),
            ([30.0, 22.0, -160.0], 9.0),
            ([8.0, 28.0, -168.0], 9.0),
        ];
        body.tube_of(hip, &mirrored(&ring, sign), 3.0, everywhere);
        let sit = [
            ([74.0, -30.0, -150.0], 13.0),
            ([58.0, -42.0, -190.0], 13.0),
            ([30.0, -5.0, -195.0], 8.0),
            ([8.0, 24.0, -172.0], 8.0),
        ];
        body.tube_of(hip, &mirrored(&sit, sign), 3.0, everywhere);
        let thigh = [
            ([86.0, -18.0, -150.0], 21.0),
            ([110.0, -22.0, -168.0], 15.0),
            ([118.0, -22.0, -200.0], 15.0),
            ([108.0, -10.0, -300.0], 13.0),
        ];
        body.tube(&format!("{side} femur"), Tissue::Bone, &mirrored(&thigh, sign), 2.0, everywhere);
    }
    let sternum = [([0.0, 88.0, 170.0], 9.0), ([0.0, 94.0, 220.0], 9.0), ([0.0, 82.0, 290.0], 11.0)];
    body.tube("sternum", Tissue::Bone, &sternum, 4.0, everywhere);
}

fn chest<R: Rng>(body: &mut Body<R>) {
    let cavity = [body.cavity];
    let dome = between(body.random, 125.0, 160.0);
    let ground = body.origin[2];
    let scale = body.scale;
    let heart = body.scene.structure("heart", Tissue::Muscle);
    let shape = body.shape([-22.0, 18.0, dome + 45.0], [44.0, 40.0, 46.0], 0.15, 0.15);
    body.scene.ellipsoid(heart, &shape, &body.noise, &cavity);
    let blood = body.scene.region(Tissue::Vessel);
    body.scene.belongs_to(blood, heart);
    for _ in 0..3 {
        let offset: [f32; 3] = std::array::from_fn(|_| between(body.random, -20.0, 20.0));
        let centre = std::array::from_fn(|axis| shape.centre[axis] + offset[axis]);
        let chamber = Ellipsoid::new(centre, body.radii([17.0, 16.0, 20.0], 0.3)).bumpy(0.2, 15.0);
        body.scene.ellipsoid(blood, &chamber, &body.noise, &[heart]);
    }
    for (side, sign) in SIDES {
        let shape = body.shape([sign * 68.0, -8.0, 230.0], [58.0, 78.0, 150.0], 0.08, 0.05);
        let middle = shape.centre;
        let base = ground + scale * (dome + if sign > 0.0 { 12.0 } else { 0.0 });
        let tilt = between(body.random, 0.4, 0.9);
        let second = between(body.random, 10.0, 45.0);
        let lobes: &[&str] =
            if sign > 0.0 { &["lower lobe", "middle lobe", "upper lobe"] } else { &["lower lobe", "upper lobe"] };
        let mut all = Vec::new();
        for (index, lobe) in lobes.iter().enumerate() {
            let label = body.scene.structure(format!("{side} lung {lobe}"), Tissue::Lung);
            all.push(label);
            body.scene.ellipsoid_where(label, &shape, &body.noise, &cavity, |[x, y, z]| {
                let across = ((x - middle[0]) / 60.0).powi(2) + ((y - middle[1]) / 85.0).powi(2);
                let above = z > base - 40.0 * across;
                let height = z - middle[2] - tilt * (y - middle[1]);
                let lobe = if height < -40.0 {
                    0
                } else if sign > 0.0 && height < -40.0 + second && y > middle[1] {
                    1
                } else {
                    2
                };
                let lobe = if sign > 0.0 { lobe } else { lobe.min(1) };
                above && lobe == index
            });
        }
        let largest = all[0];
        body.lesions(largest, "lung nodule", Tissue::Lesion, [4.0, 12.0]);
        body.scene.union(format!("{side} lung"), all);
    }
}

fn vessels<R: Rng>(body: &mut Body<R>) {
    let everywhere = [body.cavity, 2, 3];
    let wide = between(body.random, 8.0, 14.0);
    let aorta = [
        ([-4.0, -12.0, -18.0], wide * 0.85),
        ([-8.0, -5.0, 60.0], wide),
        ([-12.0, -22.0, 150.0], wide * 1.1),
        ([-16.0, -30.0, 260.0], wide * 1.2),
        ([-8.0, -5.0, 300.0], wide * 1.3),
    ];
    body.tube("aorta", Tissue::Vessel, &aorta, 3.0, &everywhere);
    let cava = [
        ([16.0, -14.0, -25.0], wide),
        ([20.0, -6.0, 60.0], wide * 1.1),
        ([26.0, 0.0, 140.0], wide * 1.2),
        ([18.0, 8.0, 185.0], wide),
    ];
    body.tube("inferior vena cava", Tissue::Vessel, &cava, 3.0, &everywhere);
    for (side, sign) in SIDES {
        let artery = [
            ([sign * 2.0, -12.0, -20.0], 6.0),
            ([sign * 30.0, -18.0, -70.0], 5.5),
            ([sign * 55.0, 8.0, -110.0], 5.0),
            ([sign * 68.0, 40.0, -165.0], 5.0),
        ];
        body.tube(&format!("{side} iliac artery"), Tissue::Vessel, &artery, 3.0, &everywhere);
        let vein = [
            ([sign * 10.0 + 6.0, -18.0, -28.0], 7.0),
            ([sign * 32.0, -26.0, -78.0], 6.5),
            ([sign * 58.0, -2.0, -115.0], 6.0),
            ([sign * 64.0, 34.0, -165.0], 6.0),
        ];
        body.tube(&format!("{side} iliac vein"), Tissue::Vessel, &vein, 3.0, &everywhere);
    }
    let portal =
        [([0.0, 18.0, 40.0], 6.0), ([8.0, 16.0, 72.0], 7.0), ([32.0, 14.0, 95.0], 7.0), ([60.0, 12.0, 112.0], 5.0)];
    let label = body.tube("portal vein and splenic vein", Tissue::Vessel, &portal, 4.0, &everywhere);
    body.tube_of(
        label,
        &[([8.0, 16.0, 72.0], 5.0), ([-40.0, -5.0, 92.0], 4.5), ([-80.0, -25.0, 105.0], 4.0)],
        4.0,
        &everywhere,
    );
}

fn abdomen<R: Rng>(body: &mut Body<R>) {
    let cavity = [body.cavity];
    for (side, sign) in SIDES {
        let kidney = body.scene.structure(format!("{side} kidney"), Tissue::Organ);
        let shape = body.shape([sign * 62.0, -40.0, 58.0 - 8.0 * sign], [25.0, 27.0, 50.0], 0.18, 0.06);
        let hilum = [shape.centre[0] - sign * 26.0 * body.scale, shape.centre[1] + 12.0, shape.centre[2]];
        let notch = between(body.random, 8.0, 15.0);
        body.scene.ellipsoid_where(kidney, &shape, &body.noise, &cavity, |p| {
            (0..3).map(|axis| ((p[axis] - hilum[axis]) / if axis == 2 { 1.4 } else { 1.0 }).powi(2)).sum::<f32>()
                > notch * notch
        });
        if body.random.random_bool(0.3) {
            body.lesions(kidney, "kidney cyst", Tissue::Fluid, [4.0, 14.0]);
        }
        let gland = [
            ([sign * 40.0, -35.0, 100.0], 4.0),
            ([sign * 48.0, -28.0, 108.0], 5.0),
            ([sign * 44.0, -42.0, 118.0], 3.5),
        ];
        body.tube(&format!("{side} adrenal gland"), Tissue::Organ, &gland, 4.0, &cavity);
    }
    let liver = body.organ("liver", Tissue::Organ, [72.0, 2.0, 112.0], [66.0, 72.0, 74.0], 0.1);
    body.also(liver, [5.0, 38.0, 122.0], [66.0, 36.0, 40.0], 0.15);
    if body.random.random_bool(0.4) {
        body.lesions(liver, "liver lesion", Tissue::Lesion, [5.0, 25.0]);
    }
    if body.random.random_bool(0.8) {
        let all = [liver, body.cavity];
        let label = body.scene.structure("gallbladder", Tissue::Fluid);
        let shape = body.shape([46.0, 46.0, 68.0], [13.0, 15.0, 26.0], 0.3, 0.08);
        body.scene.ellipsoid(label, &shape, &body.noise, &all);
    }
    let spleen = body.organ("spleen", Tissue::Organ, [-98.0, -32.0, 112.0], [26.0, 42.0, 50.0], 0.12);
    let _ = spleen;
    let full = between(body.random, 0.7, 1.3);
    let stomach = [
        ([-30.0, 2.0, 150.0], 14.0),
        ([-62.0, 12.0, 130.0], 34.0 * full),
        ([-62.0, 40.0, 95.0], 28.0 * full),
        ([-25.0, 55.0, 66.0], 20.0 * full),
        ([18.0, 42.0, 72.0], 13.0),
    ];
    body.tube("stomach", Tissue::Bowel, &stomach, 8.0, &cavity);
    let pancreas = [
        ([30.0, 16.0, 55.0], 13.0),
        ([14.0, 24.0, 72.0], 12.0),
        ([-14.0, 22.0, 82.0], 9.0),
        ([-48.0, 0.0, 96.0], 9.0),
        ([-76.0, -18.0, 104.0], 8.0),
    ];
    body.tube("pancreas", Tissue::Organ, &pancreas, 6.0, &cavity);
    let duodenum = [
        ([24.0, 38.0, 76.0], 12.0),
        ([44.0, 20.0, 62.0], 13.0),
        ([42.0, 4.0, 25.0], 13.0),
        ([10.0, 6.0, 12.0], 12.0),
        ([-22.0, 10.0, 30.0], 11.0),
    ];
    body.tube("duodenum", Tissue::Bowel, &duodenum, 6.0, &cavity);
    let gullet = [([-26.0, 0.0, 152.0], 8.0), ([-6.0, -20.0, 190.0], 8.0), ([0.0, -24.0, 310.0], 8.0)];
    body.tube("esophagus", Tissue::Muscle, &gullet, 4.0, &cavity);
}

fn pelvis<R: Rng>(body: &mut Body<R>) {
    let cavity = [body.cavity];
    let filled = between(body.random, 0.6, 1.35);
    let bladder = body.scene.structure("urinary bladder", Tissue::Fluid);
    let shape = body.shape([0.0, 18.0, -132.0], [34.0 * filled, 28.0 * filled, 26.0 * filled], 0.12, 0.12);
    body.scene.ellipsoid(bladder, &shape, &body.noise, &cavity);
    let muscle = between(body.random, 0.8, 1.2);
    for (_, sign) in SIDES {
        let label = body.scene.region(Tissue::Muscle);
        let shape = body.shape([sign * 52.0, -8.0, -160.0], [9.0 * muscle, 28.0, 32.0], 0.1, 0.1);
        body.scene.ellipsoid(label, &shape, &body.noise, &cavity);
    }
    let rectum = [
        ([-20.0, -38.0, -98.0], 13.0),
        ([4.0, -58.0, -118.0], 17.0),
        ([0.0, -52.0, -160.0], 17.0),
        ([0.0, -46.0, -195.0], 11.0),
    ];
    body.tube("rectum", Tissue::Bowel, &rectum, 5.0, &cavity);
    if body.random.random_bool(0.5) {
        let peripheral = body.scene.structure("prostate peripheral zone", Tissue::Organ);
        let large = between(body.random, 0.85, 1.35);
        let shape = body.shape([0.0, 0.0, -170.0], [24.0 * large, 18.0 * large, 19.0 * large], 0.12, 0.08);
        let over = [body.cavity, bladder];
        body.scene.ellipsoid(peripheral, &shape, &body.noise, &over);
        let transition = body.scene.structure("prostate transition zone", Tissue::Organ);
        let centre = [shape.centre[0], shape.centre[1] + 0.25 * shape.radii[1], shape.centre[2] + 0.1 * shape.radii[2]];
        let share = between(body.random, 0.55, 0.8);
        let inner = Ellipsoid::new(centre, shape.radii.map(|r| r * share)).bumpy(0.15, 12.0);
        body.scene.ellipsoid(transition, &inner, &body.noise, &[peripheral]);
        body.scene.union("prostate", vec![peripheral, transition]);
        if body.random.random_bool(0.3) {
            body.lesions(peripheral, "prostate lesion", Tissue::Lesion, [3.0, 8.0]);
        }
        for (_, sign) in SIDES {
            let vesicle = [([sign * 6.0, -22.0, -148.0], 5.0), ([sign * 26.0, -28.0, -140.0], 6.0)];
            body.tube("seminal vesicle", Tissue::Fluid, &vesicle, 3.0, &cavity);
        }
    } else {
        body.organ("uterus", Tissue::Organ, [0.0, -10.0, -118.0], [26.0, 22.0, 34.0], 0.1);
    }
}

fn bowel<R: Rng>(body: &mut Body<R>) {
    let cavity = [body.cavity];
    let wide = between(body.random, 0.75, 1.25);
    let colon = [
        ([82.0, 5.0, -70.0], 24.0),
        ([92.0, 2.0, -20.0], 22.0),
        ([94.0, 8.0, 35.0], 21.0),
        ([62.0, 56.0, 38.0], 20.0),
        ([0.0, 70.0, 18.0], 19.0),
        ([-62.0, 58.0, 45.0], 19.0),
        ([-98.0, 8.0, 78.0], 18.0),
        ([-102.0, -12.0, 20.0], 17.0),
        ([-96.0, -4.0, -50.0], 16.0),
        ([-55.0, 22.0, -92.0], 16.0),
        ([0.0, 0.0, -82.0], 16.0),
        ([-20.0, -38.0, -98.0], 14.0),
    ]
    .map(|(p, r)| (p, r * wide));
    body.tube("colon", Tissue::Bowel, &colon, 9.0, &cavity);
    let label = body.scene.structure("small bowel", Tissue::Bowel);
    for _ in 0..body.random.random_range(4..9) {
        let start = body.place([0.0, 25.0, -35.0], 50.0);
        let radius = body.scale * between(body.random, 9.0, 14.0);
        let loops: Vec<_> = walk(start, body.random).into_iter().map(|(p, _)| (p, radius)).collect();
        body.scene.tube(label, &loops, &cavity);
    }
}

/// Draws a head.
pub(crate) fn head(size: [usize; 3], spacing: [f32; 3], random: &mut impl Rng) -> Scene {
    let warp = (between(random, 1.0, 5.0), between(random, 50.0, 90.0));
    let scene = Scene::new(size, spacing, Tissue::Air, warp, random);
    let scale = between(random, 0.88, 1.1);
    let noise = Noise::new(random);
    let mut body = Body { scene, random, noise, origin: [0.0, 0.0, 10.0], scale, cavity: 0 };
    let (ratio, high) = (between(body.random, 0.94, 1.06), between(body.random, 0.94, 1.06));
    let outer = [70.0 * ratio, 86.0, 66.0 * high];
    // Neck and face, then the shells of the head from outside in.
    let soft = body.scene.region(Tissue::Muscle);
    body.tube_of(soft, &[([0.0, -25.0, -60.0], 52.0), ([0.0, -35.0, -150.0], 58.0)], 4.0, &[]);
    let face = body.shape([0.0, 45.0, -65.0], [55.0, 50.0, 60.0], 0.1, 0.15);
    body.scene.ellipsoid(soft, &face, &body.noise, &[]);
    let (scalp, skull, dura) =
        (between(body.random, 3.0, 7.0), between(body.random, 4.0, 8.0), between(body.random, 2.0, 6.0));
    let centre = body.place([0.0; 3], 2.0);
    let layer = |body: &mut Body<_>, label: u8, out: f32, bumps: f32| {
        let radii = outer.map(|r| body.scale * r + out);
        let shape = Ellipsoid::new(centre, radii).bumpy(bumps, 30.0);
        body.scene.ellipsoid(label, &shape, &body.noise, &[]);
    };
    let fat = body.scene.region(Tissue::Fat);
    layer(&mut body, fat, dura + skull + scalp, 0.03);
    let bone = body.scene.structure("skull", Tissue::Bone);
    layer(&mut body, bone, dura + skull, 0.02);
    let fluid = body.scene.region(Tissue::Fluid);
    layer(&mut body, fluid, dura, 0.01);
    let grey = body.scene.structure("grey matter", Tissue::GreyMatter);
    layer(&mut body, grey, 0.0, 0.04);
    // Below the cerebrum: the base of the skull, cerebellum and brainstem.
    let base = centre[2] - body.scale * between(body.random, 28.0, 38.0);
    let front = centre[1] - body.scale * 10.0;
    let below = |p: [f32; 3]| p[2] < base + if p[1] > front { 12.0 } else { 0.0 };
    let reach = [centre.map(|x| x - 120.0), centre.map(|x| x + 120.0)];
    body.scene.paint(bone, reach, &[grey, fluid], |p| below(p) && p[2] > base - 8.0 && p[1] > front);
    body.scene.paint(soft, reach, &[grey, fluid, bone], |p| below(p) && p[1] > front && p[2] <= base - 8.0);
    body.scene.paint(fluid, reach, &[grey], below);
    let cerebellum = body.scene.structure("cerebellum", Tissue::GreyMatter);
    let shape = body.shape([0.0, -52.0, -48.0], [46.0, 28.0, 24.0], 0.1, 0.06);
    body.scene.ellipsoid(cerebellum, &shape, &body.noise, &[fluid, bone, soft, fat]);
    let stem = [([0.0, -18.0, -25.0], 13.0), ([0.0, -26.0, -60.0], 11.0), ([0.0, -38.0, -110.0], 6.0)];
    let stem = body.tube("brainstem", Tissue::WhiteMatter, &stem, 2.0, &[]);
    // White matter: the folds of the cortex as a rough inner surface.
    let white = body.scene.structure("white matter", Tissue::WhiteMatter);
    let noise = body.noise.clone();
    let (folds, depth) = (between(body.random, 7.0, 12.0), between(body.random, 0.05, 0.11));
    let inner = Ellipsoid::new(centre, outer.map(|r| body.scale * r));
    body.scene.paint(white, reach, &[grey], |p| {
        let fold = noise.scaled(p, folds);
        inner.radius(p) + depth * (1.0 - 2.0 * fold.abs()) < 0.9 && p[0].abs() > 1.5
    });
    // The gap between the halves, and sulci.
    body.scene.paint(fluid, reach, &[grey], |p| {
        let fold = noise.scaled(p, folds);
        (p[0] - centre[0]).abs() < 1.2 && p[2] > centre[2] + 10.0 || (fold.abs() < 0.05 && inner.radius(p) > 0.9)
    });
    let ventricles = body.scene.structure("ventricles", Tissue::Fluid);
    let wide = between(body.random, 4.0, 10.0);
    for (_, sign) in SIDES {
        let horn = [
            ([sign * 12.0, 30.0, 8.0], wide),
            ([sign * 10.0, 0.0, 16.0], wide),
            ([sign * 22.0, -40.0, 8.0], wide),
            ([sign * 32.0, -18.0, -12.0], wide * 0.5),
        ];
        body.tube_of(ventricles, &horn, 2.0, &[white, grey]);
        let nucleus = body.scene.structure("thalamus and basal ganglia", Tissue::GreyMatter);
        let shape = body.shape([sign * 18.0, 4.0, -2.0], [12.0, 20.0, 13.0], 0.15, 0.1);
        body.scene.ellipsoid(nucleus, &shape, &body.noise, &[white]);
        body.scene.union("brain part", vec![nucleus]);
        let eye = body.scene.structure("eye", Tissue::Fluid);
        let shape = body.shape([sign * 32.0, 76.0, -38.0], [12.0, 12.0, 12.0], 0.1, 0.0);
        body.scene.ellipsoid(eye, &shape, &body.noise, &[]);
    }
    let air = body.scene.region(Tissue::Air);
    for _ in 0..6 {
        let shape = body.shape([0.0, 62.0, -60.0], [10.0, 16.0, 12.0], 0.4, 0.3);
        body.scene.ellipsoid(air, &shape, &body.noise, &[soft, bone]);
    }
    let nuclei: Vec<u8> =
        body.scene.structures.iter().filter(|s| s.name == "brain part").map(|s| s.labels[0]).collect();
    body.scene.structures.retain(|s| s.name != "brain part");
    let mut brain = vec![grey, white, cerebellum, stem, ventricles];
    brain.extend(nuclei);
    body.scene.union("brain", brain);
    body.scene.finished()
}
