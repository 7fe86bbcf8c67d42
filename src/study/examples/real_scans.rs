//! How well a model segments real scans it never saw, prompted from their labels:
//! `cargo run --release -p adaptmedseg-study --example real_scans -- DATA [MODEL] [--json FILE]`.
//!
//! DATA holds `ct_abdomen`, `mr_abdomen` (each with `_labels`, ids in `labels.json`), and `mr_head_t1` with its brain mask
//! `mr_head_t1_brain`. Every structure of at least 1 ml is asked for by its name, with a tight box, the same box with its
//! corners moved by up to 10 % of its edges, one, three and five points drawn in the structure, box and name, and box and three
//! points.
//! Beside it stand two baselines: the ellipsoid inscribed in the tight box, and Otsu's threshold in the box, whichever side
//! of it is better.

use adaptmedseg_segment::volume::{ReadOptions, Volume, read, read_labels};
use adaptmedseg_segment::{BoxPrompt, EngineOptions, Hooks, Model, Point, Session, Space};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const COLUMNS: [&str; 10] =
    ["text", "box", "box 10 %", "1 point", "3 points", "5 points", "box+text", "box+points", "ellipsoid", "Otsu"];

/// Dice of each column.
type Row = [f64; COLUMNS.len()];
/// Smallest structure, in millilitres.
const MIN_ML: f64 = 1.0;
/// Compact organs, by words of their names.
const COMPACT: [&str; 6] = ["liver", "spleen", "kidney", "bladder", "prostate", "stomach"];

type Mask = Vec<u8>;

