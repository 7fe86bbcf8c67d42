//! The file of an atlas.

use super::whole_body::WholeBody;
use super::{Atlas, BYTES, BoxPlace, NUMBERS};
use crate::error::{Error, Result};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;

/// The tensor of whole bodies, and what the metadata says of them.
const BODIES: &str = "bodies";
/// An atlas that unpacks to more than this is refused.
const MAX_BYTES: u64 = 256 << 20;

impl Atlas {
    /// Reads a safetensors file, compressed by gzip, of `places`, float32 `[shapes, 7]` (edges, offset, cut); `shapes`, bytes
    /// `[shapes, 216]`; and `bodies`, the labels of all whole bodies one after the other, whose sizes and structures its
    /// metadata has as JSON.
    ///
    /// # Errors
    /// Anything else; `path` names the file.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::format(path, what);
        let mut unpacked = Vec::new();
        let mut packed = GzDecoder::new(bytes).take(MAX_BYTES + 1);
        packed.read_to_end(&mut unpacked).map_err(|error| wrong(format!("malformed gzip: {error}")))?;
        if unpacked.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("more than {MAX_BYTES} bytes when unpacked")));
        }
        let bytes = &unpacked[..];
        let file = SafeTensors::deserialize(bytes).map_err(|error| wrong(format!("malformed safetensors: {error}")))?;
        let tensor = |name: &str, dtype: Dtype, columns: usize| {
            let view = file.tensor(name).map_err(|_| wrong(format!("no tensor {name}")))?;
            match (view.dtype() == dtype, view.shape()) {
                (true, &[rows, found]) if found == columns => Ok((rows, view)),
                _ => Err(wrong(format!(
                    "{name} is {:?} of {:?}, not {dtype:?} of [shapes, {columns}]",
                    view.dtype(),
                    view.shape()
                ))),
            }
        };
        let (count, places) = tensor("places", Dtype::F32, NUMBERS)?;
        let (shapes_count, shapes) = tensor("shapes", Dtype::U8, BYTES)?;
        if count != shapes_count {
            return Err(wrong(format!("{count} places for {shapes_count} shapes")));
        }
        let (numbers, _) = places.data().as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let (numbers, _) = numbers.as_chunks::<NUMBERS>();
        if numbers
            .iter()
            .any(|place| !place.iter().all(|number| number.is_finite()) || place[..3].iter().any(|&edge| edge <= 0.0))
        {
            return Err(wrong("a place that cannot be".into()));
        }
        let (shapes, _) = shapes.data().as_chunks::<BYTES>();
        Ok(Self {
            places: numbers.iter().copied().map(BoxPlace::from_numbers).collect(),
            shapes: shapes.to_vec(),
            bodies: bodies(bytes, &file).map_err(|problem| wrong(format!("bodies: {problem}")))?,
        })
    }

    /// The file that [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let places: Vec<u8> =
            self.places.iter().flat_map(BoxPlace::numbers).flat_map(|number| number.to_le_bytes()).collect();
        let shapes = self.shapes.concat();
        let labels: Vec<u8> = self.bodies.iter().flat_map(|body| &body.labels).copied().collect();
        let view = |dtype, shape: &[usize], bytes| {
            TensorView::new(dtype, shape.to_vec(), bytes).expect("as many bytes as the shape says")
        };
        let views = [
            ("places", view(Dtype::F32, &[self.len(), NUMBERS], &places)),
            ("shapes", view(Dtype::U8, &[self.len(), BYTES], &shapes)),
            (BODIES, view(Dtype::U8, &[labels.len()], &labels)),
        ];
        let described: Vec<Described> =
            self.bodies.iter().map(|body| Described { size: body.size, structures: body.structures.clone() }).collect();
        let described = serde_json::to_string(&described).expect("names and numbers");
        let file = safetensors::serialize(views, Some([(BODIES.to_owned(), described)].into()));
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&file.expect("names and numbers")).expect("memory takes all");
        packed.finish().expect("memory takes all")
    }
}

/// What the metadata of an atlas says of a whole body.
#[derive(Serialize, Deserialize)]
struct Described {
    size: [usize; 3],
    structures: Vec<(String, Vec<u8>)>,
}

/// The whole bodies of an atlas's file.
fn bodies(bytes: &[u8], file: &SafeTensors) -> std::result::Result<Vec<WholeBody>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let described = header.metadata().as_ref().and_then(|metadata| metadata.get(BODIES)).ok_or("not described")?;
    let described: Vec<Described> = serde_json::from_str(described).map_err(|error| error.to_string())?;
    let labels = file.tensor(BODIES).map_err(|error| error.to_string())?;
    if labels.dtype() != Dtype::U8 {
        return Err(format!("{:?}, not U8", labels.dtype()));
    }
    let mut rest = labels.data();
    let mut bodies = Vec::new();
    for Described { size, structures } in described {
        let cells = size.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let (labels, after) = cells.and_then(|cells| rest.split_at_checked(cells)).ok_or("fewer labels than cells")?;
        let body = WholeBody { size, labels: labels.to_vec(), structures };
        if !body.is_sound() {
            return Err("one without a labelled cell".into());
        }
        bodies.push(body);
        rest = after;
    }
    if rest.is_empty() { Ok(bodies) } else { Err("more labels than cells".into()) }
}

#[cfg(test)]
mod tests {
    use super::super::CELLS;
    use super::*;
    use std::collections::BTreeSet;

    /// A box of which all or nothing is filled.
    fn entry(edge: f32, filled: bool) -> (BoxPlace, Vec<bool>) {
        (BoxPlace { edges: [edge; 3], offset: [0.0; 2], cut: [false; 2] }, vec![filled; CELLS])
    }

    #[test]
    fn an_atlas_comes_back_from_its_file_and_another_file_is_refused() {
        let body = |labels: &[u8]| WholeBody {
            size: [1, 2, labels.len() / 2],
            labels: labels.to_vec(),
            structures: vec![("liver".into(), vec![1, 2])],
        };
        let bodies = vec![body(&[0, 1, 2, 0]), body(&[1, 1])];
        let atlas = Atlas::new([entry(50.0, true), entry(200.0, false)]).with_bodies(bodies);
        let path = Path::new("anatomy.safetensors.gz");
        let bytes = atlas.to_bytes();
        assert_eq!(Atlas::from_bytes(&bytes, path).expect("its own file"), atlas);
        assert_eq!(atlas.structures(), BTreeSet::from(["liver"]));
        assert!(atlas.knows("the Liver") && !atlas.knows("spleen"));
        let error = Atlas::from_bytes(&bytes[..bytes.len() - 1], path).expect_err("cut short").to_string();
        assert!(error.contains("anatomy.safetensors.gz"), "{error}");
        let mut broken = atlas.clone();
        broken.places[1].edges[0] = f32::NAN;
        assert!(Atlas::from_bytes(&broken.to_bytes(), path).is_err());
        for (body, size) in [(0, [1, 2, 3]), (1, [1, 1, 1]), (1, [usize::MAX, 2, 1])] {
            let mut broken = atlas.clone();
            broken.bodies[body].size = size;
            let error = Atlas::from_bytes(&broken.to_bytes(), path).expect_err("other sizes").to_string();
            assert!(error.contains("bodies: "), "{error}");
        }
        let mut empty = atlas.clone();
        empty.bodies[1].labels.fill(0);
        assert!(Atlas::from_bytes(&empty.to_bytes(), path).is_err());
    }
}
