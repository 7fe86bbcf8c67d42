//! Image files: NIfTI-1 and -2, MetaImage.

mod metaimage;
mod nifti;
mod scalar;

pub use scalar::{Scalar, ScalarType};

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
/// As [`read`]; a voxel that is no whole number.
pub fn read_labels(path: &Path, options: &ReadOptions) -> Result<Volume<i32>> {
    let Volume { geometry, data } = read(path, options)?;
    let label = |value: f32| {
        let rounded = value.round();
        ((rounded - value).abs() <= 1e-3 && rounded.abs() < 2e9).then_some(rounded as i32)
    };
    let labels = data.into_iter().map(|value| {
        label(value).ok_or_else(|| Error::InvalidVoxels {
            message: format!("{}: voxel {value} is no label: not a whole number", path.display()),
        })
    });
    Volume::new(geometry, labels.collect::<Result<_>>()?)
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
/// As [`write()`]; a `source` of another size.
pub fn write_like<T: Scalar>(path: &Path, volume: &Volume<T>, source: &Path, options: &WriteOptions) -> Result<()> {
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
    /// Scalars to skip before the first wanted one.
    skip: u64,
    /// Scalars wanted.
    count: usize,
    /// Wanted is every `step`-th scalar.
    step: usize,
    slope: f64,
    intercept: f64,
}

impl Stored {
    /// Checks the sizes a header claims against the bytes there are, before any memory is taken.
    fn check(&self, path: &Path, bytes: u64, compressed: bool, options: &ReadOptions) -> Result<()> {
        // Interleaved channels end together, so skipping to one of them needs nothing beyond.
        let skip = if self.step == 1 { u128::from(self.skip) } else { 0 };
        let scalars = skip + self.count as u128 * self.step as u128;
        let needed = scalars * self.scalar.bytes() as u128;
        let possible = u128::from(bytes) * if compressed { u128::from(MAX_DEFLATE_RATIO) } else { 1 };
        if needed > possible + u128::from(compressed) * 1024 {
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

    /// Reads the wanted scalars as float32, growing the result only as bytes arrive.
    fn read(&self, path: &Path, mut source: impl Read) -> Result<Vec<f32>> {
        let size = self.scalar.bytes();
        let skipped = std::io::copy(&mut source.by_ref().take(self.skip * size as u64), &mut std::io::sink());
        let mut skipped = skipped.map_err(|error| Error::io(path, error))? == self.skip * size as u64;
        let mut out = Vec::with_capacity(self.count.min(1 << 24));
        let mut chunk = vec![0; (1 << 20) / (size * self.step).max(1) * size * self.step + size * self.step];
        let mut left = self.count * self.step * size;
        while left > 0 && skipped {
            let want = left.min(chunk.len());
            let mut filled = 0;
            while filled < want {
                match source.read(&mut chunk[filled..want]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(Error::format(path, format!("its voxels cannot be read: {error}"))),
                }
            }
            self.scalar.decode(&chunk[..filled], self.big_endian, self.step, self.slope, self.intercept, &mut out);
            left -= filled;
            skipped = filled == want;
        }
        // Compressed data end with a checksum; asking for more is what makes the decoder look at it. Anything else that
        // follows the voxels is none of our business.
        let cut = |error: std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        let complete = skipped && !source.read(&mut [0]).is_err_and(cut);
        if out.len() < self.count || !complete {
            return Err(Error::format(
                path,
                format!("truncated: its header promises {} voxels, {} are there", self.count, out.len()),
            ));
        }
        Ok(out)
    }
}

/// Chooses a channel among several.
fn choose_channel(path: &Path, channels: usize, options: &ReadOptions) -> Result<usize> {
    match options.channel {
        None if channels == 1 => Ok(0),
        None => Err(Error::Unsupported {
            message: format!("{}: a 4-D image of {channels} channels; one 3-D image is needed", path.display()),
            hint: Some(format!("choose one with --channel N, N from 0 to {}", channels - 1)),
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
    if sizes.len() < 3 || used < 3 && sizes[..3].iter().filter(|&&size| size > 1).count() < 3 && used <= 2 {
        return Err(unsupported(&format!("a {}-D", used.max(1))));
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
