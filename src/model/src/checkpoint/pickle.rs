//! A reader of pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This reader knows what
//! `torch.save` writes (protocols 2 to 5) and interprets three callables: `torch._utils._rebuild_tensor_v2`,
//! `torch._utils._rebuild_parameter` and `collections.OrderedDict`. Any other call becomes an inert [`Node::Opaque`]
//! that remembers its name, so that odd objects of an optimiser do no harm and an attack has nothing to act with.
//!
//! Values live in one arena and refer to one another by index: cycles and deep nesting cost neither recursion nor
//! leaks. Text stays in the file. The number of operations is bounded, and with it all memory. The stack machine itself
//! is [`super::unpickler`].

use super::unpickler::Machine;
use std::fmt;

/// More operations than this are no checkpoint. SegVol needs 20 thousand, with its optimiser 60 thousand.
pub(crate) const MAX_OPERATIONS: usize = 2 << 20;
/// A longer pickle is no checkpoint either; SegVol's has 70 kilobytes.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Index of a value in its [`Pickle`].
pub(crate) type Id = u32;

/// A piece of text, as a range of the pickle's bytes that is known to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// One value of a pickle.
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool,
    Int(i64),
    /// An integer of more than 64 bits, which nothing here needs.
    BigInt,
    Float,
    Str(Span),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Set,
    /// The name of a Python object, never looked up.
    Global {
        module: Span,
        name: Span,
    },
    Storage(Storage),
    Tensor(Box<TensorRef>),
    /// The result of a call that was not made, of the object named by this [`Node::Global`] (or by something odder).
    Opaque(Id),
}

/// A storage: the flat memory behind tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    /// Name of its class, such as `FloatStorage`.
    pub(crate) class: Span,
    /// Its name in the archive.
    pub(crate) key: Span,
    /// Number of elements it claims.
    pub(crate) elements: u64,
}

/// A strided view of a storage. Nothing about it has been checked but that the numbers are not negative.
#[derive(Clone, Debug)]
pub(crate) struct TensorRef {
    pub(crate) storage: Storage,
    /// First element, counted in elements.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<u64>,
    pub(crate) strides: Vec<u64>,
}

/// Why a pickle cannot be read.
#[derive(Debug)]
pub(crate) struct PickleError {
    offset: usize,
    message: String,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pickle, byte {}: {}", self.offset, self.message)
    }
}

/// The values of a pickle.
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    root: Id,
    /// Bytes up to and including the final STOP.
    pub(crate) length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine::new(bytes);
        let mut offset = 0;
        for _ in 0..MAX_OPERATIONS {
            offset = machine.at();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { bytes, root, length: machine.at(), nodes: machine.into_nodes() }),
                Err(message) => return Err(PickleError { offset, message }),
            }
        }
        Err(PickleError { offset, message: format!("more than {MAX_OPERATIONS} operations: this is no checkpoint") })
    }

    /// The value that was pickled.
    pub(crate) fn root(&self) -> Id {
        self.root
    }

    /// A value.
    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Every value.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The text of a span.
    pub(crate) fn text(&self, span: Span) -> &'a str {
        text(self.bytes, span)
    }

    /// The text of a string value.
    pub(crate) fn str(&self, id: Id) -> Option<&'a str> {
        if let Node::Str(span) = self.node(id) { Some(self.text(*span)) } else { None }
    }

    /// The entries of a dictionary whose keys are strings; the others are left out.
    pub(crate) fn entries(&self, id: Id) -> Option<impl Iterator<Item = (&'a str, Id)>> {
        let Node::Dict(pairs) = self.node(id) else { return None };
        Some(pairs.iter().filter_map(|&(key, value)| Some((self.str(key)?, value))))
    }

    /// What a value is, for a message.
    pub(crate) fn describe(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "None".into(),
            Node::Bool => "a boolean".into(),
            Node::Int(_) | Node::BigInt => "an integer".into(),
            Node::Float => "a number".into(),
            Node::Str(_) => "a text".into(),
            Node::Bytes => "bytes".into(),
            Node::List(items) => format!("a list of {}", items.len()),
            Node::Tuple(items) => format!("a tuple of {}", items.len()),
            Node::Dict(pairs) => format!("a dictionary of {}", pairs.len()),
            Node::Set => "a set".into(),
            Node::Global { .. } => format!("the Python object {}", self.global(id)),
            Node::Storage(_) => "a storage".into(),
            Node::Tensor(_) => "a tensor".into(),
            Node::Opaque(callable) => {
                format!("the result of a Python call, {}, which is never run", self.global(*callable))
            }
        }
    }

    fn global(&self, id: Id) -> String {
        match self.node(id) {
            Node::Global { module, name } => format!("{}.{}", self.text(*module), self.text(*name)),
            _ => "of an unnamed object".into(),
        }
    }
}

/// The text of a span of `bytes`.
pub(super) fn text(bytes: &[u8], span: Span) -> &str {
    let start = span.start as usize;
    std::str::from_utf8(&bytes[start..start + span.length as usize]).expect("checked when the span was made")
}
