//! Image files: NIfTI-1 and -2, MetaImage; and, to read only, DICOM series and stacks of TIFF pages.

mod dicom;
mod gunzip;
mod metaimage;
mod nifti;
mod scalar;
mod tiff;

pub use dicom::{DicomSeries, read_dicom_series};
pub use scalar::{Scalar, ScalarType};
pub use tiff::{Stack, read_tiff, read_tiff_labels};

use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::Volume;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What to read from a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Which of several 3-D images in one file, from 0. Must be given where there are several.
    pub channel: Option<usize>,
    /// Refuse an image that takes more memory than this, in bytes.
    pub max_bytes: Option<u64>,
}

/// How to write a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Replace a file that is there already.
    pub overwrite: bool,
}

/// What a file's header says.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInfo {
    /// The grid of one channel.
    pub geometry: Geometry,
    /// The type of the stored voxels.
    pub scalar: ScalarType,
    /// 3-D images in the file.
    pub channels: usize,
    /// The format's name.
    pub format: &'static str,
    /// Slope and intercept that turn stored voxels into values, where the file has such a scaling.
    pub scaling: Option<[f64; 2]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Nifti,
    MetaImage,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".nii", ".nii.gz"]) {
            Ok(Self::Nifti)
        } else if ends(&[".mha", ".mhd"]) {
            Ok(Self::MetaImage)
        } else {
            Err(Error::Unsupported {
                message: format!("{}: not an image format this library knows", path.display()),
                hint: Some("use .nii, .nii.gz, .mha or .mhd".into()),
            })
        }
    }
}

/// Reads a 3-D image, voxels as float32 with the file's scaling applied.
///
/// # Errors
/// A file that is missing, truncated or malformed, an unknown format, an image that is not 3-D, a grid that cannot be,
/// several channels without a choice. Memory is bounded by what the file can really hold.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Volume<f32>> {
    match Format::of(path)? {
        Format::Nifti => nifti::read(path, options),
        Format::MetaImage => metaimage::read(path, options),
    }
}

/// Reads a label map.
///
/// # Errors
/// As [`read`]; a voxel that is no whole number within 1e-3, or that does not fit into 32 bits.
pub fn read_labels(path: &Path, options: &ReadOptions) -> Result<Volume<i32>> {
    match Format::of(path)? {
        Format::Nifti => nifti::read(path, options),
        Format::MetaImage => metaimage::read(path, options),
    }
}

/// Reads a header, no voxels.
///
/// # Errors
/// As [`read`], as far as the header goes.
pub fn read_info(path: &Path) -> Result<ImageInfo> {
    match Format::of(path)? {
        Format::Nifti => nifti::read_info(path),
        Format::MetaImage => metaimage::read_info(path),
    }
}

/// Writes an image. It appears under its name only when it is complete.
///
/// # Errors
/// An unknown ending; a file that is there already; a failure to write, which leaves nothing behind.
pub fn write<T: Scalar>(path: &Path, volume: &Volume<T>, options: &WriteOptions) -> Result<()> {
    match Format::of(path)? {
        Format::Nifti => nifti::write(path, volume, None, options),
        Format::MetaImage => metaimage::write(path, volume, options),
    }
}

/// Writes an image that lies on the grid of the file `source`. Between NIfTI files the header's geometry (sform, qform,
/// their codes, units) is carried over byte for byte, so that no program sees the two apart.
///
/// # Errors
/// As [`write()`]; a `source` that cannot be read; a `source` of another size, or at another place, by more than a
/// hundredth of a voxel.
pub fn write_like<T: Scalar>(path: &Path, volume: &Volume<T>, source: &Path, options: &WriteOptions) -> Result<()> {
    let grid = read_info(source)?.geometry;
    let tolerance = 0.01 * grid.spacing.into_iter().fold(f64::INFINITY, f64::min);
    if !grid.is_close(&volume.geometry, tolerance) {
        return Err(Error::geometry(format!(
            "what is to be written to {} is not on the grid of {}: {:?} voxels from {:?}, there {:?} from {:?}",
            path.display(),
            source.display(),
            volume.geometry.size,
            volume.geometry.origin,
            grid.size,
            grid.origin
        )));
    }
    match (Format::of(path)?, Format::of(source)?) {
        (Format::Nifti, Format::Nifti) => nifti::write(path, volume, Some(source), options),
        _ => write(path, volume, options),
    }
}

/// A file that is being written under a temporary name beside its own; dropped without [`commit`](Self::commit) it
/// vanishes.
struct Draft {
    target: PathBuf,
    file: Option<BufWriter<tempfile::NamedTempFile>>,
    overwrite: bool,
}

