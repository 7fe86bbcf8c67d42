//! Multi-page TIFF: one slice on each page, first page first.
//!
//! TIFF has no place for millimetres. ImageJ notes them in a description; without one the voxels are taken for 1 mm.

use super::{MAX_DEFLATE_RATIO, ReadOptions};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::Volume;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use tiff::decoder::{Decoder, DecodingResult, ifd::Value};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

/// A stack of slices, and whether its file says how large the voxels are.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack<T> {
    /// The voxels. Rows run along i, columns along j, pages along k.
    pub volume: Volume<T>,
    /// False: the spacing of 1 mm is nobody's word.
    pub has_spacing: bool,
}

type Reader = Decoder<BufReader<File>>;

/// Reads the pages of a TIFF file as a volume.
///
/// # Errors
/// A file that is missing, truncated or malformed; colours; pages of different sizes; more voxels than the file can hold.
pub fn read_tiff(path: &Path, options: &ReadOptions) -> Result<Stack<f32>> {
    stack(path, options, |value| Ok(value as f32))
}

/// Reads the pages of a TIFF file as a label map.
///
/// # Errors
/// As [`read_tiff`]; a voxel that is no whole number, or that does not fit into 32 bits.
pub fn read_tiff_labels(path: &Path, options: &ReadOptions) -> Result<Stack<i32>> {
    stack(path, options, |value| {
        if value.fract() == 0.0 && value >= f64::from(i32::MIN) && value <= f64::from(i32::MAX) {
            Ok(value as i32)
        } else {
            Err(format!("voxel {value} is no label: not a whole number of 32 bits"))
        }
    })
}

fn failed(path: &Path, error: TiffError) -> Error {
    match error {
        TiffError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, error),
        TiffError::IoError(_) => Error::format(path, "truncated: the TIFF file ends before its last page does"),
        TiffError::UnsupportedError(what) => Error::Unsupported {
            message: format!("{}: a TIFF file with {what}", path.display()),
            hint: Some("save it without compression, one grey value per pixel".into()),
        },
        other => Error::format(path, format!("its TIFF structure is malformed: {other}")),
    }
}

fn stack<T>(path: &Path, options: &ReadOptions, voxel: impl Fn(f64) -> Result<T, String>) -> Result<Stack<T>> {
    let io = |error| Error::io(path, error);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut reader = Decoder::new(BufReader::new(file)).map_err(|error| failed(path, error))?;
    let size = reader.dimensions().map_err(|error| failed(path, error))?;
    let spacing = spacing(&mut reader);
    let (mut data, mut pages) = (Vec::new(), 0);
    loop {
        check_page(path, &mut reader, size, data.len(), bytes, options)?;
        let page = reader.read_image().map_err(|error| failed(path, error))?;
        append(page, &voxel, &mut data)
            .map_err(|message| Error::InvalidVoxels { message: format!("{}: {message}", path.display()) })?;
        pages += 1;
        if !reader.more_images() {
            break;
        }
        reader.next_image().map_err(|error| failed(path, error))?;
    }
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let geometry =
        Geometry::new([size.0 as usize, size.1 as usize, pages], spacing.unwrap_or([1.0; 3]), [0.0; 3], identity)?;
    Ok(Stack { volume: Volume::new(geometry, data)?, has_spacing: spacing.is_some() })
}

/// Refuses a page that is not like the first one, and one that would take more memory than the file can account for.
fn check_page(
    path: &Path,
    reader: &mut Reader,
    size: (u32, u32),
    voxels: usize,
    bytes: u64,
    options: &ReadOptions,
) -> Result<()> {
    let found = reader.dimensions().map_err(|error| failed(path, error))?;
    if found != size {
        let sizes = format!("{} x {} and {} x {}", size.0, size.1, found.0, found.1);
        return Err(Error::format(path, format!("pages of different sizes: {sizes}")));
    }
    let colour = reader.colortype().map_err(|error| failed(path, error))?;
    if !matches!(colour, ColorType::Gray(_)) {
        return Err(Error::Unsupported {
            message: format!("{}: a TIFF file in colours ({colour:?})", path.display()),
            hint: Some("save it with one grey value per pixel".into()),
        });
    }
    let needed = voxels as u64 + u64::from(size.0) * u64::from(size.1);
    if needed * u64::from(colour.bit_depth()) / 8 > bytes * MAX_DEFLATE_RATIO + 1024 {
        return Err(Error::format(path, format!("it claims {needed} voxels, more than its {bytes} bytes can hold")));
    }
    match options.max_bytes {
        Some(limit) if needed * 4 > limit => Err(Error::TooLarge {
            message: format!("{}: needs {} bytes of memory, {limit} are allowed", path.display(), needed * 4),
        }),
        _ => Ok(()),
    }
}

