//! Bones of the torso, and the muscles along them.

use super::body::{Body, SIDES, mirrored};
use super::hip;
use super::scene::Tissue;
use super::shapes::between;
use rand::Rng;
use std::f32::consts::PI;

/// Paints them, from the thighs to the ribs.
pub(super) fn skeleton<R: Rng>(body: &mut Body<R>) {
    let everywhere: &[u8] = &[];
    // Muscles along the spine first, so that bones lie in them.
    let psoas = SIDES.map(|(side, sign)| {
        let back = [
            ([32.0, -78.0, -110.0], 15.0),
            ([34.0, -80.0, 0.0], 22.0),
            ([36.0, -84.0, 120.0], 19.0),
            ([30.0, -86.0, 300.0], 14.0),
        ];
        body.tube(&format!("{side} autochthon"), Tissue::Muscle, &mirrored(&back, sign), 4.0, everywhere);
        let psoas = [
            ([24.0, -40.0, 95.0], 7.0),
            ([36.0, -36.0, 30.0], 15.0),
            ([50.0, -24.0, -45.0], 19.0),
            ([72.0, 6.0, -115.0], 17.0),
            ([82.0, 8.0, -150.0], 13.0),
            ([90.0, -24.0, -195.0], 8.0),
        ];
        // Beside it, of no name.
        let square = [([58.0, -58.0, -38.0], 12.0), ([56.0, -60.0, 20.0], 13.0), ([48.0, -64.0, 85.0], 9.0)];
        let label = body.scene.region(Tissue::Muscle);
        body.tube_of(label, &mirrored(&square, sign), 4.0, everywhere);
        body.tube(&format!("{side} iliopsoas"), Tissue::Muscle, &mirrored(&psoas, sign), 4.0, everywhere)
    });
    hip::pelvis(body, psoas);
    let disc = body.scene.structure("intervertebral discs", Tissue::Cartilage);
    // How far the small of the back is drawn in.
    let hollow = between(body.random, 4.0, 26.0);
    let spine = body.path(
        &[
            ([0.0, -42.0 - 0.4 * hollow, -70.0], 17.0),
            ([0.0, -42.0 + 0.7 * hollow, -5.0], 18.0),
            ([0.0, -42.0 + 0.3 * hollow, 80.0], 16.0),
            ([0.0, -48.0 - 0.5 * hollow, 170.0], 14.0),
            ([0.0, -50.0 - 0.7 * hollow, 320.0], 13.0),
        ],
        3.0,
    );
    // Wider than deep, as the vertebrae are.
    for side in [-5.0, 5.0] {
        let path: Vec<_> = spine.iter().map(|&([x, y, z], r)| ([x + side * body.scale, y, z], r)).collect();
        body.scene.tube(disc, &path, everywhere);
    }
    let height = body.scale * between(body.random, 30.0, 35.0);
    let along = |z: f32| -> [f32; 3] {
        // The place on the spine at a height.
        let at = spine.windows(2).find(|pair| z <= pair[1].0[2]).unwrap_or(&spine[spine.len() - 2..]);
        let t = ((z - at[0].0[2]) / (at[1].0[2] - at[0].0[2])).clamp(-0.5, 1.5);
        std::array::from_fn(|axis| at[0].0[axis] + t * (at[1].0[axis] - at[0].0[axis]))
    };
    first_sacral(body, spine[0].0);
    // Half of a vertebra's height, as a share of the distance to the next: discs are the rest.
    let share = between(body.random, 0.34, 0.42);
    let first = spine[0].0[2] + height * 0.7;
    // The ends of the lowest ribs that cartilage joins to the sternum, of both sides.
    let mut ends = [Vec::new(), Vec::new()];
    let mut vertebrae = Vec::new();
    for number in 0..12 {
        let z = first + number as f32 * height;
        let [x, y, _] = along(z);
        let size = body.scale * (23.0 - 0.6 * number as f32);
        let name = if number < 5 { format!("vertebra L{}", 5 - number) } else { format!("vertebra T{}", 17 - number) };
        let label = body.scene.structure(name, Tissue::Bone);
        vertebrae.push(label);
        let half = height * share;
        let bounds = [[x - size, y - size, z - half], [x + size, y + size, z + half]];
        body.scene.paint(label, bounds, everywhere, |[px, py, pz]| {
            let waist = 0.88 + 0.12 * ((pz - z) / half).powi(2);
            ((px - x) / (size * waist)).powi(2) + ((py - y) / (size * 0.75 * waist)).powi(2) < 1.0
        });
        let back = y - size * 0.75;
        let process = between(body.random, 18.0, 30.0);
        let thin = between(body.random, 3.0, 4.5);
        for below in [0.0, 6.0, 12.0] {
            let plate = [([x, back - 14.0, z - below], thin), ([x, back - 14.0 - process, z - 6.0 - below], thin)];
            body.scene.tube(label, &plate, everywhere);
        }
        for (_, sign) in SIDES {
            let reach = between(body.random, 22.0, 38.0);
            let arch = [
                ([x + sign * 13.0, back + 4.0, z + 4.0], 4.5),
                ([x + sign * 13.0, back - 12.0, z], 5.0),
                ([x, back - 15.0, z - 2.0], 4.0),
            ];
            body.scene.tube(label, &arch, everywhere);
            let joints = [
                ([x + sign * 15.0, back - 12.0, z + 0.5 * height], 4.5),
                ([x + sign * 13.0, back - 14.0, z - 0.5 * height], 4.5),
            ];
            body.scene.tube(label, &joints, everywhere);
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
            for ((side, sign), ends) in SIDES.into_iter().zip(&mut ends) {
                let label = body.scene.structure(format!("{side} rib {}", 17 - number), Tissue::Bone);
                // The last ones are short and steep.
                let (length, steep) = match number {
                    5 => (0.27, 3.0),
                    6 => (0.42, 2.4),
                    7 => (0.57, 1.9),
                    8 => (0.66, 1.6),
                    9 => (0.73, 1.4),
                    _ => (0.78, 1.3),
                };
                let (a, b) = (body.scale * (128.0 - 3.0 * (number as f32 - 7.0).abs()), body.scale * 88.0);
                let thin = body.scale * between(body.random, 4.0, 6.0);
                let drop = body.scale * steep * between(body.random, 55.0, 80.0);
                let rib: Vec<_> = (0..10)
                    .map(|step| {
                        let t = step as f32 / 9.0 * length;
                        let angle = t * PI;
                        let place = [
                            x + sign * (18.0 + (a - 18.0) * angle.sin().max(angle / 3.0)),
                            -10.0 + body.origin[1] - b * angle.cos(),
                            z + 10.0 - drop * t,
                        ];
                        (place, thin)
                    })
                    .collect();
                body.scene.tube(label, &rib, everywhere);
                if (7..=10).contains(&number) {
                    ends.push((rib[rib.len() - 1].0, length * PI));
                }
            }
        }
    }
    body.scene.union("vertebrae", vertebrae);
    let canal = body.scene.structure("spinal cord", Tissue::Fluid);
    let around = body.scene.region(Tissue::Fat);
    let (wide, fatty) = (body.scale * between(body.random, 5.0, 7.5), between(body.random, 0.0, 3.0));
    let apart = body.scale * between(body.random, 0.0, 5.0);
    // It may end anywhere below the ribs.
    let lowest = body.random.random_range(0..6);
    let mut cord = Vec::new();
    if lowest == 0 {
        let [_, y, z] = spine[0].0;
        cord.extend([([0.0, y - 32.0, z - 40.0], 0.6 * wide), ([0.0, y - 24.0, z - 14.0], 0.9 * wide)]);
    }
    cord.extend((lowest.min(3)..14).map(|step| {
        let z = first + (step as f32 - 0.5) * height;
        let [x, y, _] = along(z);
        ([x, y - body.scale * 24.0, z], wide)
    }));
    for (label, wider) in [(around, fatty), (canal, 0.0)] {
        for side in [-apart, apart] {
            let path: Vec<_> = cord.iter().map(|&([x, y, z], radius)| ([x + side, y, z], radius + wider)).collect();
            body.scene.tube(label, &path, everywhere);
        }
    }
    costal_cartilages(body, &ends);
    let sternum = [([0.0, 88.0, 170.0], 9.0), ([0.0, 94.0, 220.0], 9.0), ([0.0, 82.0, 290.0], 11.0)];
    body.tube("sternum", Tissue::Bone, &sternum, 4.0, everywhere);
}

