//! Names of structures: one spelling for all data sets.

/// What data sets call it, in lower case -> what it is called here.
const SYNONYMS: &[(&str, &str)] = &[
    ("pz", "peripheral zone"),
    ("tz", "transition zone"),
    ("transitional zone", "transition zone"),
    // AMOS writes it so.
    ("arota", "aorta"),
    ("postcava", "inferior vena cava"),
    ("ivc", "inferior vena cava"),
    ("gall bladder", "gallbladder"),
    ("rkidney", "right kidney"),
    ("lkidney", "left kidney"),
];
/// British spellings, wherever they stand in a name.
const SPELLINGS: &[(&str, &str)] = &[("tumour", "tumor"), ("tumours", "tumors"), ("oesophagus", "esophagus")];
/// Words that stand in front, although some data sets put them last.
const SIDES: [&str; 2] = ["left", "right"];

/// Lower case, single spaces for underscores, the side in front, known spellings.
pub(crate) fn normalise(name: &str) -> String {
    let lower = name.to_lowercase().replace('_', " ");
    let spelt = |word| SPELLINGS.iter().find(|(british, _)| *british == word).map_or(word, |(_, here)| *here);
    let mut words: Vec<&str> = lower.split_whitespace().map(spelt).collect();
    if words.len() > 1 && words.last().is_some_and(|last| SIDES.contains(last)) {
        words.rotate_right(1);
    }
    let name = words.join(" ");
    match SYNONYMS.iter().find(|(known, _)| *known == name) {
        Some((_, here)) => (*here).to_owned(),
        None => name,
    }
}

/// The name as part of a file's name: letters, digits, `_`, `-`, `.`.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = name.chars().map(plain).collect();
    match name.trim_start_matches('.') {
        "" => "_".into(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_all() {
        for (theirs, ours) in [
            ("PZ", "peripheral zone"),
            ("adrenal_gland_right", "right adrenal gland"),
            ("Right  Kidney", "right kidney"),
            ("arota", "aorta"),
            ("Liver Tumour", "liver tumor"),
            ("left", "left"),
        ] {
            assert_eq!(normalise(theirs), ours);
        }
        assert_eq!(file_name("prostate/uterus"), "prostate_uterus");
        assert_eq!(file_name("../x"), "_x");
    }
}
