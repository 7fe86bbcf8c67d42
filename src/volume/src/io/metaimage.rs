//! MetaImage: `.mha` (header and voxels in one file) and `.mhd` with its `.raw` or `.zraw`.

use super::gunzip::{Gunzip, MAGIC};
use super::scalar::{self, Scalar, ScalarType};
use super::{Draft, ImageInfo, ReadOptions, Stored, Voxel, WriteOptions, choose_channel, three_dimensions};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::Volume;
use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

/// A header longer than this is none.
const MAX_HEADER_BYTES: u64 = 1 << 16;

struct Header {
    sizes: Vec<u64>,
    interleaved: usize,
    scalar: ScalarType,
    big_endian: bool,
    compressed: bool,
    /// Bytes of the data file before the voxels; 0: none but this header; -1: whatever stands before the last voxels.
    skip: i64,
    data: PathBuf,
    data_offset: u64,
    spacing: Vec<f64>,
    origin: Vec<f64>,
    directions: Vec<f64>,
}

fn read_header(path: &Path) -> Result<Header> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut lines = BufReader::new(file).take(MAX_HEADER_BYTES);
    let mut fields = HashMap::new();
    let mut consumed = 0;
    loop {
        let mut line = Vec::new();
        let count = lines.read_until(b'\n', &mut line).map_err(|error| Error::io(path, error))?;
        consumed += count as u64;
        if count == 0 {
            let why = if consumed == 0 { "the file is empty" } else { "not a MetaImage: it names no ElementDataFile" };
            return Err(Error::format(path, why));
        }
        let line = std::str::from_utf8(&line).map_err(|_| Error::format(path, "not a MetaImage: no text header"))?;
        let Some((key, value)) = line.split_once('=') else {
            return Err(Error::format(path, format!("not a MetaImage: header line {:?}", line.trim())));
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        let last = key == "ElementDataFile";
        fields.insert(key, value);
        if last {
            break;
        }
    }
    Fields { path, fields }.header(consumed)
}

struct Fields<'a> {
    path: &'a Path,
    fields: HashMap<String, String>,
}

impl Fields<'_> {
    fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.fields.get(*name)).map(String::as_str)
    }

    fn numbers<T: std::str::FromStr>(&self, names: &[&str], count: usize) -> Result<Option<Vec<T>>> {
        let Some(text) = self.text(names) else { return Ok(None) };
        let numbers: Vec<T> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        if numbers.len() == count && text.split_whitespace().count() == count {
            Ok(Some(numbers))
        } else {
            Err(Error::format(self.path, format!("{} = {text:?}: {count} numbers are needed", names[0])))
        }
    }

    fn flag(&self, names: &[&str]) -> bool {
        self.text(names).is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1")
    }

    fn header(&self, consumed: u64) -> Result<Header> {
        let rank = self.numbers::<usize>(&["NDims"], 1)?.map_or(0, |numbers| numbers[0]);
        if !(1..=8).contains(&rank) {
            return Err(Error::format(self.path, "NDims is missing or not between 1 and 8"));
        }
        let sizes = self.numbers(&["DimSize"], rank)?;
        let sizes = sizes.ok_or_else(|| Error::format(self.path, "DimSize is missing"))?;
        let spacing = self.numbers(&["ElementSpacing", "ElementSize"], rank)?.unwrap_or_else(|| vec![1.0; rank]);
        let origin = self.numbers(&["Offset", "Origin", "Position"], rank)?.unwrap_or_else(|| vec![0.0; rank]);
        let directions = self.numbers(&["TransformMatrix", "Rotation", "Orientation"], rank * rank)?;
        let identity = || (0..rank * rank).map(|index| f64::from(u8::from(index % (rank + 1) == 0))).collect();
        // ITK takes a header that does not say so for binary.
        if self.text(&["BinaryData"]).is_some() && !self.flag(&["BinaryData"]) {
            return Err(Error::Unsupported {
                message: format!("{}: voxels written as text (BinaryData = False)", self.path.display()),
                hint: Some("write the image with binary voxels".into()),
            });
        }
        let (data, data_offset) = self.data_file(consumed)?;
        Ok(Header {
            sizes,
            interleaved: self.numbers(&["ElementNumberOfChannels"], 1)?.map_or(1, |numbers| numbers[0]),
            scalar: self.scalar()?,
            big_endian: self.flag(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]),
            compressed: self.flag(&["CompressedData"]),
            skip: self.numbers(&["HeaderSize"], 1)?.map_or(0, |numbers| numbers[0]),
            data,
            data_offset,
            spacing,
            origin,
            directions: directions.unwrap_or_else(identity),
        })
    }

    fn data_file(&self, consumed: u64) -> Result<(PathBuf, u64)> {
        let name = self.text(&["ElementDataFile"]).expect("the header ends with it");
        if name.eq_ignore_ascii_case("LOCAL") {
            return Ok((self.path.to_owned(), consumed));
        }
        if name.eq_ignore_ascii_case("LIST") || name.contains('%') || name.contains(' ') && !name.contains('.') {
            return Err(Error::Unsupported {
                message: format!("{}: voxels spread over several files ({name})", self.path.display()),
                hint: Some("convert the image to one .mha or .nii.gz file".into()),
            });
        }
        // A header from elsewhere must not make a file of this machine an image that may be passed on.
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || !Path::new(name).components().all(inside) {
            return Err(Error::Unsupported {
                message: format!(
                    "{}: ElementDataFile {name:?} is not in the folder of its header",
                    self.path.display()
                ),
                hint: Some("put the voxels beside the header and name the file alone".into()),
            });
        }
        Ok((self.path.parent().unwrap_or(Path::new("")).join(name), 0))
    }

    fn scalar(&self) -> Result<ScalarType> {
        Ok(match self.text(&["ElementType"]).unwrap_or_default() {
            "MET_UCHAR" => ScalarType::U8,
            "MET_CHAR" => ScalarType::I8,
            "MET_USHORT" => ScalarType::U16,
            "MET_SHORT" => ScalarType::I16,
            "MET_UINT" | "MET_ULONG" => ScalarType::U32,
            "MET_INT" | "MET_LONG" => ScalarType::I32,
            "MET_ULONG_LONG" => ScalarType::U64,
            "MET_LONG_LONG" => ScalarType::I64,
            "MET_FLOAT" => ScalarType::F32,
            "MET_DOUBLE" => ScalarType::F64,
            other => {
                return Err(Error::Unsupported {
                    message: format!("{}: ElementType {other:?}", self.path.display()),
                    hint: Some("voxels must be plain integers or floating-point numbers".into()),
                });
            }
        })
    }
}

