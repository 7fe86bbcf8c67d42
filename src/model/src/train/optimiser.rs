//! AdamW over weights known by name, with clipping of the gradient's norm.

use super::learner::PARAMETER;
use crate::error::{Error, Result};
use crate::parameters::{NamedGradients, NamedTensors};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// How weights follow their gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserConfig {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).
    pub weight_decay: f32,
    /// Longest gradient, as the norm over everything that learns; none: as it comes.
    pub clip_norm: Option<f64>,
}

impl Default for OptimiserConfig {
    /// PyTorch's AdamW; a gradient of norm 0.5 at most, as the SegVol adaptation trains.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(0.5) }
    }
}

/// The optimiser and what it remembers of each weight.
pub(super) struct Optimiser {
    config: OptimiserConfig,
    adamw: AdamW,
    groups: Vec<Group>,
    steps: u64,
}

/// Weights that follow their gradients together, as one vector: an update is twenty operations, and to hand a device those
/// for some hundred small tensors takes it longer than to compute them.
struct Group {
    /// Names and numbers of elements, in the vector's order.
    members: Vec<(String, usize)>,
    /// None before the first step.
    memory: Option<AdamWState<1>>,
}

/// Most elements of a group, unless a tensor has more: what is put side by side is there twice for a moment.
const MOST: usize = 1 << 22;

impl Group {
    /// Members side by side, as few groups as there can be.
    fn pack(members: impl IntoIterator<Item = (String, usize)>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (name, length) in members {
            match groups.last_mut() {
                Some(group) if group.elements() + length <= MOST => group.members.push((name, length)),
                _ => groups.push(Self { members: vec![(name, length)], memory: None }),
            }
        }
        groups
    }

    fn elements(&self) -> usize {
        self.members.iter().map(|(_, length)| length).sum()
    }

    /// The members' tensors as one vector.
    fn joined(&self, tensors: &mut BTreeMap<String, Tensor<1>>) -> Tensor<1> {
        let one = |(name, _): &(String, usize)| tensors.remove(name).expect("each member has one");
        Tensor::cat(self.members.iter().map(one).collect(), 0)
    }

    /// The members' parts of a vector.
    fn parts<'a>(&'a self, vector: &'a Tensor<1>) -> impl Iterator<Item = (&'a str, Tensor<1>)> {
        let mut start = 0;
        self.members.iter().map(move |(name, length)| {
            let part = vector.clone().narrow(0, start, *length);
            start += length;
            (name.as_str(), part)
        })
    }

    /// Those members for which `moves` holds, and the others; a group stays as it is where it holds for all or none.
    fn split(self, moves: impl Fn(&str) -> bool) -> Vec<Self> {
        let moving = self.members.iter().filter(|(name, _)| moves(name)).count();
        if moving == 0 || moving == self.members.len() {
            return vec![self];
        }
        let side = |wanted: bool| {
            let pick = |vector: &Tensor<1>| {
                let parts = self.parts(vector).filter(|(name, _)| moves(name) == wanted);
                Tensor::cat(parts.map(|(_, part)| part).collect(), 0)
            };
            let memory = self.memory.as_ref().map(|AdamWState { momentum, .. }| {
                let moments = [&momentum.moment_1, &momentum.moment_2].map(pick);
                let [first, second] = moments;
                AdamWState::new(AdaptiveMomentumState::new(momentum.time, first, second))
            });
            let members = self.members.iter().filter(|(name, _)| moves(name) == wanted).cloned().collect();
            Self { members, memory }
        };
        vec![side(true), side(false)]
    }
}

impl fmt::Debug for Optimiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Optimiser").field("config", &self.config).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// What the names of a state begin with.
const MOMENT_1: &str = "moment1.";
const MOMENT_2: &str = "moment2.";
const UPDATES: &str = "updates.";
const STEPS: &str = "steps";

/// Numbers that lie on the device, each `[1]`: read at once, since every read waits for all that was asked before.
pub(super) fn numbers(scalars: Vec<Tensor<1>>) -> Vec<f32> {
    if scalars.is_empty() {
        return Vec::new();
    }
    Tensor::cat(scalars, 0).into_data().try_into_vec().expect("float32")
}

