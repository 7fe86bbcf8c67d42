//! PyTorch files: views of storages, hostile archives, the old stream.

use super::fixtures::{Assembler, Bench, View, archive, floats, zip};
use crate::checkpoint::torch;
use crate::checkpoint::zip_index::stored_entries;
use crate::checkpoint::{ElementType, TensorFile};

fn one_tensor(view: &View, data: Vec<u8>) -> Vec<u8> {
    archive(Assembler::new().raw(b"}").str("w").tensor(view).raw(b"s").stop(), &[("0", data)])
}

fn refused(bytes: &[u8]) -> String {
    let bench = Bench::new();
    TensorFile::open(bench.write("x.pth", bytes)).expect_err("this file must be refused").to_string()
}

fn counting(count: usize) -> Vec<f32> {
    (0..count).map(|value| value as f32).collect()
}

#[test]
fn import_gathers_strided_tensors() {
    let bench = Bench::new();
    let data = floats(&counting(6));
    let whole = View::whole("0", &[2, 3]);
    for (view, expected) in [
        (whole.clone(), counting(6)),
        (View { shape: vec![3, 2], strides: vec![1, 3], ..whole.clone() }, vec![0., 3., 1., 4., 2., 5.]),
        (View { offset: 1, shape: vec![2, 2], strides: vec![3, 1], ..whole.clone() }, vec![1., 2., 4., 5.]),
        (View { shape: vec![2, 2], strides: vec![0, 1], ..whole.clone() }, vec![0., 1., 0., 1.]),
        (View { offset: 5, shape: vec![], strides: vec![], ..whole.clone() }, vec![5.]),
        (View { offset: 9, shape: vec![0, 7], strides: vec![7, 1], ..whole.clone() }, vec![]),
    ] {
        let file = TensorFile::open(bench.write("x.pth", &one_tensor(&view, data.clone()))).unwrap();
        let tensor = file.get("w").unwrap();
        assert_eq!(tensor.element, ElementType::F32);
        assert_eq!(tensor.shape.iter().map(|&size| size as i64).collect::<Vec<_>>(), view.shape);
        assert_eq!(tensor.bytes, floats(&expected), "{view:?}");
    }
}

#[test]
fn import_refuses_views_that_leave_their_storage() {
    let whole = View::whole("0", &[2, 3]);
    let huge = i64::MAX;
    for (view, said) in [
        (View { offset: 1, ..whole.clone() }, "leave its storage"),
        (View { strides: vec![4, 1], ..whole.clone() }, "leave its storage"),
        (View { strides: vec![huge, huge], ..whole.clone() }, "leave its storage"),
        (View { offset: huge, ..whole.clone() }, "leave its storage"),
        (View { shape: vec![1 << 40], strides: vec![0], ..whole.clone() }, "claims more elements"),
        (View { shape: vec![huge, huge], strides: vec![0, 0], ..whole.clone() }, "claims more elements"),
        (View { elements: 1 << 40, ..whole.clone() }, "claims 1099511627776 elements and has 24 bytes"),
        (View { elements: huge, ..whole.clone() }, "claims"),
        (View { key: "1".into(), ..whole.clone() }, "\"1\" is not in the file"),
        (View { key: "../../../etc/passwd".into(), ..whole.clone() }, "is not in the file"),
        (View { class: "DoubleStorage", ..whole.clone() }, "claims 6 elements"),
    ] {
        let message = refused(&one_tensor(&view, floats(&counting(6))));
        assert!(message.contains(said) && message.contains("tensor w"), "{message}");
    }
}

#[test]
fn import_looks_into_known_containers_only() {
    let bench = Bench::new();
    let inner = |pickle: Assembler| pickle.raw(b"}").str("w").tensor(&View::whole("0", &[1])).raw(b"s");
    for (key, container) in [("model", Some("model")), ("state_dict", Some("state_dict")), ("other", None)] {
        let pickle = inner(Assembler::new().raw(b"}(").str("epoch").raw(b"K\x01").str(key)).raw(b"u").stop();
        let file = TensorFile::open(bench.write("x.pth", &archive(pickle, &[("0", floats(&[1.0]))]))).unwrap();
        assert_eq!((file.container(), file.names().len()), (container, usize::from(container.is_some())));
    }
    assert_eq!(TensorFile::open(bench.path("x.pth")).unwrap().not_a_tensor("epoch"), Some("an integer"));
}

#[test]
fn import_refuses_what_is_no_state_dict() {
    let attack = Assembler::new().raw(b"cos\nsystem\n(").str("touch pwned").raw(b"tR").stop();
    let message = refused(&archive(attack, &[]));
    assert!(message.contains("os.system, which is never run"), "{message}");
    assert!(refused(&archive(Assembler::new().raw(b"]").stop(), &[])).contains("holds a list of 0"));
    assert!(refused(&Assembler::new().raw(b"}").stop()).contains("bare pickle"));
    assert!(refused(&zip(&[("readme.txt".into(), vec![])])).contains("without data.pkl"));
    assert!(refused(b"hello, I am no checkpoint").contains("neither"));
    assert!(refused(b"").contains("empty"));
    let big = zip(&[("a/data.pkl".into(), Assembler::new().raw(b"}").stop()), ("a/byteorder".into(), b"big".to_vec())]);
    assert!(refused(&big).contains("byte order \"big\""));
}

