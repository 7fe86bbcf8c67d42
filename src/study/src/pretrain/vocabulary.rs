//! The words that text prompts of the built-in model are made of.

use serde_json::json;
use std::collections::BTreeSet;

/// Tokens that are no words, by their ids.
pub(super) const SPECIAL: [&str; 3] = ["<|startoftext|>", "<|endoftext|>", "<|unknown|>"];

/// Every word that the name of a phantom's structure is made of.
const WORDS: &str = "adrenal aorta artery autochthon basal bladder bowel brain brainstem cartilages cava cerebellum colon cord costal cyst \
    discs duodenum esophagus eye femur ganglia gallbladder gland gluteus grey heart hip iliac iliopsoas inferior intervertebral kidney left \
    lesion liver lobe lower lung matter maximus medius middle minimus nodule pancreas peripheral portal prostate rectum \
    rib right sacrum seminal skull small spinal spleen splenic sternum stomach thalamus transition upper urinary uterus \
    vein vena ventricles vertebra vertebrae vesicle white zone and \
    l1 l2 l3 l4 l5 s1 t6 t7 t8 t9 t10 t11 t12 6 7 8 9 10 11 12";

/// The words in the order of their ids.
pub(super) fn words() -> BTreeSet<&'static str> {
    WORDS.split_whitespace().collect()
}

/// The text of `tokenizer.json`: one token a word.
pub(super) fn tokenizer() -> String {
    let ids: serde_json::Map<String, serde_json::Value> =
        SPECIAL.into_iter().chain(words()).enumerate().map(|(id, word)| (word.to_owned(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": SPECIAL[id], "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Lowercase"},
        // Words, and numbers with the letter before them: everything else parts them.
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": "[^\\p{L}\\p{N}]+"}, "behavior": "Removed", "invert": false,
        },
        "post_processor": {
            "type": "RobertaProcessing", "sep": [SPECIAL[1], 1], "cls": [SPECIAL[0], 0],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": SPECIAL[2]},
    });
    serde_json::to_string_pretty(&tokenizer).expect("plain data") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom;
    use adaptmedseg_model::Tokenizer;

    #[test]
    fn every_structure_of_every_body_has_a_name_of_known_words() {
        let config = crate::pretrain::small_config().text_encoder;
        let text = tokenizer();
        let tokenizer =
            Tokenizer::from_bytes(text.as_bytes(), &config.template, config.context_length, config.vocab_size)
                .expect("a tokenizer");
        let mut bodies = 0;
        for index in 0..12 {
            let (kind, scene) = phantom::scene(3, index);
            if kind == phantom::Kind::Shapes {
                continue;
            }
            bodies += 1;
            for structure in &scene.structures {
                let tokens = tokenizer.encode(&[&structure.name]).expect("known words");
                assert_eq!(tokens.ids[0].len(), structure.name.split_whitespace().count() + 2, "{}", structure.name);
            }
        }
        assert!(bodies > 4);
        let error = tokenizer.encode(&["left kydney"]).expect_err("misspelt");
        assert!(error.to_string().contains("kydney"), "{error}");
    }
}
