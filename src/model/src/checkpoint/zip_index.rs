//! Where the entries of a zip archive lie, for archives that `torch.save` wrote: stored, not compressed.
//!
//! Reads the central directory (zip64 included) out of a mapped file and gives byte ranges into it, so that tensors
//! are used where they lie. Nothing is allocated on the word of the file: a claim is believed only as far as bytes
//! stand behind it. The `zip` crate reserves memory for as many entries as the archive announces, which is why it is
//! not used here. This is no general zip reader: no compression, encryption or multi-volume archives.

use std::collections::BTreeMap;
use std::ops::Range;

/// Name of an entry and the range of its bytes in the archive.
pub(crate) type Entries = BTreeMap<String, Range<usize>>;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END_OF_DIRECTORY: u32 = 0x0605_4b50;
const END_OF_DIRECTORY_64: u32 = 0x0606_4b50;
const END_LOCATOR_64: u32 = 0x0706_4b50;
/// A field of 32 bits that holds this has its value in the zip64 extra field.
const IN_EXTRA: u32 = u32::MAX;
/// Tag of the zip64 extra field.
const EXTRA_64: u16 = 1;
/// Bit 0 of an entry's flags: encrypted.
const ENCRYPTED: u16 = 1;
/// More entries than this are no checkpoint; SegVol with its optimiser has about 1500.
const MAX_ENTRIES: usize = 1 << 18;

/// Whether a file starts like a zip archive.
pub(crate) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL_HEADER.to_le_bytes())
}

/// Every entry of the archive.
///
/// # Errors
/// What is wrong with the archive: truncated, compressed, encrypted, overlong, an entry outside the file.
pub(crate) fn stored_entries(bytes: &[u8]) -> Result<Entries, String> {
    let (mut at, count) = directory(bytes)?;
    let mut entries = Entries::new();
    for index in 0..count {
        let (name, range, next) = entry(bytes, at).map_err(|what| format!("zip entry {index}: {what}"))?;
        if entries.insert(name.clone(), range).is_some() {
            return Err(format!("zip entry {index}: a second entry is called {name:?}"));
        }
        at = next;
    }
    Ok(entries)
}

/// Start of the central directory and the number of its entries.
fn directory(bytes: &[u8]) -> Result<(usize, usize), String> {
    let end = find_end(bytes).ok_or("no zip directory at the end: the file is truncated")?;
    let (mut count, mut offset) = (u64::from(u16_at(bytes, end + 10)?), u64::from(u32_at(bytes, end + 16)?));
    let locator = end.checked_sub(20).filter(|&at| u32_at(bytes, at) == Ok(END_LOCATOR_64));
    if let Some(locator) = locator {
        let end64 = to_usize(u64_at(bytes, locator + 8)?)?;
        if u32_at(bytes, end64)? != END_OF_DIRECTORY_64 {
            return Err("the zip64 directory is not where its locator says".into());
        }
        (count, offset) = (u64_at(bytes, add(end64, 32)?)?, u64_at(bytes, add(end64, 48)?)?);
    }
    let (count, offset) = (to_usize(count)?, to_usize(offset)?);
    if count > MAX_ENTRIES {
        return Err(format!("{count} zip entries; at most {MAX_ENTRIES}"));
    }
    Ok((offset, count))
}

/// The end record stands last, before a comment of at most 65535 bytes.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(22)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        u32_at(bytes, at) == Ok(END_OF_DIRECTORY)
            && u16_at(bytes, at + 20).is_ok_and(|comment| at + 22 + usize::from(comment) == bytes.len())
    })
}

/// One entry of the central directory: its name, the range of its data, and where the next entry starts.
fn entry(bytes: &[u8], at: usize) -> Result<(String, Range<usize>, usize), String> {
    if u32_at(bytes, at)? != CENTRAL_HEADER {
        return Err("not a zip directory entry".into());
    }
    let (flags, method) = (u16_at(bytes, at + 8)?, u16_at(bytes, at + 10)?);
    let (packed, size, local) = (u32_at(bytes, at + 20)?, u32_at(bytes, at + 24)?, u32_at(bytes, at + 42)?);
    let lengths = [28, 30, 32].map(|field| u16_at(bytes, at + field).map(usize::from));
    let [name_length, extra_length, comment_length] = lengths;
    let name_end = add(at, 46 + name_length?)?;
    let extra_end = add(name_end, extra_length?)?;
    let name = std::str::from_utf8(slice(bytes, at + 46..name_end)?).map_err(|_| "its name is not UTF-8")?.to_owned();
    if method != 0 {
        return Err(format!("{name:?} is compressed (method {method}); torch.save does not compress"));
    }
    if flags & ENCRYPTED != 0 {
        return Err(format!("{name:?} is encrypted"));
    }
    let mut wide = wide_fields(slice(bytes, name_end..extra_end)?);
    let mut widen = |narrow: u32| match narrow {
        IN_EXTRA => wide.next().ok_or_else(|| format!("{name:?} lacks its zip64 sizes")),
        narrow => Ok(u64::from(narrow)),
    };
    // The order of the fields in the zip64 extra: size, packed size, offset.
    let (size, packed, local) = (widen(size)?, widen(packed)?, to_usize(widen(local)?)?);
    if size != packed {
        return Err(format!("{name:?} is stored, yet its two sizes differ: {size} and {packed}"));
    }
    if u32_at(bytes, local)? != LOCAL_HEADER {
        return Err(format!("{name:?} is not where the directory says"));
    }
    let skip = usize::from(u16_at(bytes, local + 26)?) + usize::from(u16_at(bytes, local + 28)?);
    let start = add(local, 30 + skip)?;
    let range = start..add(start, to_usize(size)?)?;
    if range.end > bytes.len() {
        return Err(format!("{name:?} claims {size} bytes, beyond the end of the file"));
    }
    Ok((name, range, add(extra_end, comment_length?)?))
}

/// The 64-bit numbers of the zip64 extra field, if there is one.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while let (Ok(tag), Ok(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else { break };
        if tag == EXTRA_64 {
            found = body;
            break;
        }
        extra = &extra[4 + usize::from(length)..];
    }
    found.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

fn slice(bytes: &[u8], range: Range<usize>) -> Result<&[u8], String> {
    bytes.get(range).ok_or_else(|| "the file is truncated".into())
}

fn add(a: usize, b: usize) -> Result<usize, String> {
    a.checked_add(b).ok_or_else(|| "a number is too large".into())
}

fn to_usize(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} is too large for this machine"))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    Ok(slice(bytes, at..add(at, N)?)?.try_into().expect("as long as asked for"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    array(bytes, at).map(u64::from_le_bytes)
}
