//! A torso from the lungs to the thighs. Coordinates are RAS millimetres from the middle of the fourth lumbar vertebra's
//! front.
//!
//! Sizes and places are those of an adult as anatomy textbooks give them, each varied by itself. Nothing is measured from
//! a scan.

use super::body::{Body, SIDES};
use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use super::shapes::{between, walk};
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
    body.organ("spleen", Tissue::Organ, [-98.0, -32.0, 112.0], [26.0, 42.0, 50.0], 0.12);
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
