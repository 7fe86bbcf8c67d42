//! Reads the image and the labels of a case.

use super::files;
use super::numpy::{Sparse, read_array, read_sparse};
use super::source::{ImageSource, LabelSource, Values};
use crate::error::{Error, Result};
use adaptmedseg_volume::{
    Geometry, ReadOptions, Volume, read, read_dicom_series, read_labels, read_tiff, read_tiff_labels,
};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// How far labels may lie beside their image, as a part of the smallest spacing.
const GRID_TOLERANCE: f64 = 0.1;

/// An image, and what only its own format knows of it.
pub(crate) struct Image {
    pub(crate) volume: Volume<f32>,
    /// Of a DICOM series the file of each slice.
    slices: Vec<PathBuf>,
    /// Whether anyone says how large the voxels are; if not, 1 mm is assumed.
    pub(crate) has_spacing: bool,
}

fn whole() -> ReadOptions {
    ReadOptions::default()
}

/// Reads an image.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn image(source: &ImageSource) -> Result<Image> {
    let plain = |volume, has_spacing| Image { volume, slices: Vec::new(), has_spacing };
    Ok(match source {
        ImageSource::File { path, channel } => plain(read(path, &ReadOptions { channel: *channel, ..whole() })?, true),
        ImageSource::Stack(path) => {
            let stack = read_tiff(path, &whole())?;
            plain(stack.volume, stack.has_spacing)
        }
        ImageSource::Dicom(folder) => {
            let series = read_dicom_series(folder, &whole())?;
            Image { volume: series.volume, slices: series.files, has_spacing: true }
        }
        ImageSource::Array(path) => plain(array(path)?, false),
    })
}

/// Axes (x, y, z), as files of NIfTI are read into NumPy: the last one runs fastest.
fn array(path: &Path) -> Result<Volume<f32>> {
    let array = read_array(path)?;
    let size = match array.shape[..] {
        [x, y, z] | [1, x, y, z] => [x, y, z],
        _ => {
            let message = format!("an array {:?}; (x, y, z) or (1, x, y, z) is needed", array.shape);
            return Err(Error::source_data(path, message, "save one 3-D image in each file"));
        }
    };
    if size.contains(&0) {
        return Err(Error::source_data(path, format!("an empty array {:?}", array.shape), "download it again"));
    }
    if array.first_fastest {
        return Ok(Volume::new(Geometry::with_size(size), array.data)?);
    }
    let mut data = vec![0.0; array.data.len()];
    for (index, value) in array.data.into_iter().enumerate() {
        data[turned(index, size)] = value;
    }
    Ok(Volume::new(Geometry::with_size(size), data)?)
}

/// Where the voxel of an array whose last axis runs fastest lies in a volume, whose first one does.
fn turned(index: usize, [x, y, z]: [usize; 3]) -> usize {
    let (i, j, k) = (index / (y * z), index / z % y, index % z);
    i + x * (j + y * k)
}

/// Labels on the grid of an image.
pub(crate) enum LabelMap {
    Values(Vec<i32>),
    /// The size of the image, and of each structure its voxels.
    Rows([usize; 3], Sparse),
}

/// Reads labels.
///
/// # Errors
/// A file that cannot be read; labels on another grid than the image.
pub(crate) fn labels(source: &LabelSource, image: &Image) -> Result<LabelMap> {
    let grid = &image.volume.geometry;
    Ok(match source {
        LabelSource::File(path) => {
            let labels = read_labels(path, &whole())?;
            let tolerance = GRID_TOLERANCE * grid.spacing.iter().copied().fold(f64::INFINITY, f64::min);
            if !labels.geometry.is_close(grid, tolerance) {
                return Err(other_grid(path, &labels.geometry, grid));
            }
            LabelMap::Values(labels.data)
        }
        LabelSource::Stack(path) => {
            let labels = read_tiff_labels(path, &whole())?.volume;
            if labels.geometry.size != grid.size {
                return Err(other_grid(path, &labels.geometry, grid));
            }
            LabelMap::Values(labels.data)
        }
        LabelSource::Pictures(folder) => LabelMap::Values(pictures(folder, &image.slices, grid.size)?),
        LabelSource::Sparse(path) => LabelMap::Rows(grid.size, sparse(path, grid.size)?),
    })
}

fn other_grid(path: &Path, labels: &Geometry, image: &Geometry) -> Error {
    let text = |grid: &Geometry| format!("{:?} voxels of {:.3?} mm from {:.2?}", grid.size, grid.spacing, grid.origin);
    let message = format!("its labels lie on another grid than the image: {}, there {}", text(labels), text(image));
    Error::source_data(path, message, "resample the labels to the image, or correct their header")
}

