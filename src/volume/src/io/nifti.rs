//! NIfTI-1 and NIfTI-2, plain or gzipped, either byte order.
//!
//! The `nifti` crate reads the NIfTI-1 header. The rest is done here: the crate knows no NIfTI-2, takes the memory a
//! header claims before looking whether the file holds it, and builds its affine in single precision.

use super::gunzip::{Gunzip, MAGIC};
use super::scalar::{self, Scalar, ScalarType};
use super::{Draft, ImageInfo, ReadOptions, Stored, Voxel, WriteOptions, choose_channel, three_dimensions};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::Volume;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

const NIFTI1_BYTES: usize = 348;
const NIFTI2_BYTES: usize = 540;

/// What both versions of the header have in common.
struct Header {
    sizes: Vec<u64>,
    scalar: ScalarType,
    big_endian: bool,
    data_offset: u64,
    slope: f64,
    intercept: f64,
    geometry: Affine,
    /// The header's own bytes, in the file's byte order, for a file that is to lie on the same grid.
    raw: Vec<u8>,
}

/// The three ways a NIfTI header places voxels, in its own RAS and units.
struct Affine {
    pixdim: [f64; 4],
    qform_code: i32,
    sform_code: i32,
    quaternion: [f64; 3],
    offset: [f64; 3],
    rows: [[f64; 4]; 3],
    units: i32,
}

/// Little- or big-endian numbers at fixed places of a header.
struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    fn word<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut word: [u8; N] = self.bytes[at..at + N].try_into().expect("inside the header");
        if self.big_endian {
            word.reverse();
        }
        word
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.word(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.word(at))
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.word(at))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.word(at))
    }

    fn f64s<const N: usize>(&self, at: usize) -> [f64; N] {
        std::array::from_fn(|index| self.f64(at + 8 * index))
    }
}

fn is_gzip(path: &Path) -> Result<bool> {
    let mut magic = [0; 2];
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let count = file.read(&mut magic).map_err(|error| Error::io(path, error))?;
    if count == 0 {
        return Err(Error::format(path, "the file is empty"));
    }
    Ok(magic == MAGIC)
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path).map_err(|error| Error::io(path, error))?);
    Ok(if is_gzip(path)? { Box::new(BufReader::new(Gunzip::new(file))) } else { Box::new(file) })
}

impl Header {
    /// Slope and intercept; a slope of zero, or one that is no number, means that there is no scaling.
    fn scaling(&self) -> Option<[f64; 2]> {
        let scaled = self.slope != 0.0 && self.slope.is_finite() && self.intercept.is_finite();
        scaled.then_some([self.slope, self.intercept])
    }
}

/// Reads the header and leaves `source` behind it.
fn read_header(path: &Path, source: &mut dyn Read) -> Result<Header> {
    let mut raw = vec![0; NIFTI1_BYTES];
    let truncated = |error: std::io::Error| {
        Error::format(path, format!("not a NIfTI file, or cut short within its header: {error}"))
    };
    source.read_exact(&mut raw).map_err(truncated)?;
    let size: [u8; 4] = raw[..4].try_into().expect("four bytes");
    let is = |bytes: usize| [i32::from_le_bytes(size), i32::from_be_bytes(size)].contains(&(bytes as i32));
    if is(NIFTI2_BYTES) {
        raw.resize(NIFTI2_BYTES, 0);
        source.read_exact(&mut raw[NIFTI1_BYTES..]).map_err(truncated)?;
        nifti2(path, raw)
    } else if is(NIFTI1_BYTES) {
        nifti1(path, raw)
    } else {
        Err(Error::format(path, "not a NIfTI file: its header size is neither 348 nor 540"))
    }
}

