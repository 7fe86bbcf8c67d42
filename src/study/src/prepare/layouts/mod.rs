//! Layouts of downloaded data sets: how each is recognised, what it needs, and how its cases are found.

mod amos;
mod brats;
mod chaos;
mod m3d;
mod msd;
mod pairs;
mod promise12;
mod saml;
mod t2w;

use super::files;
use super::options::PrepareOptions;
use super::source::Found;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a downloaded data set is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// AMOS: abdominal organs, CT and MR.
    Amos,
    /// BraTS 2021: brain tumours, four MR contrasts.
    Brats,
    /// CHAOS: abdominal organs, DICOM series of CT and MR.
    Chaos,
    /// M3D-Seg: arrays and sparse masks, CT.
    M3d,
    /// A task of the Medical Segmentation Decathlon.
    Msd,
    /// SAML: prostate MR of six sites.
    Saml,
    /// PROMISE12: prostate MR.
    Promise12,
    /// T2-weighted prostate MR as TIFF stacks.
    T2w,
    /// A plain folder of images and masks.
    Pairs,
}

/// What is known of a layout.
struct Recipe {
    layout: Layout,
    name: &'static str,
    /// What a folder needs to be one, for the user.
    needs: &'static str,
    recognises: fn(&Path) -> Result<bool>,
    discover: fn(&Path, &PrepareOptions) -> Result<Found>,
}

macro_rules! recipe {
    ($layout:ident, $module:ident) => {
        Recipe {
            layout: Layout::$layout,
            name: stringify!($module),
            needs: $module::NEEDS,
            recognises: $module::recognises,
            discover: $module::discover,
        }
    };
}

/// All layouts; of several that recognise a folder the first one is right.
const RECIPES: &[Recipe] = &[
    recipe!(Amos, amos),
    recipe!(Msd, msd),
    recipe!(Brats, brats),
    recipe!(Chaos, chaos),
    recipe!(Saml, saml),
    recipe!(Promise12, promise12),
    recipe!(M3d, m3d),
    recipe!(T2w, t2w),
    recipe!(Pairs, pairs),
];

impl Layout {
    fn recipe(self) -> &'static Recipe {
        RECIPES.iter().find(|recipe| recipe.layout == self).expect("every layout has one")
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.recipe().name
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ");
        let recipe = RECIPES.iter().find(|recipe| recipe.name == text);
        recipe.map(|recipe| recipe.layout).ok_or_else(|| format!("unknown layout {text:?}: auto, {}", names()))
    }
}

/// Finds the cases of a folder, or of the one folder in it that is laid out like this.
///
/// # Errors
/// A folder that is none of the layouts: the message lists what each needs. Whatever the layout finds wrong.
pub(crate) fn discover(root: &Path, options: &PrepareOptions) -> Result<(Layout, PathBuf, Found)> {
    if !root.is_dir() {
        return Err(Error::source_data(root, "there is no such folder", "give the folder of the download with --root"));
    }
    for folder in std::iter::once(vec![root.to_owned()]).chain([files::folders(root)?]) {
        let mut fits = Vec::new();
        for folder in folder {
            if let Some(recipe) = recognise(&folder, options.layout)? {
                fits.push((recipe, folder));
            }
        }
        match fits.len() {
            0 => continue,
            1 => {
                let (recipe, folder) = fits.remove(0);
                let found = (recipe.discover)(&folder, options)?;
                return Ok((recipe.layout, folder, found));
            }
            _ => {
                let names: Vec<String> = fits.iter().map(|(_, folder)| files::name(folder)).collect();
                let message = format!("several data sets in it: {}", names.join(", "));
                return Err(Error::source_data(root, message, "give one of them with --root"));
            }
        }
    }
    Err(unknown(root, options.layout))
}

fn recognise(folder: &Path, wanted: Option<Layout>) -> Result<Option<&'static Recipe>> {
    let candidates = RECIPES.iter().filter(|recipe| wanted.is_none_or(|wanted| wanted == recipe.layout));
    for recipe in candidates {
        if (recipe.recognises)(folder)? {
            return Ok(Some(recipe));
        }
    }
    Ok(None)
}

fn unknown(root: &Path, wanted: Option<Layout>) -> Error {
    let needs = |recipe: &Recipe| format!("\n    {:<10} {}", recipe.name, recipe.needs);
    let (message, recipes): (_, Vec<String>) = match wanted {
        Some(layout) => (format!("not laid out as {}", layout.name()), vec![needs(layout.recipe())]),
        None => ("a layout that is not known".into(), RECIPES.iter().map(needs).collect()),
    };
    Error::source_data(root, message, format!("what a folder needs:{}", recipes.concat()))
}

/// Pairs of images and label maps by name: the image is left as it is, labels end with one of `endings` (in any case).
pub(super) fn with_ending(path: &Path, endings: &[&str]) -> Option<String> {
    let stem = files::stem(path);
    let lower = stem.to_lowercase();
    endings.iter().find(|ending| lower.ends_with(*ending)).map(|ending| stem[..stem.len() - ending.len()].to_owned())
}

#[cfg(test)]
pub(super) mod testing {
    use std::path::Path;

    /// A folder with empty files; text behind `=` goes into them.
    pub(crate) fn folder(paths: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for path in paths {
            let (path, text) = path.split_once('=').unwrap_or((path, ""));
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).expect("made");
            std::fs::write(path, text).expect("written");
        }
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::testing::folder;
    use super::*;

    fn message(paths: &[&str], layout: Option<Layout>) -> String {
        let options = PrepareOptions { layout, ..PrepareOptions::default() };
        let error = discover(folder(paths).path(), &options).expect_err("no layout");
        format!("{error} {}", error.hint().unwrap_or_default())
    }

    #[test]
    fn an_unknown_folder_is_told_what_each_layout_needs() {
        let all = message(&["a.txt"], None);
        assert!(RECIPES.iter().all(|recipe| all.contains(recipe.needs)), "{all}");
        let one = message(&["a.txt"], Some(Layout::Brats));
        assert!(one.contains("not laid out as brats") && !one.contains(msd::NEEDS), "{one}");
    }

    #[test]
    fn names_and_layouts_are_one_to_one() {
        for recipe in RECIPES {
            assert_eq!(recipe.name.parse(), Ok(recipe.layout));
            assert_eq!(serde_json::to_value(recipe.layout).expect("plain"), recipe.name);
        }
        assert!("msdx".parse::<Layout>().expect_err("unknown").contains("auto, amos, msd"));
    }

    #[test]
    fn a_folder_in_the_folder_will_do_and_two_will_not() {
        let list = r#"dataset.json={"modality": {"0": "CT"}, "labels": {"0": "b", "1": "x"}, "training": []}"#;
        let (one, two) = (format!("Task01/{list}"), format!("Task02/{list}"));
        let found = discover(folder(&[&one]).path(), &PrepareOptions::default()).expect("found");
        assert_eq!((found.0, files::name(&found.1).as_str()), (Layout::Msd, "Task01"));
        assert!(message(&[&one, &two], None).contains("several data sets in it: Task01, Task02"));
    }
}
