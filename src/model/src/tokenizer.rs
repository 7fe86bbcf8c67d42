//! CLIP's byte-pair tokenizer, read from `tokenizer.json` by the `tokenizers` crate (quirk 18).

use crate::error::{Error, Result};

/// The token that ends a text and pads a batch.
const END_OF_TEXT: &str = "<|endoftext|>";
/// The token of a word that a word-level tokenizer does not know.
const UNKNOWN: &str = "<|unknown|>";

/// Shorter words, abbreviations mostly, are not judged.
const MIN_LETTERS: usize = 4;
/// A word whose vocabulary pieces have fewer letters than this on average is no word. The longest names of anatomy
/// (duodenum, gallbladder, sternocleidomastoid) stay well above it.
const MIN_PIECE_LETTERS: usize = 2;

/// Turns a structure's name into the token ids of the model's sentence about it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    template: String,
    context_length: usize,
    vocab_size: usize,
    end_of_text: u32,
    unknown: Option<u32>,
}

/// Token ids of a batch of texts, padded to one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// One row per text: start, words, end, then the end token again as padding.
    pub ids: Vec<Vec<u32>>,
    /// Index of the first end-of-text token in each row.
    pub ends: Vec<usize>,
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// A text that is no tokenizer, or that has no `<|endoftext|>`.
    pub fn from_bytes(bytes: &[u8], template: &str, context_length: usize, vocab_size: usize) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| Error::tokenizer(format!("not a tokenizer.json: {error}")))?;
        let end_of_text = inner
            .token_to_id(END_OF_TEXT)
            .ok_or_else(|| Error::tokenizer(format!("no {END_OF_TEXT} token: this is not a CLIP tokenizer")))?;
        let unknown = inner.token_to_id(UNKNOWN);
        Ok(Self { inner, template: template.to_owned(), context_length, vocab_size, end_of_text, unknown })
    }

    /// The token ids of the model's sentence about each name, padded to the longest.
    ///
    /// # Errors
    /// An empty name, one without any word, or a sentence longer than the model's context.
    pub fn encode(&self, names: &[&str]) -> Result<Tokens> {
        let mut ids = names.iter().map(|name| self.encode_one(name)).collect::<Result<Vec<_>>>()?;
        let ends = ids.iter().map(|row| self.first_end(row)).collect::<Result<Vec<_>>>()?;
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        for row in &mut ids {
            row.resize(longest, self.end_of_text);
        }
        Ok(Tokens { ids, ends })
    }

    fn encode_one(&self, name: &str) -> Result<Vec<u32>> {
        if !name.chars().any(char::is_alphanumeric) {
            return Err(Error::Prompt { message: format!("text prompt {name:?} has no word in it") });
        }
        self.refuse_unknown_words(name)?;
        let sentence = self.template.replacen("{}", name, 1);
        let encoding = self
            .inner
            .encode(sentence, true)
            .map_err(|error| Error::tokenizer(format!("cannot encode {name:?}: {error}")))?;
        let ids = encoding.get_ids().to_vec();
        if ids.len() > self.context_length {
            return Err(Error::Prompt {
                message: format!(
                    "text prompt of {} tokens is longer than the model's {} (sentence included)",
                    ids.len(),
                    self.context_length
                ),
            });
        }
        match ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            Some(id) => Err(Error::tokenizer(format!(
                "token id {id} is beyond the model's vocabulary of {}: this tokenizer belongs to another model",
                self.vocab_size
            ))),
            None => Ok(ids),
        }
    }

    /// A word-level tokenizer has a token for what it does not know. A byte-pair tokenizer takes any bytes, so a word it has never met falls into fragments of one or two letters,
    /// which mean nothing to the model. Its mask would be arbitrary; better to say so.
    fn refuse_unknown_words(&self, name: &str) -> Result<()> {
        for word in name.split(|letter: char| !letter.is_alphanumeric()) {
            let letters = word.chars().count();
            if letters == 0 {
                continue;
            }
            let encoding = self
                .inner
                .encode(word, false)
                .map_err(|error| Error::tokenizer(format!("cannot encode {word:?}: {error}")))?;
            let unknown = self.unknown.is_some_and(|unknown| encoding.get_ids().contains(&unknown));
            if unknown || letters >= MIN_LETTERS && letters < MIN_PIECE_LETTERS * encoding.len() {
                return Err(Error::Prompt {
                    message: format!(
                        "unknown word {word:?} in text prompt {name:?}: the model's vocabulary has nothing like it; \
                         give the English name of a structure, such as \"liver\", or use points or a box"
                    ),
                });
            }
        }
        Ok(())
    }

    fn first_end(&self, row: &[u32]) -> Result<usize> {
        row.iter()
            .position(|&id| id == self.end_of_text)
            .ok_or_else(|| Error::tokenizer(format!("the tokenizer does not end a text with {END_OF_TEXT}")))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("template", &self.template).finish_non_exhaustive()
    }
}
