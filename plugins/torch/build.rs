//! Builds the C++ part against the libtorch that `tch` links: the PyTorch of the active Python where
//! `LIBTORCH_USE_PYTORCH` is set, else the folder `LIBTORCH` (or `LIBTORCH_INCLUDE` and `LIBTORCH_LIB`).

use std::env;
use std::path::PathBuf;
use std::process::Command;

const ASK_PYTHON: &str = "
import torch
from torch.utils.cpp_extension import include_paths, library_paths
for path in include_paths(): print('include', path)
print('lib', library_paths()[0])
print('abi', int(torch._C._GLIBCXX_USE_CXX11_ABI))
";

struct Libtorch {
    include: Vec<PathBuf>,
    lib: PathBuf,
    cxx11_abi: String,
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok()
}

impl Libtorch {
    fn find() -> Self {
        if variable("LIBTORCH_USE_PYTORCH").is_some() {
            return Self::of_python();
        }
        let folder = variable("LIBTORCH").map(PathBuf::from);
        let part = |name: &str| variable(name).map(PathBuf::from).or_else(|| folder.clone());
        let (Some(include), Some(lib)) = (part("LIBTORCH_INCLUDE"), part("LIBTORCH_LIB")) else {
            panic!(
                "no libtorch: set LIBTORCH to its folder, or LIBTORCH_USE_PYTORCH=1 with PyTorch 2.9.0 in the active Python"
            );
        };
        let include = include.join("include");
        Self {
            include: vec![include.join("torch/csrc/api/include"), include],
            lib: lib.join("lib"),
            cxx11_abi: variable("LIBTORCH_CXX11_ABI").unwrap_or_else(|| "1".into()),
        }
    }

    fn of_python() -> Self {
        let python = if cfg!(windows) {
            "python.exe"
        } else if variable("VIRTUAL_ENV").is_some() {
            "python"
        } else {
            "python3"
        };
        let output = Command::new(python).arg("-c").arg(ASK_PYTHON).output();
        let output = output.unwrap_or_else(|error| panic!("{python}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let all = |key: &str| -> Vec<String> {
            let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            values.map(str::to_owned).collect()
        };
        let one = |key: &str| {
            let first = all(key).into_iter().next();
            first.unwrap_or_else(|| panic!("{python} has no PyTorch: {}", String::from_utf8_lossy(&output.stderr)))
        };
        Self {
            lib: one("lib").into(),
            cxx11_abi: one("abi"),
            include: all("include").into_iter().map(PathBuf::from).collect(),
        }
    }
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/native.h");
    let sources = ["src/native.cpp", "src/allocator.cpp"];
    sources.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    let libtorch = Libtorch::find();
    let mut build = cxx_build::bridge("src/native.rs");
    build.files(sources).includes(&libtorch.include).std("c++17").warnings(false);
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("msvc") {
        build.flag("/openmp");
    } else {
        build.define("_GLIBCXX_USE_CXX11_ABI", libtorch.cxx11_abi.as_str());
        if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("macos") {
            build.flag("-fopenmp");
        }
    }
    build.compile("adaptmedseg_torch_native");

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Where libtorch was, and beside the plugin, for whoever ships both.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,{}", libtorch.lib.display());
        println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,$ORIGIN");
        // What C and C++ libraries within would export, stays within.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        if libtorch.lib.join("libtorch_cuda.so").exists() {
            // Nothing calls it by name: it registers itself when it is loaded.
            println!("cargo:rustc-cdylib-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
        }
    }
}
