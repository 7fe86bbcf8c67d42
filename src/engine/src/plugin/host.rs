//! Plugins that are loaded: found, opened, asked for their table, checked.

use super::abi::*;
use super::call::{self, broken};
use super::remote::PluginEngine;
use super::{find, mapped, wire};
use crate::error::{Error, ErrorKind, Result};
use crate::{DeviceInfo, Engine, EngineOptions, ModelSource};
use libloading::Library;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A plugin whose table has been checked. It stays for as long as the process.
#[derive(Clone, Copy)]
pub struct Plugin(&'static Loaded);

struct Loaded {
    table: ams_plugin,
    about: About,
    path: Option<PathBuf>,
}

// SAFETY: the table is only read, and the contract lets any thread call its functions.
unsafe impl Send for Loaded {}
// SAFETY: as for `Send`.
unsafe impl Sync for Loaded {}

/// What a plugin says of itself.
#[derive(Deserialize)]
struct About {
    name: String,
    version: String,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.0.about.name).field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Plugin {
    /// The plugin of this name, from `given` (a file, or the folder it lies in) or from where plugins are looked for.
    ///
    /// # Errors
    /// There is none: the error lists every path tried. Else as [`load`](Self::load).
    pub fn find(name: &str, given: Option<&Path>) -> Result<Self> {
        let tried = find::candidates(name, given);
        match tried.iter().find(|path| path.is_file()) {
            Some(path) => Self::load(path),
            None => Err(Error::NoPlugin { name: name.to_owned(), tried }),
        }
    }

    /// Every plugin that is found in `given` (a file or a folder), or where plugins are looked for, and loads. Others are
    /// named in the log.
    pub fn all(given: Option<&Path>) -> Vec<Self> {
        let load = |path: PathBuf| Self::load(&path).inspect_err(|error| log::warn!("{error}")).ok();
        find::all(given).into_iter().filter_map(load).collect()
    }

    /// Loads a library, once in a process: it is never unloaded, since threads of its own may still run its code.
    ///
    /// # Errors
    /// A file that is no library or lacks the symbol; one that brings a library along which the process has loaded from
    /// another file; a plugin that refuses, or does not keep the contract.
    pub fn load(path: &Path) -> Result<Self> {
        static LOADED: Mutex<BTreeMap<PathBuf, Plugin>> = Mutex::new(BTreeMap::new());
        let path = path.canonicalize().map_err(|error| Error::plugin_file(path, error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = loaded.get(&path) {
            return Ok(*plugin);
        }
        if let Some((own, other)) = mapped::collision(&path) {
            return Err(Error::PluginCollision { plugin: path, own, other });
        }
        let library = open(&path).map_err(|error| Error::plugin_file(&path, error.to_string()))?;
        // SAFETY: the symbol has this type in every plugin, by contract.
        let init = unsafe { library.get::<ams_plugin_init_function>(b"ams_plugin_init\0") }
            .map(|symbol| *symbol)
            .map_err(|error| Error::plugin_file(&path, error.to_string()));
        // Threads and exit handlers of its libraries may outlive any use of it.
        std::mem::forget(library);
        let plugin = Self::negotiate(init?, Some(path.clone()))?;
        loaded.insert(path, plugin);
        Ok(plugin)
    }

    /// A plugin that is part of this program, by its init function.
    ///
    /// # Errors
    /// A plugin that refuses, or does not keep the contract.
    pub fn linked(init: ams_plugin_init_function) -> Result<Self> {
        Self::negotiate(init, None)
    }

    fn negotiate(init: ams_plugin_init_function, path: Option<PathBuf>) -> Result<Self> {
        let mut table = empty_table();
        let (status, reply) = call::raw(|call| {
            // SAFETY: a zeroed table of the version asked for, and a call that lives until this returns.
            unsafe { init(AMS_PLUGIN_VERSION, &raw mut table, call) }
        });
        // One version so far; an older one would be asked for here.
        if status == AMS_PLUGIN_NOT_IMPLEMENTED {
            let place = path.map_or_else(|| "the plugin".to_owned(), |path| path.display().to_string());
            return Err(Error::Plugin {
                kind: ErrorKind::Unsupported,
                message: format!("{place} does not know version {AMS_PLUGIN_VERSION} of the plugin table"),
                hint: Some("use a plugin and a library of the same release".into()),
            });
        }
        call::checked(status, reply)?;
        complete(&mut table).map_err(|what| broken(&what))?;
        // SAFETY: the slot is there, and the table lives until the call is over.
        let about = call::with(|call| unsafe { slot(table.describe)(&raw const table, call) })?.json()?;
        // For good, as the library is.
        Ok(Self(Box::leak(Box::new(Loaded { table, about, path }))))
    }

    /// What its devices' names begin with.
    pub fn name(&self) -> &'static str {
        &self.0.about.name
    }

    /// Its version.
    pub fn version(&self) -> &'static str {
        &self.0.about.version
    }

    /// What else it says of itself, such as the libraries it was built with.
    pub fn details(&self) -> &'static serde_json::Map<String, serde_json::Value> {
        &self.0.about.more
    }

    /// The file it was loaded from.
    pub fn path(&self) -> Option<&'static Path> {
        self.0.path.as_deref()
    }

    pub(super) fn table(&self) -> &'static ams_plugin {
        &self.0.table
    }

    /// Its devices, best first.
    ///
    /// # Errors
    /// What the plugin fails with.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>> {
        // SAFETY: the slot is there, and the table lives for good.
        call::with(|call| unsafe { slot(self.table().devices)(self.table(), call) })?.json()
    }

    /// Opens a model on one of its devices.
    ///
    /// # Errors
    /// What the plugin fails with: an unknown device, a model it cannot run, too little memory.
    pub fn open(&self, model: &ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
        let options = wire::OpenOptions {
            device: options.device.clone(),
            threads: options.threads,
            precision: options.precision,
        };
        let options = serde_json::to_string(&options).expect("plain data");
        Ok(Box::new(PluginEngine::open(*self, model, &options)?))
    }

    /// [`open`](Self::open) with the options as they cross.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(&self, model: &ModelSource, options: &str) -> Result<Box<dyn Engine>> {
        Ok(Box::new(PluginEngine::open(*self, model, options)?))
    }
}