#[test]
fn import_archives_damaged_anywhere_do_not_panic() {
    let bytes = one_tensor(&View::whole("0", &[2]), floats(&[1.0, 2.0]));
    for length in 0..bytes.len() {
        // Too short to be told a zip archive, it would not be taken for one.
        assert!(length < 4 || torch::read(&bytes[..length]).is_err(), "{length}");
    }
    for at in 4..bytes.len() {
        for flip in [0x01, 0x02, 0x40, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            if let Ok(contents) = torch::read(&changed) {
                contents.tensors.values().for_each(|entry| drop(entry.bytes(&changed)));
            }
        }
    }
}

#[test]
fn import_zip_claims_are_checked_against_the_file() {
    let good = zip(&[("n".into(), vec![7; 5])]);
    assert_eq!(stored_entries(&good).unwrap()["n"], 31..36);
    let directory = 36;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        stored_entries(&changed).unwrap_err()
    };
    assert!(with(directory + 10, &[8, 0]).contains("compressed (method 8)"));
    assert!(with(directory + 8, &[1, 0]).contains("encrypted"));
    assert!(with(directory + 24, &[9]).contains("sizes differ"));
    assert!(with(directory + 20, &[0, 0, 0, 0x7f, 0, 0, 0, 0x7f]).contains("beyond the end"));
    assert!(with(directory + 20, &[0xff; 4]).contains("zip64"));
    assert!(with(directory + 42, &[0xff, 0xff, 0xff, 0x7f]).contains("truncated"));
    // The number of entries is believed only as far as there are entries.
    assert!(with(good.len() - 12, &[0xff, 0xff]).contains("zip entry 1"));
    let twice = zip(&[("n".into(), vec![]), ("n".into(), vec![])]);
    assert!(stored_entries(&twice).unwrap_err().contains("a second entry"));
}

#[test]
fn import_reads_the_wide_directory_of_large_archives() {
    let (name, data) = (b"n", [7; 5]);
    let local = [&b"PK\x03\x04"[..], &[0; 14], &[0xff; 8], &[1, 0, 0, 0], name, &data].concat();
    // Sizes and offset in the zip64 extra field, after a field of another kind.
    let wide = [&5u64.to_le_bytes()[..], &5u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    let extra = [&[0x46, 0x42, 2, 0, 9, 9][..], &[1, 0, 24, 0], &wide].concat();
    let central = [
        &b"PK\x01\x02"[..],
        &[0; 16],
        &[0xff; 8],
        &[1, 0, extra.len() as u8, 0, 0, 0],
        &[0; 8],
        &[0xff; 4],
        name,
        &extra,
    ]
    .concat();
    let end64 = [&b"PK\x06\x06"[..], &[0; 28], &1u64.to_le_bytes(), &[0; 8], &(local.len() as u64).to_le_bytes()];
    let locator = [&b"PK\x06\x07"[..], &[0; 4], &((local.len() + central.len()) as u64).to_le_bytes(), &[0; 4]];
    let end = [&b"PK\x05\x06"[..], &[0xff; 16], &[0, 0]];
    let bytes = [local, central, end64.concat(), locator.concat(), end.concat()].concat();
    let entries = stored_entries(&bytes).unwrap();
    assert_eq!(bytes[entries["n"].clone()], data);
    for length in 0..bytes.len() {
        assert!(stored_entries(&bytes[..length]).is_err());
    }
}

#[test]
fn import_reads_the_stream_of_old_versions() {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    let version = Assembler::new().raw(b"M\xe9\x03").stop();
    let system = Assembler::new().raw(b"}").stop();
    let object = Assembler::new().raw(b"}(");
    let object = object.str("a").tensor(&View::whole("x", &[2])).str("b").tensor(&View::whole("y", &[1, 1]));
    let keys = Assembler::new().raw(b"](").str("x").str("y").raw(b"e").stop();
    let data = [&2u64.to_le_bytes()[..], &floats(&[1., 2.]), &1u64.to_le_bytes(), &floats(&[3.])].concat();
    let bytes = [magic, version, system, object.raw(b"u").stop(), keys, data].concat();
    let bench = Bench::new();
    let file = TensorFile::open(bench.write("x.pth", &bytes)).unwrap();
    assert_eq!(file.get("a").unwrap().bytes, floats(&[1., 2.]));
    assert_eq!((file.get("b").unwrap().shape, file.get("b").unwrap().bytes), (&[1, 1][..], floats(&[3.]).into()));
    for length in 0..bytes.len() {
        assert!(TensorFile::open(bench.write("x.pth", &bytes[..length])).is_err(), "{length}");
    }
}
