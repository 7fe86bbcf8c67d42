//! What `torch.save` wrote: a zip archive of one pickle and one entry per storage, or the older stream of pickles.
//!
//! The pickle says which strided views of which storages the tensors are; see [`super::pickle`] for why reading it is
//! safe. Only the state dict is looked at: optimiser and scheduler are parsed and left alone.

use super::pickle::{Id, Node, Pickle, Storage, TensorRef};
use super::tensor_file::{Contents, ElementType, Entry, Problem};
use super::zip_index::{self, Entries};
use std::collections::HashMap;
use std::ops::Range;

/// What the stream of `torch.save` before version 1.6 starts with: a pickle (PROTO 2) of the magic number
/// `0x1950a86a20f9469cfc6c` (LONG1 of ten bytes).
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// Dictionaries that training scripts put the state dict into, the more specific first.
const CONTAINERS: &[&str] = &["state_dict", "model"];

/// Whether a file starts like one that `torch.save` wrote. A bare pickle is included, to be refused with a reason.
pub(crate) fn is_torch(bytes: &[u8]) -> bool {
    zip_index::is_zip(bytes)
        || (bytes.starts_with(b"\x80") && matches!(bytes.get(1), Some(2..=5)) && bytes.get(8) != Some(&b'{'))
}

/// Reads a PyTorch checkpoint.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, Problem> {
    if zip_index::is_zip(bytes) {
        read_archive(bytes)
    } else if bytes.starts_with(LEGACY_MAGIC) {
        read_legacy(bytes)
    } else {
        Err(Problem::hinted(
            "a bare pickle, not a file that torch.save wrote",
            "save the state dict with torch.save, or as safetensors",
        ))
    }
}

fn read_archive(bytes: &[u8]) -> Result<Contents, Problem> {
    let entries = zip_index::stored_entries(bytes)?;
    let folder = archive_folder(&entries).ok_or("a zip archive without data.pkl: torch.save did not write it")?;
    if let Some(order) = entries.get(&format!("{folder}byteorder")) {
        let order = &bytes[order.clone()];
        if order != b"little" {
            let order = String::from_utf8_lossy(&order[..order.len().min(16)]).into_owned();
            return Err(Problem::hinted(
                format!("byte order {order:?}; only \"little\" is supported"),
                "save it again on a little-endian machine",
            ));
        }
    }
    let pickle = Pickle::parse(&bytes[entries[&format!("{folder}data.pkl")].clone()])?;
    state_dict(&pickle, |key| entries.get(&format!("{folder}data/{key}")).cloned())
}

/// The one folder in the archive, with its slash; it is called after the file that was first written.
fn archive_folder(entries: &Entries) -> Option<String> {
    let mut folders = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let folder = folders.next().filter(|folder| folder.is_empty() || folder.ends_with('/'))?;
    folders.next().is_none().then(|| folder.to_owned())
}

/// Five pickles (magic, version, system, the object, the storages' keys), then each storage: its number of elements
/// as eight bytes, and its elements.
fn read_legacy(bytes: &[u8]) -> Result<Contents, Problem> {
    let mut at = LEGACY_MAGIC.len();
    let mut next = || -> Result<(usize, Pickle<'_>), Problem> {
        let start = at;
        let pickle = Pickle::parse(&bytes[start..])?;
        at += pickle.length;
        Ok((at, pickle))
    };
    let (_version, _system) = (next()?, next()?);
    let (_, object) = next()?;
    let (mut at, keys) = next()?;
    let Node::List(keys_in_order) = keys.node(keys.root()) else {
        return Err("the list of storages is missing".into());
    };
    let sizes = legacy_element_sizes(&object);
    let mut storages = HashMap::new();
    for &key in keys_in_order {
        let key = keys.str(key).ok_or("the key of a storage is not a text")?;
        let truncated = || format!("storage {key}: the file is truncated");
        let elements = bytes[at..].first_chunk::<8>().map(|count| u64::from_le_bytes(*count)).ok_or_else(truncated)?;
        let size = *sizes.get(key).ok_or_else(|| format!("storage {key} is of an unknown type"))?;
        let start = at + 8;
        let end = usize::try_from(elements)
            .ok()
            .and_then(|elements| elements.checked_mul(size)?.checked_add(start))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(truncated)?;
        storages.insert(key, start..end);
        at = end;
    }
    state_dict(&object, |key| storages.get(key).cloned())
}