impl Header {
    /// The grid, and how many 3-D images lie on it.
    fn grid(&self, path: &Path) -> Result<(Geometry, usize)> {
        let (size, slow) = three_dimensions(path, &self.sizes)?;
        let rank = self.sizes.len();
        // The file lists the direction of one axis after the other; here an axis is a column.
        let direction = std::array::from_fn(|row| std::array::from_fn(|axis| self.directions[axis * rank + row]));
        let three = |values: &[f64]| [values[0], values[1], values[2]];
        let geometry = Geometry::new(size, three(&self.spacing), three(&self.origin), direction);
        let geometry = geometry.map_err(|error| match error {
            Error::InvalidGeometry { message } => {
                Error::InvalidGeometry { message: format!("{}: {message}", path.display()) }
            }
            other => other,
        })?;
        let scalars =
            [slow, self.interleaved].iter().try_fold(8 * geometry.voxel_count(), |all, n| all.checked_mul(*n));
        if scalars.is_none() {
            let message = format!("{} channels of {:?} voxels are more than can be addressed", self.interleaved, size);
            return Err(Error::format(path, message));
        }
        if self.interleaved == 0 || slow > 1 && self.interleaved > 1 {
            return Err(Error::Unsupported {
                message: format!("{}: {} channels in a {rank}-D image", path.display(), self.interleaved),
                hint: None,
            });
        }
        Ok((geometry, slow * self.interleaved))
    }
}

pub(super) fn read_info(path: &Path) -> Result<ImageInfo> {
    let header = read_header(path)?;
    let (geometry, channels) = header.grid(path)?;
    Ok(ImageInfo { geometry, scalar: header.scalar, channels, format: "MetaImage", scaling: None })
}

