//! Arrays of NumPy (`.npy`) and sparse matrices of SciPy (`.npz`).

use crate::error::{Error, Result};
use npyz::{DType, NpyFile, Order, TypeChar};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The largest factor by which deflate can shrink anything.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// An array, whatever numbers it was stored as.
pub(crate) struct Array<T> {
    pub(crate) shape: Vec<usize>,
    /// Whether the first axis runs fastest.
    pub(crate) first_fastest: bool,
    pub(crate) data: Vec<T>,
}

fn wrong(path: &Path, message: impl Into<String>) -> Error {
    Error::source_data(path, message, "the file may be damaged or cut short; copy it again")
}

/// Reads an array whose bytes are `bytes`, at most.
fn read<T>(path: &Path, source: impl Read, bytes: u64, convert: fn(f64) -> T) -> Result<Array<T>> {
    let malformed = |error: std::io::Error| wrong(path, format!("no array of NumPy, or a truncated one: {error}"));
    let npy = NpyFile::new(source).map_err(malformed)?;
    let size = npy.dtype().num_bytes().unwrap_or(0).max(1) as u128;
    let count = npy.shape().iter().try_fold(1u128, |total, &side| total.checked_mul(u128::from(side)));
    if count.is_none_or(|count| count.saturating_mul(size) > u128::from(bytes)) {
        return Err(wrong(path, format!("truncated: an array {:?} in {bytes} bytes", npy.shape())));
    }
    let shape = npy.shape().iter().map(|&side| side as usize).collect();
    let first_fastest = npy.order() == Order::Fortran;
    Ok(Array { shape, first_fastest, data: numbers(path, npy, convert)? })
}

fn numbers<R: Read, T>(path: &Path, npy: NpyFile<R>, convert: fn(f64) -> T) -> Result<Vec<T>> {
    let unknown = |kind: &DType| wrong(path, format!("an array of {}, which are no plain numbers", kind.descr()));
    let kind = npy.dtype();
    let DType::Plain(text) = &kind else { return Err(unknown(&kind)) };
    macro_rules! read_as {
        ($type:ty) => {{
            let values = npy.data::<$type>().map_err(|error| wrong(path, error.to_string()))?;
            let numbers: std::io::Result<Vec<T>> =
                values.map(|value| value.map(|value| convert(value as f64))).collect();
            numbers.map_err(|error| wrong(path, format!("truncated: {error}")))
        }};
    }
    match (text.type_char(), text.size_field()) {
        (TypeChar::Bool, _) => {
            let values = npy.data::<bool>().map_err(|error| wrong(path, error.to_string()))?;
            let numbers: std::io::Result<Vec<T>> =
                values.map(|value| value.map(|value| convert(f64::from(value)))).collect();
            numbers.map_err(|error| wrong(path, format!("truncated: {error}")))
        }
        (TypeChar::Int, 1) => read_as!(i8),
        (TypeChar::Int, 2) => read_as!(i16),
        (TypeChar::Int, 4) => read_as!(i32),
        (TypeChar::Int, 8) => read_as!(i64),
        (TypeChar::Uint, 1) => read_as!(u8),
        (TypeChar::Uint, 2) => read_as!(u16),
        (TypeChar::Uint, 4) => read_as!(u32),
        (TypeChar::Uint, 8) => read_as!(u64),
        (TypeChar::Float, 4) => read_as!(f32),
        (TypeChar::Float, 8) => read_as!(f64),
        _ => Err(unknown(&kind)),
    }
}

fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let io = |error| Error::io(path, error);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    Ok((BufReader::new(file), bytes))
}

/// Reads a `.npy` file.
///
/// # Errors
/// A file that cannot be read, is malformed or truncated, or holds no plain numbers.
pub(crate) fn read_array(path: &Path) -> Result<Array<f32>> {
    let (file, bytes) = open(path)?;
    read(path, file, bytes, |value| value as f32)
}

/// A sparse matrix in rows: where it is not 0.
pub(crate) struct Sparse {
    /// Rows and columns.
    pub(crate) shape: [usize; 2],
    columns: Vec<u64>,
    /// Of each row the first entry; one more for the end.
    starts: Vec<usize>,
}

impl Sparse {
    /// Columns of a row that are not 0.
    pub(crate) fn row(&self, row: usize) -> &[u64] {
        &self.columns[self.starts[row]..self.starts[row + 1]]
    }
}

