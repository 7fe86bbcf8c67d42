//! CHAOS: DICOM series with a PNG mask for each slice. CT has the liver; MR has four organs, in T1 (in and out of phase, one
//! mask for both) and T2.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use crate::error::Result;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str =
    "Train_Sets/CT/N/{DICOM_anon,Ground} or Train_Sets/MR/N/{T1DUAL,T2SPIR}/{DICOM_anon,Ground} (CHAOS)";
/// Grey values of the organs in MR, as the organisers give them: 63, 126, 189, 252, and what interpolation made of them.
const MR: [(&str, (i32, i32)); 4] =
    [("liver", (55, 70)), ("right kidney", (110, 135)), ("left kidney", (175, 200)), ("spleen", (240, 255))];
const DICOM: &str = "DICOM_anon";
const GROUND: &str = "Ground";

/// The folders that hold `CT` and `MR`.
fn sets(root: &Path) -> Result<Vec<PathBuf>> {
    let mut sets = Vec::new();
    for set in [root.to_owned(), root.join("Train_Sets")] {
        if !patients(&set, "CT")?.is_empty() || !patients(&set, "MR")?.is_empty() {
            sets.push(set);
        }
    }
    Ok(sets)
}

/// The folders of patients with a series.
fn patients(set: &Path, modality: &str) -> Result<Vec<PathBuf>> {
    let mut patients = files::folders(&set.join(modality))?;
    let series: &[&str] = if modality == "CT" { &[DICOM] } else { &["T1DUAL", "T2SPIR"] };
    patients.retain(|folder| series.iter().any(|series| folder.join(series).is_dir()));
    Ok(patients)
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    Ok(!sets(root)?.is_empty())
}

pub(super) fn discover(root: &Path, _: &PrepareOptions) -> Result<Found> {
    let mut found = Found { license: Some("CC-BY-NC-SA 4.0".into()), ..Found::default() };
    for set in sets(root)? {
        for patient in patients(&set, "CT")? {
            let id = format!("CT-{}", files::name(&patient));
            found.cases.push(case(&id, &id, "CT", None, patient.join(DICOM), &patient));
        }
        for patient in patients(&set, "MR")? {
            let subject = format!("MR-{}", files::name(&patient));
            for (folder, inner, contrast) in [
                ("T1DUAL", "InPhase", "T1 in phase"),
                ("T1DUAL", "OutPhase", "T1 out of phase"),
                ("T2SPIR", "", "T2 SPIR"),
            ] {
                let series = patient.join(folder);
                let id = format!("{subject}-{}", contrast.replace(" of ", "-").replace(' ', "-"));
                if series.is_dir() {
                    let dicom = if inner.is_empty() { series.join(DICOM) } else { series.join(DICOM).join(inner) };
                    found.cases.push(case(&id, &subject, "MR", Some(contrast), dicom, &series));
                }
            }
        }
    }
    let tests = files::folders(&root.join("Test_Sets"))?;
    if !tests.is_empty() {
        found.notes.push("Test_Sets has no labels and is left out".into());
    }
    Ok(found)
}

fn case(id: &str, subject: &str, modality: &str, contrast: Option<&str>, dicom: PathBuf, folder: &Path) -> RawCase {
    let structures: Vec<(&str, Values)> = match modality {
        "CT" => vec![("liver", Values::not_zero())],
        _ => MR.iter().map(|&(name, range)| (name, Values(vec![range]))).collect(),
    };
    let labels = Labels::new(LabelSource::Pictures(folder.join(GROUND)), structures);
    let case = RawCase::new(id, modality, ImageSource::Dicom(dicom), vec![labels]);
    RawCase { subject: subject.into(), contrast: contrast.map(str::to_owned), ..case }
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn series_of_a_patient_are_one_subject() {
        let paths = ["Train_Sets/CT/2/DICOM_anon/i0000,0000b.dcm", "Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase/a.dcm"];
        let folder = folder(&[&paths[..], &["Train_Sets/MR/1/T2SPIR/DICOM_anon/a.dcm", "Test_Sets/CT/3/x"]].concat());
        let found = discover(folder.path(), &PrepareOptions::default()).expect("CHAOS");
        let cases: Vec<_> = found.cases.iter().map(|case| (case.id.as_str(), case.subject.as_str())).collect();
        let expected =
            [("CT-2", "CT-2"), ("MR-1-T1-in-phase", "MR-1"), ("MR-1-T1-out-phase", "MR-1"), ("MR-1-T2-SPIR", "MR-1")];
        assert_eq!(cases, expected);
        assert_eq!(found.notes.len(), 1);
    }
}
