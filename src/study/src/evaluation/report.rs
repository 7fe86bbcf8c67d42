//! The results: rows, and what they come to. Their fields are the schema of `results.json`.

use super::EvaluationOptions;
use super::files::About;
use super::row::{NONE, Row, Status};
use crate::statistics::{Wilcoxon, bootstrap_mean, mean, quantile, spearman, wilcoxon};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What rows are told apart by.
type Key = fn(&Row) -> &str;
/// A number of a row, where it has one.
type Measure = fn(&Row) -> Option<f64>;

/// What the base without any adapter is called.
pub const ADAPTER_NONE: &str = NONE;

/// `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What they were made of.
    #[serde(flatten)]
    pub about: About,
    /// One for each adapter, prompt, jitter and shift, over all rows and by data set, modality and structure.
    pub groups: Vec<Group>,
    /// Systems on the same masks, two by two.
    pub comparisons: Vec<Comparison>,
    /// Dice against the complexity of images and structures.
    pub complexity: Vec<Correlation>,
    /// Why prompts were skipped, and how often.
    pub skipped: BTreeMap<String, usize>,
    /// One for each mask.
    pub rows: Vec<Row>,
}

/// A measure over the rows of a group that have it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistic {
    /// Rows that have it.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// 95 % bootstrap interval of the mean over subjects; none of a single subject.
    pub ci95: Option<[f64; 2]>,
    /// Their median.
    pub median: f64,
    /// Their first and third quartile.
    pub quartiles: [f64; 2],
}

/// What was found where the structure is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmptyTruth {
    /// Masks of structures that are not there.
    pub count: usize,
    /// Those that are empty, as they should be.
    pub found_nothing: usize,
    /// Mean volume of the masks in millilitres.
    pub mean_found_ml: f64,
}

/// Rows of one adapter, prompt, jitter and shift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The adapter, or `none`.
    pub adapter: String,
    /// The kind of prompt.
    pub prompt: String,
    /// The jitter in millimetres.
    pub jitter_mm: f64,
    /// The shift, or `none`.
    pub shift: String,
    /// `all`, `dataset`, `modality` or `structure`: what the rows have in common beside.
    pub by: String,
    /// Which one; empty for `all`.
    pub value: String,
    /// Rows.
    pub rows: usize,
    /// Subjects with a measured mask.
    pub subjects: usize,
    /// Rows without a mask.
    pub skipped: usize,
    /// Masks of nothing, counted apart: they are in no measure below.
    pub empty_truth: EmptyTruth,
    /// Dice.
    pub dice: Option<Statistic>,
    /// Normalised surface Dice.
    pub nsd: Option<Statistic>,
    /// 95 % Hausdorff distance in millimetres; masks that are empty have none, compare the counts.
    pub hd95_mm: Option<Statistic>,
    /// Volume error in percent, with its sign.
    pub volume_error_percent: Option<Statistic>,
    /// Volume error in percent, without it.
    pub absolute_volume_error_percent: Option<Statistic>,
}

/// Two systems on the same masks of one prompt, jitter and shift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// A system: an adapter, or `NAME: ADAPTER` of the model of an earlier evaluation.
    pub first: String,
    /// The other one.
    pub second: String,
    /// The kind of prompt.
    pub prompt: String,
    /// The jitter in millimetres.
    pub jitter_mm: f64,
    /// The shift, or `none`.
    pub shift: String,
    /// The modality, or `all`.
    pub modality: String,
    /// `dice` or `nsd`.
    pub measure: String,
    /// Masks that both have.
    pub pairs: usize,
    /// Mean of the second less the first.
    pub mean_difference: f64,
    /// Its 95 % bootstrap interval over subjects.
    pub ci95: Option<[f64; 2]>,
    /// Wilcoxon's signed-rank test of the differences. Structures of one subject are taken as independent.
    pub wilcoxon: Wilcoxon,
}

/// Dice of an adapter and prompt against a measure of complexity, over masks of unshifted or of all images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// The adapter, or `none`.
    pub adapter: String,
    /// The kind of prompt.
    pub prompt: String,
    /// The jitter in millimetres.
    pub jitter_mm: f64,
    /// `none` or `all`.
    pub shifts: String,
    /// `edge_density`, `entropy_bits`, `foreground_contrast` or `truth_ml`.
    pub measure: String,
    /// Masks.
    pub count: usize,
    /// Spearman's rank correlation of the measure with Dice.
    pub spearman: Option<f64>,
    /// Masks with low, middle and high values of the measure.
    pub terciles: Vec<Tercile>,
}

/// A third of the masks, by a measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tercile {
    /// Smallest and largest value of the measure.
    pub range: [f64; 2],
    /// Masks.
    pub count: usize,
    /// Their mean Dice.
    pub mean_dice: f64,
}