/// Opens a library for itself alone: what it exports serves nobody else, all it needs must be there, and it stays.
#[cfg(unix)]
fn open(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library as Unix, RTLD_LOCAL, RTLD_NOW};
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    const STAY: i32 = libc::RTLD_NODELETE;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
    const STAY: i32 = 0;
    // SAFETY: the file is a plugin, whose initialisers do no harm; that much trust whoever installs it has.
    unsafe { Unix::open(Some(path), RTLD_NOW | RTLD_LOCAL | STAY) }.map(Library::from)
}

/// The same where those flags do not exist; untested.
#[cfg(not(unix))]
fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: as above.
    unsafe { Library::new(path) }
}

/// A function of a table that [`complete`] has checked.
pub(super) fn slot<F>(slot: Option<F>) -> F {
    slot.expect("checked when the plugin was loaded")
}

fn empty_table() -> ams_plugin {
    // SAFETY: NULL is a value of every field.
    unsafe { std::mem::zeroed() }
}

/// Checks the required slots and fills the optional ones that are empty.
///
/// # Errors
/// The name of a slot that is missing.
fn complete(table: &mut ams_plugin) -> Result<(), String> {
    macro_rules! require {
        ($($slot:ident),*) => {
            $(if table.$slot.is_none() {
                return Err(format!("it does not fill `{}`", stringify!($slot)));
            })*
        };
    }
    // All of a group, or none.
    macro_rules! group {
        ($($slot:ident => $stub:expr),* $(,)?) => {
            if [$(table.$slot.is_some()),*].contains(&true) {
                require!($($slot),*);
            } else {
                $(table.$slot = Some($stub);)*
            }
        };
    }
    require!(describe, devices, model_open, model_free, model_info, encode_image, embedding_free, decode);
    group!(model_memory => stubs::model_memory);
    group!(model_release_memory => stubs::model_release_memory);
    group!(product_seconds => stubs::product_seconds);
    group!(
        encode_text => stubs::encode_text,
        text_free => stubs::text_free,
        check_text => stubs::check_text,
    );
    group!(adapter_attach => stubs::adapter_attach, adapter_free => stubs::adapter_free);
    group!(
        trainer_new => stubs::trainer_new,
        trainer_free => stubs::trainer_free,
        trainer_step => stubs::trainer_step,
        trainer_evaluate => stubs::trainer_evaluate,
        trainer_encoder_learns => stubs::trainer_encoder_learns,
        trainer_weights => stubs::trainer_answer,
        trainer_adapter => stubs::trainer_answer,
        trainer_state => stubs::trainer_state,
        trainer_restore => stubs::trainer_restore,
    );
    Ok(())
}