/// The uppermost part of the sacrum, a vertebra of its own, below the lowest place of the spine.
fn first_sacral<R: Rng>(body: &mut Body<R>, [x, y, z]: [f32; 3]) {
    let label = body.scene.structure("vertebra S1", Tissue::Bone);
    let scale = body.scale;
    let place = |[right, front, up]: [f32; 3]| [x + scale * right, y + scale * front, z + scale * up];
    let mut tube = |path: [([f32; 3], f32); 2]| {
        body.scene.tube(label, &path.map(|(at, radius)| (place(at), scale * radius)), &[]);
    };
    for (_, sign) in SIDES {
        tube([([sign * 9.0, -2.0, -14.0], 15.0), ([sign * 7.0, -10.0, -28.0], 12.0)]);
        tube([([sign * 12.0, -8.0, -18.0], 12.0), ([sign * 26.0, -16.0, -22.0], 9.0)]);
        tube([([sign * 17.0, -24.0, -14.0], 5.0), ([0.0, -42.0, -16.0], 4.0)]);
    }
    let process = between(body.random, 6.0, 16.0);
    tube([([0.0, -42.0, -16.0], 4.5), ([0.0, -42.0 - process, -22.0], 4.0)]);
}

/// Where a rib ends, and the angle from the spine around the body at which it does.
type RibEnd = ([f32; 3], f32);

/// From the ends of ribs 10 to 7, in this order: each goes on around the body and joins the next, the last the sternum.
fn costal_cartilages<R: Rng>(body: &mut Body<R>, ends: &[Vec<RibEnd>; 2]) {
    const FRONT: f32 = 0.96 * PI;
    let label = body.scene.structure("costal cartilages", Tissue::Cartilage);
    for ((_, sign), ends) in SIDES.into_iter().zip(ends) {
        let thick = body.scale * between(body.random, 4.0, 6.5);
        let sink = body.scale * between(body.random, 4.0, 16.0);
        let sternum = body.place([sign * 12.0, 88.0, 176.0], 4.0);
        let middle = body.origin[1] - 10.0;
        // The place a share of the way from an end to the sternum.
        let on_the_way = |&([x, y, z], angle): &RibEnd, share: f32| -> [f32; 3] {
            let at = angle + share * (FRONT - angle);
            let up = z + share * (sternum[2] - z) - sink * (share * PI).sin();
            [x * at.sin() / angle.sin(), middle + (y - middle) * at.cos() / angle.cos(), up]
        };
        for (index, end) in ends.iter().enumerate() {
            let mut path: Vec<_> = [0.0, 0.15, 0.3].map(|share| on_the_way(end, share)).into();
            match ends.get(index + 1) {
                Some(next) => path.push(on_the_way(next, 0.4 + 0.1 * index as f32)),
                None => path.extend([on_the_way(end, 0.65), sternum]),
            }
            let path: Vec<_> = path.into_iter().map(|place| (place, thick)).collect();
            body.scene.tube(label, &path, &[]);
        }
    }
}
