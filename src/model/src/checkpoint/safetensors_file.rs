//! Reading and writing safetensors.
//!
//! Reading goes through the `safetensors` crate's own validation (ranges inside the file, no overlap, no gap).
//! Writing is done here, because the crate aligns tensor data to 8 bytes and a mapped model wants 64.

use super::tensor_file::{Contents, ElementType, Entry, Problem, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, json};
use std::io::{self, Write};

/// A longer header is no checkpoint; that of full-size SegVol has 60 kilobytes.
const MAX_HEADER: u64 = 8 << 20;
/// A cache line, and more than any vector instruction asks for.
const ALIGNMENT: usize = 64;

/// Reads the header of a safetensors file.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, Problem> {
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    // JSON starts with a brace; anything else is another kind of file, and saying so helps more than "invalid header".
    let Some(header) = header.filter(|_| bytes.get(8) == Some(&b'{')) else {
        return Err(Problem::hinted(
            "neither a safetensors file nor a PyTorch checkpoint",
            "give a .safetensors file, or one that torch.save wrote (.bin, .pth, .ckpt)",
        ));
    };
    if header > MAX_HEADER {
        return Err(format!("the safetensors header claims {header} bytes; at most {MAX_HEADER}").into());
    }
    let (length, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| format!("malformed safetensors: {error}"))?;
    let mut contents = Contents::default();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        match element(info.dtype) {
            Some(element) => {
                let range = 8 + length + start..8 + length + end;
                contents.tensors.insert(name, Entry::contiguous(element, info.shape.clone(), range));
            }
            None => drop(contents.others.insert(name, format!("a tensor of type {:?}", info.dtype))),
        }
    }
    Ok(contents)
}

fn element(dtype: Dtype) -> Option<ElementType> {
    Some(match dtype {
        Dtype::F64 => ElementType::F64,
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::I64 => ElementType::I64,
        Dtype::I32 => ElementType::I32,
        Dtype::I16 => ElementType::I16,
        Dtype::I8 => ElementType::I8,
        Dtype::U8 => ElementType::U8,
        Dtype::BOOL => ElementType::Bool,
        _ => return None,
    })
}

/// A tensor to be written: its name, its type and shape in the file that is written.
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<usize>,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.size()
    }
}

/// Writes a safetensors file, asking `data` for one tensor after another. 64-bit floats may be given where 32-bit ones
/// are planned. Gives the number of bytes written.
///
/// Every tensor whose length is a multiple of 64 bytes starts at one; the few others follow, wider elements first, so
/// that each is aligned to its element. The format forbids gaps.
pub(crate) fn write<'a>(
    out: &mut impl Write,
    mut tensors: Vec<Planned>,
    data: impl Fn(&str) -> Option<TensorView<'a>>,
) -> io::Result<u64> {
    tensors.sort_by_key(|tensor| match tensor.bytes() % ALIGNMENT {
        0 => (false, 0),
        _ => (true, 8 - tensor.element.size()),
    });
    let header = header(&tensors);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut written = 8 + header.len() as u64;
    for tensor in &tensors {
        let lost = || io::Error::other(format!("tensor {} has gone", tensor.name));
        let view = data(&tensor.name).ok_or_else(lost)?;
        match (view.element, tensor.element) {
            (from, to) if from == to => out.write_all(&view.bytes)?,
            (ElementType::F64, ElementType::F32) => write_narrowed(out, &view.bytes)?,
            (from, to) => {
                return Err(io::Error::other(format!("tensor {}: {} as {}", tensor.name, from.name(), to.name())));
            }
        }
        written += tensor.bytes() as u64;
    }
    Ok(written)
}

/// The JSON header, padded so that the data starts at a multiple of 64 bytes.
fn header(tensors: &[Planned]) -> Vec<u8> {
    let mut header = Map::new();
    // What Python's readers look for: tensors as PyTorch lays them out.
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.bytes();
        let entry = json!({"dtype": tensor.element.name(), "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = serde_json::to_vec(&header).expect("JSON of plain numbers and names");
    header.resize((8 + header.len()).next_multiple_of(ALIGNMENT) - 8, b' ');
    header
}

/// 64-bit floats as 32-bit ones, a piece at a time.
fn write_narrowed(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(1 << 16) {
        let (wide, _) = piece.as_chunks::<8>();
        let narrow: Vec<u8> = wide.iter().flat_map(|&value| (f64::from_le_bytes(value) as f32).to_le_bytes()).collect();
        out.write_all(&narrow)?;
    }
    Ok(())
}