impl Draft {
    fn create(target: &Path, options: &WriteOptions) -> Result<Self> {
        if !options.overwrite && target.exists() {
            return Err(Error::Exists { path: target.to_owned() });
        }
        // Found out before anything is written, not when the finished file is to take its name.
        if target.is_dir() {
            return Err(Error::io(target, std::io::ErrorKind::IsADirectory.into()));
        }
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".adaptmedseg-")
            .permissions_as_usual()
            .tempfile_in(folder)
            .map_err(|error| Error::io(target, error))?;
        Ok(Self { target: target.to_owned(), file: Some(BufWriter::new(file)), overwrite: options.overwrite })
    }

    fn writer(&mut self) -> &mut impl Write {
        self.file.as_mut().expect("until commit")
    }

    fn fail(&self, error: std::io::Error) -> Error {
        Error::io(&self.target, error)
    }

    fn commit(mut self) -> Result<()> {
        let file = self.file.take().expect("until commit");
        let file = file.into_inner().map_err(|error| self.fail(error.into_error()))?;
        let persisted = if self.overwrite { file.persist(&self.target) } else { file.persist_noclobber(&self.target) };
        persisted.map(drop).map_err(|error| self.fail(error.error))
    }
}

trait Permissions {
    fn permissions_as_usual(&mut self) -> &mut Self;
}

impl Permissions for tempfile::Builder<'_, '_> {
    /// Temporary files are private by default; a result is as readable as any file the user makes.
    #[cfg(unix)]
    fn permissions_as_usual(&mut self) -> &mut Self {
        use std::os::unix::fs::PermissionsExt;
        self.permissions(std::fs::Permissions::from_mode(0o666))
    }

    #[cfg(not(unix))]
    fn permissions_as_usual(&mut self) -> &mut Self {
        self
    }
}

/// The largest factor by which deflate can shrink anything: what a compressed file of a given size can hold at most.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Where voxels lie in a file: how many, how stored.
struct Stored {
    scalar: ScalarType,
    big_endian: bool,
    compressed: bool,
    /// Scalars to skip before the first group.
    skip: u64,
    /// Groups of `step` scalars, of which one each is wanted. `count * step * 8` can be addressed.
    count: usize,
    /// Scalars of a group: above one where channels are interleaved.
    step: usize,
    /// Which scalar of a group is wanted.
    first: usize,
    slope: f64,
    intercept: f64,
}

impl Stored {
    /// Checks the sizes a header claims against the `bytes` there are, before any memory is taken.
    fn check(&self, path: &Path, bytes: u64, options: &ReadOptions) -> Result<()> {
        let scalars = u128::from(self.skip) + self.count as u128 * self.step as u128;
        let needed = scalars * self.scalar.bytes() as u128;
        let possible = u128::from(bytes) * if self.compressed { u128::from(MAX_DEFLATE_RATIO) } else { 1 };
        if needed > possible + u128::from(self.compressed) * 1024 {
            return Err(Error::format(
                path,
                format!("its header claims {needed} bytes of voxels, the file holds {possible} at most"),
            ));
        }
        let memory = self.count as u64 * 4;
        match options.max_bytes {
            Some(limit) if memory > limit => Err(Error::TooLarge {
                message: format!("{}: needs {memory} bytes of memory, {limit} are allowed", path.display()),
            }),
            _ => Ok(()),
        }
    }

    /// Reads the wanted scalars, growing the result only as bytes arrive.
    fn read<V: Voxel>(&self, path: &Path, mut source: impl Read) -> Result<Vec<V>> {
        let size = self.scalar.bytes();
        let skip = self.skip * size as u64;
        let skipped = std::io::copy(&mut source.by_ref().take(skip), &mut std::io::sink());
        let mut out = Vec::new();
        // Plain bytes were counted by `check`; what compressed ones hold is only known when it has arrived.
        let expected = if self.compressed { self.count.min(1 << 22) } else { self.count };
        out.try_reserve_exact(expected).map_err(|_| Error::TooLarge {
            message: format!("{}: {} voxels do not fit into memory", path.display(), self.count),
        })?;
        let cut = |found: usize| {
            Error::format(path, format!("truncated: its header promises {} voxels, {found} are there", self.count))
        };
        let failed = |error: std::io::Error, found: usize| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => cut(found),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                Error::format(path, format!("its voxels cannot be read: {error}"))
            }
            _ => Error::io(path, error),
        };
        if skipped.map_err(|error| failed(error, 0))? < skip {
            return Err(cut(0));
        }
        let (total, mut done) = (self.count * self.step, 0);
        let mut chunk = vec![0; (total * size).min(1 << 20)];
        while done < total {
            let scalars = (total - done).min(chunk.len() / size);
            let block = &mut chunk[..scalars * size];
            source.read_exact(block).map_err(|error| failed(error, out.len()))?;
            // Groups do not end where blocks end.
            let first = (self.first + self.step - done % self.step) % self.step;
            let wanted = block.get(first * size..).unwrap_or_default();
            V::decode(self, wanted, &mut out)
                .map_err(|message| Error::InvalidVoxels { message: format!("{}: {message}", path.display()) })?;
            done += scalars;
        }
        // Compressed data end with a checksum; asking for more is what makes the decoder look at it. Anything else
        // that follows the voxels is none of our business.
        source.read(&mut [0]).map_err(|error| failed(error, out.len()))?;
        Ok(out)
    }
}

