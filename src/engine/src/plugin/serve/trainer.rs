//! The functions of the table that need a trainer, over any engine.

use super::super::abi::*;
use super::super::wire::{self, Arrays};
use super::model::{context_of, prompts_of};
use super::{Provider, answer, answer_arrays, get, guarded, misused};
use crate::ImageEmbedding;
use crate::error::{Error, ErrorKind, Result};
use crate::training::{Trainer, TrainerState, TrainingSample};
use std::sync::{Mutex, PoisonError};

/// What the table calls a trainer. The lock is for hosts that forget that one thread at a time uses it.
pub(super) struct Served {
    trainer: Mutex<State>,
    provider: &'static dyn Provider,
}

struct State {
    trainer: Box<dyn Trainer>,
    /// A step was broken off halfway, such as for want of memory: only a state from before leads on.
    halfway: bool,
}

impl Served {
    pub(super) fn new(trainer: Box<dyn Trainer>, provider: &'static dyn Provider) -> Self {
        Self { trainer: Mutex::new(State { trainer, halfway: false }), provider }
    }
}

/// Runs a body with the trainer of a handle.
///
/// # Safety
/// A trainer of this table; a call of the host's.
unsafe fn with(
    trainer: *const ams_plugin_trainer,
    call: *const ams_plugin_call,
    body: impl FnOnce(&mut State) -> Result<()>,
) -> ams_plugin_status {
    // SAFETY: by contract.
    unsafe {
        let Some(served) = trainer.cast::<Served>().as_ref() else { return AMS_PLUGIN_INVALID_ARGUMENT };
        let mut state = served.trainer.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(call, served.provider, || body(&mut state))
    }
}

impl State {
    fn whole(&mut self) -> Result<&mut dyn Trainer> {
        if self.halfway {
            return Err(Error::Plugin {
                kind: ErrorKind::Unsupported,
                message: "an earlier step of this training was broken off halfway".into(),
                hint: Some("go back to a state from before, or begin again".into()),
            });
        }
        Ok(self.trainer.as_mut())
    }
}

/// A sample of the host's.
///
/// # Safety
/// A sample that is as it says.
unsafe fn sample_of(raw: &ams_plugin_sample) -> Result<TrainingSample> {
    // SAFETY: by contract.
    unsafe {
        let prompts = wire::read_list(raw.prompts, raw.prompt_count);
        Ok(TrainingSample {
            image: wire::read_floats(&raw.image).map_err(misused)?.2,
            target: wire::read_floats(&raw.target).map_err(misused)?.2,
            prompts: prompts.iter().map(|raw| prompts_of(raw)).collect::<Result<_>>()?,
            context: context_of(&raw.context)?,
            embedding: raw.embedding.cast::<ImageEmbedding>().as_ref().cloned(),
        })
    }
}

pub(super) unsafe extern "C" fn step(
    trainer: *mut ams_plugin_trainer,
    samples: *const ams_plugin_sample,
    sample_count: usize,
    learning_rate: f64,
    out: *mut ams_plugin_step,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: the host keeps to the contract of the table: what it hands over is NULL where that may be, else valid until
    // the call is over. So in every function here.
    unsafe {
        with(trainer, call, |state| {
            let samples = wire::read_list(samples, sample_count).iter().map(|raw| sample_of(raw));
            let samples = samples.collect::<Result<Vec<_>>>()?;
            state.whole()?;
            // Stays so if the step panics.
            state.halfway = true;
            let report = state.trainer.step(&samples, learning_rate);
            state.halfway = false;
            let report = report?;
            get(out, "the report")?;
            out.write(ams_plugin_step {
                loss: report.loss,
                dice: report.dice,
                bce: report.bce,
                modality: report.modality,
                gradient_norm: report.gradient_norm,
            });
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn evaluate(
    trainer: *const ams_plugin_trainer,
    sample: *const ams_plugin_sample,
    out_loss: *mut f64,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `step`.
    unsafe {
        with(trainer, call, |state| {
            let sample = sample_of(get(sample, "the sample")?)?;
            let evaluation = state.whole()?.evaluate(&sample)?;
            let mut arrays = Arrays::default();
            for logits in &evaluation.logits {
                arrays.floats("logits", &[logits.len()], logits);
            }
            answer_arrays(call, &arrays);
            get(out_loss, "the loss")?;
            out_loss.write(evaluation.loss);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn encoder_learns(trainer: *const ams_plugin_trainer) -> bool {
    // SAFETY: as in `step`.
    unsafe { trainer.cast::<Served>().as_ref() }.is_some_and(|served| {
        let state = served.trainer.lock().unwrap_or_else(PoisonError::into_inner);
        state.trainer.encoder_learns()
    })
}

pub(super) unsafe extern "C" fn weights(
    trainer: *const ams_plugin_trainer,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `step`.
    unsafe {
        with(trainer, call, |state| {
            answer_arrays(call, &Arrays::named(&state.whole()?.weights()?));
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn adapter(
    trainer: *const ams_plugin_trainer,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `step`.
    unsafe {
        with(trainer, call, |state| {
            let adapter = state.whole()?.adapter()?;
            answer_arrays(call, &Arrays::named(&adapter.tensors()));
            answer(call, adapter.config())
        })
    }
}

pub(super) unsafe extern "C" fn state(
    trainer: *const ams_plugin_trainer,
    out_steps: *mut u64,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `step`.
    unsafe {
        with(trainer, call, |state| {
            let state = state.whole()?.state()?;
            get(out_steps, "the number of steps")?;
            out_steps.write(state.steps);
            answer_arrays(call, &Arrays::named(&state.tensors));
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn restore(
    trainer: *mut ams_plugin_trainer,
    steps: u64,
    tensors: *const ams_plugin_tensor,
    tensor_count: usize,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `step`.
    unsafe {
        with(trainer, call, |state| {
            let tensors = wire::read_named(tensors, tensor_count).map_err(misused)?;
            state.trainer.restore(&TrainerState { steps, tensors })?;
            state.halfway = false;
            Ok(())
        })
    }
}
