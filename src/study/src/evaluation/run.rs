//! The run over cases, shifts, adapters, structures, prompts and jitters, in this order.
//!
//! A session looks at one shifted image with one adapter and is asked by all prompts, so that its encoded windows are
//! kept; it is taken back to its beginning after each, so that no mask depends on the prompts before.

use super::ask::Asker;
use super::journal::Journal;
use super::prompt::PromptKind;
use super::row::{Cost, NONE, Row, Status};
use super::runs::Runs;
use super::{EvaluatedAdapter, EvaluationData, EvaluationHooks, EvaluationOptions, EvaluationProgress};
use crate::complexity::{ImageComplexity, foreground_contrast};
use crate::dataset::DatasetCase;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, measure};
use crate::shift::{Shift, ShiftKind};
use adaptmedseg_segment::{ErrorKind, Model, Session, peak_memory_bytes};
use adaptmedseg_volume::Volume;
use rayon::ThreadPool;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What there is to do.
pub(super) struct Plan {
    /// Data set, case in its list, structures of it.
    cases: Vec<(usize, usize, Vec<String>)>,
    shifts: Vec<Option<Shift>>,
    /// Base first.
    adapters: Vec<Option<usize>>,
    asked: Vec<(PromptKind, f64)>,
}

impl Plan {
    /// # Errors
    /// Nothing to do; a structure that no case has.
    pub(super) fn new(
        adapters: &[EvaluatedAdapter],
        data: &[EvaluationData],
        options: &EvaluationOptions,
    ) -> Result<Self> {
        let mut cases = Vec::new();
        for (set, data) in data.iter().enumerate() {
            for (index, case) in data.dataset.cases.iter().enumerate() {
                let structures: Vec<String> =
                    case.masks.keys().filter(|structure| options.wants(structure)).cloned().collect();
                if data.cases(options.part).any(|wanted| wanted.id == case.id) && !structures.is_empty() {
                    cases.push((set, index, structures));
                }
            }
        }
        let known = |wanted: &String| cases.iter().any(|(_, _, structures)| structures.contains(wanted));
        if let Some(unknown) = options.structures.iter().find(|wanted| !known(wanted)) {
            return Err(Error::argument(format!("no case has the structure {unknown:?}"), "see dataset.json"));
        }
        if cases.is_empty() {
            let part = options.part.map_or("any", super::part_name);
            return Err(Error::argument(
                format!("there is nothing to evaluate: no case of part {part}"),
                "choose another part",
            ));
        }
        let mut asked = Vec::new();
        for &kind in &options.prompts {
            let jitters = if kind.has_place() { &options.jitter_mm[..] } else { &[0.0] };
            asked.extend(jitters.iter().map(|&jitter| (kind, jitter)));
        }
        Ok(Self {
            cases,
            shifts: std::iter::once(None).chain(options.shifts.iter().copied().map(Some)).collect(),
            adapters: std::iter::once(None).chain((0..adapters.len()).map(Some)).collect(),
            asked,
        })
    }

    fn per_adapter(&self, structures: usize) -> usize {
        structures * self.asked.len()
    }

    fn per_shift(&self, structures: usize) -> usize {
        self.adapters.len() * self.per_adapter(structures)
    }

    fn per_case(&self, structures: usize) -> usize {
        self.shifts.len() * self.per_shift(structures)
    }

    fn total(&self) -> usize {
        self.cases.iter().map(|(_, _, structures)| self.per_case(structures.len())).sum()
    }
}

/// An evaluation on its way.
pub(super) struct Run<'a> {
    pub(super) model: &'a Model,
    pub(super) adapters: &'a [EvaluatedAdapter],
    pub(super) data: &'a [EvaluationData],
    pub(super) options: &'a EvaluationOptions,
    pub(super) hooks: &'a EvaluationHooks<'a>,
    pub(super) plan: &'a Plan,
    pub(super) journal: &'a mut Journal,
}

/// A case as it is on the disk.
pub(super) struct Loaded<'a> {
    pub(super) dataset: &'a str,
    pub(super) case: &'a DatasetCase,
    image: Arc<Volume<f32>>,
    masks: BTreeMap<&'a str, Runs>,
    /// A number for the tissue of each voxel, where a shift needs it.
    regions: Option<Vec<u32>>,
}

/// A case under a shift.
pub(super) struct Scene<'a> {
    pub(super) loaded: &'a Loaded<'a>,
    shift: String,
    pub(super) image: Arc<Volume<f32>>,
    complexity: ImageComplexity,
    pub(super) structures: Vec<Truth<'a>>,
}

