//! Official tensor names and ours: every rewriting there is, in commented tables.
//!
//! A name in a model folder is the official one without its wrapper's prefix, except where [`KEY_MAP`] says so.

/// The layouts in which official weights are published or saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `pytorch_model.bin` of the Hugging Face hub: a flat state dict, every name after `model.`.
    HuggingFace,
    /// `SegVol_v1.pth` of the original repository: `{'model': {'module.*'}, 'epoch', ...}`, saved from DataParallel.
    GitHub,
    /// `ViT_pretrain.ckpt`: `{'state_dict': {'model.encoder.*'}}`, the image encoder alone.
    VitPretrain,
    /// A checkpoint of PyTorch Lightning: `{'state_dict': {'_model.model.*'}, ...}`.
    Lightning,
    /// Names without any prefix, such as those of a model folder.
    Bare,
}

impl Layout {
    /// What the layout is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face (model.*)",
            Self::GitHub => "GitHub (module.*)",
            Self::VitPretrain => "ViT pre-training (model.encoder.*, image encoder only)",
            Self::Lightning => "PyTorch Lightning (_model.model.*)",
            Self::Bare => "bare names",
        }
    }
}

/// Prefix of every name -> layout. The more specific first.
const PREFIXES: &[(&str, Layout)] = &[
    ("_model.model.", Layout::Lightning),
    ("module.model.", Layout::GitHub), // the hub's model saved from DataParallel
    ("module.", Layout::GitHub),
    ("model.", Layout::HuggingFace),
    ("", Layout::Bare),
];

/// What follows the prefix in a checkpoint of the whole model.
const PARTS: &[&str] = &["image_encoder.", "text_encoder.", "prompt_encoder.", "mask_decoder."];

/// Marks the names a ViT pre-training file is read for; its other names are ignored, as by the original's loader.
const VIT_MARK: &str = "model.encoder.";
/// What follows the mark, so that another model's `text_model.encoder.` is not taken for it.
const VIT_PARTS: &[&str] = &["patch_embedding.", "blocks.", "norm."];

/// Start of an official name -> start of our name. Order matters: the first that fits is applied.
const KEY_MAP: &[(&str, &str)] = &[
    // Index 0 of the Sequential is the rearrangement of voxels into patches, which has no weights.
    ("image_encoder.patch_embedding.patch_embeddings.1.", "image_encoder.patch_embedding.proj."),
    // `CLIPTextModel` wraps a `text_model` up to transformers 4, and is flat from 5 on.
    ("text_encoder.clip_text_model.text_model.", "text_encoder.clip."),
    ("text_encoder.clip_text_model.", "text_encoder.clip."),
    // A Sequential again; 2 and 4 are activations.
    ("mask_decoder.output_upscaling.0.", "mask_decoder.output_upscaling.conv1."),
    ("mask_decoder.output_upscaling.1.", "mask_decoder.output_upscaling.norm."),
    ("mask_decoder.output_upscaling.3.", "mask_decoder.output_upscaling.conv2."),
];

/// Tensors of official files that the network never uses: part of their name, and why. Present or not, they do no harm.
const DROPPED: &[(&str, &str)] = &[
    ("text_encoder.clip.embeddings.position_ids", "the numbers 0, 1, 2, ...; transformers 5 no longer saves them"),
    (".norm_cross_attn.", "registered by newer MONAI, used by nothing"),
    ("prompt_encoder.mask_downscaling.", "2-D convolutions, which cannot take a 3-D mask: dead weight"),
];

/// What becomes of an official name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// A tensor of the model, under this name.
    Model(String),
    /// Known to be of no use, for this reason.
    Dropped(&'static str),
    /// Not part of what this layout is read for.
    Ignored,
}