fn append<T>(page: DecodingResult, voxel: &impl Fn(f64) -> Result<T, String>, data: &mut Vec<T>) -> Result<(), String> {
    macro_rules! extend {
        ($values:expr) => {
            for value in $values {
                data.push(voxel(value as f64)?);
            }
        };
    }
    match page {
        DecodingResult::U8(values) => extend!(values),
        DecodingResult::U16(values) => extend!(values),
        DecodingResult::U32(values) => extend!(values),
        DecodingResult::U64(values) => extend!(values),
        DecodingResult::I8(values) => extend!(values),
        DecodingResult::I16(values) => extend!(values),
        DecodingResult::I32(values) => extend!(values),
        DecodingResult::I64(values) => extend!(values),
        DecodingResult::F32(values) => extend!(values),
        DecodingResult::F64(values) => extend!(values),
        DecodingResult::F16(_) => return Err("half-precision voxels are not read".into()),
    }
    Ok(())
}

/// Millimetres along i, j, k, as ImageJ notes them: pixels per unit, and `unit` and `spacing` in its description.
fn spacing(reader: &mut Reader) -> Option<[f64; 3]> {
    let description = reader.get_tag_ascii_string(Tag::ImageDescription).ok()?;
    let field = |name: &str| {
        description
            .lines()
            .find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name))
            .map(|(_, v)| v.trim())
    };
    field("ImageJ")?;
    let unit = match field("unit")? {
        "mm" | "millimeter" | "millimetre" => 1.0,
        "cm" => 10.0,
        "um" | "µm" | "\\u00B5m" | "micron" => 0.001,
        _ => return None,
    };
    let mut step = |tag| match reader.find_tag(tag).ok()?? {
        Value::Rational(pixels, units) => Some(f64::from(units) / f64::from(pixels)),
        Value::Float(pixels) => Some(1.0 / f64::from(pixels)),
        _ => None,
    };
    let (x, y) = (step(Tag::XResolution)?, step(Tag::YResolution)?);
    let z: f64 = field("spacing").map_or(Some(1.0), |text| text.parse().ok())?;
    let spacing = [x, y, z].map(|step| step * unit);
    spacing.iter().all(|step| step.is_finite() && *step > 0.0).then_some(spacing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{TiffEncoder, colortype::Gray16};

    fn write(path: &Path, sizes: &[(u32, u32)]) {
        let mut encoder = TiffEncoder::new(File::create(path).expect("a file")).expect("an encoder");
        for (page, &(width, height)) in sizes.iter().enumerate() {
            let pixels: Vec<u16> = (0..width * height).map(|pixel| page as u16 * 100 + pixel as u16).collect();
            encoder.write_image::<Gray16>(width, height, &pixels).expect("written");
        }
    }

    #[test]
    fn pages_are_slices() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tif");
        write(&path, &[(4, 3), (4, 3)]);
        let stack = read_tiff(&path, &ReadOptions::default()).expect("a stack");
        assert_eq!((stack.volume.geometry.size, stack.has_spacing), ([4, 3, 2], false));
        assert_eq!((*stack.volume.at([3, 0, 0]), *stack.volume.at([1, 2, 1])), (3.0, 109.0));
        assert_eq!(*read_tiff_labels(&path, &ReadOptions::default()).expect("labels").volume.at([0, 0, 1]), 100);
    }

    #[test]
    fn what_is_no_stack_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tif");
        let message = |path: &Path| read_tiff(path, &ReadOptions::default()).expect_err("no stack").to_string();
        write(&path, &[(4, 3), (3, 4)]);
        assert!(message(&path).contains("different sizes"));
        write(&path, &[(4, 3)]);
        let bytes = std::fs::read(&path).expect("there");
        std::fs::write(&path, &bytes[..bytes.len() - 20]).expect("written");
        assert!(message(&path).contains("a.tif"));
        std::fs::write(&path, b"GIF89a").expect("written");
        assert!(message(&path).contains("malformed"));
        let limit = ReadOptions { max_bytes: Some(10), ..ReadOptions::default() };
        write(&path, &[(4, 3)]);
        assert!(read_tiff(&path, &limit).expect_err("too large").to_string().contains("10 are allowed"));
    }
}
