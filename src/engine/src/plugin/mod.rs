//! Engines in shared libraries of their own, found at run time.
//!
//! [`abi`] is the contract, the table of functions that C knows as `adaptmedseg_plugin.h`. [`host`] finds and loads a
//! library and makes an [`Engine`](crate::Engine) of its table; [`serve`] makes a table of any engine, so that a plugin in
//! Rust need not know that there is one.
//!
//! Nothing that one side allocates is freed by the other, no panic crosses, and a loaded library stays loaded.

#[allow(non_camel_case_types, improper_ctypes, clippy::type_complexity, reason = "it is C")]
pub mod abi;
mod call;
mod find;
pub mod host;
mod mapped;
mod remote;
mod remote_trainer;
pub mod serve;
mod wire;
