//! Files the command writes. All of them are checked before anything is computed, written under temporary names beside
//! their own, and renamed together when every one of them is complete: a run leaves all its files or none.

use crate::failure::{Code, Failure, Result};
use crate::interrupt;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a file will hold, which its ending must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `.nii`, `.nii.gz`, `.mha`, `.mhd`
    Image,
    /// `.png`
    Picture,
    /// Any other.
    Text,
}

/// The files of one run.
#[derive(Debug)]
pub(crate) struct Outputs {
    files: Vec<Output>,
    overwrite: bool,
}

#[derive(Debug)]
struct Output {
    target: PathBuf,
    /// Beside the target, so that a rename is enough. It holds the file under its own name: formats go by the ending.
    folder: TempDir,
}

/// The folder a file lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The file of voxels that a `.mhd` header goes with.
fn companion(path: &Path) -> Option<PathBuf> {
    let split = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mhd"));
    split.then(|| path.with_extension("zraw"))
}

/// Whether two paths name the same existing or future file.
fn same_file(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| {
        let folder = fs::canonicalize(parent(path)).ok()?;
        fs::canonicalize(path).ok().or_else(|| Some(folder.join(path.file_name()?)))
    };
    a == b || whole(a).is_some_and(|a| Some(a) == whole(b))
}

