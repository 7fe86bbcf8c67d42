//! A head. Coordinates are RAS millimetres from the middle of the brain; sizes are textbook ones, varied.

use super::body::{Body, SIDES};
use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use super::shapes::between;
use rand::Rng;

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
