//! A DICOM series: a folder with one file for each slice.

mod lengths;
mod slice;

use super::ReadOptions;
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::Volume;
use slice::Slice;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How far the steps between slices may differ, as a part of their median.
const STEP_TOLERANCE: f64 = 0.02;
/// How far the stack may lean, as the cosine between its direction and the slices' normal.
const MIN_UPRIGHT: f64 = 0.9999;

/// A series, sorted by position.
#[derive(Clone, Debug)]
pub struct DicomSeries {
    /// The voxels, with slope and intercept applied: Hounsfield units in CT.
    pub volume: Volume<f32>,
    /// As the files say: `CT`, `MR`.
    pub modality: Option<String>,
    /// The file of each slice along k.
    pub files: Vec<PathBuf>,
}

/// Reads the DICOM series in a folder. Hidden files and `DICOMDIR` are passed over.
///
/// Rows of pixels run along i, columns along j; k runs along the normal of the slices.
///
/// # Errors
/// A file that is missing, truncated, malformed or compressed; slices of different sizes, spacings or orientations, of
/// several series, at the same position, with a gap between them, or on a slant.
pub fn read_dicom_series(folder: &Path, options: &ReadOptions) -> Result<DicomSeries> {
    let mut slices = files(folder)?.into_iter().map(Slice::read).collect::<Result<Vec<_>>>()?;
    let Some(first) = slices.first() else { return Err(Error::format(folder, "no DICOM file in the folder")) };
    check_alike(folder, first, &slices)?;
    let voxels = slices.len() as u64 * (first.size[0] * first.size[1]) as u64;
    if let Some(limit) = options.max_bytes.filter(|&limit| voxels * 4 > limit) {
        let message = format!("{}: needs {} bytes of memory, {limit} are allowed", folder.display(), voxels * 4);
        return Err(Error::TooLarge { message });
    }
    slices.sort_by(|a, b| a.height().total_cmp(&b.height()));
    let geometry = geometry(folder, &slices)?;
    let mut data = Vec::new();
    slices.iter().try_for_each(|slice| slice.append(&mut data))?;
    Ok(DicomSeries {
        volume: Volume::new(geometry, data)?,
        modality: slices[0].modality.clone(),
        files: slices.into_iter().map(|slice| slice.path).collect(),
    })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |error| Error::io(folder, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !name.starts_with('.') && !name.eq_ignore_ascii_case("DICOMDIR") && name != "Thumbs.db" {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// All slices must be of one series, as far as that can be told.
fn check_alike(folder: &Path, first: &Slice, slices: &[Slice]) -> Result<()> {
    for slice in slices {
        if let Some(what) = first.difference(slice) {
            let message = format!("files of different series: {what} differs from that of {}", first.path.display());
            return Err(Error::format(&slice.path, message));
        }
    }
    // Some anonymisers give every file a series of its own; that says nothing.
    let series: BTreeSet<_> = slices.iter().filter_map(|slice| slice.series.as_deref()).collect();
    if series.len() > 1 && series.len() < slices.len() {
        return Err(Error::format(folder, format!("files of {} different series in one folder", series.len())));
    }
    Ok(())
}

fn name(slice: &Slice) -> String {
    slice.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The grid of sorted slices.
fn geometry(folder: &Path, slices: &[Slice]) -> Result<Geometry> {
    let (first, last) = (&slices[0], &slices[slices.len() - 1]);
    let mut steps: Vec<f64> = slices.windows(2).map(|pair| pair[1].height() - pair[0].height()).collect();
    let step = {
        let mut sorted = steps.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(first.thickness)
    };
    for (pair, found) in slices.windows(2).zip(steps.drain(..)) {
        let (below, above) = (name(&pair[0]), name(&pair[1]));
        if found < 1e-3 {
            let message = format!("{below} and {above} lie at the same position: files of different series");
            return Err(Error::format(folder, message));
        }
        if (found - step).abs() > STEP_TOLERANCE * step {
            let message =
                format!("a gap of {found:.3} mm between {below} and {above}, the others are {step:.3} mm apart");
            return Err(Error::format(folder, message));
        }
    }
    if slices.len() > 1 {
        let way: [f64; 3] = std::array::from_fn(|axis| last.position[axis] - first.position[axis]);
        let length = way.iter().map(|part| part * part).sum::<f64>().sqrt();
        if (last.height() - first.height()) / length < MIN_UPRIGHT {
            return Err(Error::Unsupported {
                message: format!("{}: its slices are stacked on a slant (tilted gantry)", folder.display()),
                hint: Some("resample the series to an upright grid first".into()),
            });
        }
    }
    let [rows, columns, normal] = [first.rows_along, first.columns_along, first.normal()];
    let direction = std::array::from_fn(|axis| [rows[axis], columns[axis], normal[axis]]);
    let [height, width] = [first.size[1], first.size[0]];
    Geometry::new([width, height, slices.len()], [first.spacing[0], first.spacing[1], step], first.position, direction)
}

#[cfg(test)]
mod tests {
    use super::slice::testing::{Made, write};
    use super::*;

    fn series(change: impl Fn(usize, Made) -> Made) -> Result<DicomSeries> {
        let folder = tempfile::tempdir().expect("a folder");
        for index in 0..5 {
            // Names against the order of positions.
            let path = folder.path().join(format!("IMG-{:03}.dcm", 9 - index));
            write(&path, &change(index, Made::new([-10.0, 5.0, 3.0 * index as f64])));
        }
        std::fs::write(folder.path().join("._IMG-001.dcm"), b"finder").expect("written");
        read_dicom_series(folder.path(), &ReadOptions::default())
    }

    fn message(change: impl Fn(usize, Made) -> Made) -> String {
        series(change).expect_err("no series").to_string()
    }

    #[test]
    fn slices_are_sorted_by_position() {
        let read = series(|index, made| Made { first: index as i16 * 10, ..made }).expect("a series");
        assert_eq!((read.volume.geometry.size, read.volume.geometry.spacing), ([3, 2, 5], [0.5, 0.75, 3.0]));
        assert_eq!(read.volume.geometry.origin, [-10.0, 5.0, 0.0]);
        // Slope 2, intercept -1000; the signed voxel -1 at the end of each slice.
        assert_eq!((*read.volume.at([0, 0, 2]), *read.volume.at([2, 1, 2])), (-960.0, -1002.0));
        assert_eq!(read.modality.as_deref(), Some("CT"));
        assert!(read.files[0].ends_with("IMG-009.dcm") && read.files[4].ends_with("IMG-005.dcm"));
    }

    #[test]
    fn what_is_no_series_is_refused() {
        let at = |made: Made, z: f64| Made { position: [-10.0, 5.0, z], ..made };
        assert!(message(|index, made| if index == 4 { at(made, 15.0) } else { made }).contains("a gap of 6.000 mm"));
        assert!(message(|index, made| if index == 4 { at(made, 9.0) } else { made }).contains("same position"));
        assert!(message(|index, made| Made { wide: index == 3, ..made }).contains("size differs"));
        assert!(
            message(|index, made| Made { series: format!("1.2.{}", index / 3), ..made }).contains("2 different series")
        );
        assert!(series(|index, made| Made { series: format!("1.2.{index}"), ..made }).is_ok(), "an anonymiser's doing");
        let slant = |index: usize, made: Made| Made { position: [index as f64, 0.0, 3.0 * index as f64], ..made };
        assert!(message(slant).contains("slant"));
    }

    #[test]
    fn cut_short_or_compressed_is_said() {
        assert!(message(|index, made| Made { cut: if index == 2 { 5 } else { 0 }, ..made }).contains("truncated"));
        let jpeg = "1.2.840.10008.1.2.4.90";
        assert!(message(|_, made| Made { syntax: jpeg, ..made }).contains("compressed"));
    }
}
