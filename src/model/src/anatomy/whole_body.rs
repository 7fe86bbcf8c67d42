//! Whole bodies: which structure each cell of a coarse grid belongs to.

use std::collections::BTreeSet;
use std::ops::Range;

/// Millimetres along each edge of a cell.
pub const CELL: f32 = 6.0;

/// A body that stands upright, axes (d, h, w): feet first, back first, left first.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeBody {
    /// Cells along (d, h, w), each [`CELL`] wide.
    pub size: [usize; 3],
    /// What each cell is, row-major; 0 for what surrounds the body. Numbers are the body's own.
    pub labels: Vec<u8>,
    /// Names of structures, and the labels they are made of.
    pub structures: Vec<(String, Vec<u8>)>,
}

impl WholeBody {
    /// Whether it can be: as many labels as cells, and a body among them.
    pub(super) fn is_sound(&self) -> bool {
        self.size.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) == Some(self.labels.len())
            && self.labels.iter().any(|&label| label > 0)
    }

    /// The labels of the structure that a text names, as a table by label; `None` where it has no such structure.
    pub(super) fn named(&self, text: &BTreeSet<String>) -> Option<[bool; 256]> {
        let (_, labels) = self.structures.iter().find(|(name, _)| words(name) == *text)?;
        let mut table = [false; 256];
        labels.iter().for_each(|&label| table[usize::from(label)] = true);
        table.iter().any(|&label| label).then_some(table)
    }

    /// First cell and end along (d, h, w) of each label in a part of the body; `None` where it has none.
    pub(super) fn bounds_by_label(&self, part: &[Range<usize>; 3]) -> Vec<Option<[[usize; 3]; 2]>> {
        let [depth, height, width] = std::array::from_fn(|axis| part[axis].start..part[axis].end.min(self.size[axis]));
        let mut bounds = vec![None; 256];
        for d in depth {
            for h in height.clone() {
                for w in width.clone() {
                    let label = self.labels[(d * self.size[1] + h) * self.size[2] + w];
                    let cell = [[d, h, w], [d + 1, h + 1, w + 1]];
                    let bounds = &mut bounds[usize::from(label)];
                    *bounds = Some(bounds.map_or(cell, |bounds| joined(bounds, cell)));
                }
            }
        }
        bounds
    }

    /// First cell and end along (d, h, w) of what a table of labels holds, `None` of nothing.
    pub(super) fn bounds(&self, table: &[bool; 256], planes: Range<usize>) -> Option<[[usize; 3]; 2]> {
        let [_, height, width] = self.size;
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for d in planes {
            for h in 0..height {
                let row = &self.labels[(d * height + h) * width..][..width];
                for (w, _) in row.iter().enumerate().filter(|(_, label)| table[usize::from(**label)]) {
                    for (axis, at) in [d, h, w].into_iter().enumerate() {
                        (low[axis], high[axis]) = (low[axis].min(at), high[axis].max(at + 1));
                    }
                }
            }
        }
        (high[0] > 0).then_some([low, high])
    }
}

/// The least box that holds two.
pub(super) fn joined([low, high]: [[usize; 3]; 2], [other_low, other_high]: [[usize; 3]; 2]) -> [[usize; 3]; 2] {
    [
        std::array::from_fn(|axis| low[axis].min(other_low[axis])),
        std::array::from_fn(|axis| high[axis].max(other_high[axis])),
    ]
}

/// The words of a name, whatever their order, as they are compared: `kidney_left` is the left kidney, and `vertebrae L1` the
/// vertebra L1.
pub(super) fn words(name: &str) -> BTreeSet<String> {
    name.to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !matches!(*word, "" | "the" | "a" | "of" | "and"))
        .map(|word| match word {
            "vertebrae" => "vertebra",
            "vena" => "vein",
            "cartilage" => "cartilages",
            "disc" => "discs",
            word => word,
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_their_words() {
        for (text, name) in [
            ("The liver", "liver"),
            ("kidney_left", "left kidney"),
            ("vertebrae_L1", "vertebra L1"),
            ("iliac_vena_left", "left iliac vein"),
            ("portal_vein_and_splenic_vein", "portal vein and splenic vein"),
        ] {
            assert_eq!(words(text), words(name));
        }
        assert_ne!(words("left kidney"), words("right kidney"));
    }
}
