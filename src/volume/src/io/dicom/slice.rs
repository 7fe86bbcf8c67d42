//! One file of a series.

use super::lengths::{self, Problem};
use crate::error::{Error, Result};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, Tag};
use std::path::{Path, PathBuf};

/// A slice larger than this is none.
const MAX_BYTES: u64 = 1 << 30;

/// How voxels are stored.
#[derive(Clone, Copy, Debug)]
struct Pixels {
    /// Bytes of a voxel: 1, 2 or 4.
    bytes: usize,
    /// Bits of them that are used, from the lowest.
    bits: u32,
    signed: bool,
    slope: f64,
    intercept: f64,
}

/// One slice and where it lies, in LPS millimetres.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) path: PathBuf,
    pub(super) series: Option<String>,
    pub(super) modality: Option<String>,
    /// Columns and rows.
    pub(super) size: [usize; 2],
    /// Between columns and between rows.
    pub(super) spacing: [f64; 2],
    pub(super) thickness: f64,
    pub(super) position: [f64; 3],
    pub(super) rows_along: [f64; 3],
    pub(super) columns_along: [f64; 3],
    pixels: Pixels,
    data: Vec<u8>,
}

struct Fields<'a> {
    path: &'a Path,
    object: &'a DefaultDicomObject,
}

