//! Pickles: what is read, what is refused, and that nothing is run.

use super::fixtures::{Assembler, View};
use crate::checkpoint::pickle::{MAX_OPERATIONS, Node, Pickle};

fn refused(bytes: &[u8]) -> String {
    match Pickle::parse(bytes) {
        Ok(_) => panic!("this pickle must be refused"),
        Err(error) => error.to_string(),
    }
}

fn sample() -> Vec<u8> {
    let view = View { offset: 1, ..View::whole("7", &[2, 3]) };
    Assembler::new()
        .raw(b"}q\x00(")
        .str("w")
        .tensor(&view)
        .str("epoch")
        .raw(b"M\x01\x02")
        .str("rate")
        .raw(b"G\x3f\xf0\0\0\0\0\0\0")
        .str("again")
        .raw(b"h\x00u")
        .stop()
}

#[test]
fn pickle_reads_a_state_dict() {
    let bytes = sample();
    let pickle = Pickle::parse(&bytes).unwrap();
    assert_eq!(pickle.length, bytes.len());
    let entries: Vec<_> = pickle.entries(pickle.root()).unwrap().collect();
    assert_eq!(entries.iter().map(|entry| entry.0).collect::<Vec<_>>(), ["w", "epoch", "rate", "again"]);
    let Node::Tensor(tensor) = pickle.node(entries[0].1) else { panic!("not a tensor") };
    assert_eq!((tensor.offset, &tensor.shape[..], &tensor.strides[..]), (1, &[2, 3][..], &[3, 1][..]));
    assert_eq!((pickle.text(tensor.storage.key), tensor.storage.elements), ("7", 6));
    assert!(matches!(pickle.node(entries[1].1), Node::Int(0x201)));
    // The dictionary holds itself; that is no trouble in an arena.
    assert_eq!(entries[3].1, pickle.root());
}

#[test]
fn pickle_reads_both_ways_of_naming_and_memoizing() {
    let bytes =
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)\x81\
                  \x94\x8c\x01a\x94K\x05s."
            .as_slice();
    let pickle = Pickle::parse(bytes).unwrap();
    assert_eq!(pickle.entries(pickle.root()).unwrap().count(), 1);
}

#[test]
fn pickle_long_integers_keep_their_sign() {
    for (bytes, expected) in [(&b"\x8a\x00"[..], 0), (b"\x8a\x01\xff", -1), (b"\x8a\x02\xff\x00", 255)] {
        let bytes = [b"\x80\x02", bytes, b"."].concat();
        let pickle = Pickle::parse(&bytes).unwrap();
        assert!(matches!(pickle.node(pickle.root()), Node::Int(value) if *value == expected));
    }
    let wide = Pickle::parse(b"\x80\x02\x8a\x09123456789.").unwrap();
    assert!(matches!(wide.node(wide.root()), Node::BigInt));
}

#[test]
fn pickle_of_a_system_call_runs_nothing() {
    let marker = tempfile::tempdir().unwrap();
    let marker = marker.path().join("pwned");
    let command = format!("touch {}", marker.display());
    for module in ["os", "posix", "subprocess", "builtins"] {
        let attack = Assembler::new().raw(format!("c{module}\nsystem\n(").as_bytes()).str(&command).raw(b"tR").stop();
        let pickle = Pickle::parse(&attack).unwrap();
        assert!(matches!(pickle.node(pickle.root()), Node::Opaque(_)));
        let said = pickle.describe(pickle.root());
        assert!(said.contains(&format!("{module}.system")) && said.contains("never run"), "{said}");
    }
    // The same through NEWOBJ, NEWOBJ_EX, BUILD, and as a method of what a call would have made.
    for tail in [&b")\x81."[..], b")}\x92.", b")R}b.", b")R)R."] {
        let attack = [b"\x80\x02cos\nsystem\n", tail].concat();
        let pickle = Pickle::parse(&attack).unwrap();
        assert!(matches!(pickle.node(pickle.root()), Node::Opaque(_)));
    }
    assert!(!marker.exists());
}