/// A scan and the structures in it.
struct Scan {
    name: &'static str,
    image: Arc<Volume<f32>>,
    structures: Vec<(String, Mask)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let json_path = arguments.iter().position(|argument| argument == "--json").map(|at| {
        let path = arguments.get(at + 1).cloned().unwrap_or_default();
        arguments.drain(at..(at + 2).min(arguments.len()));
        PathBuf::from(path)
    });
    let data = PathBuf::from(arguments.first().ok_or("usage: real_scans DATA [MODEL] [--json FILE]")?);
    let model = Model::open(Path::new(arguments.get(1).map_or("builtin", String::as_str)), &EngineOptions::default())?;
    let mut all = Vec::new();
    for scan in scans(&data)? {
        println!("\n{} ({} structures)\n", scan.name, scan.structures.len());
        println!("| structure | ml | {} |", COLUMNS.join(" | "));
        println!("|---|---|{}", "---|".repeat(COLUMNS.len()));
        let mut rows: Vec<(String, f64, Row)> = Vec::new();
        let mut session = Session::new(&model, scan.image.clone())?;
        for (index, (name, mask)) in scan.structures.iter().enumerate() {
            let ml = mask.iter().map(|&v| f64::from(v)).sum::<f64>() * scan.image.geometry.voxel_volume_mm3() / 1000.0;
            let dice = measure(&mut session, &scan.image, name, mask, index as u64)?;
            print_row(name, Some(ml), &dice);
            rows.push((name.clone(), ml, dice));
        }
        let mean = |rows: &[&(String, f64, Row)]| -> Row {
            std::array::from_fn(|column| rows.iter().map(|row| row.2[column]).sum::<f64>() / rows.len().max(1) as f64)
        };
        print_row("**mean**", None, &mean(&rows.iter().collect::<Vec<_>>()));
        let compact: Vec<_> = rows.iter().filter(|row| COMPACT.iter().any(|word| row.0.contains(word))).collect();
        if !compact.is_empty() {
            print_row("**mean of compact organs**", None, &mean(&compact));
        }
        all.extend(rows.iter().map(|(name, ml, dice)| {
            let dice: serde_json::Map<String, Value> =
                COLUMNS.iter().zip(dice).map(|(column, dice)| ((*column).to_owned(), json!(dice))).collect();
            json!({"scan": scan.name, "structure": name, "ml": ml, "dice": dice})
        }));
    }
    if let Some(path) = json_path {
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

fn print_row(name: &str, ml: Option<f64>, dice: &Row) {
    let ml = ml.map_or_else(String::new, |ml| format!("{ml:.0}"));
    let dice: Vec<String> = dice.iter().map(|dice| format!("{dice:.3}")).collect();
    println!("| {name} | {ml} | {} |", dice.join(" | "));
}

fn scans(data: &Path) -> Result<Vec<Scan>, Box<dyn Error>> {
    let options = ReadOptions::default();
    let ids: Value = serde_json::from_slice(&std::fs::read(data.join("labels.json"))?)?;
    let mut scans = Vec::new();
    for (name, key) in [("ct_abdomen", "ct"), ("mr_abdomen", "mr")] {
        let image = Arc::new(read(&data.join(format!("{name}.nii.gz")), &options)?);
        let labels = read_labels(&data.join(format!("{name}_labels.nii.gz")), &options)?;
        let mut structures = Vec::new();
        for (id, name) in ids[key].as_object().ok_or("labels.json: not an object")? {
            let id: i32 = id.parse()?;
            let mask: Mask = labels.data.iter().map(|&label| u8::from(label == id)).collect();
            structures.push((name.as_str().ok_or("labels.json: not a name")?.to_owned(), mask));
        }
        scans.push(Scan { name, image, structures });
    }
    let image = Arc::new(read(&data.join("mr_head_t1.nii.gz"), &options)?);
    let brain = read(&data.join("mr_head_t1_brain.nii.gz"), &options)?;
    let mask = brain.data.iter().map(|&value| u8::from(value > 0.0)).collect();
    scans.push(Scan { name: "mr_head_t1", image, structures: vec![("brain".into(), mask)] });
    for scan in &mut scans {
        let voxel = scan.image.geometry.voxel_volume_mm3() / 1000.0;
        scan.structures.retain(|(_, mask)| mask.iter().filter(|&&v| v > 0).count() as f64 * voxel >= MIN_ML);
        scan.structures.sort_by(|a, b| a.0.cmp(&b.0));
    }
    Ok(scans)
}

/// Dice of each column.
fn measure(
    session: &mut Session,
    image: &Arc<Volume<f32>>,
    name: &str,
    mask: &Mask,
    seed: u64,
) -> Result<Row, Box<dyn Error>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let size = image.geometry.size;
    let place = |index: usize| [index % size[0], index / size[0] % size[1], index / (size[0] * size[1])];
    let inside: Vec<usize> = (0..mask.len()).filter(|&index| mask[index] > 0).collect();
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for &index in &inside {
        for (axis, at) in place(index).into_iter().enumerate() {
            low[axis] = low[axis].min(at);
            high[axis] = high[axis].max(at);
        }
    }
    let tight = [low.map(|at| at as f64 - 0.5), high.map(|at| at as f64 + 0.5)];
    let moved = std::array::from_fn(|corner: usize| {
        std::array::from_fn(|axis| {
            let reach = 0.1 * (tight[1][axis] - tight[0][axis]);
            let at: f64 = tight[corner][axis] + reach * random.random_range(-1.0..1.0);
            at.clamp(-0.5, size[axis] as f64 - 0.5)
        })
    });
    let points: Vec<Point> = (0..5)
        .map(|_| {
            let at = place(inside[random.random_range(0..inside.len())]);
            Point { position: at.map(|at| at as f64), space: Space::Ijk, positive: true }
        })
        .collect();
    let mut run =
        |text: Option<&str>, corners: Option<[[f64; 3]; 2]>, points: &[Point]| -> Result<f64, Box<dyn Error>> {
            session.clear_prompts();
            session.set_box(corners.map(|corners| BoxPrompt { corners, space: Space::Ijk }))?;
            for &point in points {
                session.add_point(point)?;
            }
            // Words that the model does not know are an error of the text's.
            if session.set_text(text).is_err() {
                return Ok(0.0);
            }
            Ok(dice(&session.segment(&Hooks::default())?.mask().data, mask))
        };
    let ellipsoid: Mask = (0..mask.len())
        .map(|index| {
            let at = place(index);
            let square: f64 = (0..3)
                .map(|axis| {
                    let half = (tight[1][axis] - tight[0][axis]) / 2.0;
                    ((at[axis] as f64 - (tight[0][axis] + tight[1][axis]) / 2.0) / half).powi(2)
                })
                .sum();
            u8::from(square <= 1.0)
        })
        .collect();
    // The most first: a run that only adds points to the one before corrects its mask.
    let [five, three, one] = [5, 3, 1].map(|count| run(None, None, &points[..count]));
    let (five, three, one) = (five?, three?, one?);
    Ok([
        run(Some(name), None, &[])?,
        run(None, Some(tight), &[])?,
        run(None, Some(moved), &[])?,
        one,
        three,
        five,
        run(Some(name), Some(tight), &[])?,
        run(None, Some(tight), &points[..3])?,
        dice(&ellipsoid, mask),
        otsu(image, mask, low, high),
    ])
}

fn dice(found: &[u8], wanted: &[u8]) -> f64 {
    let both = found.iter().zip(wanted).filter(|&(&a, &b)| a > 0 && b > 0).count();
    let either = found.iter().chain(wanted).filter(|&&value| value > 0).count();
    2.0 * both as f64 / either.max(1) as f64
}

/// Dice of the better side of Otsu's threshold over the voxels of a box.
fn otsu(image: &Volume<f32>, mask: &Mask, low: [usize; 3], high: [usize; 3]) -> f64 {
    const BINS: usize = 256;
    let [nx, ny, _] = image.geometry.size;
    let mut voxels = Vec::new();
    for z in low[2]..=high[2] {
        for y in low[1]..=high[1] {
            voxels.extend((low[0]..=high[0]).map(|x| x + nx * (y + ny * z)));
        }
    }
    let values = || voxels.iter().map(|&index| image.data[index]);
    let (least, most) = (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max));
    let width = f64::from(most - least).max(1e-9) / BINS as f64;
    let mut bins = [0.0; BINS];
    values().for_each(|value| bins[((f64::from(value - least) / width) as usize).min(BINS - 1)] += 1.0);
    let (count, sum): (f64, f64) = (bins.iter().sum(), bins.iter().enumerate().map(|(bin, n)| bin as f64 * n).sum());
    let (mut below, mut below_sum, mut best, mut cut) = (0.0, 0.0, -1.0, 0);
    for (bin, n) in bins.iter().enumerate() {
        below += n;
        below_sum += bin as f64 * n;
        if below == 0.0 || below == count {
            continue;
        }
        let difference = below_sum / below - (sum - below_sum) / (count - below);
        let between = below * (count - below) * difference * difference;
        if between > best {
            (best, cut) = (between, bin + 1);
        }
    }
    let threshold = least + (cut as f64 * width) as f32;
    let side = |above: bool| {
        let mut found = vec![0; mask.len()];
        voxels.iter().filter(|&&index| (image.data[index] >= threshold) == above).for_each(|&index| found[index] = 1);
        dice(&found, mask)
    };
    side(true).max(side(false))
}
