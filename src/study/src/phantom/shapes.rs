//! Scenes of no anatomy: random regions that fill space, blobs, shells and tubes, so that the network learns shapes from
//! prompts and not one body by heart (in the spirit of SynthMorph, Hoffmann et al., arXiv 2004.10282).

use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use rand::Rng;

/// Draws a scene.
pub(crate) fn scene(size: [usize; 3], spacing: [f32; 3], random: &mut impl Rng) -> Scene {
    let extent: [f32; 3] = std::array::from_fn(|axis| size[axis] as f32 * spacing[axis]);
    let mut scene = Scene::new(size, spacing, Tissue::Abstract, (8.0, 50.0), random);
    let noise = Noise::new(random);
    let whole = [extent.map(|x| -x), extent];
    let place =
        |random: &mut _| -> [f32; 3] { std::array::from_fn(|axis| between(random, -0.45, 0.45) * extent[axis]) };

    // Space is shared out to the region whose field is the largest.
    let regions = random.random_range(2..7);
    let scale = random.random_range(30.0..120.0);
    let fields: Vec<Noise> = (0..regions).map(|_| Noise::new(random)).collect();
    for (index, field) in fields.iter().enumerate().skip(1) {
        let label = scene.structure(format!("region {index}"), Tissue::Abstract);
        scene.paint(label, whole, &[], |p| {
            let own = field.scaled(p, scale);
            fields.iter().enumerate().all(|(other, field)| other == index || field.scaled(p, scale) < own)
        });
    }
    for index in 0..random.random_range(8..22) {
        let label = scene.structure(format!("shape {index}"), Tissue::Abstract);
        let centre = place(random);
        let radius = (random.random_range(6f32.ln()..55f32.ln())).exp();
        let radii = std::array::from_fn(|_| radius * between(random, 0.5, 1.3));
        let blob = Ellipsoid::new(centre, radii)
            .turned(between(random, 0.0, 3.1), between(random, 0.0, 3.1))
            .bumpy(between(random, 0.0, 0.45), radius * between(random, 0.4, 1.5));
        match random.random_range(0..10) {
            0..5 => scene.ellipsoid(label, &blob, &noise, &[]),
            5..7 => {
                let thickness = between(random, 0.1, 0.35);
                let opening = between(random, -1.2, 0.8);
                let side: [f32; 3] = std::array::from_fn(|_| between(random, -1.0, 1.0));
                scene.ellipsoid_where(label, &blob, &noise, &[], |p| {
                    let along: f32 = (0..3).map(|axis| side[axis] * (p[axis] - centre[axis]) / radius).sum();
                    blob.radius(p) > 1.0 - thickness && along > opening
                });
            }
            7 => {
                let (low, high) = (
                    std::array::from_fn(|axis: usize| centre[axis] - radii[axis] * 0.8),
                    std::array::from_fn(|axis: usize| centre[axis] + radii[axis] * 0.8),
                );
                scene.paint(label, [low, high], &[], |p| (0..3).all(|axis| (low[axis]..high[axis]).contains(&p[axis])));
            }
            _ => scene.tube(label, &walk(centre, random), &[]),
        }
    }
    scene.finished()
}

/// A random walk that keeps its direction for a while.
fn walk(start: [f32; 3], random: &mut impl Rng) -> Vec<([f32; 3], f32)> {
    let radius = between(random, 3.0, 14.0);
    let step = radius * between(random, 2.0, 4.0);
    let mut direction: [f32; 3] = std::array::from_fn(|_| between(random, -1.0, 1.0));
    let mut points = vec![(start, radius)];
    for _ in 0..random.random_range(3..12) {
        let turn = between(random, 0.2, 0.9);
        direction = std::array::from_fn(|axis| direction[axis] + turn * between(random, -1.0, 1.0));
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-3);
        direction = direction.map(|x| x / length);
        let (last, _) = points[points.len() - 1];
        let next = std::array::from_fn(|axis| last[axis] + step * direction[axis]);
        points.push((next, radius * between(random, 0.7, 1.3)));
    }
    points
}

pub(crate) fn between(random: &mut impl Rng, low: f32, high: f32) -> f32 {
    random.random_range(low..high)
}