fn nifti1(path: &Path, raw: Vec<u8>) -> Result<Header> {
    let big_endian = i32::from_be_bytes(raw[..4].try_into().expect("four bytes")) == NIFTI1_BYTES as i32;
    if !matches!(&raw[344..348], b"n+1\0" | b"n+1 ") {
        return Err(Error::format(path, "not a single-file NIfTI-1 image (magic n+1)"));
    }
    let parsed = nifti::NiftiHeader::from_reader(&raw[..])
        .map_err(|error| Error::format(path, format!("its NIfTI header is malformed: {error}")))?;
    let double = |values: [f32; 4]| values.map(f64::from);
    let rank = usize::from(parsed.dim[0]);
    if !(1..=7).contains(&rank) {
        return Err(Error::format(path, format!("its NIfTI header claims {rank} dimensions")));
    }
    Ok(Header {
        sizes: parsed.dim[1..=rank].iter().map(|&size| u64::from(size)).collect(),
        scalar: scalar_type(path, parsed.datatype.into())?,
        big_endian,
        data_offset: offset(path, f64::from(parsed.vox_offset), NIFTI1_BYTES)?,
        slope: f64::from(parsed.scl_slope),
        intercept: f64::from(parsed.scl_inter),
        geometry: Affine {
            pixdim: double([parsed.pixdim[0], parsed.pixdim[1], parsed.pixdim[2], parsed.pixdim[3]]),
            qform_code: parsed.qform_code.into(),
            sform_code: parsed.sform_code.into(),
            quaternion: [parsed.quatern_b, parsed.quatern_c, parsed.quatern_d].map(f64::from),
            offset: [parsed.quatern_x, parsed.quatern_y, parsed.quatern_z].map(f64::from),
            rows: [parsed.srow_x, parsed.srow_y, parsed.srow_z].map(double),
            units: parsed.xyzt_units.into(),
        },
        raw,
    })
}

/// Places of the fields: the NIfTI-2 header, nifti2.h.
fn nifti2(path: &Path, raw: Vec<u8>) -> Result<Header> {
    let big_endian = i32::from_be_bytes(raw[..4].try_into().expect("four bytes")) == NIFTI2_BYTES as i32;
    if &raw[4..8] != b"n+2\0" {
        return Err(Error::format(path, "not a single-file NIfTI-2 image (magic n+2)"));
    }
    let fields = Fields { bytes: &raw, big_endian };
    let rank = fields.i64(16);
    if !(1..=7).contains(&rank) {
        return Err(Error::format(path, format!("its NIfTI header claims {rank} dimensions")));
    }
    let sizes = (1..=rank as usize)
        .map(|axis| {
            let size = fields.i64(16 + 8 * axis);
            u64::try_from(size).map_err(|_| Error::format(path, format!("an axis of size {size}")))
        })
        .collect::<Result<_>>()?;
    let data_offset = fields.i64(168);
    let header = Header {
        sizes,
        scalar: scalar_type(path, fields.i16(12).into())?,
        big_endian,
        data_offset: offset(path, data_offset as f64, NIFTI2_BYTES)?,
        slope: fields.f64(176),
        intercept: fields.f64(184),
        geometry: Affine {
            pixdim: fields.f64s(104),
            qform_code: fields.i32(344),
            sform_code: fields.i32(348),
            quaternion: fields.f64s(352),
            offset: fields.f64s(376),
            rows: [fields.f64s(400), fields.f64s(432), fields.f64s(464)],
            units: fields.i32(500),
        },
        raw: Vec::new(),
    };
    Ok(Header { raw, ..header })
}

fn offset(path: &Path, offset: f64, header: usize) -> Result<u64> {
    // Zero is written by some programs and means "right behind the header and its extension flag".
    if offset == 0.0 {
        return Ok(header as u64 + 4);
    }
    if !(offset >= header as f64 && offset < 1e15) {
        return Err(Error::format(path, format!("its voxels are said to start at byte {offset}")));
    }
    Ok(offset as u64)
}

fn scalar_type(path: &Path, code: i32) -> Result<ScalarType> {
    Ok(match code {
        2 => ScalarType::U8,
        4 => ScalarType::I16,
        8 => ScalarType::I32,
        16 => ScalarType::F32,
        64 => ScalarType::F64,
        256 => ScalarType::I8,
        512 => ScalarType::U16,
        768 => ScalarType::U32,
        1024 => ScalarType::I64,
        1280 => ScalarType::U64,
        _ => {
            return Err(Error::Unsupported {
                message: format!("{}: voxels of NIfTI data type {code}, which are no plain numbers", path.display()),
                hint: Some("colour and complex images must be converted first".into()),
            });
        }
    })
}

fn code(scalar: ScalarType) -> i16 {
    match scalar {
        ScalarType::U8 => 2,
        ScalarType::I16 => 4,
        ScalarType::I32 => 8,
        ScalarType::F32 => 16,
        ScalarType::F64 => 64,
        ScalarType::I8 => 256,
        ScalarType::U16 => 512,
        ScalarType::U32 => 768,
        ScalarType::I64 => 1024,
        ScalarType::U64 => 1280,
    }
}