/// The layout of a file, told by its names; `None` where they are not those of a SegVol.
pub(crate) fn layout(names: &[&str]) -> Option<(Layout, &'static str)> {
    let is_part = |rest: &str, parts: &[&str]| parts.iter().any(|part| rest.starts_with(part));
    let whole = PREFIXES.iter().find(|(prefix, _)| {
        names.iter().any(|name| name.strip_prefix(prefix).is_some_and(|rest| is_part(rest, PARTS)))
    });
    let vit = |name: &str| name.split_once(VIT_MARK).is_some_and(|(_, rest)| is_part(rest, VIT_PARTS));
    match whole {
        Some(&(prefix, layout)) => Some((layout, prefix)),
        None => names.iter().any(|name| vit(name)).then_some((Layout::VitPretrain, "")),
    }
}

/// Our name of an official one in a file of this layout and prefix.
pub(crate) fn map(name: &str, layout: Layout, prefix: &str) -> Mapped {
    let official = if layout == Layout::VitPretrain {
        match name.split_once(VIT_MARK) {
            Some((_, rest)) => format!("image_encoder.{rest}"),
            None => return Mapped::Ignored,
        }
    } else {
        // A name without the prefix stays as it is, and is reported as unexpected under that name.
        match name.strip_prefix(prefix) {
            Some(rest) => rest.to_owned(),
            None => return Mapped::Model(name.to_owned()),
        }
    };
    let renamed = KEY_MAP.iter().find_map(|(from, to)| Some(format!("{to}{}", official.strip_prefix(from)?)));
    let ours = renamed.unwrap_or(official);
    match DROPPED.iter().find(|(part, _)| ours.contains(part)) {
        Some((_, why)) => Mapped::Dropped(why),
        None => Mapped::Model(ours),
    }
}

/// Our name of an official name with any of the known prefixes; `None` if the model does not use that tensor.
pub fn model_name(name: &str) -> Option<String> {
    let (layout, prefix) = layout(&[name])?;
    if let Mapped::Model(ours) = map(name, layout, prefix) { Some(ours) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_names_are_mapped_from_every_layout() {
        for (official, ours) in [
            (
                "model.image_encoder.patch_embedding.patch_embeddings.1.weight",
                Some("image_encoder.patch_embedding.proj.weight"),
            ),
            (
                "module.image_encoder.patch_embedding.position_embeddings",
                Some("image_encoder.patch_embedding.position_embeddings"),
            ),
            ("model.encoder.blocks.3.attn.qkv.weight", Some("image_encoder.blocks.3.attn.qkv.weight")),
            ("_model.model.mask_decoder.output_upscaling.1.bias", Some("mask_decoder.output_upscaling.norm.bias")),
            (
                "model.text_encoder.clip_text_model.text_model.encoder.layers.0.mlp.fc1.bias",
                Some("text_encoder.clip.encoder.layers.0.mlp.fc1.bias"),
            ),
            ("text_encoder.clip_text_model.final_layer_norm.weight", Some("text_encoder.clip.final_layer_norm.weight")),
            ("mask_decoder.output_upscaling.conv2.weight", Some("mask_decoder.output_upscaling.conv2.weight")),
            ("model.text_encoder.clip_text_model.embeddings.position_ids", None),
            ("model.image_encoder.blocks.0.norm_cross_attn.weight", None),
            ("module.prompt_encoder.mask_downscaling.6.bias", None),
            ("text_model.encoder.layers.0.weight", None),
            ("fc.weight", None),
        ] {
            assert_eq!(model_name(official).as_deref(), ours, "{official}");
        }
    }

    #[test]
    fn import_layout_is_not_confused_by_a_text_encoder() {
        let hub = ["model.text_encoder.clip_text_model.text_model.encoder.layers.0.x", "model.image_encoder.norm.bias"];
        assert_eq!(layout(&hub), Some((Layout::HuggingFace, "model.")));
        let vit = ["model.encoder.norm.bias", "model.decoder.x"];
        assert_eq!(layout(&vit), Some((Layout::VitPretrain, "")));
        assert_eq!(map("model.decoder.x", Layout::VitPretrain, ""), Mapped::Ignored);
        assert_eq!(layout(&["text_model.encoder.layers.0.x"]), None);
    }
}
