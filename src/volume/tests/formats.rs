//! Corners of the file formats, each with the mistake it guards against. Exchange with other programs: `interop.py`.

use adaptmedseg_volume::{
    ErrorKind, Geometry, ReadOptions, Result, Volume, WriteOptions, read, read_info, read_labels, write, write_like,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const OVERWRITE: WriteOptions = WriteOptions { overwrite: true };

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn image() -> Volume<u8> {
    Volume::new(Geometry::with_size([5, 4, 3]), (0..60).collect()).expect("sixty voxels")
}

fn plain(path: &Path) -> Result<Volume<f32>> {
    read(path, &ReadOptions::default())
}

fn channel(path: &Path, channel: usize) -> Result<Volume<f32>> {
    read(path, &ReadOptions { channel: Some(channel), ..Default::default() })
}

/// A MetaImage of 5 x 4 x 3 voxels with `extra` header lines.
fn meta(folder: &Path, extra: &str, element: &str, voxels: &[u8]) -> PathBuf {
    let path = folder.join("made.mha");
    let header = format!(
        "ObjectType = Image\nNDims = 3\n{extra}DimSize = 5 4 3\nElementType = {element}\nElementDataFile = LOCAL\n"
    );
    std::fs::write(&path, [header.as_bytes(), voxels].concat()).expect("writable");
    path
}

/// The written bytes of a NIfTI file after `change`.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let path = folder.join(name);
    write(&path, &image(), &OVERWRITE).expect("writable");
    let mut bytes = std::fs::read(&path).expect("just written");
    change(&mut bytes);
    std::fs::write(&path, bytes).expect("writable");
    path
}

#[test]
fn labels_that_float32_would_merge_stay_apart() {
    let folder = folder();
    let labels = vec![16_777_216, 16_777_217, i32::MAX, i32::MIN, -1, 0];
    let volume = Volume::new(Geometry::with_size([6, 1, 1]), labels).expect("six voxels");
    for name in ["l.nii", "l.nii.gz", "l.mha", "l.mhd"] {
        let path = folder.path().join(name);
        write(&path, &volume, &OVERWRITE).expect("writable");
        assert_eq!(read_labels(&path, &ReadOptions::default()).expect(name).data, volume.data, "{name}");
    }
}

#[test]
fn what_is_no_label_is_refused() {
    let folder = folder();
    for (value, why) in
        [(0.5, "whole number"), (f64::NAN, "whole number"), (3e9, "32 bits"), (f64::INFINITY, "32 bits")]
    {
        let path = folder.path().join("l.nii");
        let volume = Volume::new(Geometry::with_size([2, 1, 1]), vec![1.0, value]).expect("two voxels");
        write(&path, &volume, &OVERWRITE).expect("writable");
        let error = read_labels(&path, &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains(why), "{value}: {error}");
    }
    let path = folder.path().join("l.mha");
    let volume = Volume::new(Geometry::with_size([2, 1, 1]), vec![0.9995f32, 2.0]).expect("two voxels");
    write(&path, &volume, &OVERWRITE).expect("writable");
    assert_eq!(read_labels(&path, &ReadOptions::default()).expect("nearly whole").data, [1, 2]);
}

#[test]
fn a_volume_of_one_slice_is_a_volume() {
    let folder = folder();
    for size in [[5, 4, 1], [1, 1, 3], [1, 1, 1]] {
        let volume = Volume::new(Geometry::with_size(size), vec![3u8; size.iter().product()]).expect("voxels");
        for name in ["s.nii", "s.mha"] {
            let path = folder.path().join(name);
            write(&path, &volume, &OVERWRITE).expect("writable");
            assert_eq!(plain(&path).expect(name).geometry.size, size, "{name}");
        }
    }
}