impl Optimiser {
    pub(super) fn new(config: OptimiserConfig) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta1)
            .with_beta_2(config.beta2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(config.weight_decay)
            .build();
        Self { config, adamw, groups: Vec::new(), steps: 0 }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Weights after one step, by name, and the norm of the gradient before it is shortened to the longest there may be.
    /// `sums` are the gradients, of which `share` is taken; whoever has none stays as it is and is not in `weights` either.
    ///
    /// # Errors
    /// A norm that is not a number; then nothing has changed.
    pub(super) fn step(
        &mut self,
        mut weights: BTreeMap<String, Tensor<1>>,
        mut sums: NamedGradients,
        share: f64,
        learning_rate: f64,
    ) -> Result<(BTreeMap<String, Tensor<1>>, f64)> {
        let groups = std::mem::take(&mut self.groups).into_iter();
        self.groups = groups.flat_map(|group| group.split(|name| sums.contains_key(name))).collect();
        let known: HashSet<&str> =
            self.groups.iter().flat_map(|group| group.members.iter().map(|(name, _)| name.as_str())).collect();
        let new = sums.iter().filter(|(name, _)| !known.contains(name.as_str()));
        let new = Group::pack(new.map(|(name, gradient)| (name.clone(), gradient.dims()[0])));
        self.groups.extend(new);

        // The first member tells for all.
        let moving: Vec<&mut Group> =
            self.groups.iter_mut().filter(|group| sums.contains_key(&group.members[0].0)).collect();
        let gradients: Vec<Tensor<1>> = moving.iter().map(|group| group.joined(&mut sums)).collect();
        let squares = numbers(gradients.iter().map(|gradient| gradient.clone().square().sum()).collect());
        let norm = share * squares.into_iter().map(f64::from).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(diverged("the gradient"));
        }
        // As PyTorch's clip_grad_norm_ does it.
        let factor = self.config.clip_norm.filter(|&limit| norm > limit).map_or(1.0, |limit| limit / (norm + 1e-6));
        let mut changed = BTreeMap::new();
        for (group, gradient) in moving.into_iter().zip(gradients) {
            let (weight, memory) = (group.joined(&mut weights), group.memory.take());
            let (weight, memory) = self.adamw.step(learning_rate, weight, gradient * (share * factor), memory);
            group.memory = memory;
            changed.extend(group.parts(&weight).map(|(name, part)| (name.to_owned(), part)));
        }
        self.steps += 1;
        Ok((changed, norm))
    }

    pub(super) fn state(&self) -> NamedTensors {
        let mut state = NamedTensors::from([(STEPS.to_owned(), (vec![1], vec![self.steps as f32]))]);
        for group in &self.groups {
            let Some(AdamWState { momentum, .. }) = &group.memory else { continue };
            for (kind, tensor) in [(MOMENT_1, &momentum.moment_1), (MOMENT_2, &momentum.moment_2)] {
                let all: Vec<f32> = tensor.clone().into_data().try_into_vec().expect("float32");
                let mut rest = &all[..];
                for (name, length) in &group.members {
                    let elements = rest.split_off(..*length).expect("as many as there are");
                    state.insert(format!("{kind}{name}"), (vec![*length], elements.to_vec()));
                }
            }
            for (name, _) in &group.members {
                state.insert(format!("{UPDATES}{name}"), (vec![1], vec![momentum.time as f32]));
            }
        }
        state
    }

    pub(super) fn restored(config: OptimiserConfig, state: &NamedTensors, device: &Device) -> Result<Self> {
        let mut optimiser = Self::new(config);
        let find = |name: &str| {
            let absent = || Error::Unsupported { message: format!("the state has no {name}"), hint: None };
            state.get(name).map(|(_, elements)| elements).ok_or_else(absent)
        };
        // Counts are exact in float32 up to 16 million steps.
        optimiser.steps = find(STEPS)?.first().copied().unwrap_or(0.0) as u64;
        // Those that have moved as often.
        let mut times: BTreeMap<usize, Vec<(String, usize)>> = BTreeMap::new();
        for name in state.keys().filter_map(|name| name.strip_prefix(UPDATES)) {
            let time = find(&format!("{UPDATES}{name}"))?.first().copied().unwrap_or(0.0) as usize;
            // As many elements as the weight, where it is there too.
            let weight = state.get(&format!("{PARAMETER}{name}")).map(|(_, elements)| elements);
            let length = weight.map_or_else(|| find(&format!("{MOMENT_1}{name}")), Ok)?.len();
            times.entry(time).or_default().push((name.to_owned(), length));
        }
        for (time, members) in times {
            for mut group in Group::pack(members) {
                let moment = |kind: &str| {
                    let mut all = Vec::with_capacity(group.elements());
                    for (name, length) in &group.members {
                        let elements = find(&format!("{kind}{name}"))?;
                        if elements.len() != *length {
                            let message =
                                format!("the state's {kind}{name} has {} elements, not {length}", elements.len());
                            return Err(Error::Unsupported { message, hint: None });
                        }
                        all.extend_from_slice(elements);
                    }
                    let count = all.len();
                    Ok(Tensor::from_data(TensorData::new(all, [count]), device))
                };
                let momentum = AdaptiveMomentumState::new(time, moment(MOMENT_1)?, moment(MOMENT_2)?);
                group.memory = Some(AdamWState::new(momentum));
                optimiser.groups.push(group);
            }
        }
        Ok(optimiser)
    }
}

