//! Checkpoints made without PyTorch: a pickle assembler, a zip writer, a small model.

use crate::checkpoint::{ImportOptions, expected_tensors};
use crate::config::ModelConfig;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Name -> shape and elements.
pub(super) type State = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A model of a few kilobytes whose every number differs from the published one where it can.
pub(super) fn small_config() -> ModelConfig {
    let mut config = ModelConfig::default();
    config.image_encoder.image_size = [8, 32, 16];
    config.image_encoder.embed_dim = 64;
    config.image_encoder.num_layers = 2;
    config.image_encoder.num_heads = 1;
    config.image_encoder.mlp_dim = 24;
    config.text_encoder.vocab_size = 11;
    config.text_encoder.context_length = 5;
    config.text_encoder.width = 64;
    config.text_encoder.num_layers = 1;
    config.text_encoder.num_heads = 1;
    config.text_encoder.mlp_dim = 9;
    config.mask_decoder.num_layers = 1;
    config.mask_decoder.mlp_dim = 10;
    config.mask_decoder.num_mask_tokens = 2;
    config.mask_decoder.iou_head_hidden = 6;
    config
}

/// Our name -> the official one, after the layout's prefix.
pub(super) fn official(ours: &str) -> String {
    ours.replace("patch_embedding.proj.", "patch_embedding.patch_embeddings.1.")
        .replace("text_encoder.clip.", "text_encoder.clip_text_model.text_model.")
        .replace("output_upscaling.conv1.", "output_upscaling.0.")
        .replace("output_upscaling.norm.", "output_upscaling.1.")
        .replace("output_upscaling.conv2.", "output_upscaling.3.")
}

pub(super) fn value(name: &str, index: usize) -> f32 {
    let seed: usize = name.bytes().map(usize::from).sum();
    ((seed * 31 + index * 7) % 1013) as f32 / 512.0 - 1.0
}

/// The tensors of a model under official names with `prefix`, with one of each kind that is dropped.
pub(super) fn state(config: &ModelConfig, prefix: &str) -> State {
    let fill = |name: &str, shape: Vec<usize>| {
        let count = shape.iter().product();
        (format!("{prefix}{}", official(name)), (shape, (0..count).map(|index| value(name, index)).collect()))
    };
    let mut state: State =
        expected_tensors(config).into_iter().map(|tensor| fill(&tensor.name, tensor.shape)).collect();
    state.extend([
        fill("prompt_encoder.mask_downscaling.0.weight", vec![4, 1, 2, 2]),
        fill("image_encoder.blocks.0.norm_cross_attn.weight", vec![64]),
        fill("text_encoder.clip.embeddings.position_ids", vec![1, 5]),
    ]);
    state
}

/// Writes pickles operation by operation.
#[derive(Clone, Default)]
pub(super) struct Assembler(pub(super) Vec<u8>);

impl Assembler {
    pub(super) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn str(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub(super) fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    pub(super) fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |pickle, &value| pickle.int(value)).raw(b"t")
    }

    /// What `torch.save` writes for a tensor.
    pub(super) fn tensor(self, view: &View) -> Self {
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .str("storage")
            .raw(format!("ctorch\n{}\n", view.class).as_bytes())
            .str(&view.key)
            .str("cpu")
            .int(view.elements)
            .raw(b"tQ")
            .int(view.offset)
            .ints(&view.shape)
            .ints(&view.strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) class: &'static str,
    pub(super) key: String,
    pub(super) elements: i64,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

impl View {
    /// A contiguous tensor of floats that is its whole storage.
    pub(super) fn whole(key: &str, shape: &[usize]) -> Self {
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let elements = shape.iter().product();
        Self { class: "FloatStorage", key: key.into(), elements, offset: 0, shape, strides }
    }
}

/// A stored zip archive, its checksums left zero as nothing here reads them.
pub(super) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (start, size) = (file.len() as u32, (data.len() as u32).to_le_bytes());
        let common = [&[0; 10][..], &[0; 4], &size, &size, &(name.len() as u16).to_le_bytes()].concat();
        file.extend([b"PK\x03\x04", &common[..], &[0, 0], name.as_bytes(), data].concat());
        let tail = [&[0; 10][..], &start.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02\0\0", &common[..], &[0, 0], &tail].concat());
    }
    let (count, offset) = ((entries.len() as u16).to_le_bytes(), (file.len() as u32).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    file.extend([&directory[..], b"PK\x05\x06", &[0; 4], &count, &count, &size, &offset, &[0, 0]].concat());
    file
}

/// An archive as `torch.save` writes it.
pub(super) fn archive(pickle: Vec<u8>, storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries = vec![("a/data.pkl".into(), pickle), ("a/byteorder".into(), b"little".to_vec())];
    entries.extend(storages.iter().map(|(key, data)| (format!("a/data/{key}"), data.clone())));
    zip(&entries)
}

pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A state dict as `torch.save` writes it; `open` and `close` go around the dictionary.
pub(super) fn torch_file(state: &State, open: &[u8], close: &[u8]) -> Vec<u8> {
    let mut pickle = Assembler::new().raw(open).raw(b"ccollections\nOrderedDict\n)R(");
    let mut storages = Vec::new();
    for (index, (name, (shape, values))) in state.iter().enumerate() {
        let key = index.to_string();
        pickle = pickle.str(name).tensor(&View::whole(&key, shape));
        storages.push((key, floats(values)));
    }
    let pickle = pickle.raw(b"u}").str("_metadata").raw(b"}sb").raw(close).stop();
    let storages: Vec<_> = storages.iter().map(|(key, data)| (key.as_str(), data.clone())).collect();
    archive(pickle, &storages)
}

pub(super) fn safetensors_file(state: &State) -> Vec<u8> {
    let data: Vec<_> = state.iter().map(|(name, (shape, values))| (name, shape.clone(), floats(values))).collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A temporary folder with a tokenizer in it.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) options: ImportOptions,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer.json");
        std::fs::write(&tokenizer, r#"{"model": {"vocab": {}}}"#).unwrap();
        let (config, name, license) = (None, Some("small".into()), Some("CC0-1.0".into()));
        let options = ImportOptions { tokenizer, config, allow_missing: false, overwrite: false, name, license };
        Self { folder, options }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The names in the folder, sorted.
    pub(super) fn listing(&self) -> Vec<String> {
        list(self.folder.path())
    }
}

pub(super) fn list(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
