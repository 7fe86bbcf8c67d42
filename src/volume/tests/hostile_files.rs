//! Files that lie: every one must end in an error that names it, in bounded memory, never in a panic.

use adaptmedseg_volume::{ErrorKind, Geometry, ReadOptions, Volume, WriteOptions, read, read_info, write, write_like};
use std::path::{Path, PathBuf};

fn volume() -> Volume<i16> {
    let direction = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]];
    let geometry = Geometry::new([5, 4, 3], [0.5, 1.5, 2.5], [1.0, -2.0, 3.0], direction).expect("a grid");
    Volume::new(geometry, (0..60).map(|index| index * 7 - 100).collect()).expect("sixty voxels")
}

fn written(folder: &Path, name: &str) -> (PathBuf, Vec<u8>) {
    let path = folder.join(name);
    write(&path, &volume(), &WriteOptions::default()).expect("a writable folder");
    let bytes = std::fs::read(&path).expect("just written");
    (path, bytes)
}

#[test]
fn what_is_written_is_read_again_on_the_same_grid() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.nii", "a.nii.gz", "a.mha", "a.mhd"] {
        let (path, _) = written(folder.path(), name);
        let back = read(&path, &ReadOptions::default()).expect(name);
        assert!(back.geometry.is_close(&volume().geometry, 1e-5), "{name}: {:?}", back.geometry);
        assert!(back.data.iter().zip(&volume().data).all(|(a, b)| *a == f32::from(*b)), "{name}");
        let again = write(&path, &volume(), &WriteOptions::default()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists, "{name}");
        let info = read_info(&path).expect(name);
        assert_eq!((info.scalar.name(), info.channels), ("i16", 1));
    }
}

#[test]
fn a_mask_keeps_the_header_geometry_of_its_image_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, mut bytes) = written(folder.path(), "a.nii");
    // A qform that says something else than the sform, as real files have.
    bytes[256..260].copy_from_slice(&0.123f32.to_le_bytes());
    bytes[252..254].copy_from_slice(&2i16.to_le_bytes());
    std::fs::write(&source, &bytes).expect("writable");
    let target = folder.path().join("mask.nii");
    let mask = Volume { geometry: volume().geometry, data: vec![1u8; 60] };
    write_like(&target, &mask, &source, &WriteOptions::default()).expect("writable");
    let mask = std::fs::read(&target).expect("just written");
    for (what, range) in [("pixdim", 76..92), ("units", 123..124), ("qform and sform", 252..328)] {
        assert_eq!(mask[range.clone()], bytes[range], "{what}");
    }
    assert_eq!(mask[70..72], 2i16.to_le_bytes(), "data type: u8");
    assert_eq!(mask.len(), 352 + 60);
}

#[test]
fn no_truncation_and_no_changed_byte_makes_the_reader_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for name in ["a.nii", "a.nii.gz", "a.mha"] {
        let (path, bytes) = written(folder.path(), name);
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).expect("writable");
            assert!(read(&path, &ReadOptions::default()).is_err(), "{name} cut at {length}");
        }
        for _ in 0..3000 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % damaged.len();
                damaged[at] = random() as u8;
            }
            std::fs::write(&path, &damaged).expect("writable");
            let _ = read(&path, &ReadOptions { max_bytes: Some(1 << 20), ..Default::default() });
        }
    }
}

#[test]
fn a_small_file_cannot_claim_much_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, mut bytes) = written(folder.path(), "a.nii");
    for axis in 1..4 {
        bytes[40 + 2 * axis..42 + 2 * axis].copy_from_slice(&1400i16.to_le_bytes());
    }
    std::fs::write(&path, &bytes[..400]).expect("writable");
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("claims 5488000000 bytes"), "{error}");

    let (path, bytes) = written(folder.path(), "b.mha");
    let text = String::from_utf8_lossy(&bytes).replace("DimSize = 5 4 3", "DimSize = 2000 2000 2000");
    std::fs::write(&path, text.as_bytes()).expect("writable");
    assert!(read(&path, &ReadOptions::default()).unwrap_err().to_string().contains("claims"));
}

#[test]
fn images_that_are_not_three_dimensional_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, bytes) = written(folder.path(), "a.nii");
    let with_sizes = |sizes: [i16; 8]| {
        let mut changed = bytes.clone();
        for (axis, size) in sizes.into_iter().enumerate() {
            changed[40 + 2 * axis..42 + 2 * axis].copy_from_slice(&size.to_le_bytes());
        }
        std::fs::write(&path, changed).expect("writable");
        read(&path, &ReadOptions::default())
    };
    assert!(with_sizes([2, 12, 5, 1, 1, 1, 1, 1]).unwrap_err().to_string().contains("2-D"));
    let error = with_sizes([4, 5, 4, 1, 3, 1, 1, 1]).unwrap_err();
    assert!(error.to_string().contains("3 channels") && error.hint().expect("one").contains("--channel"), "{error}");
    assert!(with_sizes([5, 5, 4, 1, 1, 3, 1, 1]).unwrap_err().to_string().contains("5-D"));
    assert!(with_sizes([3, 5, 0, 3, 1, 1, 1, 1]).is_err());
    assert!(with_sizes([4, 5, 4, 3, 1, 1, 1, 1]).is_ok());
}

#[test]
fn spacing_and_direction_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, bytes) = written(folder.path(), "a.mha");
    let replaced = |from: &str, to: &str| {
        let end = bytes.windows(7).position(|window| window == b"= LOCAL").expect("local") + 8;
        let header = String::from_utf8_lossy(&bytes[..end]).replace(from, to);
        std::fs::write(&path, [header.as_bytes(), &bytes[end..]].concat()).expect("writable");
        read(&path, &ReadOptions::default()).unwrap_err().to_string()
    };
    assert!(replaced("ElementSpacing = 0.5", "ElementSpacing = 0").contains("spacing"));
    assert!(replaced("ElementSpacing = 0.5", "ElementSpacing = -1").contains("spacing"));
    assert!(replaced("TransformMatrix = 0 1 0", "TransformMatrix = 0 0 -1").contains("singular"));
    assert!(replaced("MET_SHORT", "MET_OTHER").contains("MET_OTHER"));
}
