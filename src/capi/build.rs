//! Gives the shared library its versioned name.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The name a program records when it is linked. 0 is the number to raise when a symbol is removed or changed.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libadaptmedseg.so.0");
    }
}