pub(super) struct Truth<'a> {
    pub(super) name: &'a str,
    pub(super) mask: Runs,
    empty: bool,
    contrast: Option<f64>,
}

impl Run<'_> {
    pub(super) fn go(&mut self) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.model.description().threads).build();
        let pool = pool.map_err(|error| Error::argument(error.to_string(), "ask for fewer threads"))?;
        let (total, began) = (self.plan.total(), self.journal.done());
        let (started, mut first) = (Instant::now(), 0);
        for (set, index, structures) in &self.plan.cases {
            let after = first + self.plan.per_case(structures.len());
            if self.journal.done() < after {
                let data = &self.data[*set];
                let remapped = self.options.shifts.iter().any(|shift| shift.kind() == ShiftKind::TissueRemap);
                let loaded = load(data, &data.dataset.cases[*index], structures, remapped)?;
                self.case(&loaded, first, &pool, &Clock { total, began, started })?;
            }
            first = after;
        }
        Ok(())
    }

    fn asker(&self) -> Asker<'_> {
        Asker { model: self.model, seed: self.options.seed, cancel: self.hooks.cancel }
    }

    fn check(&self) -> Result<()> {
        match self.hooks.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(adaptmedseg_segment::Error::Cancelled.into()),
            _ => Ok(()),
        }
    }

    fn case(&mut self, loaded: &Loaded, first: usize, pool: &ThreadPool, clock: &Clock) -> Result<()> {
        let count = loaded.masks.len();
        for (index, &shift) in self.plan.shifts.iter().enumerate() {
            let first = first + index * self.plan.per_shift(count);
            if self.journal.done() >= first + self.plan.per_shift(count) {
                continue;
            }
            self.check()?;
            let scene = pool.install(|| scene(loaded, shift, self.options.seed))?;
            for (index, &adapter) in self.plan.adapters.iter().enumerate() {
                let first = first + index * self.plan.per_adapter(count);
                if self.journal.done() < first + self.plan.per_adapter(count) {
                    self.adapter(&scene, adapter.map(|index| &self.adapters[index]), first, pool, clock)?;
                }
            }
        }
        Ok(())
    }

    fn adapter(
        &mut self,
        scene: &Scene,
        adapter: Option<&EvaluatedAdapter>,
        first: usize,
        pool: &ThreadPool,
        clock: &Clock,
    ) -> Result<()> {
        let mut session = refused(self.asker().session(scene, adapter))?;
        for (index, truth) in scene.structures.iter().enumerate() {
            let first = first + index * self.plan.asked.len();
            let asked = &self.plan.asked[self.journal.done().saturating_sub(first).min(self.plan.asked.len())..];
            if asked.is_empty() {
                continue;
            }
            let mask = truth.mask.mask();
            for &(kind, jitter) in asked {
                self.check()?;
                let mut row = scene.row(truth, adapter, kind, jitter);
                let asked = Asked { truth, mask: &mask, kind, jitter };
                let cost = match &mut session {
                    Ok(session) => self.ask(session, scene, &asked, pool, &mut row)?,
                    Err(reason) => {
                        row.reason = Some(reason.clone());
                        Cost::default()
                    }
                };
                let row = self.journal.add(row.rounded(), cost)?.clone();
                clock.tell(self.hooks, self.journal.done(), &row);
            }
        }
        Ok(())
    }

    /// Asks for a structure by a prompt, and measures what comes of it.
    fn ask(
        &self,
        session: &mut Session,
        scene: &Scene,
        asked: &Asked,
        pool: &ThreadPool,
        row: &mut Row,
    ) -> Result<Cost> {
        let geometry = session.geometry().clone();
        let drawn = match self.asker().drawn(scene, asked, &geometry) {
            Some(drawn) => drawn,
            None => {
                row.reason = Some("the structure is not there: nothing to draw a prompt from".into());
                return Ok(Cost::default());
            }
        };
        let started = Instant::now();
        let found = match refused(self.asker().segment(session, asked, drawn))? {
            Ok(found) => found,
            Err(reason) => {
                session.clear_prompts();
                row.reason = Some(reason);
                return Ok(Cost::default());
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let windows_encoded = session.outcome().map_or(0, |outcome| outcome.report().windows_encoded);
        session.undo();
        row.status = if asked.truth.empty { Status::EmptyTruth } else { Status::Measured };
        row.metrics = pool.install(|| measure(asked.mask, &found, &geometry, self.options.tolerance_mm));
        Ok(Cost { seconds, windows_encoded, peak_memory_bytes: peak_memory_bytes() })
    }
}

/// A structure and how it is asked for.
pub(super) struct Asked<'a> {
    pub(super) truth: &'a Truth<'a>,
    pub(super) mask: &'a [u8],
    pub(super) kind: PromptKind,
    pub(super) jitter: f64,
}