/// Items by their key, keys in the order in which they come first.
fn grouped<K: Hash + Eq + Clone, T>(items: impl Iterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in items {
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(item);
    }
    groups
}

/// Puts results together.
pub(super) fn results(about: About, rows: Vec<Row>, against: &[Results], options: &EvaluationOptions) -> Results {
    let mut skipped = BTreeMap::new();
    for reason in rows.iter().filter_map(|row| row.reason.as_ref()) {
        *skipped.entry(reason.clone()).or_default() += 1;
    }
    Results {
        groups: groups(&rows, options),
        comparisons: comparisons(&rows, against, options),
        complexity: correlations(&rows),
        skipped,
        about,
        rows,
    }
}

fn groups(rows: &[Row], options: &EvaluationOptions) -> Vec<Group> {
    let keys: [(&str, Key); 4] = [
        ("all", |_| ""),
        ("dataset", |row| &row.dataset),
        ("modality", |row| &row.modality),
        ("structure", |row| &row.structure),
    ];
    let mut groups = Vec::new();
    for (by, value) in keys {
        let key = |row: &Row| (row.adapter.clone(), row.prompt.clone(), row.jitter_mm.to_bits(), row.shift.clone());
        groups.extend(
            grouped(rows.iter().map(|row| ((key(row), value(row)), row)))
                .into_par_iter()
                .map(|((_, value), rows)| group(by, value, &rows, options))
                .collect::<Vec<_>>(),
        );
    }
    groups
}

fn group(by: &str, value: &str, rows: &[&Row], options: &EvaluationOptions) -> Group {
    let with = |status: Status| rows.iter().filter(move |row| row.status == status);
    let nothing: Vec<f64> = with(Status::EmptyTruth).map(|row| row.metrics.found_ml).collect();
    let subjects = grouped(with(Status::Measured).map(|row| ((&row.dataset, &row.subject), *row)));
    let statistic = |measure: &dyn Fn(&Row) -> Option<f64>| statistic(&subjects, measure, options);
    let first = rows[0];
    Group {
        adapter: first.adapter.clone(),
        prompt: first.prompt.clone(),
        jitter_mm: first.jitter_mm,
        shift: first.shift.clone(),
        by: by.to_owned(),
        value: value.to_owned(),
        rows: rows.len(),
        subjects: subjects.len(),
        skipped: with(Status::Skipped).count(),
        empty_truth: EmptyTruth {
            count: nothing.len(),
            found_nothing: nothing.iter().filter(|&&ml| ml == 0.0).count(),
            mean_found_ml: if nothing.is_empty() { 0.0 } else { mean(&nothing) },
        },
        dice: statistic(&|row| row.metrics.dice),
        nsd: statistic(&|row| row.metrics.nsd),
        hd95_mm: statistic(&|row| row.metrics.hd95_mm),
        volume_error_percent: statistic(&|row| row.metrics.volume_error_percent),
        absolute_volume_error_percent: statistic(&|row| row.metrics.volume_error_percent.map(f64::abs)),
    }
}

fn statistic<K>(
    subjects: &[(K, Vec<&Row>)],
    measure: &dyn Fn(&Row) -> Option<f64>,
    options: &EvaluationOptions,
) -> Option<Statistic> {
    let clusters: Vec<Vec<f64>> =
        subjects.iter().map(|(_, rows)| rows.iter().filter_map(|row| measure(row)).collect()).collect();
    let values = clusters.concat();
    (!values.is_empty()).then(|| Statistic {
        count: values.len(),
        mean: mean(&values),
        ci95: bootstrap_mean(&clusters, options.bootstrap, options.seed),
        median: quantile(&values, 0.5),
        quartiles: [quantile(&values, 0.25), quantile(&values, 0.75)],
    })
}

/// What two masks must have in common to be a pair: data set, case, structure.
type Mask<'a> = (&'a str, &'a str, &'a str);

fn mask(row: &Row) -> Mask<'_> {
    (&row.dataset, &row.case, &row.structure)
}

/// A row and the system that made its mask.
type BySystem<'a> = (String, &'a Row);

