//! Which structures are taken, and which are merged.

use super::names::normalise;
use super::source::RawCase;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// A structure of the data set, and those of the source that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// The names it has in the source, normalised: more than one are merged.
    pub parts: Vec<String>,
}

/// A choice of structures: `liver,prostate=peripheral zone+transition zone`.
///
/// Each entry is the name of a structure, or a new name, `=`, and the structures that are merged under it. Names are
/// compared in their normal form, so `PZ` and `peripheral zone` are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(pub Vec<Class>);

impl FromStr for Classes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut classes: Vec<Class> = Vec::new();
        for entry in text.split(',') {
            let (name, parts) = entry.split_once('=').unwrap_or((entry, entry));
            let parts: Vec<String> = match entry.contains('=') {
                true => parts.split('+').map(normalise).collect(),
                false => vec![normalise(parts)],
            };
            // A name the user gives stays as it is, but for its case and spaces.
            let name = if entry.contains('=') { name.trim().to_lowercase() } else { normalise(name) };
            if name.is_empty() || parts.iter().any(String::is_empty) {
                return Err(format!("{entry:?} is neither NAME nor NEW=NAME+NAME"));
            }
            if classes.iter().any(|class| class.name == name) {
                return Err(format!("{name:?} is there twice"));
            }
            classes.push(Class { name, parts });
        }
        Ok(Self(classes))
    }
}

/// The structures of a case: those chosen that it has all parts of, or all of its own.
pub(crate) fn of_case(chosen: Option<&Classes>, case: &RawCase) -> Vec<Class> {
    let own: BTreeSet<String> = case.structures().map(normalise).collect();
    match chosen {
        Some(classes) => {
            classes.0.iter().filter(|class| class.parts.iter().all(|part| own.contains(part))).cloned().collect()
        }
        None => own.into_iter().map(|name| Class { parts: vec![name.clone()], name }).collect(),
    }
}

/// Names in the source -> what they are called here.
///
/// # Errors
/// A chosen structure that no case has.
pub(crate) fn table(chosen: Option<&Classes>, cases: &[RawCase]) -> Result<BTreeMap<String, String>> {
    let theirs: BTreeSet<&str> = cases.iter().flat_map(RawCase::structures).collect();
    let Some(classes) = chosen else {
        return Ok(theirs.into_iter().map(|name| (name.to_owned(), normalise(name))).collect());
    };
    let known: BTreeSet<String> = theirs.iter().map(|name| normalise(name)).collect();
    for part in classes.0.iter().flat_map(|class| &class.parts) {
        if !known.contains(part) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::argument(
                format!("no case has a structure {part:?}"),
                format!("the data set has: {known}"),
            ));
        }
    }
    let called = |name: &&str| {
        let normal = normalise(name);
        let here: Vec<&str> =
            classes.0.iter().filter(|class| class.parts.contains(&normal)).map(|class| class.name.as_str()).collect();
        (!here.is_empty()).then(|| ((*name).to_owned(), here.join(", ")))
    };
    Ok(theirs.iter().filter_map(called).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_and_merged() {
        let classes: Classes = "Liver, prostate=PZ+tz".parse().expect("classes");
        let expected = [("liver", vec!["liver"]), ("prostate", vec!["peripheral zone", "transition zone"])];
        for (class, (name, parts)) in classes.0.iter().zip(expected) {
            assert_eq!((class.name.as_str(), class.parts.iter().map(String::as_str).collect()), (name, parts));
        }
        for wrong in ["", "a,,b", "a=", "=b", "a=b+", "a,A"] {
            assert!(wrong.parse::<Classes>().is_err(), "{wrong:?}");
        }
    }
}