/// The error of a training that has lost its numbers.
pub(super) fn diverged(what: &str) -> Error {
    Error::Unsupported {
        message: format!("{what} is not a number: training diverged"),
        hint: Some("use a smaller learning rate".into()),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn vector(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
    }

    fn values(tensor: &Tensor<1>) -> Vec<f32> {
        tensor.clone().into_data().try_into_vec().expect("float32")
    }

    /// Weights of three names, of which `b` has a gradient in every second step only, after `steps` steps from `start` on.
    fn run(optimiser: &mut Optimiser, start: u64, steps: u64, weights: &mut BTreeMap<String, Tensor<1>>) {
        for step in start..start + steps {
            let gradient = |name: &str| {
                let length = weights[name].dims()[0];
                vector(&(0..length).map(|at| ((step * 7 + at as u64 * 3) % 5) as f32 - 1.7).collect::<Vec<_>>())
            };
            let names = ["a", "b", "c"].into_iter().filter(|name| *name != "b" || step % 2 == 0);
            let sums: NamedGradients = names.map(|name| (name.to_owned(), gradient(name))).collect();
            let moving = weights.iter().filter(|(name, _)| sums.contains_key(*name));
            let moving = moving.map(|(name, weight)| (name.clone(), weight.clone())).collect();
            let (changed, _) = optimiser.step(moving, sums, 0.5, 0.01).expect("finite");
            weights.extend(changed);
        }
    }

    fn start() -> BTreeMap<String, Tensor<1>> {
        let of = |name: &str, values: &[f32]| (name.to_owned(), vector(values));
        BTreeMap::from([of("a", &[1.0, -2.0]), of("b", &[0.5]), of("c", &[3.0, 0.0, -1.0])])
    }

    #[test]
    fn weights_move_together_as_they_would_by_themselves() {
        let config = OptimiserConfig { clip_norm: None, ..OptimiserConfig::default() };
        let mut together = start();
        run(&mut Optimiser::new(config.clone()), 0, 5, &mut together);
        // Burn's own, one tensor at a time.
        let adamw = Optimiser::new(config).adamw;
        for (name, mut weight) in start() {
            let mut memory = None;
            for step in (0..5u64).filter(|step| name != "b" || step % 2 == 0) {
                let length = weight.dims()[0];
                let gradient: Vec<f32> =
                    (0..length).map(|at| 0.5 * (((step * 7 + at as u64 * 3) % 5) as f32 - 1.7)).collect();
                (weight, memory) = adamw.step(0.01, weight, vector(&gradient), memory);
            }
            assert_eq!(values(&together[&name]), values(&weight), "{name}");
        }
    }

    #[test]
    fn a_state_leads_on_where_it_came_from() {
        let config = OptimiserConfig::default();
        let mut whole = start();
        run(&mut Optimiser::new(config.clone()), 0, 6, &mut whole);
        let (mut parted, mut first) = (start(), Optimiser::new(config.clone()));
        run(&mut first, 0, 3, &mut parted);
        let mut second = Optimiser::restored(config.clone(), &first.state(), &Device::flex()).expect("a state");
        assert_eq!(second.steps(), 3);
        run(&mut second, 3, 3, &mut parted);
        assert!(whole.iter().all(|(name, weight)| values(weight) == values(&parted[name])));
        let mut state = first.state();
        state.insert("moment2.a".into(), (vec![1], vec![0.0]));
        assert!(Optimiser::restored(config.clone(), &state, &Device::flex()).is_err());
        let mut state = first.state();
        state.insert("parameter.a".into(), (vec![3], vec![0.0; 3]));
        assert!(Optimiser::restored(config, &state, &Device::flex()).is_err());
    }

    #[test]
    fn groups_are_bounded_and_a_gradient_that_is_no_number_changes_nothing() {
        let members = [("a", MOST), ("b", 1), ("c", MOST - 1), ("d", 2 * MOST), ("e", 5)];
        let groups = Group::pack(members.map(|(name, length)| (name.to_owned(), length)));
        assert_eq!(groups.iter().map(|group| group.members.len()).collect::<Vec<_>>(), [1, 2, 1, 1]);
        let mut optimiser = Optimiser::new(OptimiserConfig::default());
        let sums = NamedGradients::from([("a".to_owned(), vector(&[f32::NAN]))]);
        let weights = BTreeMap::from([("a".to_owned(), vector(&[1.0]))]);
        assert!(optimiser.step(weights, sums, 1.0, 0.1).is_err());
        assert_eq!((optimiser.steps(), optimiser.state().len()), (0, 1));
    }
}
