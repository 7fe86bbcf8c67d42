//! The prompt encoder: points, boxes and text become sparse tokens (reference: SegVol's `PromptEncoder`, quirks 7-16).

use crate::config::PromptEncoderConfig;
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Tensor, TensorData};
use std::f64::consts::TAU;

/// Learned tokens for points and box corners, and the random Fourier features that encode where they are.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    pe_layer: PositionEmbeddingRandom,
    /// Negative point, positive point, first box corner, second box corner.
    point_embeddings: Vec<Embedding>,
    not_a_point_embed: Embedding,
    no_mask_embed: Embedding,
    image_depth: usize,
    image_height: usize,
    image_width: usize,
    mixed_axes: bool,
}

impl PromptEncoder {
    /// For a window of `image_size` (D, H, W) and tokens of width `embed_dim`.
    pub fn new(image_size: [usize; 3], embed_dim: usize, config: &PromptEncoderConfig, device: &Device) -> Self {
        let embedding = || EmbeddingConfig::new(1, embed_dim).init(device);
        let [image_depth, image_height, image_width] = image_size;
        Self {
            pe_layer: PositionEmbeddingRandom::new(embed_dim / 2, device),
            point_embeddings: (0..4).map(|_| embedding()).collect(),
            not_a_point_embed: embedding(),
            no_mask_embed: embedding(),
            image_depth,
            image_height,
            image_width,
            mixed_axes: config.mixed_axes,
        }
    }

    /// Sparse tokens in the decoder's order: points, a padding token where points come without a box, the two box
    /// corners, the text. At least one prompt must be given.
    ///
    /// # Shapes
    /// - points: `[batch, n, 3]` as (d, h, w) in voxels of the window; labels: `[batch, n]`, 1 positive, 0 negative,
    ///   -1 not a point
    /// - boxes: `[batch, 6]` as (d0, h0, w0, d1, h1, w1), inclusive corners
    /// - text: `[batch, embed_dim]`
    /// - output: `[batch, tokens, embed_dim]`
    pub fn forward(
        &self,
        points: Option<(Tensor<3>, Tensor<2>)>,
        boxes: Option<Tensor<2>>,
        text: Option<Tensor<2>>,
    ) -> Tensor<3> {
        let mut sparse = Vec::new();
        if let Some((points, labels)) = points {
            sparse.push(self.embed_points(points, labels, boxes.is_none()));
        }
        if let Some(boxes) = boxes {
            sparse.push(self.embed_boxes(boxes));
        }
        if let Some(text) = text {
            sparse.push(text.unsqueeze_dim(1));
        }
        assert!(!sparse.is_empty(), "the prompt encoder needs a prompt");
        Tensor::cat(sparse, 1)
    }

    fn embed_points(&self, points: Tensor<3>, labels: Tensor<2>, pad: bool) -> Tensor<3> {
        let [batch, _, _] = points.dims();
        let device = points.device();
        let (mut points, mut labels) = (points + 0.5, labels);
        if pad {
            // Quirk 12: without a box one token of label -1 follows the points.
            points = Tensor::cat(vec![points, Tensor::zeros([batch, 1, 3], &device)], 1);
            labels = Tensor::cat(vec![labels, -Tensor::<2>::ones([batch, 1], &device)], 1);
        }
        let is = |label: f32| labels.clone().equal_elem(label).float().unsqueeze_dim::<3>(2);
        let encoding = self.pe_layer.forward(self.normalise(points));
        encoding * (-is(-1.0) + 1.0)
            + is(-1.0) * token(&self.not_a_point_embed)
            + is(0.0) * token(&self.point_embeddings[0])
            + is(1.0) * token(&self.point_embeddings[1])
    }

    fn embed_boxes(&self, boxes: Tensor<2>) -> Tensor<3> {
        let [batch, _] = boxes.dims();
        let corners = self.pe_layer.forward(self.normalise(boxes.reshape([batch, 2, 3]) + 0.5));
        corners + Tensor::cat(vec![token(&self.point_embeddings[2]), token(&self.point_embeddings[3])], 1)
    }

    /// Quirk 9: (d, h, w) are divided by (H, D, W). The axes disagree with [`dense_pe`](Self::dense_pe), and the
    /// trained weights rely on it, unless the configuration says they do not.
    fn normalise(&self, coordinates: Tensor<3>) -> Tensor<3> {
        let [depth, height, width] = [self.image_depth, self.image_height, self.image_width].map(|size| size as f32);
        let divisor = if self.mixed_axes { [height, depth, width] } else { [depth, height, width] };
        let divisor = Tensor::<1>::from_data(TensorData::from(divisor), &coordinates.device());
        coordinates / divisor.unsqueeze()
    }

    /// The positional encoding of every image token.
    ///
    /// # Shapes
    /// - output: `[1, d * h * w, embed_dim]`, tokens row-major over `grid` = (d, h, w)
    pub fn dense_pe(&self, grid: [usize; 3]) -> Tensor<3> {
        let [d, h, w] = grid;
        let centre = |k: usize, size: usize| (k as f32 + 0.5) / size as f32;
        let mut coordinates = Vec::with_capacity(3 * d * h * w);
        for (i, j, k) in (0..d).flat_map(|i| (0..h).flat_map(move |j| (0..w).map(move |k| (i, j, k)))) {
            // Quirk 8: component 0 follows the H axis, component 1 the D axis.
            let (first, second) = if self.mixed_axes { ((j, h), (i, d)) } else { ((i, d), (j, h)) };
            coordinates.extend([centre(first.0, first.1), centre(second.0, second.1), centre(k, w)]);
        }
        let device = self.no_mask_embed.weight.val().device();
        self.pe_layer.forward(Tensor::from_data(TensorData::new(coordinates, [1, d * h * w, 3]), &device))
    }

    /// The dense prompt: `[1, 1, embed_dim]`, to be added to every image token. SegVol has no mask prompt (quirk 16),
    /// so it is always the "no mask" token.
    pub fn dense_prompt(&self) -> Tensor<3> {
        token(&self.no_mask_embed)
    }

    /// Encodes coordinates that are already shifted to voxel centres: `[batch, n, 3]` -> `[batch, n, embed_dim]`.
    pub fn encode_coordinates(&self, coordinates: Tensor<3>) -> Tensor<3> {
        self.pe_layer.forward(self.normalise(coordinates))
    }
}

/// A one-row embedding as `[1, 1, embed_dim]`.
fn token(embedding: &Embedding) -> Tensor<3> {
    embedding.weight.val().unsqueeze_dim(0)
}

/// Random Fourier features (reference: SAM's `PositionEmbeddingRandom`, in three dimensions).
#[derive(Module, Debug)]
pub struct PositionEmbeddingRandom {
    positional_encoding_gaussian_matrix: Param<Tensor<2>>,
}

impl PositionEmbeddingRandom {
    fn new(features: usize, device: &Device) -> Self {
        let matrix = Initializer::Normal { mean: 0.0, std: 1.0 }.init([3, features], device);
        Self { positional_encoding_gaussian_matrix: matrix }
    }

    /// # Shapes
    /// - coordinates: `[batch, n, 3]` in `[0, 1]` (not clamped)
    /// - output: `[batch, n, 2 * features]`: sines, then cosines
    fn forward(&self, coordinates: Tensor<3>) -> Tensor<3> {
        let matrix = self.positional_encoding_gaussian_matrix.val().unsqueeze_dim(0);
        let phase = (coordinates * 2.0 - 1.0).matmul(matrix) * TAU;
        Tensor::cat(vec![phase.clone().sin(), phase.cos()], 2)
    }
}