#[test]
fn gzip_with_garbage_behind_it_is_read_and_with_a_wrong_checksum_is_not() {
    let folder = folder();
    for count in [1, 3, 9, 30, 9000] {
        let path = changed(folder.path(), "g.nii.gz", |bytes| bytes.extend(vec![0xab; count]));
        assert_eq!(plain(&path).expect("garbage is no voxel").data[59], 59.0, "{count} bytes of garbage");
    }
    let path = changed(folder.path(), "g.nii.gz", |bytes| {
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
    });
    assert_eq!(plain(&path).unwrap_err().kind(), ErrorKind::Format);
    let path = folder.path().join("z.mha");
    write(&path, &image(), &OVERWRITE).expect("writable");
    let mut bytes = std::fs::read(&path).expect("just written");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    assert_eq!(plain(&path).unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn a_compressed_file_has_no_time_in_it() {
    let folder = folder();
    let [a, b] = ["a.nii.gz", "b.nii.gz"].map(|name| {
        let path = folder.path().join(name);
        write(&path, &image(), &OVERWRITE).expect("writable");
        std::fs::read(path).expect("just written")
    });
    assert_eq!(a, b);
    assert_eq!(a[4..8], [0; 4], "time of the gzip header");
}

#[test]
fn a_mask_takes_no_description_from_its_image() {
    let folder = folder();
    let source = changed(folder.path(), "source.nii", |bytes| {
        bytes[148..155].copy_from_slice(b"PATIENT");
        bytes[228..235].copy_from_slice(b"PATIENT");
        bytes[328..335].copy_from_slice(b"PATIENT");
    });
    let target = folder.path().join("mask.nii");
    write_like(&target, &image(), &source, &OVERWRITE).expect("on its grid");
    let bytes = std::fs::read(&target).expect("just written");
    assert!(!bytes.windows(7).any(|window| window == b"PATIENT"));
}

#[test]
fn a_mask_on_another_grid_than_its_image_is_refused() {
    let folder = folder();
    for name in ["source.nii", "source.mha"] {
        let source = folder.path().join(name);
        write(&source, &image(), &OVERWRITE).expect("writable");
        let mut moved = image();
        moved.geometry.origin[1] += 0.5;
        let target = folder.path().join("mask.nii");
        let error = write_like(&target, &moved, &source, &OVERWRITE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!target.exists());
        moved.geometry.origin[1] -= 0.499;
        write_like(&target, &moved, &source, &OVERWRITE).expect("rounding is no other grid");
        std::fs::remove_file(&target).expect("just written");
    }
}

#[test]
fn metaimage_channels_may_be_interleaved_and_absurd_numbers_of_them_are_refused() {
    let folder = folder();
    let voxels: Vec<u8> = (0..180).collect();
    let path = meta(folder.path(), "ElementNumberOfChannels = 3\n", "MET_UCHAR", &voxels);
    for n in 0..3 {
        let wanted: Vec<f32> = voxels.iter().skip(n).step_by(3).map(|&voxel| f32::from(voxel)).collect();
        assert_eq!(channel(&path, n).expect("three channels").data, wanted, "channel {n}");
    }
    assert!(plain(&path).unwrap_err().to_string().contains("3 channels"));
    assert!(channel(&path, 3).unwrap_err().to_string().contains("no channel 3"));
    let short = meta(folder.path(), "ElementNumberOfChannels = 3\n", "MET_UCHAR", &voxels[..179]);
    assert!(channel(&short, 0).is_err(), "one byte is missing");
    for count in ["0", "9223372036854775807", "18446744073709551615", "307445734561825861"] {
        let path = meta(folder.path(), &format!("ElementNumberOfChannels = {count}\n"), "MET_UCHAR", &voxels);
        assert!(read_info(&path).is_err(), "{count}");
        assert!(channel(&path, 1).is_err(), "{count}");
    }
}

#[test]
fn groups_of_channels_that_straddle_blocks_are_put_together() {
    // Three bytes per voxel do not divide the block the reader works with.
    let folder = folder();
    let path = folder.path().join("wide.mha");
    let size = [100, 100, 60];
    let header = "NDims = 3\nDimSize = 100 100 60\nElementNumberOfChannels = 3\nElementType = MET_UCHAR\n\
                  ElementDataFile = LOCAL\n";
    let count: usize = size.iter().product();
    let voxels: Vec<u8> = (0..3 * count).map(|index| (index / 3 % 251) as u8 / 2 + (index % 3) as u8).collect();
    std::fs::write(&path, [header.as_bytes(), &voxels].concat()).expect("writable");
    for n in 0..3 {
        let got = channel(&path, n).expect("three channels").data;
        assert!(got.iter().zip(voxels.iter().skip(n).step_by(3)).all(|(got, &wanted)| *got == f32::from(wanted)));
        assert_eq!(got.len(), count);
    }
}

#[test]
fn metaimage_voxels_written_as_text_are_not_taken_for_binary() {
    let folder = folder();
    let path = meta(folder.path(), "BinaryData = False\n", "MET_UCHAR", " 1 2 3".repeat(40).as_bytes());
    let error = plain(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("BinaryData"), "{error}");
}

#[test]
fn a_metaimage_header_cannot_name_a_file_outside_its_folder() {
    let folder = folder();
    let outside = folder.path().join("outside.raw");
    std::fs::write(&outside, [9; 60]).expect("writable");
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).expect("writable");
    std::fs::write(inner.join("inside.raw"), [9; 60]).expect("writable");
    let named = |name: &str| {
        let path = inner.join("named.mhd");
        let text = format!("NDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\nElementDataFile = {name}\n");
        std::fs::write(&path, text).expect("writable");
        plain(&path)
    };
    assert_eq!(named("inside.raw").expect("beside its header").data, [9.0; 60]);
    assert!(named("./inside.raw").is_ok());
    for name in ["../outside.raw", "x/../../outside.raw", &outside.display().to_string(), "", "LIST", "s%02d.raw 1 3 1"]
    {
        assert_eq!(named(name).unwrap_err().kind(), ErrorKind::Unsupported, "{name}");
    }
    assert_eq!(named("none.raw").unwrap_err().kind(), ErrorKind::Io);
    std::fs::create_dir(inner.join("folder.raw")).expect("writable");
    assert!(named("folder.raw").unwrap_err().to_string().contains("not a file"));
}

#[test]
fn metaimage_header_size_counts_from_the_start_of_the_file() {
    let folder = folder();
    let write_pair = |skip: i64, before: usize| {
        let path = folder.path().join("pair.mhd");
        let text = format!(
            "NDims = 3\nHeaderSize = {skip}\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementByteOrderMSB = True\n\
             ElementDataFile = pair.raw\n"
        );
        std::fs::write(&path, text).expect("writable");
        let voxels = (0..60i16).flat_map(|value| (value * 300).to_be_bytes());
        let bytes: Vec<u8> = std::iter::repeat_n(0xee, before).chain(voxels).collect();
        std::fs::write(folder.path().join("pair.raw"), bytes).expect("writable");
        plain(&path)
    };
    for (skip, before) in [(0, 0), (7, 7), (-1, 0), (-1, 1000)] {
        assert_eq!(write_pair(skip, before).expect("voxels").data[59], 17700.0, "HeaderSize = {skip}");
    }
    assert!(write_pair(-2, 0).is_err());
    assert!(write_pair(1, 0).is_err(), "one byte short");
    let path = meta(folder.path(), "HeaderSize = 3\n", "MET_UCHAR", &[0; 60]);
    assert!(plain(&path).unwrap_err().to_string().contains("HeaderSize"), "inside the text of the header");
}

#[test]
fn a_failed_header_leaves_no_voxels_behind() {
    let folder = folder();
    let path = folder.path().join("taken.mhd");
    std::fs::create_dir(&path).expect("writable");
    for overwrite in [false, true] {
        assert!(write(&path, &image(), &WriteOptions { overwrite }).is_err());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["taken.mhd"]);
}

#[test]
fn an_sform_gives_the_grid_where_pixdim_cannot() {
    let folder = folder();
    let path = changed(folder.path(), "p.nii", |bytes| bytes[80..84].copy_from_slice(&(-1f32).to_le_bytes()));
    assert_eq!(plain(&path).expect("the sform is whole").geometry.spacing, [1.0; 3]);
    let without_sform = changed(folder.path(), "p.nii", |bytes| {
        bytes[80..84].copy_from_slice(&(-1f32).to_le_bytes());
        bytes[254..256].fill(0);
    });
    let error = plain(&without_sform).unwrap_err();
    assert!(error.to_string().contains("spacing"), "{error}");
}

/// A small generator of its own, so that a failure can be repeated.
fn random() -> impl FnMut() -> usize {
    let mut state = 7u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    }
}