#[test]
fn pickle_odd_objects_of_an_optimizer_are_inert() {
    let bytes = Assembler::new()
        .raw(b"ccollections\ndefaultdict\nc__builtin__\ndict\n\x85R(")
        .str("state")
        .raw(b"cnumpy\nfloat64\nU\x03abc\x85Ru")
        .stop();
    let pickle = Pickle::parse(&bytes).unwrap();
    assert!(matches!(pickle.node(pickle.root()), Node::Opaque(_)));
}

#[test]
fn pickle_truncated_anywhere_is_an_error() {
    let bytes = sample();
    for length in 0..bytes.len() {
        refused(&bytes[..length]);
    }
}

#[test]
fn pickle_with_any_byte_changed_does_not_panic() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for byte in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = byte;
            if let Ok(pickle) = Pickle::parse(&changed) {
                pickle.describe(pickle.root());
                pickle.entries(pickle.root()).map(Iterator::count);
            }
        }
    }
}

#[test]
fn pickle_claims_beyond_the_file_take_no_memory() {
    for claim in [
        &b"\x80\x02\x8b\xff\xff\xff\xff"[..],            // LONG4
        b"\x80\x02\x8a\xff",                             // LONG1
        b"\x80\x02X\xff\xff\xff\xff",                    // BINUNICODE
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", // BINUNICODE8
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff", // BINBYTES8
    ] {
        assert!(refused(claim).contains("bytes"), "{}", refused(claim));
    }
}

#[test]
fn pickle_bombs_stay_within_bounds() {
    // Lists of lists through the memo: 2^60 elements if anyone were to follow them.
    let mut bomb = Assembler::new().raw(b"]q\x00");
    for level in 0..60u8 {
        bomb = bomb.raw(&[b'(', b'h', level, b'h', level, b'l', b'q', level + 1]);
    }
    assert!(Pickle::parse(&bomb.stop()).is_ok());
    // A million levels of nesting: neither reading nor dropping recurses.
    let deep = Assembler::new().raw(b")").raw(&vec![0x85; 1 << 20]).stop();
    drop(Pickle::parse(&deep).unwrap());
    // More operations than any checkpoint has.
    let long = Assembler::new().raw(&vec![b'N'; MAX_OPERATIONS + 1]).stop();
    assert!(refused(&long).contains("operations"));
}

#[test]
fn pickle_nonsense_is_refused_with_its_place() {
    for (tail, said) in [
        (&b"."[..], "a value is wanted"),
        (b"(.", "a value is wanted"),
        (b"0.", "a value is wanted"),
        (b"t.", "no MARK"),
        (b"h\x05.", "memo slot 5 is empty"),
        (b"N(Nu.", "has no value"),
        (b"N(NNu.", "not a dictionary"),
        (b"NNa.", "not a list"),
        (b"NNR.", "not a tuple"),
        (b"NQ.", "not that of a storage"),
        (b"I5\n.", "operation 0x49"),
        (b"X\x01\0\0\0\xff.", "not UTF-8"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "malformed"),
        (b"\x80\x09.", "protocol 9"),
    ] {
        let message = refused(&[b"\x80\x02", tail].concat());
        assert!(message.contains(said) && message.starts_with("pickle, byte "), "{message}");
    }
}

#[test]
fn pickle_negative_sizes_are_refused() {
    for view in [
        View { offset: -1, ..View::whole("0", &[2]) },
        View { shape: vec![-2], ..View::whole("0", &[2]) },
        View { strides: vec![-1], ..View::whole("0", &[2]) },
        View { strides: vec![], ..View::whole("0", &[2]) },
        View { shape: vec![1; 17], strides: vec![1; 17], ..View::whole("0", &[2]) },
    ] {
        assert!(refused(&Assembler::new().tensor(&view).stop()).contains("malformed"));
    }
}
