//! Whether a plugin would collide with what the process has already loaded.
//!
//! A plugin may bring libraries along, found by the run path in its own file. Where the process has loaded a library of
//! the same name from another file, such as Python's PyTorch, the system's loader would take that one for both, and crash
//! or compute nonsense. This looks before it loads. A name with a version, as `libgomp.so.1`, promises that any file of it
//! will do; only those without count. Linux only: other systems have no run path in this sense, and a plugin
//! there is left to check what it was given.

use std::path::{Path, PathBuf};

/// A library of `plugin` that is loaded already from elsewhere: the file it brings, and the file that is loaded.
#[cfg(target_os = "linux")]
pub(super) fn collision(plugin: &Path) -> Option<(PathBuf, PathBuf)> {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let loaded = loaded_files();
    for own in brought_along(plugin) {
        let same_name = |path: &&PathBuf| path.file_name() == own.file_name();
        if let Some(other) = loaded.iter().filter(same_name).find(|path| identity(path) != identity(&own)) {
            return Some((own, other.clone()));
        }
    }
    None
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub(super) fn collision(_plugin: &Path) -> Option<(PathBuf, PathBuf)> {
    None
}

/// The files that are mapped into this process.
#[cfg(target_os = "linux")]
fn loaded_files() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> =
        maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..]))).collect();
    files.sort();
    files.dedup();
    files
}

/// The libraries that a plugin needs and that its run path leads to.
#[cfg(target_os = "linux")]
fn brought_along(plugin: &Path) -> Vec<PathBuf> {
    let Some(needs) = std::fs::read(plugin).ok().and_then(|bytes| elf::needs(&bytes)) else { return Vec::new() };
    let origin = plugin.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let folder = |entry: &str| PathBuf::from(entry.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    let folders: Vec<PathBuf> = needs.run_path.split(':').filter(|entry| !entry.is_empty()).map(folder).collect();
    let unversioned = |name: &&String| name.ends_with(".so");
    let find = |name: &String| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    needs.libraries.iter().filter(unversioned).filter_map(find).collect()
}

/// The little of a 64-bit little-endian ELF file that says which libraries it needs. Anything else has no answer.
#[cfg(target_os = "linux")]
mod elf {
    /// Names of libraries, and where they are looked for.
    pub(super) struct Needs {
        pub libraries: Vec<String>,
        pub run_path: String,
    }

    const PROGRAM_LOAD: u32 = 1;
    const PROGRAM_DYNAMIC: u32 = 2;
    const NEEDED: u64 = 1;
    const STRING_TABLE: u64 = 5;
    const RPATH: u64 = 15;
    const RUNPATH: u64 = 29;

    pub(super) fn needs(file: &[u8]) -> Option<Needs> {
        if file.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (headers, size, count) = (number::<8>(file, 32)?, number::<2>(file, 54)?, number::<2>(file, 56)?);
        let mut segments = Vec::new();
        for index in 0..count {
            let at = usize::try_from(headers.checked_add(index * size)?).ok()?;
            // Type, offset in the file, address in memory, bytes in the file.
            let field = |offset| number::<8>(file, at + offset);
            segments.push((number::<4>(file, at)? as u32, field(8)?, field(16)?, field(32)?));
        }
        let &(_, start, _, bytes) = segments.iter().find(|segment| segment.0 == PROGRAM_DYNAMIC)?;
        let start = usize::try_from(start).ok()?;
        let entries: Vec<(u64, u64)> = (0..usize::try_from(bytes).ok()?.min(1 << 20) / 16)
            .map_while(|index| {
                Some((number::<8>(file, start + 16 * index)?, number::<8>(file, start + 16 * index + 8)?))
            })
            .take_while(|entry| entry.0 != 0)
            .collect();
        let address = entries.iter().find(|entry| entry.0 == STRING_TABLE)?.1;
        let holds = |&&(kind, _, at, bytes): &&(u32, u64, u64, u64)| {
            kind == PROGRAM_LOAD && address >= at && address - at < bytes
        };
        let &(_, offset, at, _) = segments.iter().find(holds)?;
        let table = usize::try_from(offset.checked_add(address - at)?).ok()?;
        let text = |offset: u64| {
            let rest = file.get(table.checked_add(usize::try_from(offset).ok()?)?..)?;
            let end = rest.iter().position(|&byte| byte == 0)?;
            String::from_utf8(rest[..end].to_vec()).ok()
        };
        let all = |tag| entries.iter().filter(move |entry| entry.0 == tag).filter_map(|entry| text(entry.1));
        let run_path = all(RUNPATH).chain(all(RPATH)).collect::<Vec<_>>().join(":");
        Some(Needs { libraries: all(NEEDED).collect(), run_path })
    }

    fn number<const BYTES: usize>(file: &[u8], at: usize) -> Option<u64> {
        let bytes = file.get(at..at.checked_add(BYTES)?)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn this_program_needs_the_c_library_and_a_damaged_one_does_nothing_bad() {
            let file = std::fs::read(std::env::current_exe().expect("there is one")).expect("it can be read");
            if cfg!(all(target_pointer_width = "64", target_endian = "little")) {
                let needs = super::needs(&file).expect("it is an ELF file");
                assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")), "{:?}", needs.libraries);
            }
            for length in (0..4096.min(file.len())).step_by(7) {
                super::needs(&file[..length]);
                let mut damaged = file[..4096.min(file.len())].to_vec();
                damaged[length] ^= 0xff;
                super::needs(&damaged);
            }
        }
    }
}