fn sparse(path: &Path, size: [usize; 3]) -> Result<Sparse> {
    let matrix = read_sparse(path)?;
    // The shape is in the name: mask_(structures, x, y, z).npz
    let name = files::stem(path);
    let inner = name.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner);
    let named: Vec<usize> = inner.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    if named.len() != 4 || named[1..] != size || matrix.shape != [named[0], size.iter().product()] {
        let message = format!("a matrix {:?} named ({inner}) for an image of {size:?} voxels", matrix.shape);
        return Err(Error::source_data(path, message, "the name must hold (structures, x, y, z) of the image"));
    }
    Ok(matrix)
}

/// The pictures of a folder, in the order of the slices: by equal names, else the n-th picture by name is that of the
/// n-th slice by name.
fn in_order(folder: &Path, slices: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut pictures: Vec<PathBuf> = files::entries(folder)?;
    pictures.retain(|path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")));
    if pictures.len() != slices.len() {
        let message = format!("{} PNG masks for {} DICOM slices", pictures.len(), slices.len());
        return Err(Error::source_data(folder, message, "every slice needs a mask; download the case again"));
    }
    let named = |slice: &PathBuf| pictures.iter().find(|picture| files::stem(picture) == files::stem(slice));
    if let Some(found) = slices.iter().map(named).collect::<Option<Vec<_>>>() {
        return Ok(found.into_iter().cloned().collect());
    }
    let mut names: Vec<&PathBuf> = slices.iter().collect();
    names.sort();
    Ok(slices.iter().map(|slice| pictures[names.binary_search(&slice).expect("one of them")].clone()).collect())
}

fn pictures(folder: &Path, slices: &[PathBuf], size: [usize; 3]) -> Result<Vec<i32>> {
    let mut values = Vec::with_capacity(size.iter().product());
    for path in in_order(folder, slices)? {
        picture(&path, [size[0], size[1]], &mut values)?;
    }
    Ok(values)
}

/// Appends the grey values of a picture, 0 to 255.
fn picture(path: &Path, [width, height]: [usize; 2], values: &mut Vec<i32>) -> Result<()> {
    let wrong = |message: String| Error::source_data(path, message, "download the case again");
    let malformed = |error: png::DecodingError| wrong(format!("no PNG picture, or a damaged one: {error}"));
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(malformed)?;
    let found = [reader.info().width as usize, reader.info().height as usize];
    if found != [width, height] {
        return Err(wrong(format!("a mask of {found:?} pixels for slices of {:?}", [width, height])));
    }
    let bytes = reader.output_buffer_size().ok_or_else(|| wrong("too large".into()))?;
    let mut pixels = vec![0; bytes];
    reader.next_frame(&mut pixels).map_err(malformed)?;
    // Colours, if any, are equal in a grey picture.
    values.extend(pixels.chunks_exact(bytes / (width * height)).map(|pixel| i32::from(pixel[0])));
    Ok(())
}

impl LabelMap {
    /// Sets the voxels of a structure in a mask to 1.
    pub(crate) fn add(&self, values: &Values, mask: &mut [u8]) {
        match self {
            Self::Values(labels) => {
                for (voxel, &label) in mask.iter_mut().zip(labels) {
                    *voxel |= u8::from(values.contains(label));
                }
            }
            Self::Rows(size, matrix) => {
                for row in (0..matrix.shape[0]).filter(|&row| values.contains(row as i32 + 1)) {
                    matrix.row(row).iter().for_each(|&column| mask[turned(column as usize, *size)] = 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_numpy_is_turned() {
        let [i, j, k] = [1, 2, 3];
        assert_eq!(turned((i * 3 + j) * 4 + k, [2, 3, 4]), i + 2 * (j + 3 * k));
    }

    #[test]
    fn pictures_follow_the_slices_by_name_else_by_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let slices = ["c.dcm", "a.dcm", "b.dcm"].map(PathBuf::from);
        for name in ["p0.png", "p1.png", "p2.png"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let names = |slices: &[PathBuf]| -> Vec<String> {
            in_order(folder.path(), slices).expect("as many").iter().map(|path| files::name(path)).collect()
        };
        assert_eq!(names(&slices), ["p2.png", "p0.png", "p1.png"]);
        assert_eq!(names(&["p1.dcm", "p2.dcm", "p0.dcm"].map(PathBuf::from)), ["p1.png", "p2.png", "p0.png"]);
        assert!(in_order(folder.path(), &slices[..2]).expect_err("too few").to_string().contains("3 PNG masks for 2"));
    }
}
