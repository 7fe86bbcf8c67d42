//! Asking a model for one structure of a scene.

use super::prompt::{Drawn, draw};
use super::row::{NONE, Row};
use super::run::{Asked, Scene, load, scene};
use super::{EvaluatedAdapter, EvaluationData, EvaluationOptions};
use crate::error::Result;
use crate::shift::{Shift, ShiftKind};
use adaptmedseg_segment::{CancelToken, Hooks, Modality, Model, Session};
use adaptmedseg_volume::{Geometry, Volume};
use std::sync::Arc;

/// What is asked, and what the draws of prompts come from.
pub(super) struct Asker<'a> {
    pub(super) model: &'a Model,
    pub(super) seed: u64,
    pub(super) cancel: Option<&'a CancelToken>,
}

impl Asker<'_> {
    pub(super) fn session(&self, scene: &Scene, adapter: Option<&EvaluatedAdapter>) -> Result<Session> {
        let mut session = Session::new(self.model, scene.image.clone())?;
        session.set_modality(scene.loaded.case.modality.parse().unwrap_or(Modality::Unknown));
        session.set_adapter(adapter.map(|adapter| &adapter.adapter))?;
        Ok(session)
    }

    pub(super) fn drawn(&self, scene: &Scene, asked: &Asked, geometry: &Geometry) -> Option<Drawn> {
        if !asked.kind.has_place() {
            return Some(Drawn::default());
        }
        let names = [scene.loaded.dataset, &scene.loaded.case.id, asked.truth.name];
        draw(asked.kind, asked.mask, geometry, asked.jitter, self.seed, &names)
    }

    pub(super) fn segment(&self, session: &mut Session, asked: &Asked, drawn: Drawn) -> Result<Vec<u8>> {
        // An adapter that does not know the task is asked without one.
        if session.set_task(Some(asked.truth.name)).is_err() {
            session.set_task(None)?;
        }
        session.set_text(asked.kind.has_text().then_some(asked.truth.name))?;
        for point in drawn.points {
            session.add_point(point)?;
        }
        session.set_box(drawn.bounding_box)?;
        let hooks = Hooks { progress: None, cancel: self.cancel };
        Ok(session.segment(&hooks)?.mask().data)
    }
}

/// A row made again: the image it was measured on, the truth and what was found, one byte for each voxel.
pub(super) struct Again {
    pub(super) image: Arc<Volume<f32>>,
    pub(super) truth: Vec<u8>,
    pub(super) found: Vec<u8>,
}

/// Makes a row's mask again, to look at it. `None` where data, adapter or prompt are not to be had.
pub(super) fn again(
    asker: &Asker,
    adapters: &[EvaluatedAdapter],
    data: &[EvaluationData],
    options: &EvaluationOptions,
    row: &Row,
) -> Result<Option<Again>> {
    let Some(data) = data.iter().find(|data| data.dataset.name == row.dataset) else { return Ok(None) };
    let Some(case) = data.dataset.cases.iter().find(|case| case.id == row.case) else { return Ok(None) };
    let adapter = adapters.iter().find(|adapter| adapter.name == row.adapter);
    let (Ok(kind), true) = (row.prompt.parse(), adapter.is_some() || row.adapter == NONE) else { return Ok(None) };
    let shift = options.shifts.iter().copied().find(|shift: &Shift| shift.to_string() == row.shift);
    let remapped = shift.is_some_and(|shift| shift.kind() == ShiftKind::TissueRemap);
    let structures = [row.structure.clone()];
    let loaded = load(data, case, &structures, remapped)?;
    let scene = scene(&loaded, shift, options.seed)?;
    let Some(truth) = scene.structures.first() else { return Ok(None) };
    let mask = truth.mask.mask();
    let asked = Asked { truth, mask: &mask, kind, jitter: row.jitter_mm };
    let Some(drawn) = asker.drawn(&scene, &asked, &scene.image.geometry) else { return Ok(None) };
    let found = asker.segment(&mut asker.session(&scene, adapter)?, &asked, drawn)?;
    Ok(Some(Again { image: scene.image.clone(), truth: mask, found }))
}
