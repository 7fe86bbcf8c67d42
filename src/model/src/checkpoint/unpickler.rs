//! The stack machine that pickles are programs for, less everything that could run something.
//!
//! See [`super::pickle`] for what it makes. Every operation either does what Python's would, or is refused.

use super::pickle::{Id, Node, Span, Storage, TensorRef, text};
use std::collections::HashMap;

/// Axes of a tensor.
const MAX_RANK: usize = 16;
const EMPTY: &str = "a value is wanted where the stack has none";

type Step<T = ()> = Result<T, String>;

/// The stack machine.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Height of the stack at every open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// A machine at the start of a pickle of at most [`MAX_BYTES`](super::pickle::MAX_BYTES).
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Byte of the next operation.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Every value made so far.
    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// Runs one operation; gives the root at STOP. The names are those of Python's `pickletools`.
    pub(super) fn step(&mut self) -> Step<Option<Id>> {
        match self.take(1)?[0] {
            0x80 => self.protocol()?,                      // PROTO
            0x95 => self.skip_bytes(8)?,                   // FRAME, a hint about buffering
            b'(' => self.marks.push(self.stack.len()),     // MARK
            b'.' => return self.pop().map(Some),           // STOP
            b'0' => drop(self.pop()?),                     // POP
            b'1' => drop(self.pop_mark()?),                // POP_MARK
            b'2' => self.stack.push(self.top()?),          // DUP
            b'N' => self.push(Node::None),                 // NONE
            0x88 | 0x89 => self.push(Node::Bool),          // NEWTRUE, NEWFALSE
            b'K' => self.int(1)?,                          // BININT1
            b'M' => self.int(2)?,                          // BININT2
            b'J' => self.int(4)?,                          // BININT
            0x8a => self.long(1)?,                         // LONG1
            0x8b => self.long(4)?,                         // LONG4
            b'G' => self.float()?,                         // BINFLOAT
            0x8c => self.string(1)?,                       // SHORT_BINUNICODE
            b'X' => self.string(4)?,                       // BINUNICODE
            0x8d => self.string(8)?,                       // BINUNICODE8
            b'U' | b'C' => self.blob(1)?,                  // SHORT_BINSTRING, SHORT_BINBYTES
            b'T' | b'B' => self.blob(4)?,                  // BINSTRING, BINBYTES
            0x8e | 0x96 => self.blob(8)?,                  // BINBYTES8, BYTEARRAY8
            b']' => self.push(Node::List(Vec::new())),     // EMPTY_LIST
            b'l' => self.collect(Node::List)?,             // LIST
            b'a' => self.append(1)?,                       // APPEND
            b'e' => self.append_marked()?,                 // APPENDS
            b')' => self.push(Node::Tuple(Vec::new())),    // EMPTY_TUPLE
            b't' => self.collect(Node::Tuple)?,            // TUPLE
            0x85 => self.tuple(1)?,                        // TUPLE1
            0x86 => self.tuple(2)?,                        // TUPLE2
            0x87 => self.tuple(3)?,                        // TUPLE3
            b'}' => self.push(Node::Dict(Vec::new())),     // EMPTY_DICT
            b'd' => self.dict()?,                          // DICT
            b's' => self.set_item()?,                      // SETITEM
            b'u' => self.set_marked()?,                    // SETITEMS
            0x8f => self.push(Node::Set),                  // EMPTY_SET
            0x90 => drop(self.pop_mark()?),                // ADDITEMS: what a set holds is of no use here
            0x91 => self.collect(|_| Node::Set)?,          // FROZENSET
            b'c' => self.global()?,                        // GLOBAL
            0x93 => self.stack_global()?,                  // STACK_GLOBAL
            b'R' | 0x81 => self.call()?,                   // REDUCE, NEWOBJ
            0x92 => self.call_with_keywords()?,            // NEWOBJ_EX
            b'b' => self.build()?,                         // BUILD
            b'Q' => self.persistent()?,                    // BINPERSID
            b'q' => self.put(1)?,                          // BINPUT
            b'r' => self.put(4)?,                          // LONG_BINPUT
            0x94 => self.memoize(self.memo.len() as u32)?, // MEMOIZE; the memo is bounded by the operations
            b'h' => self.get(1)?,                          // BINGET
            b'j' => self.get(4)?,                          // LONG_BINGET
            code => return Err(format!("operation {code:#04x} is not one that torch.save uses")),
        }
        Ok(None)
    }

    // --- bytes -----------------------------------------------------------------------------------------------------

    fn take(&mut self, count: usize) -> Step<&[u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| format!("{count} bytes wanted, {} left", rest.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn skip_bytes(&mut self, count: usize) -> Step {
        self.take(count).map(drop)
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// A length of `width` bytes, then the place of as many bytes.
    fn counted(&mut self, width: usize) -> Step<Span> {
        let length = self.number(width)?;
        let length = usize::try_from(length).map_err(|_| format!("{length} bytes are claimed"))?;
        let start = self.at;
        self.take(length)?;
        Ok(self.span(start, length))
    }

    /// Both fit 32 bits because a pickle is at most [`MAX_BYTES`](super::pickle::MAX_BYTES) long.
    fn span(&self, start: usize, length: usize) -> Span {
        Span { start: start as u32, length: length as u32 }
    }

    fn checked(&self, span: Span) -> Step<Span> {
        let start = span.start as usize;
        std::str::from_utf8(&self.bytes[start..start + span.length as usize]).map_err(|_| "a text is not UTF-8")?;
        Ok(span)
    }

    fn line(&mut self) -> Step<Span> {
        let start = self.at;
        let length = self.bytes[start..].iter().position(|&byte| byte == b'\n').ok_or("a line has no end")?;
        self.at += length + 1;
        self.checked(self.span(start, length))
    }

    // --- the stack -------------------------------------------------------------------------------------------------

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
    }

    /// The stack above the innermost MARK is all that an operation may take.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        if self.stack.len() > self.floor() { Ok(self.stack[self.stack.len() - 1]) } else { Err(EMPTY.into()) }
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Step<Vec<Id>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor()).ok_or(EMPTY)?;
        Ok(self.stack.split_off(start))
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let start = self.marks.pop().ok_or("no MARK on the stack")?;
        Ok(self.stack.split_off(start))
    }

    fn top_node(&mut self) -> Step<&mut Node> {
        let top = self.top()?;
        Ok(&mut self.nodes[top as usize])
    }

    // --- plain values ----------------------------------------------------------------------------------------------

    fn protocol(&mut self) -> Step {
        match self.number(1)? {
            2..=5 => Ok(()),
            version => Err(format!("pickle protocol {version}; torch.save uses 2 to 5")),
        }
    }

    fn int(&mut self, width: usize) -> Step {
        let value = self.number(width)?;
        // Only the four-byte form is signed.
        let value = if width == 4 { i64::from(value as u32 as i32) } else { value as i64 };
        self.push(Node::Int(value));
        Ok(())
    }

    /// A two's-complement integer of any length.
    fn long(&mut self, width: usize) -> Step {
        let span = self.counted(width)?;
        let bytes = &self.bytes[span.start as usize..][..span.length as usize];
        let node = if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|&high| high & 0x80 != 0);
            let mut wide = if negative { [0xff; 8] } else { [0; 8] };
            wide[..bytes.len()].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(wide))
        } else {
            Node::BigInt
        };
        self.push(node);
        Ok(())
    }

    fn float(&mut self) -> Step {
        self.skip_bytes(8)?;
        self.push(Node::Float);
        Ok(())
    }

    fn string(&mut self, width: usize) -> Step {
        let span = self.counted(width)?;
        let span = self.checked(span)?;
        self.push(Node::Str(span));
        Ok(())
    }

    fn blob(&mut self, width: usize) -> Step {
        self.counted(width)?;
        self.push(Node::Bytes);
        Ok(())
    }

    // --- containers ------------------------------------------------------------------------------------------------

    fn collect(&mut self, make: impl FnOnce(Vec<Id>) -> Node) -> Step {
        let items = self.pop_mark()?;
        self.push(make(items));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Step {
        let items = self.pop_many(count)?;
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn append(&mut self, count: usize) -> Step {
        let items = self.pop_many(count)?;
        self.extend_list(items)
    }

    fn append_marked(&mut self) -> Step {
        let items = self.pop_mark()?;
        self.extend_list(items)
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Step {
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            Node::Opaque(_) | Node::Set => {}
            _ => return Err("items are added to what is not a list".into()),
        }
        Ok(())
    }

    fn dict(&mut self) -> Step {
        let items = self.pop_mark()?;
        self.push(Node::Dict(Vec::new()));
        self.extend_dict(&items)
    }

    fn set_item(&mut self) -> Step {
        let items = self.pop_many(2)?;
        self.extend_dict(&items)
    }

    fn set_marked(&mut self) -> Step {
        let items = self.pop_mark()?;
        self.extend_dict(&items)
    }

    fn extend_dict(&mut self, items: &[Id]) -> Step {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a dictionary key has no value".into());
        }
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Node::Opaque(_) => {}
            _ => return Err("entries are added to what is not a dictionary".into()),
        }
        Ok(())
    }

    fn put(&mut self, width: usize) -> Step {
        let slot = self.number(width)? as u32;
        self.memoize(slot)
    }

    fn memoize(&mut self, slot: u32) -> Step {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, width: usize) -> Step {
        let slot = self.number(width)? as u32;
        let id = *self.memo.get(&slot).ok_or_else(|| format!("memo slot {slot} is empty"))?;
        self.stack.push(id);
        Ok(())
    }

    // --- Python objects, by name only ------------------------------------------------------------------------------

    fn global(&mut self) -> Step {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Node::Global { module, name });
        Ok(())
    }

    fn stack_global(&mut self) -> Step {
        let names = self.pop_many(2)?;
        let (Node::Str(module), Node::Str(name)) = (&self.nodes[names[0] as usize], &self.nodes[names[1] as usize])
        else {
            return Err("the name of a Python object is not a text".into());
        };
        let node = Node::Global { module: *module, name: *name };
        self.push(node);
        Ok(())
    }

    /// What a call would have made, for the three callables that matter; an inert value for any other.
    fn call(&mut self) -> Step {
        let call = self.pop_many(2)?;
        let (callable, arguments) = (call[0], call[1]);
        let Node::Tuple(arguments) = &self.nodes[arguments as usize] else {
            return Err("the arguments of a call are not a tuple".into());
        };
        let Node::Global { module, name } = self.nodes[callable as usize] else {
            self.push(Node::Opaque(callable));
            return Ok(());
        };
        match (text(self.bytes, module), text(self.bytes, name)) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let tensor = self.tensor(arguments).ok_or("a tensor's description is malformed")?;
                self.push(Node::Tensor(Box::new(tensor)));
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let data = *arguments.first().ok_or("a parameter's description is empty")?;
                self.stack.push(data);
            }
            ("collections", "OrderedDict") if arguments.is_empty() => self.push(Node::Dict(Vec::new())),
            _ => self.push(Node::Opaque(callable)),
        }
        Ok(())
    }

    fn call_with_keywords(&mut self) -> Step {
        let call = self.pop_many(3)?;
        self.push(Node::Opaque(call[0]));
        Ok(())
    }

    /// Attributes given to an object, such as a state dict's `_metadata`: not needed.
    fn build(&mut self) -> Step {
        self.pop()?;
        self.top().map(drop)
    }

    /// `(storage, storage_offset, size, stride, requires_grad, backward_hooks)`, of which the first four matter.
    fn tensor(&self, arguments: &[Id]) -> Option<TensorRef> {
        let [storage, offset, shape, strides, ..] = *arguments else { return None };
        let Node::Storage(storage) = self.nodes[storage as usize] else { return None };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        (shape.len() == strides.len()).then_some(TensorRef { storage, offset: self.size(offset)?, shape, strides })
    }

    fn size(&self, id: Id) -> Option<u64> {
        if let Node::Int(value) = self.nodes[id as usize] { value.try_into().ok() } else { None }
    }

    fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        let (Node::Tuple(items) | Node::List(items)) = &self.nodes[id as usize] else { return None };
        if items.len() > MAX_RANK {
            return None;
        }
        items.iter().map(|&item| self.size(item)).collect()
    }

    /// `('storage', class, key, location, elements)`, and in old files a sixth that is always None.
    fn persistent(&mut self) -> Step {
        let id = self.pop()?;
        let storage = self.storage(id).ok_or("a persistent id is not that of a storage")?;
        self.push(Node::Storage(storage));
        Ok(())
    }

    fn storage(&self, id: Id) -> Option<Storage> {
        let Node::Tuple(parts) = &self.nodes[id as usize] else { return None };
        let [tag, class, key, _location, elements, ..] = **parts else { return None };
        let Node::Str(tag) = self.nodes[tag as usize] else { return None };
        let Node::Global { name: class, .. } = self.nodes[class as usize] else { return None };
        let Node::Str(key) = self.nodes[key as usize] else { return None };
        (text(self.bytes, tag) == "storage").then_some(Storage { class, key, elements: self.size(elements)? })
    }
}