impl Affine {
    /// The grid: sform where its code is set, else qform, else voxel sizes alone, in that order as the standard says.
    fn geometry(&self, size: [usize; 3]) -> Result<Geometry> {
        let millimetres = match self.units & 7 {
            1 => 1000.0,
            3 => 0.001,
            _ => 1.0,
        };
        let [rows, offset] = if self.sform_code > 0 {
            let columns = self.rows.map(|row| [row[0], row[1], row[2]]);
            let offset = self.rows.map(|row| row[3]);
            return from_columns(size, columns, offset, millimetres);
        } else if self.qform_code > 0 {
            self.quaternion_rows()
        } else {
            // Method 1: nothing but voxel sizes, and the origin at the first voxel.
            [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.0; 3]; 3]]
        };
        let spacing: [f64; 3] = std::array::from_fn(|axis| self.pixdim[axis + 1] * millimetres);
        let origin = std::array::from_fn(|row| offset[row][0] * millimetres);
        to_lps(size, spacing, origin, rows)
    }

    /// The rotation of the quaternion, its third column turned round where `pixdim[0]` says so, and the offset in the
    /// first column of a second matrix.
    fn quaternion_rows(&self) -> [[[f64; 3]; 3]; 2] {
        let [b, c, d] = self.quaternion;
        let length = b * b + c * c + d * d;
        // Rounding may take the length beyond one: then it is a half turn.
        let (a, b, c, d) = if length > 1.0 {
            let scale = length.sqrt();
            (0.0, b / scale, c / scale, d / scale)
        } else {
            ((1.0 - length).sqrt(), b, c, d)
        };
        let mut rows = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
            [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
            [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ];
        if self.pixdim[0] < 0.0 {
            rows.iter_mut().for_each(|row| row[2] = -row[2]);
        }
        [rows, self.offset.map(|value| [value, 0.0, 0.0])]
    }
}

/// A grid from the columns of a RAS affine, which carry the spacing in their length.
fn from_columns(size: [usize; 3], rows: [[f64; 3]; 3], offset: [f64; 3], unit: f64) -> Result<Geometry> {
    let length = |axis: usize| rows.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt();
    let spacing: [f64; 3] = std::array::from_fn(length);
    let direction = rows.map(|row| std::array::from_fn(|axis| row[axis] / spacing[axis]));
    to_lps(size, spacing.map(|step| step * unit), offset.map(|place| place * unit), direction)
}

/// From RAS to LPS: the first two world axes turn round.
fn to_lps(size: [usize; 3], spacing: [f64; 3], origin: [f64; 3], direction: [[f64; 3]; 3]) -> Result<Geometry> {
    let turn = |row: usize, value: f64| if row < 2 { -value } else { value };
    Geometry::new(
        size,
        spacing,
        std::array::from_fn(|row| turn(row, origin[row])),
        std::array::from_fn(|row| direction[row].map(|value| turn(row, value))),
    )
}

fn named(path: &Path, error: Error) -> Error {
    match error {
        Error::InvalidGeometry { message } => {
            Error::InvalidGeometry { message: format!("{}: {message}", path.display()) }
        }
        other => other,
    }
}

pub(super) fn read_info(path: &Path) -> Result<ImageInfo> {
    let header = read_header(path, open(path)?.as_mut())?;
    let (size, channels) = three_dimensions(path, &header.sizes)?;
    let geometry = header.geometry.geometry(size).map_err(|error| named(path, error))?;
    let format = if header.raw.len() == NIFTI2_BYTES { "NIfTI-2" } else { "NIfTI-1" };
    Ok(ImageInfo { geometry, scalar: header.scalar, channels, format, scaling: header.scaling() })
}

pub(super) fn read<V: Voxel>(path: &Path, options: &ReadOptions) -> Result<Volume<V>> {
    let mut source = open(path)?;
    let header = read_header(path, source.as_mut())?;
    let (size, channels) = three_dimensions(path, &header.sizes)?;
    let channel = choose_channel(path, channels, options)?;
    let geometry = header.geometry.geometry(size).map_err(|error| named(path, error))?;
    let [slope, intercept] = header.scaling().unwrap_or([1.0, 0.0]);
    let count = geometry.voxel_count();
    let stored = Stored {
        scalar: header.scalar,
        big_endian: header.big_endian,
        compressed: is_gzip(path)?,
        skip: (channel * count) as u64,
        count,
        step: 1,
        first: 0,
        slope,
        intercept,
    };
    let bytes = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    stored.check(path, bytes, options)?;
    let gap = header.data_offset - header.raw.len() as u64;
    let skipped = std::io::copy(&mut source.by_ref().take(gap), &mut std::io::sink());
    if skipped.map_err(|error| Error::format(path, error.to_string()))? < gap {
        return Err(Error::format(path, "truncated: it ends before its voxels begin"));
    }
    Volume::new(geometry, stored.read(path, source)?)
}

