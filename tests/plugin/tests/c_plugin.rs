//! The example plugin in C, built here: the contract is a C contract. And where plugins are found.

use adaptmedseg_conformance::{self as suite, Target};
use adaptmedseg_engine::ErrorKind;
use adaptmedseg_engine::plugin::host::Plugin;
use adaptmedseg_parity::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The example as a library; none without a C compiler.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
        std::fs::create_dir_all(&folder).expect("a folder");
        let out = folder.join(format!("libadaptmedseg_example{}", std::env::consts::DLL_SUFFIX));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler)
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-shared", "-fPIC", "-I"])
            .args([root.join("include"), root.join("tests/plugin/c/example.c"), "-o".into(), out.clone()])
            .output();
        let built = built.ok()?;
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(out)
    };
    let library = LIBRARY.get_or_init(build).as_deref();
    if library.is_none() {
        skipped("there is no C compiler: the example plugin is not built");
    }
    library
}

fn target() -> Option<Target> {
    Some(Target { plugin: Plugin::load(library()?).expect("a plugin"), device: "example:cpu".into() })
}

suite::suite!(target(); about, refusals, embeddings, concurrent_calls, what_is_missing_is_said, cancelling);

#[test]
fn a_plugin_is_found_by_its_file_and_by_its_folder() {
    let Some(library) = library() else { return };
    let folder = library.parent().expect("it lies somewhere");
    for given in [library, folder] {
        let plugin = Plugin::find("example", Some(given)).expect("a plugin");
        assert_eq!((plugin.name(), plugin.version()), ("example", "1.0"));
        assert_eq!(plugin.details()["language"], "C");
        assert!(plugin.path().is_some_and(|path| path.ends_with(library.file_name().expect("a file"))));
    }
}

#[test]
fn what_is_no_plugin_is_named() {
    let error = Plugin::find("nowhere", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("libadaptmedseg_nowhere"), "{error}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let error = Plugin::find("nowhere", Some(folder)).unwrap_err();
    assert!(error.to_string().contains(&*folder.to_string_lossy()), "{error}");

    let text = folder.join("text.so");
    std::fs::write(&text, "no library").expect("it can be written");
    let error = Plugin::load(&text).unwrap_err();
    assert!(error.to_string().contains("text.so") && error.hint().is_some(), "{error}");
}