/// Reads what `scipy.sparse.save_npz` wrote of a CSR matrix.
///
/// # Errors
/// A file that cannot be read, is malformed or truncated; another kind of matrix; entries outside the matrix.
pub(crate) fn read_sparse(path: &Path) -> Result<Sparse> {
    let (file, bytes) = open(path)?;
    let mut archive =
        zip::ZipArchive::new(file).map_err(|error| wrong(path, format!("no .npz, or a truncated one: {error}")))?;
    let mut entry = |name: &str| -> Result<Vec<u8>> {
        let missing = |error: zip::result::ZipError| wrong(path, format!("no sparse matrix: {name}: {error}"));
        let mut entry = archive.by_name(&format!("{name}.npy")).map_err(missing)?;
        let claimed = entry.size();
        if claimed > bytes.saturating_mul(MAX_DEFLATE_RATIO) {
            return Err(wrong(path, format!("{name} claims {claimed} bytes, more than the file can hold")));
        }
        let mut out = Vec::new();
        entry.by_ref().take(claimed + 1).read_to_end(&mut out).map_err(|error| wrong(path, error.to_string()))?;
        Ok(out)
    };
    // Bytes of text, which npyz has no number for: its last ones.
    let format = entry("format")?;
    if !format.ends_with(b"csr") && !format.windows(12).any(|text| text == *b"c\0\0\0s\0\0\0r\0\0\0") {
        return Err(wrong(path, "a sparse matrix that is not stored by rows (csr)"));
    }
    let mut array = |name: &str| -> Result<Vec<f64>> {
        let bytes = entry(name)?;
        read(path, &bytes[..], bytes.len() as u64, |value| value).map(|array| array.data)
    };
    let [shape, starts, columns, data] = [array("shape")?, array("indptr")?, array("indices")?, array("data")?];
    csr(path, &shape, &starts, &columns, &data)
}

fn csr(path: &Path, shape: &[f64], starts: &[f64], columns: &[f64], data: &[f64]) -> Result<Sparse> {
    let [rows, width] = shape[..] else { return Err(wrong(path, "a sparse matrix that is not of two axes")) };
    let sorted = starts.windows(2).all(|pair| pair[0] <= pair[1]);
    let whole = starts.first() == Some(&0.0) && starts.last() == Some(&(columns.len() as f64));
    if starts.len() as f64 != rows + 1.0 || !sorted || !whole || data.len() != columns.len() {
        return Err(wrong(path, "the rows of the sparse matrix do not fit its entries"));
    }
    if columns.iter().any(|&column| column < 0.0 || column >= width) {
        return Err(wrong(path, "entries outside the sparse matrix"));
    }
    let mut matrix = Sparse { shape: [rows as usize, width as usize], columns: Vec::new(), starts: vec![0] };
    for row in starts.windows(2) {
        let entries = row[0] as usize..row[1] as usize;
        let kept = entries.filter(|&entry| data[entry] != 0.0).map(|entry| columns[entry] as u64);
        matrix.columns.extend(kept);
        matrix.starts.push(matrix.columns.len());
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_does_not_fit_itself_is_refused() {
        let path = Path::new("m.npz");
        let fine = csr(path, &[2.0, 4.0], &[0.0, 1.0, 3.0], &[3.0, 0.0, 2.0], &[1.0, 1.0, 0.0]).expect("a matrix");
        assert_eq!((fine.row(0), fine.row(1)), (&[3][..], &[0][..]));
        for (starts, columns) in [
            (&[0.0, 1.0][..], &[3.0][..]),
            (&[0.0, 2.0, 1.0], &[3.0]),
            (&[0.0, 1.0, 9.0], &[3.0]),
            (&[0.0, 0.0, 1.0], &[4.0]),
            (&[0.0, 0.0, 1.0], &[-1.0]),
        ] {
            assert!(csr(path, &[2.0, 4.0], starts, columns, &vec![1.0; columns.len()]).is_err());
        }
    }

    #[test]
    fn an_array_larger_than_its_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npy");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 100000, 100000, 100), }";
        bytes.extend(format!("{text:<117}\n").as_bytes());
        bytes.extend([0; 16]);
        std::fs::write(&path, bytes).expect("written");
        let message = read_array(&path).err().expect("refused").to_string();
        assert!(message.contains("truncated: an array"), "{message}");
    }
}