/// A type voxels are read as.
trait Voxel: Sized {
    /// Appends every `stored.step`-th scalar of `bytes`, scaled; an error says which value cannot be one.
    fn decode(stored: &Stored, bytes: &[u8], out: &mut Vec<Self>) -> Result<(), String>;
}

impl Voxel for f32 {
    fn decode(stored: &Stored, bytes: &[u8], out: &mut Vec<Self>) -> Result<(), String> {
        let Stored { scalar, big_endian, step, slope, intercept, .. } = *stored;
        scalar.decode(bytes, big_endian, step, slope, intercept, out);
        Ok(())
    }
}

/// Labels, by way of double precision: float32 would merge labels above 2^24.
impl Voxel for i32 {
    fn decode(stored: &Stored, bytes: &[u8], out: &mut Vec<Self>) -> Result<(), String> {
        let Stored { scalar, big_endian, step, slope, intercept, .. } = *stored;
        scalar.for_each_double(bytes, big_endian, step, |stored| {
            let value = if slope == 1.0 && intercept == 0.0 { stored } else { stored * slope + intercept };
            let label = value.round();
            if label < f64::from(i32::MIN) || label > f64::from(i32::MAX) {
                return Err(format!("voxel {value} is no label: it does not fit into 32 bits"));
            }
            // NaN fails every comparison, so it is asked whether the value is one, not whether it is none.
            if (label - value).abs() <= 1e-3 {
                out.push(label as i32);
                Ok(())
            } else {
                Err(format!("voxel {value} is no label: not a whole number"))
            }
        })
    }
}

/// Chooses a channel among several.
fn choose_channel(path: &Path, channels: usize, options: &ReadOptions) -> Result<usize> {
    match options.channel {
        None if channels == 1 => Ok(0),
        None => Err(Error::Unsupported {
            message: format!("{}: a 4-D image of {channels} channels; one 3-D image is needed", path.display()),
            hint: Some(format!("choose a channel from 0 to {} (--channel N on the command line)", channels - 1)),
        }),
        Some(channel) if channel < channels => Ok(channel),
        Some(channel) => Err(Error::Unsupported {
            message: format!("{}: there is no channel {channel}, it has {channels}", path.display()),
            hint: Some(format!("channels are numbered from 0 to {}", channels - 1)),
        }),
    }
}

/// The first three sizes and the number of channels of an image of these sizes.
fn three_dimensions(path: &Path, sizes: &[u64]) -> Result<([usize; 3], usize)> {
    let used = sizes.iter().rposition(|&size| size != 1).map_or(0, |last| last + 1);
    if sizes.contains(&0) {
        return Err(Error::format(path, format!("an axis of size 0 among {sizes:?}")));
    }
    let unsupported = |what: &str| Error::Unsupported {
        message: format!("{}: {what} image ({sizes:?}); a 3-D volume is needed", path.display()),
        hint: None,
    };
    // What counts is how many axes the file has: a volume of a single slice is one, a 2-D picture is not.
    if sizes.len() < 3 {
        return Err(unsupported(&format!("a {}-D", sizes.len())));
    }
    if used > 4 {
        return Err(unsupported(&format!("a {used}-D")));
    }
    let size = |index: usize| {
        usize::try_from(sizes[index]).map_err(|_| Error::format(path, format!("an axis of size {}", sizes[index])))
    };
    let three = [size(0)?, size(1)?, size(2)?];
    let channels = if sizes.len() > 3 { size(3)? } else { 1 };
    let fits = three.iter().chain([&channels]).try_fold(8usize, |total, &size| total.checked_mul(size));
    fits.ok_or_else(|| Error::format(path, format!("{sizes:?} voxels are more than can be addressed")))?;
    Ok((three, channels))
}