/// What stands in for the optional slots a plugin leaves empty.
mod stubs {
    use super::*;
    use std::ffi::c_char;

    /// Says that the plugin cannot do that.
    ///
    /// # Safety
    /// `call` is one of the host's.
    unsafe fn cannot(call: *const ams_plugin_call, message: &std::ffi::CStr) -> ams_plugin_status {
        // SAFETY: by contract.
        unsafe { ((*call).fail)(call, message.as_ptr(), c"open the model on another device".as_ptr()) };
        AMS_PLUGIN_UNSUPPORTED
    }

    macro_rules! stub {
        ($name:ident($($argument:ty),* $(,)?), $message:literal) => {
            pub(super) unsafe extern "C" fn $name($(_: $argument,)* call: *const ams_plugin_call) -> ams_plugin_status {
                // SAFETY: only the host calls it, with a call of its own.
                unsafe { cannot(call, $message) }
            }
        };
    }
    macro_rules! nothing {
        ($name:ident($argument:ty)) => {
            pub(super) unsafe extern "C" fn $name(_: $argument) {}
        };
    }

    type Tensors = *const ams_plugin_tensor;

    pub(super) unsafe extern "C" fn model_memory(
        _: *const ams_plugin_model,
        _: *const ams_plugin_call,
    ) -> ams_plugin_status {
        AMS_PLUGIN_OK
    }
    pub(super) unsafe extern "C" fn model_release_memory(
        _: *const ams_plugin_model,
        _: *const ams_plugin_call,
    ) -> ams_plugin_status {
        AMS_PLUGIN_OK
    }
    stub!(
        encode_text(*const ams_plugin_model, *const c_char, *mut *mut ams_plugin_text),
        c"this engine takes no text prompt"
    );
    stub!(
        product_seconds(*const ams_plugin_model, *const usize, usize, *mut f64),
        c"this engine does not measure its device"
    );
    stub!(check_text(*const ams_plugin_model, *const c_char), c"this engine takes no text prompt");
    nothing!(text_free(*mut ams_plugin_text));
    stub!(
        adapter_attach(*const ams_plugin_model, *const c_char, Tensors, usize, bool, *mut *mut ams_plugin_adapter),
        c"this engine takes no adapter"
    );
    nothing!(adapter_free(*mut ams_plugin_adapter));
    stub!(
        trainer_new(
            *const ams_plugin_model,
            *const c_char,
            *const c_char,
            Tensors,
            usize,
            *mut *mut ams_plugin_trainer,
        ),
        c"this engine cannot learn"
    );
    nothing!(trainer_free(*mut ams_plugin_trainer));
    // Nobody has a trainer to call these with.
    stub!(
        trainer_step(*mut ams_plugin_trainer, *const ams_plugin_sample, usize, f64, *mut ams_plugin_step),
        c"this engine cannot learn"
    );
    stub!(trainer_evaluate(*const ams_plugin_trainer, *const ams_plugin_sample, *mut f64), c"this engine cannot learn");
    stub!(trainer_answer(*const ams_plugin_trainer), c"this engine cannot learn");
    stub!(trainer_state(*const ams_plugin_trainer, *mut u64), c"this engine cannot learn");
    stub!(trainer_restore(*mut ams_plugin_trainer, u64, Tensors, usize), c"this engine cannot learn");
    pub(super) unsafe extern "C" fn trainer_encoder_learns(_: *const ams_plugin_trainer) -> bool {
        false
    }
}