pub(super) fn read<V: Voxel>(path: &Path, options: &ReadOptions) -> Result<Volume<V>> {
    let header = read_header(path)?;
    let (geometry, channels) = header.grid(path)?;
    let channel = choose_channel(path, channels, options)?;
    let count = geometry.voxel_count();
    let interleaved = header.interleaved > 1;
    let stored = Stored {
        scalar: header.scalar,
        big_endian: header.big_endian,
        compressed: header.compressed,
        skip: if interleaved { 0 } else { (channel * count) as u64 },
        count,
        step: header.interleaved,
        first: if interleaved { channel } else { 0 },
        slope: 1.0,
        intercept: 0.0,
    };
    let failed = |error| Error::io(&header.data, error);
    // Asked before it is opened: opening a pipe would wait for someone to write to it.
    let facts = std::fs::metadata(&header.data).map_err(failed)?;
    if !facts.is_file() {
        return Err(Error::format(path, format!("{} is not a file of voxels", header.data.display())));
    }
    let bytes = facts.len();
    let all = (count * channels * header.scalar.bytes()) as u64;
    let start = match header.skip {
        -1 if header.compressed => {
            return Err(Error::format(path, "HeaderSize = -1 cannot be used with compressed voxels"));
        }
        -1 => bytes.checked_sub(all).ok_or_else(|| too_short(path, all, bytes))?,
        0 => header.data_offset,
        // Counted from the start of the file, as ITK does, even where the header is in it.
        skip => match u64::try_from(skip) {
            Ok(skip) if skip >= header.data_offset => skip,
            _ => return Err(Error::format(path, format!("HeaderSize = {skip} is no place for voxels"))),
        },
    };
    let left = bytes.saturating_sub(start);
    // All channels must be there, whichever is wanted.
    Stored { skip: 0, count: count * channels, step: 1, ..stored }.check(path, left, &ReadOptions::default())?;
    stored.check(path, left, options)?;
    let mut file = File::open(&header.data).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut file = BufReader::new(file);
    let source: Box<dyn Read> = match header.compressed {
        false => Box::new(file),
        // Both are found behind CompressedData, and ITK reads both.
        true if file.fill_buf().map_err(failed)?.starts_with(&MAGIC) => Box::new(Gunzip::new(file)),
        true => Box::new(ZlibDecoder::new(file)),
    };
    Volume::new(geometry, stored.read(&header.data, source)?)
}

fn too_short(path: &Path, needed: u64, bytes: u64) -> Error {
    Error::format(path, format!("its header claims {needed} bytes of voxels, the file holds {bytes}"))
}

pub(super) fn write<T: Scalar>(path: &Path, volume: &Volume<T>, options: &WriteOptions) -> Result<()> {
    let local = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mha"));
    let data_path = path.with_extension("zraw");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let voxels = scalar::write_all(&volume.data, &mut encoder).and_then(|()| encoder.finish());
    let voxels = voxels.map_err(|error| Error::io(path, error))?;
    let data_name = if local {
        "LOCAL".to_owned()
    } else {
        data_path.file_name().expect("made from a file name").to_string_lossy().into_owned()
    };
    let header = header_text::<T>(&volume.geometry, voxels.len(), &data_name);
    let mut draft = Draft::create(path, options)?;
    draft.writer().write_all(header.as_bytes()).map_err(|error| Error::io(path, error))?;
    if local {
        draft.writer().write_all(&voxels).map_err(|error| Error::io(path, error))?;
    } else {
        // The voxels first: a header that is there always has its voxels. Should the header fail after that, voxels
        // without one are of no use to anybody.
        let mut data = Draft::create(&data_path, options)?;
        data.writer().write_all(&voxels).map_err(|error| Error::io(&data_path, error))?;
        data.commit()?;
        return draft.commit().inspect_err(|_| drop(std::fs::remove_file(&data_path)));
    }
    draft.commit()
}

fn header_text<T: Scalar>(geometry: &Geometry, bytes: usize, data: &str) -> String {
    let join = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    let directions: Vec<f64> = (0..3).flat_map(|axis| (0..3).map(move |row| geometry.direction[row][axis])).collect();
    let element = match T::TYPE {
        ScalarType::U8 => "MET_UCHAR",
        ScalarType::I8 => "MET_CHAR",
        ScalarType::U16 => "MET_USHORT",
        ScalarType::I16 => "MET_SHORT",
        ScalarType::U32 => "MET_UINT",
        ScalarType::I32 => "MET_INT",
        ScalarType::U64 => "MET_ULONG_LONG",
        ScalarType::I64 => "MET_LONG_LONG",
        ScalarType::F32 => "MET_FLOAT",
        ScalarType::F64 => "MET_DOUBLE",
    };
    let [x, y, z] = geometry.size;
    format!(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n\
         CompressedDataSize = {bytes}\nTransformMatrix = {}\nOffset = {}\nCenterOfRotation = 0 0 0\n\
         ElementSpacing = {}\nDimSize = {x} {y} {z}\nElementType = {element}\nElementDataFile = {data}\n",
        join(&directions),
        join(&geometry.origin),
        join(&geometry.spacing),
    )
}
