//! AMOS: `imagesTr`/`labelsTr` and `imagesVa`/`labelsVa` with `amos_NNNN.nii.gz`.
//!
//! Its `dataset.json` calls every case CT; the authors say that numbers from 500 up are MR. The table of scanners, where
//! it is there, must agree.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use super::msd::structures;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str = "imagesTr/amos_NNNN.nii.gz, labelsTr/ (and imagesVa/, labelsVa/), dataset.json (AMOS)";
/// The first number that is MR.
const FIRST_MR: u32 = 500;
const TABLE: &str = "labeled_data_meta_0000_0599.csv";
/// Parts of scanner models, in lower case, that are told apart by: of the table's scanners.
const CT_SCANNERS: [&str; 5] = ["aquilion", "brilliance", "somatom", "optima ct", "lightspeed"];
const MR_SCANNERS: [&str; 5] = ["signa", "prisma", "achieva", "ingenia", "magnetom"];
/// The labels, where `dataset.json` is not there.
const STRUCTURES: [&str; 15] = [
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
];

/// The number of `amos_0507.nii.gz`.
fn number(path: &Path) -> Option<u32> {
    files::stem(path).strip_prefix("amos_")?.parse().ok().filter(|_| files::is_image(path))
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    Ok(files::entries(&root.join("imagesTr"))?.iter().any(|path| number(path).is_some()))
}

/// The fields of a line of a table, quotes taken off.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for letter in line.trim_end_matches('\r').chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("one at least").push(letter),
        }
    }
    fields
}

/// Number of a case -> its modality, where the scanner is known.
fn table(path: &Path) -> Result<BTreeMap<u32, &'static str>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let header = fields(lines.next().unwrap_or_default());
    let column = |names: &[&str]| {
        header.iter().position(|field| names.iter().any(|name| field.trim().eq_ignore_ascii_case(name)))
    };
    let (Some(id), Some(model)) = (column(&["amos_id"]), column(&["Manufacturer's Model Name", "Model"])) else {
        let message = "a table without amos_id and Manufacturer's Model Name";
        return Err(Error::source_data(path, message, "download it again, or take it out of the folder"));
    };
    let row = |line: &str| {
        let fields = fields(line);
        let number = fields.get(id)?.trim().trim_start_matches("amos_").parse().ok()?;
        let model = fields.get(model)?.to_lowercase();
        let is = |known: &[&str]| known.iter().any(|name| model.contains(name));
        match (is(&CT_SCANNERS), is(&MR_SCANNERS)) {
            (true, false) => Some((number, "CT")),
            (false, true) => Some((number, "MR")),
            _ => None,
        }
    };
    Ok(lines.filter_map(row).collect())
}

pub(super) fn discover(root: &Path, _: &PrepareOptions) -> Result<Found> {
    let list = root.join("dataset.json");
    let list = if list.is_file() { files::json(&list)? } else { serde_json::Value::Null };
    let text = |names: &[&str]| names.iter().find_map(|name| list[name].as_str()).map(str::to_owned);
    let mut found = Found { name: text(&["name"]), license: text(&["licence", "license"]), ..Found::default() };
    let mut structures = structures(&list["labels"]);
    if structures.is_empty() {
        let numbered = STRUCTURES.iter().zip(1..);
        structures = numbered.map(|(name, id)| ((*name).to_owned(), Values::one(id))).collect();
    }
    let path = root.join(TABLE);
    let scanners = if path.is_file() { table(&path)? } else { BTreeMap::new() };
    for (images, labels) in [("imagesTr", "labelsTr"), ("imagesVa", "labelsVa"), ("imagesTs", "labelsTs")] {
        let cases = files::entries(&root.join(images))?;
        let labels = root.join(labels);
        if images != "imagesTr" && !cases.is_empty() && !labels.is_dir() {
            found.notes.push(format!("{images}: {} cases without labels are left out", cases.len()));
            continue;
        }
        for image in cases {
            let Some(number) = number(&image) else { continue };
            found.cases.push(case(&path, &image, labels.join(files::name(&image)), number, &scanners, &structures)?);
        }
    }
    found.notes.push(confirmed(&found.cases, &scanners));
    Ok(found)
}

fn confirmed(cases: &[RawCase], scanners: &BTreeMap<u32, &'static str>) -> String {
    let known = cases.iter().filter_map(|case| case.id.strip_prefix("amos_")?.parse().ok());
    let known = known.filter(|number: &u32| scanners.contains_key(number)).count();
    format!("MR are the numbers from {FIRST_MR} up; the table of scanners confirms {known} of {} cases", cases.len())
}

fn case(
    table: &Path,
    image: &Path,
    label: PathBuf,
    number: u32,
    scanners: &BTreeMap<u32, &'static str>,
    structures: &[(String, Values)],
) -> Result<RawCase> {
    let modality = if number >= FIRST_MR { "MR" } else { "CT" };
    if let Some(&told) = scanners.get(&number).filter(|told| **told != modality) {
        let message =
            format!("its scanner makes {} a case of {told}, its number one of {modality}", files::name(image));
        return Err(Error::source_data(table, message, "correct the table, or take the case out of the folder"));
    }
    let source = ImageSource::File { path: image.to_owned(), channel: None };
    let labels = vec![Labels::new(LabelSource::File(label), structures.iter().cloned())];
    Ok(RawCase::new(&files::stem(image), modality, source, labels))
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    const HEADER: &str = "amos_id,Patient's Sex,Manufacturer's Model Name";

    fn found(table: &str) -> Result<Found> {
        let paths = ["imagesTr/amos_0001.nii.gz", "imagesTr/._amos_0001.nii.gz", "imagesVa/amos_0507.nii.gz"];
        let others = ["labelsVa/amos_0507.nii.gz", "imagesTs/amos_0002.nii.gz"];
        let table = format!("{TABLE}={HEADER}\n{table}\n");
        let folder = folder(&[&paths[..], &others, &[&table]].concat());
        assert!(recognises(folder.path()).expect("readable"));
        discover(folder.path(), &PrepareOptions::default())
    }

    #[test]
    fn numbers_tell_ct_and_mr_apart_and_the_table_confirms() {
        let found = self::found("1,M,\"Aquilion, ONE\"\n507,F,SIGNA HDe").expect("AMOS");
        let cases: Vec<_> = found.cases.iter().map(|case| (case.id.as_str(), case.modality.as_str())).collect();
        assert_eq!(cases, [("amos_0001", "CT"), ("amos_0507", "MR")]);
        assert!(found.notes[0].contains("imagesTs: 1 cases") && found.notes[1].contains("confirms 2 of 2"));
        assert!(self::found("507,F,Aquilion ONE").expect_err("a contradiction").to_string().contains("amos_0507"));
    }
}