/// Bytes per element of every storage of the object: the stream itself does not say.
fn legacy_element_sizes<'a>(object: &Pickle<'a>) -> HashMap<&'a str, usize> {
    let storages =
        object.nodes().filter_map(|node| if let Node::Storage(storage) = node { Some(storage) } else { None });
    storages
        .filter_map(|storage| Some((object.text(storage.key), element(object.text(storage.class))?.size())))
        .collect()
}

/// The tensors of the state dict in `pickle`, whose storages `find` places in the file.
fn state_dict(pickle: &Pickle<'_>, find: impl Fn(&str) -> Option<Range<usize>>) -> Result<Contents, Problem> {
    let (container, dict) = locate(pickle);
    let Some(entries) = pickle.entries(dict) else {
        return Err(Problem::hinted(
            format!("holds {}, not a dictionary of tensors", pickle.describe(dict)),
            "save the model's state_dict(), not the model",
        ));
    };
    let mut contents = Contents { container: container.map(str::to_owned), ..Contents::default() };
    for (name, value) in entries {
        // A later entry of the same name replaces the earlier, as in Python.
        contents.tensors.remove(name);
        contents.others.remove(name);
        let Node::Tensor(tensor) = pickle.node(value) else {
            contents.others.insert(name.to_owned(), pickle.describe(value));
            continue;
        };
        match element(pickle.text(tensor.storage.class)) {
            Some(element) => {
                let entry = place(pickle, tensor, element, &find).map_err(|what| format!("tensor {name}: {what}"))?;
                contents.tensors.insert(name.to_owned(), entry);
            }
            None => {
                let class = pickle.text(tensor.storage.class);
                contents.others.insert(name.to_owned(), format!("a tensor of type {class}"));
            }
        }
    }
    Ok(contents)
}

/// The state dict: the dictionary itself, or the one it holds under a known name.
fn locate(pickle: &Pickle<'_>) -> (Option<&'static str>, Id) {
    let inside = |name: &str| {
        let (_, found) = pickle.entries(pickle.root())?.filter(|&(key, _)| key == name).last()?;
        matches!(pickle.node(found), Node::Dict(_)).then_some(found)
    };
    CONTAINERS.iter().find_map(|&name| Some((Some(name), inside(name)?))).unwrap_or((None, pickle.root()))
}

fn place(
    pickle: &Pickle<'_>,
    tensor: &TensorRef,
    element: ElementType,
    find: impl Fn(&str) -> Option<Range<usize>>,
) -> Result<Entry, String> {
    let Storage { key, elements, .. } = tensor.storage;
    let key = pickle.text(key);
    let range = find(key).ok_or_else(|| format!("its storage {key:?} is not in the file"))?;
    let claimed = elements.checked_mul(element.size() as u64);
    if claimed != Some(range.len() as u64) {
        return Err(format!("its storage {key:?} claims {elements} elements and has {} bytes", range.len()));
    }
    Entry::strided(element, range, tensor.offset, &tensor.shape, &tensor.strides)
}

/// The element type of a storage class of `torch`.
fn element(class: &str) -> Option<ElementType> {
    Some(match class {
        "DoubleStorage" => ElementType::F64,
        "FloatStorage" => ElementType::F32,
        "HalfStorage" => ElementType::F16,
        "BFloat16Storage" => ElementType::BF16,
        "LongStorage" => ElementType::I64,
        "IntStorage" => ElementType::I32,
        "ShortStorage" => ElementType::I16,
        "CharStorage" => ElementType::I8,
        "ByteStorage" => ElementType::U8,
        "BoolStorage" => ElementType::Bool,
        _ => return None,
    })
}
