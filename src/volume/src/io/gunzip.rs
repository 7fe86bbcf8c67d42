//! Gzip of one or several members, with whatever follows them left alone.
//!
//! flate2's own `MultiGzDecoder` takes any bytes behind a member for the next one, so that a file padded by a tape
//! drive or a download ends in an error. A member starts with the two bytes of its magic; anything else is the end.

use flate2::bufread::GzDecoder;
use std::io::{BufRead, Read, Result};

/// The first bytes of every gzip member.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Decompresses as it is read. The checksum of a member is compared when its end is reached.
pub(super) struct Gunzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let count = member.read(to)?;
            if count > 0 {
                return Ok(count);
            }
            let mut rest = self.member.take().expect("it was just read").into_inner();
            let next = rest.fill_buf()?;
            // One byte may be all that the buffer has left of the magic.
            if !next.is_empty() && MAGIC.starts_with(&next[..next.len().min(2)]) {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn all(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Gunzip::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn members_are_joined_and_what_follows_them_is_ignored() {
        let two = [member(b"one "), member(b""), member(b"two")].concat();
        assert_eq!(all(&two).expect("two members"), b"one two");
        for garbage in [&[0][..], &[0xab; 5], &[0; 600]] {
            assert_eq!(all(&[&two, garbage].concat()).expect("garbage is no member"), b"one two");
        }
    }

    #[test]
    fn a_wrong_checksum_and_a_missing_end_are_errors() {
        let mut bytes = member(b"some text");
        assert!(all(&bytes[..bytes.len() - 3]).is_err());
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
        assert!(all(&bytes).is_err());
    }
}
