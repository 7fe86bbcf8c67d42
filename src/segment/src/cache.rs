//! Encoded windows of one image, kept so that the next prompt runs only the decoder.

use adaptmedseg_engine::ImageEmbedding;

/// Keeps the embeddings used last, up to a number of bytes.
pub(crate) struct Cache {
    /// Most recently used last.
    entries: Vec<(Key, ImageEmbedding)>,
    capacity: usize,
}

/// Which window an embedding belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The zoom-out image.
    Whole,
    /// The window whose first voxel of the crop this is.
    Window([isize; 3]),
    /// A window of the focused zoom-in: start and step, as bits.
    Frame([[u32; 3]; 2]),
}

/// Bytes of embeddings kept for one image.
pub(crate) const LIMIT_BYTES: u64 = 512 << 20;

impl Cache {
    pub(crate) fn new(embedding_bytes: u64) -> Self {
        Self { entries: Vec::new(), capacity: (LIMIT_BYTES / embedding_bytes.max(1)).max(1) as usize }
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<ImageEmbedding> {
        let index = self.entries.iter().position(|(found, _)| *found == key)?;
        let entry = self.entries.remove(index);
        self.entries.push(entry);
        self.entries.last().map(|(_, embedding)| embedding.clone())
    }

    pub(crate) fn put(&mut self, key: Key, embedding: ImageEmbedding) {
        if self.entries.len() == self.capacity {
            self.entries.remove(0);
        }
        self.entries.push((key, embedding));
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_unused_longest_goes_first() {
        let mut cache = Cache::new(LIMIT_BYTES / 2);
        let key = |index| Key::Window([index, 0, 0]);
        cache.put(key(1), ImageEmbedding::new(1));
        cache.put(key(2), ImageEmbedding::new(2));
        assert!(cache.get(key(1)).is_some());
        cache.put(key(3), ImageEmbedding::new(3));
        assert!(cache.get(key(2)).is_none());
        assert_eq!(cache.get(key(1)).expect("kept").get::<i32>(), Some(&1));
    }
}