/// Tells how far a run has come.
struct Clock {
    total: usize,
    /// Rows that were there when it began.
    began: usize,
    started: Instant,
}

impl Clock {
    fn tell(&self, hooks: &EvaluationHooks, done: usize, row: &Row) {
        if let Some(progress) = hooks.progress {
            let each = self.started.elapsed().as_secs_f64() / (done - self.began).max(1) as f64;
            let seconds_left = each * (self.total - done) as f64;
            progress(&EvaluationProgress { done, total: self.total, row, seconds_left });
        }
    }
}

/// Separates what a model cannot do with a prompt or an image, which is a reason to skip it, from real failures.
fn refused<T>(outcome: Result<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Unsupported) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn load<'a>(
    data: &'a EvaluationData,
    case: &'a DatasetCase,
    structures: &'a [String],
    remapped: bool,
) -> Result<Loaded<'a>> {
    let image = case.read_image(&data.folder)?;
    let read = |structure: &str| case.read_mask(&data.folder, structure, &image);
    let mut masks = BTreeMap::new();
    for structure in structures {
        masks.insert(structure.as_str(), Runs::of(&read(structure)?));
    }
    let regions = remapped.then(|| regions(case.masks.keys().map(|structure| read(structure)), image.data.len()));
    Ok(Loaded { dataset: &data.dataset.name, case, masks, regions: regions.transpose()?, image: image.clone() })
}

pub(super) fn scene<'a>(loaded: &'a Loaded<'a>, shift: Option<Shift>, seed: u64) -> Result<Scene<'a>> {
    let shifted = match shift {
        Some(shift) => {
            let names = [loaded.dataset, &loaded.case.id];
            Some(shift.apply(&loaded.image, loaded.regions.as_deref(), seed, &names)?)
        }
        None => None,
    };
    let structures = loaded.masks.iter().map(|(name, runs)| {
        let mask = shifted.as_ref().map_or_else(|| runs.mask(), |shifted| shifted.carry(&runs.mask()));
        let image = shifted.as_ref().map_or(&*loaded.image, |shifted| &shifted.image);
        let (empty, contrast) = (!mask.contains(&1), foreground_contrast(image, &mask));
        Truth { name, mask: Runs::of(&mask), empty, contrast }
    });
    let structures = structures.collect();
    let image = shifted.map_or_else(|| loaded.image.clone(), |shifted| Arc::new(shifted.image));
    Ok(Scene {
        loaded,
        shift: shift.map_or_else(|| NONE.to_owned(), |shift| shift.to_string()),
        complexity: ImageComplexity::of(&image),
        image,
        structures,
    })
}

/// A number for every set of structures that some voxel lies in; 0: none.
fn regions(masks: impl Iterator<Item = Result<Vec<u8>>>, voxels: usize) -> Result<Vec<u32>> {
    let mut regions = vec![0; voxels];
    let mut numbers: HashMap<(u32, usize), u32> = HashMap::new();
    for (structure, mask) in masks.enumerate() {
        for (region, _) in regions.iter_mut().zip(mask?).filter(|(_, set)| *set != 0) {
            let next = numbers.len() as u32 + 1;
            *region = *numbers.entry((*region, structure)).or_insert(next);
        }
    }
    Ok(regions)
}

impl Scene<'_> {
    /// The row of a prompt of which nothing is known yet.
    fn row(&self, truth: &Truth, adapter: Option<&EvaluatedAdapter>, kind: PromptKind, jitter: f64) -> Row {
        let case = self.loaded.case;
        Row {
            dataset: self.loaded.dataset.to_owned(),
            case: case.id.clone(),
            subject: case.subject.clone(),
            modality: case.modality.clone(),
            contrast: case.contrast.clone(),
            part: case.part,
            structure: truth.name.to_owned(),
            adapter: adapter.map_or(NONE, |adapter| &adapter.name).to_owned(),
            prompt: kind.to_string(),
            jitter_mm: jitter,
            shift: self.shift.clone(),
            status: Status::Skipped,
            reason: None,
            metrics: Metrics { truth_ml: self.truth_ml(truth), ..Metrics::default() },
            complexity: self.complexity,
            foreground_contrast: truth.contrast,
        }
    }

    fn truth_ml(&self, truth: &Truth) -> f64 {
        truth.mask.voxels().count() as f64 * self.image.geometry.voxel_volume_mm3() / 1000.0
    }
}