fn check_ending(path: &Path, kind: Kind) -> Result<()> {
    let (endings, hint): (&[&str], _) = match kind {
        Kind::Image => (&[".nii", ".nii.gz", ".mha", ".mhd"], "name it .nii, .nii.gz, .mha or .mhd"),
        Kind::Picture => (&[".png"], "name it .png"),
        Kind::Text => return Ok(()),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if endings.iter().any(|ending| name.ends_with(ending)) {
        return Ok(());
    }
    Err(Failure::new(Code::Unsupported, format!("{}: cannot write this format", path.display()), Some(hint)))
}

impl Outputs {
    /// No file yet. With `overwrite`, files that are there are replaced.
    pub(crate) fn new(overwrite: bool) -> Self {
        Self { files: Vec::new(), overwrite }
    }

    /// Plans a file and checks that it can be written. `inputs` are files it must not replace.
    pub(crate) fn plan(&mut self, target: &Path, kind: Kind, inputs: &[&Path]) -> Result<()> {
        let name = target.display();
        if target.file_name().is_none() {
            return Err(Failure::usage(format!("{name}: not the name of a file"), "give the name of a file to write"));
        }
        check_ending(target, kind)?;
        if target.is_dir() {
            return Err(Failure::io(format!("{name} is a folder"), Some("give the name of a file to write")));
        }
        if let Some(input) = inputs.iter().find(|input| same_file(input, target)) {
            let message = format!("{name} is an input file ({}) and would be replaced", input.display());
            return Err(Failure::usage(message, "write to another file"));
        }
        for other in &self.files {
            let clash = same_file(&other.target, target)
                || companion(&other.target).is_some_and(|voxels| same_file(&voxels, target))
                || companion(target).is_some_and(|voxels| {
                    same_file(&voxels, &other.target)
                        || companion(&other.target).is_some_and(|other| same_file(&voxels, &other))
                });
            if clash {
                let message = format!("{name}: two outputs would be written to the same file");
                return Err(Failure::usage(message, "give every output a name of its own"));
            }
        }
        self.check_free(target)?;
        let folder = tempfile::Builder::new()
            .prefix(".adaptmedseg-")
            .tempdir_in(parent(target))
            .map_err(|error| Failure::file(parent(target), &error))?;
        interrupt::remember(folder.path());
        self.files.push(Output { target: target.to_owned(), folder });
        Ok(())
    }

    fn check_free(&self, target: &Path) -> Result<()> {
        let taken = std::iter::once(target.to_owned()).chain(companion(target)).find(|path| path.exists());
        match taken {
            Some(path) if !self.overwrite => {
                Err(Failure::io(format!("{} already exists", path.display()), Some("use --overwrite to replace it")))
            }
            _ => Ok(()),
        }
    }

    /// Where to write a planned file for now.
    pub(crate) fn draft(&self, target: &Path) -> PathBuf {
        let output = self.files.iter().find(|output| output.target == target).expect("a planned file");
        output.folder.path().join(target.file_name().expect("checked when planned"))
    }

    /// Writes a planned text.
    pub(crate) fn write_text(&self, target: &Path, text: &str) -> Result<()> {
        fs::write(self.draft(target), text).map_err(|error| Failure::file(target, &error))
    }

    /// Gives every file its name. If one cannot be renamed, those before it are taken back.
    pub(crate) fn commit(self) -> Result<()> {
        let mut moves = Vec::new();
        for output in &self.files {
            self.check_free(&output.target)?;
            let entries = fs::read_dir(output.folder.path()).map_err(|error| Failure::file(&output.target, &error))?;
            let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
            // The header last: a header that is there always has its voxels.
            names.sort_by_key(|name| Some(name.as_os_str()) == output.target.file_name());
            moves.extend(names.into_iter().map(|name| Move::plan(output, &name)));
        }
        for (index, step) in moves.iter().enumerate() {
            if let Err(error) = step.run() {
                moves[..index].iter().rev().for_each(Move::undo);
                return Err(Failure::file(&step.to, &error));
            }
        }
        Ok(())
    }
}

/// One rename, and the way back.
struct Move {
    from: PathBuf,
    to: PathBuf,
    /// A second name for the file that is replaced.
    backup: PathBuf,
}

impl Move {
    fn plan(output: &Output, name: &std::ffi::OsStr) -> Self {
        let mut backup = name.to_owned();
        backup.push(".before");
        let folder = output.folder.path();
        Self { from: folder.join(name), to: parent(&output.target).join(name), backup: folder.join(backup) }
    }

    fn run(&self) -> std::io::Result<()> {
        if self.to.exists() {
            // Not every file system has links; without one the old file cannot be brought back, which is all that is
            // lost.
            let _ = fs::hard_link(&self.to, &self.backup);
        }
        fs::rename(&self.from, &self.to)
    }

    fn undo(&self) {
        if fs::rename(&self.backup, &self.to).is_err() {
            let _ = fs::remove_file(&self.to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_there_until_everything_is() {
        let folder = folder();
        let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
        let mut outputs = Outputs::new(false);
        outputs.plan(&a, Kind::Text, &[]).expect("free");
        outputs.plan(&b, Kind::Text, &[]).expect("free");
        outputs.write_text(&a, "a").expect("written");
        assert!(!a.exists());
        outputs.write_text(&b, "b").expect("written");
        outputs.commit().expect("renamed");
        assert_eq!(names(&folder), ["a.json", "b.json"]);
    }

    #[test]
    fn a_dropped_plan_leaves_nothing() {
        let folder = folder();
        let target = folder.path().join("mask.nii.gz");
        let mut outputs = Outputs::new(false);
        outputs.plan(&target, Kind::Image, &[]).expect("free");
        fs::write(outputs.draft(&target), "half").expect("written");
        drop(outputs);
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn a_failed_rename_brings_the_old_files_back() {
        let folder = folder();
        let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
        fs::write(&a, "old").expect("written");
        let mut outputs = Outputs::new(true);
        outputs.plan(&a, Kind::Text, &[]).expect("may be replaced");
        outputs.plan(&b, Kind::Text, &[]).expect("free");
        outputs.write_text(&a, "new").expect("written");
        outputs.write_text(&b, "new").expect("written");
        // A folder that is not empty cannot be replaced by a file.
        fs::create_dir_all(b.join("inside")).expect("a folder in the way");
        assert_eq!(outputs.commit().expect_err("in the way").code, Code::Io);
        assert_eq!(fs::read_to_string(&a).expect("still there"), "old");
    }

    #[test]
    fn places_that_cannot_be_written_are_refused_at_once() {
        let folder = folder();
        let taken = folder.path().join("taken.nii");
        fs::write(&taken, "").expect("written");
        let code = |outputs: &mut Outputs, path: &Path, inputs: &[&Path]| {
            outputs.plan(path, Kind::Image, inputs).expect_err("must be refused").code
        };
        let mut outputs = Outputs::new(false);
        assert_eq!(code(&mut outputs, &taken, &[]), Code::Io);
        assert_eq!(code(&mut outputs, &folder.path().join("no/such/mask.nii"), &[]), Code::Io);
        assert_eq!(code(&mut outputs, &folder.path().join("mask.png"), &[]), Code::Unsupported);
        let mut outputs = Outputs::new(true);
        assert_eq!(code(&mut outputs, &taken, &[&folder.path().join("./taken.nii")]), Code::Usage);
        let mask = folder.path().join("mask.mhd");
        outputs.plan(&mask, Kind::Image, &[]).expect("free");
        assert_eq!(code(&mut outputs, &mask, &[]), Code::Usage);
        let voxels = folder.path().join("mask.zraw");
        assert_eq!(outputs.plan(&voxels, Kind::Text, &[]).expect_err("same file").code, Code::Usage);
    }

    #[test]
    fn both_files_of_a_split_image_are_moved() {
        let folder = folder();
        let target = folder.path().join("mask.mhd");
        let mut outputs = Outputs::new(false);
        outputs.plan(&target, Kind::Image, &[]).expect("free");
        fs::write(outputs.draft(&target), "header").expect("written");
        fs::write(outputs.draft(&target).with_extension("zraw"), "voxels").expect("written");
        outputs.commit().expect("renamed");
        assert_eq!(names(&folder), ["mask.mhd", "mask.zraw"]);
    }
}