#[test]
fn damaged_headers_never_panic() {
    let folder = folder();
    let mut random = random();
    let limit = ReadOptions { max_bytes: Some(1 << 20), channel: None };
    let try_all = |path: &Path| {
        let _ = (read_info(path), read_labels(path, &limit));
        let _ = read(path, &ReadOptions { channel: Some(1), ..limit });
    };

    // An axis too long for NIfTI-1 makes it NIfTI-2.
    let path = folder.path().join("long.nii");
    let long = Volume::new(Geometry::with_size([40_000, 1, 1]), vec![1u8; 40_000]).expect("voxels");
    write(&path, &long, &OVERWRITE).expect("writable");
    assert_eq!(read_info(&path).expect("a header").format, "NIfTI-2");
    assert_eq!(plain(&path).expect("voxels").data, vec![1.0; 40_000]);
    let bytes = std::fs::read(&path).expect("just written");
    for _ in 0..1000 {
        let mut damaged = bytes[..2000].to_vec();
        for _ in 0..1 + random() % 3 {
            // Whole numbers are worse than single bytes: they make sizes that overflow.
            let at = random() % 67 * 8;
            let extremes = [i64::MIN, i64::MAX, -1, 0, 1 << 62, 1 << 31, 3];
            let value =
                if random().is_multiple_of(2) { extremes[random() % 7] } else { (random() as i64) << (random() % 40) };
            damaged[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        damaged[..12].copy_from_slice(&bytes[..12]);
        std::fs::write(&path, &damaged).expect("writable");
        try_all(&path);
    }

    let path = folder.path().join("text.mha");
    let lines = [
        "NDims = 3",
        "DimSize = 5 4 3",
        "ElementNumberOfChannels = 1",
        "HeaderSize = 0",
        "CompressedData = False",
        "ElementSpacing = 1 1 1",
        "Offset = 0 0 0",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1",
        "BinaryData = True",
        "ElementType = MET_SHORT",
    ];
    let odd = [
        "-1",
        "0",
        "4",
        "18446744073709551615",
        "9223372036854775807",
        "1e400",
        "nan",
        "-0.0",
        "true",
        "",
        "\u{fffd}",
        "4294967296",
        "2147483648 2147483648 4",
        "1 1 1 1",
        "MET_DOUBLE",
    ];
    for _ in 0..2000 {
        let mut header = lines.map(str::to_owned);
        for _ in 0..1 + random() % 3 {
            let line = &mut header[random() % lines.len()];
            let mut words: Vec<&str> = line.split(' ').collect();
            let at = random() % words.len();
            words[at] = odd[random() % odd.len()];
            *line = words.join(" ");
        }
        let text = header.join("\n") + "\nElementDataFile = LOCAL\n";
        std::fs::write(&path, [text.as_bytes(), &[1; 120]].concat()).expect("writable");
        try_all(&path);
    }
}