fn comparisons(rows: &[Row], against: &[Results], options: &EvaluationOptions) -> Vec<Comparison> {
    let mut all: Vec<BySystem> = rows.iter().map(|row| (row.adapter.clone(), row)).collect();
    for other in against {
        let name = &other.about.model.name;
        all.extend(other.rows.iter().map(|row| (format!("{name}: {}", row.adapter), row)));
    }
    let asked = |row: &Row| (row.prompt.clone(), row.jitter_mm.to_bits(), row.shift.clone());
    let own = |row: &Row| rows.iter().any(|other| asked(other) == asked(row));
    let mut comparisons = Vec::new();
    for (key, rows) in grouped(all.into_iter().map(|(system, row)| (asked(row), (system, row)))) {
        let systems = grouped(rows.into_iter());
        // What only the earlier evaluation asked has nothing to compare with.
        if systems.len() < 2 || !own(systems[0].1[0]) {
            continue;
        }
        let (prompt, jitter, shift) = key;
        for (second, (second_name, second_rows)) in systems.iter().enumerate() {
            for (first_name, first_rows) in &systems[..second] {
                let about = Comparison {
                    first: first_name.clone(),
                    second: second_name.clone(),
                    prompt: prompt.clone(),
                    jitter_mm: f64::from_bits(jitter),
                    shift: shift.clone(),
                    modality: String::new(),
                    measure: String::new(),
                    pairs: 0,
                    mean_difference: 0.0,
                    ci95: None,
                    wilcoxon: wilcoxon(&[]),
                };
                compare(&about, first_rows, second_rows, options, &mut comparisons);
            }
        }
    }
    comparisons
}

/// Compares two systems over all masks, and over those of each modality where there are several.
fn compare(
    about: &Comparison,
    first: &[&Row],
    second: &[&Row],
    options: &EvaluationOptions,
    comparisons: &mut Vec<Comparison>,
) {
    let firsts: HashMap<Mask, &Row> = first.iter().map(|row| (mask(row), *row)).collect();
    let pairs: Vec<(&Row, &Row)> = second.iter().filter_map(|&row| Some((*firsts.get(&mask(row))?, row))).collect();
    let mut parts: Vec<(String, Vec<(&Row, &Row)>)> =
        grouped(pairs.iter().map(|&pair| (pair.1.modality.clone(), pair)));
    if parts.len() == 1 {
        parts.clear();
    }
    parts.insert(0, ("all".to_owned(), pairs));
    let measures: [(&str, Measure); 2] = [("dice", |row| row.metrics.dice), ("nsd", |row| row.metrics.nsd)];
    for (modality, pairs) in parts {
        for (name, measure) in measures {
            let differences = pairs.iter().filter_map(|(first, second)| {
                let subject = (&second.dataset, &second.subject);
                Some((subject, measure(second)? - measure(first)?))
            });
            let clusters: Vec<Vec<f64>> = grouped(differences).into_iter().map(|(_, values)| values).collect();
            let differences = clusters.concat();
            if !differences.is_empty() {
                comparisons.push(Comparison {
                    modality: modality.clone(),
                    measure: name.to_owned(),
                    pairs: differences.len(),
                    mean_difference: mean(&differences),
                    ci95: bootstrap_mean(&clusters, options.bootstrap, options.seed),
                    wilcoxon: wilcoxon(&differences),
                    ..about.clone()
                });
            }
        }
    }
}

fn correlations(rows: &[Row]) -> Vec<Correlation> {
    let measures: [(&str, Measure); 4] = [
        ("edge_density", |row| Some(row.complexity.edge_density)),
        ("entropy_bits", |row| Some(row.complexity.entropy_bits)),
        ("foreground_contrast", |row| row.foreground_contrast),
        ("truth_ml", |row| Some(row.metrics.truth_ml)),
    ];
    let shifted = rows.iter().any(|row| row.shift != NONE);
    let mut correlations = Vec::new();
    for shifts in [Some(NONE), shifted.then_some("all")].into_iter().flatten() {
        let chosen = rows.iter().filter(|row| row.status == Status::Measured && (shifts != NONE || row.shift == NONE));
        let key = |row: &Row| (row.adapter.clone(), row.prompt.clone(), row.jitter_mm.to_bits());
        for ((adapter, prompt, jitter), rows) in grouped(chosen.map(|row| (key(row), row))) {
            for (name, measure) in measures {
                let pairs: Vec<(f64, f64)> =
                    rows.iter().filter_map(|row| Some((measure(row)?, row.metrics.dice?))).collect();
                correlations.push(Correlation {
                    adapter: adapter.clone(),
                    prompt: prompt.clone(),
                    jitter_mm: f64::from_bits(jitter),
                    shifts: shifts.to_owned(),
                    measure: name.to_owned(),
                    count: pairs.len(),
                    spearman: spearman(&pairs),
                    terciles: terciles(pairs),
                });
            }
        }
    }
    correlations
}

/// Thirds of pairs of measure and Dice, by the measure; none of fewer than three.
fn terciles(mut pairs: Vec<(f64, f64)>) -> Vec<Tercile> {
    if pairs.len() < 3 {
        return Vec::new();
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |third: usize| pairs.len() * third / 3;
    let tercile = |third: usize| {
        let part = &pairs[at(third)..at(third + 1)];
        let dice: Vec<f64> = part.iter().map(|pair| pair.1).collect();
        Tercile { range: [part[0].0, part[part.len() - 1].0], count: part.len(), mean_dice: mean(&dice) }
    };
    (0..3).map(tercile).collect()
}

#[cfg(test)]
mod tests;
