//! Golden bundles: `NAME.safetensors` with `NAME.json` beside it.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Tensors and notes of one run of the reference implementation.
#[derive(Debug)]
pub struct Bundle {
    /// File name without extension.
    pub name: String,
    /// The JSON beside the tensors.
    pub json: Value,
    /// The folder that holds the weight manifests of this set of bundles.
    pub root: PathBuf,
    bytes: Vec<u8>,
}

/// The bundles of `folder` whose name matches `prefix`, sorted by name.
///
/// Where there is none, the list is empty and a line says that the test was skipped.
///
/// # Panics
/// If a folder named by `ADAPTMEDSEG_GOLDEN` holds no bundle of any kind: a set that was asked for and tests nothing is
/// a mistake.
pub fn bundles(folder: &str, prefix: &str) -> Vec<Bundle> {
    let root = golden_folder();
    let mut found: Vec<Bundle> = std::fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .filter(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(prefix)))
        .map(|path| Bundle::open(&path, &root))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if found.is_empty() {
        skipped(&format!("{} holds no bundle {folder}/{prefix}*", root.display()));
    }
    found
}

/// Notes without tensors: a JSON file of the golden folder, with the folder itself.
///
/// # Panics
/// As [`bundles`].
pub fn notes(name: &str) -> Option<(Value, PathBuf)> {
    let root = golden_folder();
    let path = root.join(name);
    if !path.is_file() {
        skipped(&format!("{} is absent", path.display()));
        return None;
    }
    let text = std::fs::read(&path).expect("a readable file");
    Some((serde_json::from_slice(&text).expect("JSON"), root))
}

/// Says that a test had nothing to test; `tests/run.sh` counts these lines.
pub fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// The folder of real volumes, if it is there.
///
/// # Panics
/// If `ADAPTMEDSEG_DATA` names a folder that is not there.
pub fn data_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("ADAPTMEDSEG_DATA").map(PathBuf::from) {
        assert!(folder.is_dir(), "ADAPTMEDSEG_DATA: {} is no folder", folder.display());
        return Some(folder);
    }
    let folder = workspace().join("../shared/data");
    if !folder.is_dir() {
        skipped("../shared/data is absent");
        return None;
    }
    Some(folder)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("ADAPTMEDSEG_GOLDEN").map(PathBuf::from) {
        let inside =
            |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_bundle = |path: PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let any = inside(&folder).any(|kind| inside(&kind).any(is_bundle));
        assert!(any, "ADAPTMEDSEG_GOLDEN: {} holds no bundle", folder.display());
        return folder;
    }
    let shared = workspace().join("../shared/golden");
    if shared.is_dir() { shared } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("golden") }
}

impl Bundle {
    fn open(path: &Path, root: &Path) -> Self {
        let read = |path: &Path| {
            std::fs::read(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
        };
        let json = serde_json::from_slice(&read(&path.with_extension("json"))).expect("a bundle's JSON");
        let name = path.file_stem().expect("listed by its name").to_string_lossy().into_owned();
        println!("bundle {name}");
        Self { name, json, root: root.to_path_buf(), bytes: read(path) }
    }

    /// The architecture's short name, as in `manifest_NAME.json`.
    pub fn config_name(&self) -> &str {
        // The sliding-window bundles carry it in their name only.
        self.json["config"].as_str().unwrap_or(if self.name.contains("full") { "full" } else { "mini" })
    }

    /// The manifest of the synthetic weights.
    pub fn manifest(&self) -> PathBuf {
        self.root.join(format!("manifest_{}.json", self.config_name()))
    }

    /// The seed of the synthetic weights.
    pub fn seed(&self) -> u64 {
        self.json["seed"].as_u64().expect("a bundle names its seed")
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }

    /// Whether the bundle has this tensor, whole or sampled.
    pub fn has(&self, name: &str) -> bool {
        let tensors = self.tensors();
        tensors.tensor(name).is_ok() || tensors.tensor(&format!("{name}.idx")).is_ok()
    }

    /// Shape of a tensor, whole or sampled.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        if let Ok(view) = self.tensors().tensor(name) {
            return view.shape().to_vec();
        }
        // Where a tensor is sampled, its statistics have the whole's shape.
        let noted = self.json["stats"][name]["shape"].as_array();
        let noted = noted.unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        noted.iter().map(|size| size.as_u64().expect("a size") as usize).collect()
    }

    /// A tensor's elements as float32, whatever they are stored as.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("{}: no tensor {name}", self.name));
        let words = view.data().chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).expect("four bytes"));
        match view.dtype() {
            Dtype::F32 => words.map(f32::from_le_bytes).collect(),
            Dtype::I32 => words.map(|word| i32::from_le_bytes(word) as f32).collect(),
            Dtype::U8 => view.data().iter().map(|&byte| f32::from(byte)).collect(),
            other => panic!("{}: {name} has element type {other:?}", self.name),
        }
    }

    /// A tensor's elements as integers.
    pub fn integers(&self, name: &str) -> Vec<i64> {
        self.floats(name).into_iter().map(|value| value as i64).collect()
    }

    /// The first `count` bits of a packed tensor, most significant first.
    pub fn bits(&self, name: &str, count: usize) -> Vec<bool> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("{}: no tensor {name}", self.name));
        (0..count).map(|bit| view.data()[bit / 8] >> (7 - bit % 8) & 1 == 1).collect()
    }

    /// The stored values of a tensor and, if it is only sampled, where they stand in it (flat, row-major).
    pub fn samples(&self, name: &str) -> (Option<Vec<usize>>, Vec<f32>) {
        if self.tensors().tensor(name).is_ok() {
            return (None, self.floats(name));
        }
        let indices = self.integers(&format!("{name}.idx")).into_iter().map(|index| index as usize).collect();
        (Some(indices), self.floats(&format!("{name}.val")))
    }
}
