//! Checks that no element of a DICOM file claims more bytes than there are, before a parser takes memory for them.

/// The transfer syntax of voxels as they are, value representations left out.
pub(super) const IMPLICIT: &str = "1.2.840.10008.1.2";
/// The same, with value representations.
pub(super) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// Length of what ends with a delimiter.
const UNDEFINED: u32 = u32::MAX;
/// Sequences within sequences.
const MAX_DEPTH: usize = 16;
/// Preamble and `DICM`.
const START: usize = 132;

/// Why a file is not read.
#[derive(Debug, PartialEq)]
pub(super) enum Problem {
    /// Not DICOM at all.
    NotDicom,
    /// An element runs over the end.
    Truncated,
    /// Voxels stored in another way: the transfer syntax.
    Syntax(String),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    explicit: bool,
}

struct Element {
    group: u16,
    number: u16,
    sequence: bool,
    length: u32,
}

impl Cursor<'_> {
    fn u16(&mut self) -> Option<u16> {
        let word = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_le_bytes([word[0], word[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) | u32::from(self.u16()?) << 16)
    }

    fn element(&mut self) -> Option<Element> {
        let (group, number) = (self.u16()?, self.u16()?);
        if group == 0xfffe || !self.explicit {
            let length = self.u32()?;
            return Some(Element { group, number, sequence: length == UNDEFINED, length });
        }
        let kind: [u8; 2] = self.bytes.get(self.at..self.at + 2)?.try_into().ok()?;
        self.at += 2;
        let long = matches!(
            &kind,
            b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
        );
        let length = if long {
            self.at += 2;
            self.u32()?
        } else {
            u32::from(self.u16()?)
        };
        Some(Element { group, number, sequence: &kind == b"SQ" || length == UNDEFINED, length })
    }

    /// Passes over the elements up to `end`, or up to a delimiter where the end is not known.
    fn elements(&mut self, end: Option<usize>, depth: usize) -> Option<()> {
        while end.is_none_or(|end| self.at < end) {
            let element = self.element()?;
            if element.group == 0xfffe && element.number != 0xe000 {
                return Some(());
            }
            let known = element.length != UNDEFINED;
            let inner = known.then(|| self.at.checked_add(element.length as usize)).flatten();
            if inner.is_some_and(|inner| inner > end.unwrap_or(self.bytes.len())) || known && inner.is_none() {
                return None;
            }
            match inner {
                Some(inner) if !element.sequence => self.at = inner,
                _ if depth == MAX_DEPTH => return None,
                _ => self.elements(inner, depth + 1)?,
            }
        }
        Some(())
    }
}

/// Checks a whole file and says whether its representations are explicit.
pub(super) fn check(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.get(START - 4..START) != Some(b"DICM") {
        return Err(Problem::NotDicom);
    }
    let mut cursor = Cursor { bytes, at: START, explicit: true };
    let mut syntax = None;
    // The first group, which names how the rest is stored.
    loop {
        let start = cursor.at;
        match cursor.element() {
            Some(Element { group: 2, number, length, .. }) => {
                let end = cursor.at.checked_add(length as usize).filter(|&end| end <= bytes.len());
                let end = end.ok_or(Problem::Truncated)?;
                if number == 0x10 {
                    let text = String::from_utf8_lossy(&bytes[cursor.at..end]);
                    syntax = Some(text.trim_end_matches(['\0', ' ']).to_owned());
                }
                cursor.at = end;
            }
            _ => {
                cursor.at = start;
                break;
            }
        }
    }
    match syntax.as_deref() {
        Some(EXPLICIT) => {}
        Some(IMPLICIT) => cursor.explicit = false,
        other => return Err(Problem::Syntax(other.unwrap_or("unknown").to_owned())),
    }
    cursor.elements(Some(bytes.len()), 0).ok_or(Problem::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn a_length_beyond_the_end_is_found_before_it_is_believed() {
        assert_eq!(check(&file(b"\x10\x00\x10\x00PN\x04\x00Ann ")), Ok(()));
        assert_eq!(check(&file(b"\x10\x00\x10\x00PN\x06\x00Ann ")), Err(Problem::Truncated));
        let pixels = b"\xe0\x7f\x10\x00OW\x00\x00\xf0\xff\xff\xff\x01\x02";
        assert_eq!(check(&file(pixels)), Err(Problem::Truncated));
        // A sequence without a length, with an item without one, and a liar in it.
        let sequence = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
        let honest = b"\x10\x00\x10\x00PN\x04\x00Ann \xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00";
        assert_eq!(check(&file(&[&sequence[..], honest].concat())), Ok(()));
        assert_eq!(check(&file(&[&sequence[..], b"\x10\x00\x10\x00PN\xff\x00Ann "].concat())), Err(Problem::Truncated));
        assert_eq!(check(b"not"), Err(Problem::NotDicom));
        let nested: Vec<u8> = sequence.iter().copied().cycle().take(sequence.len() * 40).collect();
        assert_eq!(check(&file(&nested)), Err(Problem::Truncated));
    }
}
