//! Bones of the torso, and the muscles along them.

use super::body::{Body, SIDES, mirrored};
use super::scene::{Ellipsoid, Tissue};
use super::shapes::between;
use rand::Rng;

/// Paints them, from the thighs to the ribs.
pub(super) fn skeleton<R: Rng>(body: &mut Body<R>) {
    let everywhere: &[u8] = &[];
    // Muscles along the spine first, so that bones lie in them.
    for (side, sign) in SIDES {
        let back = [
            ([32.0, -78.0, -110.0], 15.0),
            ([34.0, -80.0, 0.0], 22.0),
            ([36.0, -84.0, 120.0], 19.0),
            ([30.0, -86.0, 300.0], 14.0),
        ];
        body.tube(&format!("{side} autochthon"), Tissue::Muscle, &mirrored(&back, sign), 4.0, everywhere);
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
    let disc = body.scene.structure("intervertebral discs", Tissue::Muscle);
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
    let mut vertebrae = Vec::new();
    for number in 0..12 {
        let z = first + number as f32 * height;
        let [x, y, _] = along(z);
        let size = body.scale * (23.0 - 0.6 * number as f32);
        let name = if number < 5 { format!("vertebra L{}", 5 - number) } else { format!("vertebra T{}", 17 - number) };
        let label = body.scene.structure(name, Tissue::Bone);
        vertebrae.push(label);
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
    body.scene.union("vertebrae", vertebrae);
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