pub(super) fn write<T: Scalar>(
    path: &Path,
    volume: &Volume<T>,
    source: Option<&Path>,
    options: &WriteOptions,
) -> Result<()> {
    let header = match source {
        Some(source) => header_like(source)?,
        None => new_header(&volume.geometry),
    };
    let header = finish_header(header, T::TYPE, volume.geometry.size);
    let mut draft = Draft::create(path, options)?;
    let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let result = if gzip {
        // No time and no name in the gzip header: the same mask is the same file.
        let mut encoder = GzEncoder::new(draft.writer(), Compression::default());
        encoder
            .write_all(&header)
            .and_then(|()| scalar::write_all(&volume.data, &mut encoder))
            .and_then(|()| encoder.finish().map(drop))
    } else {
        let to = draft.writer();
        to.write_all(&header).and_then(|()| scalar::write_all(&volume.data, to))
    };
    result.map_err(|error| draft.fail(error))?;
    draft.commit()
}

/// Where a header keeps its geometry: the first byte, the size of a number, how many of them. `pixdim` as far as the
/// third axis, qform code, sform code, quaternion and offset, affine, units, and the magic that names the version.
const NIFTI1_GEOMETRY: [(usize, usize, usize); 6] =
    [(76, 4, 4), (252, 2, 2), (256, 4, 6), (280, 4, 12), (123, 1, 1), (344, 1, 4)];
const NIFTI2_GEOMETRY: [(usize, usize, usize); 6] =
    [(104, 8, 4), (344, 4, 2), (352, 8, 6), (400, 8, 12), (500, 4, 1), (4, 1, 8)];

/// A header that holds the geometry of `source` number by number, and nothing else of it: its descriptions may name a
/// patient, its intent and display range are the image's.
fn header_like(source: &Path) -> Result<Vec<u8>> {
    let Header { raw, big_endian, .. } = read_header(source, open(source)?.as_mut())?;
    let mut header = vec![0; raw.len()];
    put(&mut header, 0, &(raw.len() as i32).to_le_bytes());
    let fields = if raw.len() == NIFTI2_BYTES { NIFTI2_GEOMETRY } else { NIFTI1_GEOMETRY };
    for (at, width, count) in fields {
        for at in (at..).step_by(width).take(count) {
            let number = &mut header[at..at + width];
            number.copy_from_slice(&raw[at..at + width]);
            if big_endian {
                number.reverse();
            }
        }
    }
    Ok(header)
}

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A NIfTI-1 header with the grid in its sform, and in its qform too where the axes are at right angles. An axis too
/// long for NIfTI-1 makes it NIfTI-2.
fn new_header(geometry: &Geometry) -> Vec<u8> {
    let ras = |row: usize, value: f64| if row < 2 { -value } else { value };
    let rows: [[f64; 4]; 3] = std::array::from_fn(|row| {
        let step = |axis: usize| ras(row, geometry.direction[row][axis] * geometry.spacing[axis]);
        [step(0), step(1), step(2), ras(row, geometry.origin[row])]
    });
    let rotation: [[f64; 3]; 3] =
        std::array::from_fn(|row| std::array::from_fn(|axis| ras(row, geometry.direction[row][axis])));
    let quaternion = quaternion(rotation);
    let (qfac, [b, c, d]) = quaternion.unwrap_or((1.0, [0.0; 3]));
    let pixdim = [qfac, geometry.spacing[0], geometry.spacing[1], geometry.spacing[2]];
    let offset = [rows[0][3], rows[1][3], rows[2][3]];
    let qform_code = i16::from(quaternion.is_some());
    if geometry.size.iter().any(|&size| size > i16::MAX as usize) {
        let mut header = vec![0; NIFTI2_BYTES];
        put(&mut header, 0, &(NIFTI2_BYTES as i32).to_le_bytes());
        put(&mut header, 4, b"n+2\0\r\n\x1a\n");
        let doubles = |header: &mut [u8], at: usize, values: &[f64]| {
            values.iter().enumerate().for_each(|(index, value)| put(header, at + 8 * index, &value.to_le_bytes()));
        };
        doubles(&mut header, 104, &pixdim);
        put(&mut header, 344, &i32::from(qform_code).to_le_bytes());
        put(&mut header, 348, &1i32.to_le_bytes());
        doubles(&mut header, 352, &[b, c, d]);
        doubles(&mut header, 376, &offset);
        rows.iter().enumerate().for_each(|(row, values)| doubles(&mut header, 400 + 32 * row, values));
        put(&mut header, 500, &2i32.to_le_bytes());
        return header;
    }
    let mut header = vec![0; NIFTI1_BYTES];
    put(&mut header, 0, &(NIFTI1_BYTES as i32).to_le_bytes());
    put(&mut header, 344, b"n+1\0");
    let floats = |header: &mut [u8], at: usize, values: &[f64]| {
        values
            .iter()
            .enumerate()
            .for_each(|(index, &value)| put(header, at + 4 * index, &(value as f32).to_le_bytes()));
    };
    floats(&mut header, 76, &pixdim);
    put(&mut header, 123, &[2]);
    put(&mut header, 252, &qform_code.to_le_bytes());
    put(&mut header, 254, &1i16.to_le_bytes());
    floats(&mut header, 256, &[b, c, d]);
    floats(&mut header, 268, &offset);
    rows.iter().enumerate().for_each(|(row, values)| floats(&mut header, 280 + 16 * row, values));
    header
}