impl Fields<'_> {
    fn text(&self, tag: Tag) -> Option<String> {
        let text = self.object.element(tag).ok()?.to_str().ok()?.trim_matches(['\0', ' ']).to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn number(&self, tag: Tag) -> Option<f64> {
        self.object.element(tag).ok()?.to_float64().ok()
    }

    fn whole(&self, tag: Tag, name: &str) -> Result<u32> {
        let number = self.object.element(tag).ok().and_then(|element| element.to_int().ok());
        number.ok_or_else(|| Error::format(self.path, format!("a DICOM image without {name}")))
    }

    /// Rows or columns, which DICOM counts in 16 bits.
    fn side(&self, tag: Tag, name: &str) -> Result<usize> {
        match self.whole(tag, name)? {
            count @ 1..=0xffff => Ok(count as usize),
            count => Err(Error::format(self.path, format!("a DICOM image of {count} {name}"))),
        }
    }

    fn numbers<const N: usize>(&self, tag: Tag, name: &str) -> Result<[f64; N]> {
        let numbers = self.object.element(tag).ok().and_then(|element| element.to_multi_float64().ok());
        let numbers = numbers.and_then(|numbers| <[f64; N]>::try_from(numbers).ok());
        let finite = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
        finite.ok_or_else(|| Error::format(self.path, format!("a DICOM image without {name} ({N} numbers)")))
    }

    fn pixels(&self) -> Result<Pixels> {
        let unsupported = |what: String| Error::Unsupported {
            message: format!("{}: a DICOM image of {what}", self.path.display()),
            hint: Some("convert the series to NIfTI first".into()),
        };
        let samples = self.whole(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel").unwrap_or(1);
        let frames = self.number(tags::NUMBER_OF_FRAMES).unwrap_or(1.0);
        if samples != 1 || frames > 1.0 {
            return Err(unsupported(format!("{samples} colours and {frames} frames")));
        }
        let allocated = self.whole(tags::BITS_ALLOCATED, "BitsAllocated")?;
        let bits = self.whole(tags::BITS_STORED, "BitsStored").unwrap_or(allocated);
        if !matches!(allocated, 8 | 16 | 32) || !(1..=allocated).contains(&bits) {
            return Err(unsupported(format!("{bits} in {allocated} bits")));
        }
        let scale = |tag, default| self.number(tag).filter(|value| value.is_finite()).unwrap_or(default);
        Ok(Pixels {
            bytes: allocated as usize / 8,
            bits,
            signed: self.whole(tags::PIXEL_REPRESENTATION, "PixelRepresentation").unwrap_or(0) == 1,
            slope: scale(tags::RESCALE_SLOPE, 1.0),
            intercept: scale(tags::RESCALE_INTERCEPT, 0.0),
        })
    }

    fn data(&self, needed: usize) -> Result<Vec<u8>> {
        let element = self.object.element(tags::PIXEL_DATA);
        let data = element.ok().and_then(|element| element.to_bytes().ok());
        let data = data.ok_or_else(|| Error::format(self.path, "a DICOM file without an image"))?;
        // An odd number of bytes is filled up.
        if data.len() < needed || data.len() > needed + 1 {
            let message = format!("truncated: {} bytes of voxels where {needed} are needed", data.len());
            return Err(Error::format(self.path, message));
        }
        Ok(data.into_owned())
    }
}

impl Slice {
    /// Reads a file.
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let io = |error| Error::io(&path, error);
        if std::fs::metadata(&path).map_err(io)?.len() > MAX_BYTES {
            return Err(Error::TooLarge { message: format!("{}: larger than any single slice", path.display()) });
        }
        let bytes = std::fs::read(&path).map_err(io)?;
        lengths::check(&bytes).map_err(|problem| refused(&path, problem))?;
        let object = dicom_object::from_reader(&bytes[..])
            .map_err(|error| Error::format(&path, format!("its DICOM structure is malformed: {error}")))?;
        let fields = Fields { path: &path, object: &object };
        let size = [fields.side(tags::COLUMNS, "Columns")?, fields.side(tags::ROWS, "Rows")?];
        let [x0, x1, x2, y0, y1, y2] = fields.numbers(tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?;
        let [between_rows, between_columns] = fields.numbers(tags::PIXEL_SPACING, "PixelSpacing")?;
        let pixels = fields.pixels()?;
        Ok(Self {
            series: fields.text(tags::SERIES_INSTANCE_UID),
            modality: fields.text(tags::MODALITY),
            size,
            spacing: [between_columns, between_rows],
            thickness: fields.number(tags::SLICE_THICKNESS).filter(|&step| step > 0.0).unwrap_or(1.0),
            position: fields.numbers(tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?,
            rows_along: unit(&path, [x0, x1, x2])?,
            columns_along: unit(&path, [y0, y1, y2])?,
            pixels,
            data: fields.data(size[0] * size[1] * pixels.bytes)?,
            path,
        })
    }

    /// Across the slice.
    pub(super) fn normal(&self) -> [f64; 3] {
        let (a, b) = (self.rows_along, self.columns_along);
        std::array::from_fn(|axis| {
            let (next, last) = ((axis + 1) % 3, (axis + 2) % 3);
            a[next] * b[last] - a[last] * b[next]
        })
    }

    /// Place along the normal.
    pub(super) fn height(&self) -> f64 {
        self.normal().iter().zip(self.position).map(|(normal, place)| normal * place).sum()
    }

    /// The first thing in which another slice cannot be of the same series.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-3);
        if self.size != other.size {
            Some("its size")
        } else if differ(&self.spacing, &other.spacing) {
            Some("its pixel spacing")
        } else if differ(&self.rows_along, &other.rows_along) || differ(&self.columns_along, &other.columns_along) {
            Some("its orientation")
        } else if self.modality != other.modality {
            Some("its modality")
        } else {
            None
        }
    }

    /// Appends the voxels, scaled.
    pub(super) fn append(&self, out: &mut Vec<f32>) -> Result<()> {
        let Pixels { bytes, bits, signed, slope, intercept } = self.pixels;
        let count = self.size[0] * self.size[1];
        out.try_reserve(count).map_err(|_| Error::TooLarge {
            message: format!("{}: the series does not fit into memory", self.path.display()),
        })?;
        let unused = 64 - bits;
        out.extend(self.data.chunks_exact(bytes).take(count).map(|word| {
            let raw = word.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
            let value =
                if signed { ((raw << unused) as i64 >> unused) as f64 } else { (raw << unused >> unused) as f64 };
            (value * slope + intercept) as f32
        }));
        Ok(())
    }
}

fn refused(path: &Path, problem: Problem) -> Error {
    match problem {
        Problem::NotDicom => Error::format(path, "not a DICOM file"),
        Problem::Truncated => Error::format(path, "truncated: a DICOM element runs over the end of the file"),
        Problem::Syntax(syntax) => Error::Unsupported {
            message: format!("{}: a compressed DICOM image (transfer syntax {syntax})", path.display()),
            hint: Some("decompress the series first, as `gdcmconv --raw` or `dcmdjpeg` do".into()),
        },
    }
}

fn unit(path: &Path, vector: [f64; 3]) -> Result<[f64; 3]> {
    let length = vector.iter().map(|part| part * part).sum::<f64>().sqrt();
    if (length - 1.0).abs() > 0.01 {
        return Err(Error::format(path, format!("the direction {vector:?} of its image is no unit vector")));
    }
    Ok(vector.map(|part| part / length))
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::lengths::EXPLICIT;
    use std::path::Path;

    /// A slice made byte by byte.
    pub(crate) struct Made {
        pub(crate) position: [f64; 3],
        pub(crate) series: String,
        pub(crate) syntax: &'static str,
        pub(crate) first: i16,
        pub(crate) wide: bool,
        pub(crate) cut: usize,
    }

    impl Made {
        pub(crate) fn new(position: [f64; 3]) -> Self {
            Self { position, series: "1.2.3".into(), syntax: EXPLICIT, first: 0, wide: false, cut: 0 }
        }
    }

    fn element(out: &mut Vec<u8>, tag: (u16, u16), kind: &[u8; 2], value: &[u8]) {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if kind == b"UI" { 0 } else { b' ' });
        }
        out.extend(tag.0.to_le_bytes());
        out.extend(tag.1.to_le_bytes());
        out.extend(kind);
        if kind == b"OW" {
            out.extend([0; 2]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
    }

    /// Two rows of three voxels (or four): `first`, and what follows, the last one -1 in 12 bits.
    pub(crate) fn write(path: &Path, made: &Made) {
        let mut meta = Vec::new();
        element(&mut meta, (2, 2), b"UI", b"1.2.840.10008.5.1.4.1.1.2");
        element(&mut meta, (2, 3), b"UI", b"1.2.3.4");
        element(&mut meta, (2, 0x10), b"UI", made.syntax.as_bytes());
        element(&mut meta, (2, 0x12), b"UI", b"1.2.3.5");
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        element(&mut out, (2, 0), b"UL", &(meta.len() as u32).to_le_bytes());
        out.extend(meta);
        let columns: u16 = if made.wide { 4 } else { 3 };
        let text = |numbers: &[f64]| numbers.iter().map(f64::to_string).collect::<Vec<_>>().join("\\");
        element(&mut out, (8, 0x60), b"CS", b"CT");
        element(&mut out, (0x20, 0xe), b"UI", made.series.as_bytes());
        element(&mut out, (0x20, 0x32), b"DS", text(&made.position).as_bytes());
        element(&mut out, (0x20, 0x37), b"DS", b"1\\0\\0\\0\\1\\0");
        element(&mut out, (0x28, 2), b"US", &1u16.to_le_bytes());
        element(&mut out, (0x28, 0x10), b"US", &2u16.to_le_bytes());
        element(&mut out, (0x28, 0x11), b"US", &columns.to_le_bytes());
        element(&mut out, (0x28, 0x30), b"DS", b"0.75\\0.5");
        element(&mut out, (0x28, 0x100), b"US", &16u16.to_le_bytes());
        element(&mut out, (0x28, 0x101), b"US", &12u16.to_le_bytes());
        element(&mut out, (0x28, 0x103), b"US", &1u16.to_le_bytes());
        element(&mut out, (0x28, 0x1052), b"DS", b"-1000");
        element(&mut out, (0x28, 0x1053), b"DS", b"2");
        let count = 2 * columns as i16;
        let voxels = (0..count).map(|index| if index + 1 == count { 0x0fff } else { made.first + index });
        element(&mut out, (0x7fe0, 0x10), b"OW", &voxels.flat_map(i16::to_le_bytes).collect::<Vec<_>>());
        out.truncate(out.len() - made.cut);
        std::fs::write(path, out).expect("written");
    }
}
