//! A torso from the lungs to the thighs. Coordinates are RAS millimetres from the middle of the fourth lumbar vertebra's
//! front.
//!
//! Sizes and places are those of an adult as anatomy textbooks give them, each varied by itself. None is measured from a scan,
//! but a few (ribs and costal cartilages, the spinal canal, the first sacral vertebra, the adrenal glands) were corrected by eye
//! beside one.

use super::body::{Body, SIDES};
use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue, beads};
use super::shapes::between;
use super::skeleton::skeleton;
use rand::Rng;

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
    // Organs hang at different heights.
    let ground = body.origin[2];
    body.origin[2] += scale * between(body.random, -14.0, 14.0);
    vessels(&mut body);
    abdomen(&mut body);
    body.origin[2] = ground;
    let rectum = pelvis(&mut body);
    bowel(&mut body, rectum);
    body.scene.finished()
}

/// How far the wall's surfaces lie from smooth ones at most, in millimetres.
const BUMP: f32 = 6.0;

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
            let within = |bump: f32| {
                let (a, b) = (a * waist + out + bump, b + out + bump);
                let across = if height < -170.0 { x.abs() - 75.0 } else { x };
                let a = if height < -170.0 { a * 0.55 } else { a };
                rounded(((across - x0) / a).abs(), ((y - y0 + 10.0) / b).abs())
            };
            // Over the hips lie muscles of their own.
            let over_hips = height < -35.0 && (y < y0 - 25.0 || (x - x0).abs() > 95.0);
            // Bumps are only asked for where they decide.
            !(label == muscle && over_hips)
                && within(BUMP)
                && (within(-BUMP) || within(BUMP * noise.scaled([x, y, z], 90.0)))
        });
    }
    body.cavity = cavity;
}

/// Whether a place lies in the superellipse of exponent 2.4 with radii 1: powers are taken near its border alone.
fn rounded(x: f32, y: f32) -> bool {
    let larger = x.max(y);
    // 0.74 to the power of 2.4 is 0.485.
    larger < 0.74 || larger < 1.0 && x.powf(2.4) + y.powf(2.4) < 1.0
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
    let cavity = [body.cavity];
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
            ([sign * 22.0, -22.0, -48.0], 5.5),
            ([sign * 38.0, -30.0, -76.0], 5.5),
            ([sign * 54.0, 6.0, -112.0], 5.0),
            ([sign * 66.0, 36.0, -155.0], 5.0),
        ];
        let label = body.tube(&format!("{side} iliac artery"), Tissue::Vessel, &artery, 5.0, &everywhere);
        let inner = [
            ([sign * 38.0, -30.0, -76.0], 4.5),
            ([sign * 42.0, -50.0, -98.0], 4.0),
            ([sign * 48.0, -56.0, -118.0], 3.0),
        ];
        body.tube_of(label, &inner, 3.0, &everywhere);
        let vein = [
            ([sign * 8.0 + 8.0, -18.0, -30.0], 7.0),
            ([sign * 26.0 + 4.0, -32.0, -58.0], 6.5),
            ([sign * 40.0, -38.0, -82.0], 6.5),
            ([sign * 52.0, -6.0, -116.0], 6.0),
            ([sign * 62.0, 30.0, -158.0], 6.0),
        ];
        let label = body.tube(&format!("{side} iliac vein"), Tissue::Vessel, &vein, 5.0, &everywhere);
        let inner = [
            ([sign * 40.0, -38.0, -82.0], 5.0),
            ([sign * 44.0, -56.0, -104.0], 4.5),
            ([sign * 48.0, -60.0, -122.0], 3.0),
        ];
        body.tube_of(label, &inner, 3.0, &everywhere);
        // To the kidney, of no name.
        let hilum =
            [([sign * 8.0, -8.0, 64.0], 3.5), ([sign * 26.0, -20.0, 62.0], 3.5), ([sign * 44.0, -34.0, 58.0], 3.0)];
        let label = body.scene.region(Tissue::Vessel);
        body.tube_of(label, &hilum, 5.0, &cavity);
    }
    // The vessels of the bowel, of no name.
    let bowel = body.scene.region(Tissue::Vessel);
    for (x, wide) in [(-6.0, 4.0), (10.0, 5.0)] {
        let path = [
            ([x, -2.0, 78.0], wide),
            ([x, 16.0, 62.0], wide),
            ([x + 6.0, 24.0, 10.0], wide),
            ([x + 20.0, 20.0, -40.0], 2.5),
        ];
        body.tube_of(bowel, &path, 5.0, &cavity);
    }
    let joined = [8.0, 14.0, 74.0];
    let hilum = between(body.random, 76.0, 104.0);
    let lower = between(body.random, 45.0, 68.0);
    let portal = [([6.0, 20.0, lower], 6.0), (joined, 7.0), ([30.0, 10.0, 96.0], 7.0), ([50.0, 14.0, 110.0], 6.0)];
    let label = body.tube("portal vein and splenic vein", Tissue::Vessel, &portal, 4.0, &everywhere);
    let splenic =
        [(joined, 5.0), ([-24.0, 6.0, 82.0], 4.5), ([-60.0, -24.0, hilum], 4.5), ([-88.0, -50.0, hilum + 6.0], 3.5)];
    body.tube_of(label, &splenic, 5.0, &everywhere);
    // Into the two halves of the liver.
    let left = [([50.0, 14.0, 110.0], 5.0), ([34.0, 32.0, 118.0], 4.5), ([16.0, 44.0, 122.0], 3.5)];
    let right = [([50.0, 14.0, 110.0], 5.0), ([72.0, 6.0, 114.0], 4.5), ([92.0, -6.0, 112.0], 3.0)];
    for branch in [left, right] {
        if body.random.random_bool(0.7) {
            body.tube_of(label, &branch, 4.0, &everywhere);
        }
    }
}