/// `pixdim[0]` and the quaternion of a rotation, or None where the axes are not at right angles.
fn quaternion(mut m: [[f64; 3]; 3]) -> Option<(f64, [f64; 3])> {
    for i in 0..3 {
        for j in 0..3 {
            let product: f64 = (0..3).map(|row| m[row][i] * m[row][j]).sum();
            if (product - f64::from(u8::from(i == j))).abs() > 1e-5 {
                return None;
            }
        }
    }
    let determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    let qfac = determinant.signum();
    m.iter_mut().for_each(|row| row[2] *= qfac);
    let trace = m[0][0] + m[1][1] + m[2][2] + 1.0;
    let (a, b, c, d) = if trace > 0.5 {
        let a = 0.5 * trace.sqrt();
        let quarter = 0.25 / a;
        (a, quarter * (m[2][1] - m[1][2]), quarter * (m[0][2] - m[2][0]), quarter * (m[1][0] - m[0][1]))
    } else {
        let [x, y, z] = [
            1.0 + m[0][0] - (m[1][1] + m[2][2]),
            1.0 + m[1][1] - (m[0][0] + m[2][2]),
            1.0 + m[2][2] - (m[0][0] + m[1][1]),
        ];
        if x >= y && x >= z {
            let b = 0.5 * x.sqrt();
            let quarter = 0.25 / b;
            (quarter * (m[2][1] - m[1][2]), b, quarter * (m[0][1] + m[1][0]), quarter * (m[0][2] + m[2][0]))
        } else if y >= z {
            let c = 0.5 * y.sqrt();
            let quarter = 0.25 / c;
            (quarter * (m[0][2] - m[2][0]), quarter * (m[0][1] + m[1][0]), c, quarter * (m[1][2] + m[2][1]))
        } else {
            let d = 0.5 * z.sqrt();
            let quarter = 0.25 / d;
            (quarter * (m[1][0] - m[0][1]), quarter * (m[0][2] + m[2][0]), quarter * (m[1][2] + m[2][1]), d)
        }
    };
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some((qfac, [sign * b, sign * c, sign * d]))
}

/// Fills in what belongs to the voxels rather than to the grid, and the empty extension flag.
fn finish_header(mut header: Vec<u8>, scalar: ScalarType, size: [usize; 3]) -> Vec<u8> {
    let bits = (scalar.bytes() * 8) as i16;
    let [x, y, z] = size;
    if header.len() == NIFTI2_BYTES {
        put(&mut header, 12, &code(scalar).to_le_bytes());
        put(&mut header, 14, &bits.to_le_bytes());
        for (axis, size) in [3, x, y, z, 1, 1, 1, 1].into_iter().enumerate() {
            put(&mut header, 16 + 8 * axis, &(size as i64).to_le_bytes());
        }
        put(&mut header, 168, &(NIFTI2_BYTES as i64 + 4).to_le_bytes());
        put(&mut header, 176, &1f64.to_le_bytes());
        // Intercept, then the display range, which was the image's.
        put(&mut header, 184, &[0; 24]);
    } else {
        put(&mut header, 70, &code(scalar).to_le_bytes());
        put(&mut header, 72, &bits.to_le_bytes());
        for (axis, size) in [3, x, y, z, 1, 1, 1, 1].into_iter().enumerate() {
            put(&mut header, 40 + 2 * axis, &(size as u16).to_le_bytes());
        }
        put(&mut header, 108, &(NIFTI1_BYTES as f32 + 4.0).to_le_bytes());
        put(&mut header, 112, &1f32.to_le_bytes());
        put(&mut header, 116, &[0; 4]);
        put(&mut header, 124, &[0; 8]);
    }
    header.extend([0; 4]);
    header
}
