//! The results as a table for people.

use super::report::{Group, Results, Statistic};
use std::fmt::Write;

/// What comes of every adapter, prompt, jitter and shift, how systems compare, and what was skipped.
pub fn table(results: &Results) -> String {
    let groups: Vec<&Group> = results.groups.iter().filter(|group| group.by == "all").collect();
    let named: Vec<[String; 4]> = groups
        .iter()
        .map(|group| [&group.adapter, &group.shift, &group.prompt, &group.jitter_mm.to_string()].map(String::clone))
        .collect();
    let heads = ["adapter", "shift", "prompt", "jitter mm"];
    let widths = columns(&heads, &named);
    let mut text = line(&heads.map(str::to_owned), &widths);
    let _ = writeln!(text, "  {:>5}  {:<20}  {:>5}  {:>7}  {:>7}", "masks", "Dice [95 %]", "NSD", "HD95 mm", "|vol| %");
    for (group, names) in groups.iter().zip(&named) {
        let _ = write!(text, "{}  {:>5}", line(names, &widths), group.dice.map_or(0, |dice| dice.count));
        let _ = write!(text, "  {:<20}", group.dice.map_or_else(|| "-".into(), |dice| with_interval(&dice)));
        let number = |statistic: Option<Statistic>, digits: usize| {
            statistic.map_or_else(|| "-".to_owned(), |statistic| format!("{:.digits$}", statistic.mean))
        };
        let (nsd, distance) = (number(group.nsd, 3), number(group.hd95_mm, 1));
        let volume = number(group.absolute_volume_error_percent, 0);
        let _ = writeln!(text, "  {nsd:>5}  {distance:>7}  {volume:>7}{}", asides(group));
    }
    comparisons(results, &mut text);
    if !results.skipped.is_empty() {
        text.push_str("\nskipped\n");
    }
    for (reason, count) in &results.skipped {
        let _ = writeln!(text, "{count:>6}  {reason}");
    }
    text
}

fn with_interval(statistic: &Statistic) -> String {
    match statistic.ci95 {
        Some([low, high]) => format!("{:.3} [{low:.3}, {high:.3}]", statistic.mean),
        None => format!("{:.3}", statistic.mean),
    }
}

/// What the measures leave out.
fn asides(group: &Group) -> String {
    let mut text = String::new();
    let missed = group.dice.map_or(0, |dice| dice.count) - group.hd95_mm.map_or(0, |distance| distance.count);
    let asides = [(missed, "empty masks"), (group.empty_truth.count, "of nothing"), (group.skipped, "skipped")];
    for (count, what) in asides.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "  {count} {what}");
    }
    text
}

fn comparisons(results: &Results, text: &mut String) {
    let dice: Vec<_> = results.comparisons.iter().filter(|c| c.measure == "dice" && c.modality == "all").collect();
    if dice.is_empty() {
        return;
    }
    let named: Vec<[String; 5]> = dice
        .iter()
        .map(|c| [&c.first, &c.second, &c.shift, &c.prompt, &c.jitter_mm.to_string()].map(String::clone))
        .collect();
    let heads = ["first", "second", "shift", "prompt", "jitter mm"];
    let widths = columns(&heads, &named);
    let _ = writeln!(
        text,
        "\n{}  {:>5}  Dice, second less first  Wilcoxon",
        line(&heads.map(str::to_owned), &widths),
        "pairs"
    );
    for (comparison, names) in dice.iter().zip(&named) {
        let interval = comparison.ci95.map_or_else(String::new, |[low, high]| format!(" [{low:+.3}, {high:+.3}]"));
        let difference = format!("{:+.3}{interval}", comparison.mean_difference);
        let names = line(names, &widths);
        let _ = writeln!(text, "{names}  {:>5}  {difference:<23}  p {:.2e}", comparison.pairs, comparison.wilcoxon.p);
    }
}

/// How wide each column must be.
fn columns<const N: usize>(heads: &[&str; N], rows: &[[String; N]]) -> [usize; N] {
    std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).chain([heads[column].len()]).max().unwrap_or_default()
    })
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    cells.iter().zip(widths).map(|(cell, &width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ")
}