fn abdomen<R: Rng>(body: &mut Body<R>) {
    let cavity = [body.cavity];
    for (side, sign) in SIDES {
        let kidney = body.scene.structure(format!("{side} kidney"), Tissue::Organ);
        // Bent around its hilum, the upper end further in and back than the lower.
        let [x, y, z] = body.place([sign * 60.0, -40.0, 58.0 - 8.0 * sign], 6.0);
        let [long, wide, lean, tilt] = [(35.0, 45.0), (22.0, 29.0), (2.0, 14.0), (0.0, 14.0)]
            .map(|(low, high)| body.scale * between(body.random, low, high));
        let bent = body.scale * between(body.random, 4.0, 10.0);
        let path = [(1.0, 0.86), (0.0, 1.0), (-1.0, 0.9)].map(|(up, r): (f32, f32)| {
            let out = bent * (1.0 - up * up) - lean * up;
            ([x + sign * out, y - tilt * up, z + (long - 0.5 * wide) * up], r * wide)
        });
        body.scene.tube(kidney, &path, &cavity);
        let sinus = body.scene.region(Tissue::Fat);
        let inner = [x - sign * (0.7 * wide - bent), y + 0.3 * wide, z];
        let shape = Ellipsoid::new(inner, body.radii([13.0, 11.0, 17.0], 0.3)).bumpy(0.2, 12.0);
        body.scene.ellipsoid(sinus, &shape, &body.noise, &[kidney]);
        if body.random.random_bool(0.3) {
            body.lesions(kidney, "kidney cyst", Tissue::Fluid, [4.0, 14.0]);
        }
        // A ridge with two limbs that part towards the back.
        let gland = body.scene.structure(format!("{side} adrenal gland"), Tissue::Organ);
        let long = between(body.random, 16.0, 36.0);
        for (side, back) in [(-4.0, 0.8), (7.0, 1.0)] {
            let limb =
                |z: f32| [([sign * 38.0, -26.0, z], 3.0), ([sign * (38.0 + side), -26.0 - long * back, z - 6.0], 2.4)];
            for z in [98.0, 105.0, 112.0, 118.0] {
                let path = body.path(&limb(z), 1.5);
                body.scene.tube(gland, &path, &cavity);
            }
        }
    }
    let liver = body.scene.structure("liver", Tissue::Organ);
    let shape = body.shape([72.0, 2.0, 112.0], [68.0, 76.0, 78.0], 0.2, 0.1);
    // Its lower face rises towards the middle and the front.
    let [rise, slant, floor] =
        [between(body.random, 0.5, 1.1), between(body.random, 0.0, 0.4), between(body.random, 20.0, 45.0)];
    let [x0, y0, z0] = shape.centre;
    body.scene.ellipsoid_where(liver, &shape, &body.noise, &cavity, |[x, y, z]| {
        z - z0 > -rise * (x - x0) + slant * (y - y0) - floor
    });
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
    let spleen = body.scene.structure("spleen", Tissue::Organ);
    let shape = body.shape([-98.0, -36.0, 112.0], [30.0, 48.0, 54.0], 0.2, 0.1);
    // Hollow where stomach and kidney lie against it.
    let [x0, y0, z0] = shape.centre;
    let hollow =
        [x0 + body.scale * between(body.random, 28.0, 52.0), y0 + body.scale * between(body.random, 0.0, 30.0), z0];
    let depth = body.scale * between(body.random, 26.0, 40.0);
    body.scene.ellipsoid_where(spleen, &shape, &body.noise, &cavity, |p| {
        (0..2).map(|axis| (p[axis] - hollow[axis]).powi(2)).sum::<f32>() > depth * depth
    });
    let full = between(body.random, 0.4, 1.3);
    let stomach = [
        ([-30.0, 2.0, 150.0], 14.0),
        ([-62.0, 12.0, 130.0], 34.0 * full),
        ([-62.0, 40.0, 95.0], 28.0 * full),
        ([-25.0, 55.0, 66.0], 20.0 * full),
        ([18.0, 42.0, 72.0], 13.0),
    ];
    body.tube("stomach", Tissue::Bowel, &stomach, 8.0, &cavity);
    // It shrinks with age.
    let plump = between(body.random, 0.55, 1.1);
    let pancreas = [
        ([30.0, 16.0, 55.0], 13.0),
        ([14.0, 24.0, 72.0], 12.0),
        ([-14.0, 22.0, 82.0], 9.0),
        ([-48.0, 0.0, 96.0], 9.0),
        ([-76.0, -18.0, 104.0], 8.0),
    ]
    .map(|(p, r): ([f32; 3], f32)| (p, r * plump));
    body.tube("pancreas", Tissue::Organ, &pancreas, 8.0, &cavity);
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

/// Returns the label of the rectum.
fn pelvis<R: Rng>(body: &mut Body<R>) -> u8 {
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
    let rectum = body.tube("rectum", Tissue::Bowel, &rectum, 5.0, &cavity);
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
    rectum
}

fn bowel<R: Rng>(body: &mut Body<R>, rectum: u8) {
    let cavity = [body.cavity];
    let wide = between(body.random, 0.7, 1.3);
    // How far the middle of it hangs down, and where the last loop lies.
    let hang = between(body.random, -25.0, 60.0);
    let (side, front, up) =
        (between(body.random, -40.0, 30.0), between(body.random, -15.0, 35.0), between(body.random, -5.0, 35.0));
    let colon = [
        ([84.0, 8.0, -80.0], 22.0),
        ([92.0, 2.0, -20.0], 24.0),
        ([94.0, 4.0, 35.0], 21.0),
        ([78.0, 40.0, 48.0 - 0.3 * hang], 20.0),
        ([40.0, 66.0, 40.0 - 0.8 * hang], 19.0),
        ([0.0, 72.0, 38.0 - hang], 18.0),
        ([-45.0, 66.0, 50.0 - 0.7 * hang], 18.0),
        ([-84.0, 40.0, 80.0 - 0.2 * hang], 18.0),
        ([-102.0, 0.0, 104.0], 17.0),
        ([-104.0, -18.0, 60.0], 15.0),
        ([-104.0, -14.0, 0.0], 14.0),
        ([-94.0, 0.0, -55.0], 13.0),
        ([-64.0, 20.0, -90.0], 14.0),
        ([side, 15.0 + front, -88.0 + up], 15.0),
        ([10.0 - side * 0.3, -12.0, -84.0], 14.0),
        ([-8.0, -36.0, -96.0], 14.0),
    ]
    .map(|(p, r)| (p, r * wide));
    let label = body.scene.structure("colon", Tissue::Bowel);
    body.scene.belongs_to(rectum, label);
    // Pouches: the wall is drawn in every few centimetres.
    let (every, deep) = (body.scale * between(body.random, 22.0, 40.0), between(body.random, 0.05, 0.3));
    let path = body.path(&colon, 10.0);
    let mut length = 0.0;
    let mut last = path[0].0;
    let pouched: Vec<_> = beads(&path)
        .into_iter()
        .map(|(p, r)| {
            length += (0..3).map(|axis| (p[axis] - last[axis]).powi(2)).sum::<f32>().sqrt();
            last = p;
            (p, r * (1.0 - deep * (std::f32::consts::TAU * length / every).cos()))
        })
        .collect();
    body.scene.tube(label, &pouched, &cavity);
    let label = body.scene.structure("small bowel", Tissue::Bowel);
    for _ in 0..body.random.random_range(2..7) {
        let start = body.place([0.0, 30.0, -35.0], 50.0);
        let radius = body.scale * between(body.random, 8.0, 14.0);
        let loops: Vec<_> = coil(start, radius, body);
        body.scene.tube(label, &loops, &cavity);
    }
}

/// A loop of bowel: a walk that turns back where it leaves the middle of the abdomen.
fn coil<R: Rng>(start: [f32; 3], radius: f32, body: &mut Body<R>) -> Vec<([f32; 3], f32)> {
    let middle: [f32; 3] = std::array::from_fn(|axis| body.origin[axis] + body.scale * [0.0, 30.0, -35.0][axis]);
    let reach = [75.0, 38.0, 72.0].map(|reach: f32| reach * body.scale);
    let step = radius * 2.5;
    let mut direction: [f32; 3] = std::array::from_fn(|_| between(body.random, -1.0, 1.0));
    let mut points = vec![(start, radius)];
    for _ in 0..body.random.random_range(5..22) {
        let (last, _) = points[points.len() - 1];
        direction = std::array::from_fn(|axis| {
            let off = (last[axis] - middle[axis]) / reach[axis];
            direction[axis] + 0.8 * between(body.random, -1.0, 1.0) - 0.9 * off.powi(3).clamp(-2.0, 2.0)
        });
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-3);
        direction = direction.map(|x| x / length);
        points.push((
            std::array::from_fn(|axis| last[axis] + step * direction[axis]),
            radius * between(body.random, 0.8, 1.2),
        ));
    }
    points
}
