//! The results as one page for people: tables, plots, the worst masks as pictures. Self-contained: no script, no font, no
//! address of anything else.

mod picture;
mod plot;

use super::ask::Again;
use super::report::{Comparison, Group, Results, Statistic};
use super::row::{NONE, Row, Status};
use crate::error::Result;
use plot::{Series, Value, bars, escaped, lines};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Pictures of the worst masks.
const PICTURES: usize = 8;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ccc}table{border-collapse:collapse;\
font-size:.86rem;margin:.8rem 0}th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e4e4e4}td{white-space:nowrap}th{background:#f4f4f4}\
td.name,th.name{text-align:left}svg{width:100%;height:auto;margin:.6rem 0}figure{display:inline-block;width:14rem;margin:.4rem;\
vertical-align:top;font-size:.8rem}figure img{width:100%;background:#000}.note{color:#555;font-size:.86rem}";

/// A mask that is among the worst, and its picture.
pub(super) struct Worst {
    row: Row,
    address: String,
}

/// The worst masks of images as they are, at most one for each structure of a case, made again by `again` to be drawn.
pub(super) fn worst(results: &Results, again: impl Fn(&Row) -> Result<Option<Again>>) -> Result<Vec<Worst>> {
    let mut rows: Vec<(f64, &Row)> = results
        .rows
        .iter()
        .filter(|row| {
            row.status == Status::Measured && row.shift == NONE && row.jitter_mm == 0.0 && row.prompt != "text"
        })
        .filter_map(|row| Some((row.metrics.dice?, row)))
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut seen, mut worst) = (BTreeSet::new(), Vec::new());
    for (_, row) in rows {
        if worst.len() < PICTURES
            && seen.insert((&row.dataset, &row.case, &row.structure))
            && let Some(address) = again(row)?.as_ref().and_then(picture::address)
        {
            worst.push(Worst { row: row.clone(), address });
        }
    }
    Ok(worst)
}

/// The page.
pub(super) fn page(results: &Results, worst: &[Worst]) -> String {
    let about = &results.about;
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Evaluation of {0}</title><style>{STYLE}</style></head><body>\n<h1>Evaluation of {0}</h1>\n",
        escaped(&about.model.name)
    );
    sources(&mut page, results);
    section(&mut page, "By prompt", &by_prompt(results));
    section(&mut page, "CT and MR, without and with adapters", &by_modality(results));
    section(&mut page, "Systems on the same masks", &comparisons(&results.comparisons));
    section(&mut page, "By severity of shifts", &by_severity(results));
    section(&mut page, "By structure", &by_structure(results));
    section(&mut page, "By complexity", &by_complexity(results));
    section(&mut page, "Worst masks", &pictures(worst));
    section(&mut page, "Skipped", &skipped(results));
    page.push_str("</body></html>\n");
    page
}

/// A section, unless there is nothing in it.
fn section(page: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        let _ = write!(page, "<h2>{title}</h2>\n{body}");
    }
}

fn sources(page: &mut String, results: &Results) {
    let about = &results.about;
    let cases: BTreeSet<_> = results.rows.iter().map(|row| (&row.dataset, &row.case)).collect();
    let subjects: BTreeSet<_> = results.rows.iter().map(|row| (&row.dataset, &row.subject)).collect();
    let _ = write!(
        page,
        "<p>{} masks of {} cases of {} subjects; prompts drawn from the truth with seed {}; tolerance of the surface Dice \
         {} mm; intervals are 95 % bootstrap intervals over subjects. AdaptMedSeg {}. Research software, not a medical \
         device.</p>\n<table><tr><th class=\"name\">what</th><th class=\"name\">name</th><th class=\"name\">licence</th>\
         <th class=\"name\">SHA-256</th></tr>\n",
        results.rows.len(),
        cases.len(),
        subjects.len(),
        about.options.seed,
        about.options.tolerance_mm,
        escaped(&about.adaptmedseg)
    );
    let all = [("model", std::slice::from_ref(&about.model)), ("adapter", &about.adapters), ("data", &about.datasets)];
    for (what, source) in all.iter().flat_map(|(what, sources)| sources.iter().map(move |source| (what, source))) {
        let _ = writeln!(
            page,
            "<tr><td class=\"name\">{what}</td><td class=\"name\">{}</td><td class=\"name\">{}</td>\
             <td class=\"name\"><code>{}</code></td></tr>",
            escaped(&source.name),
            escaped(source.license.as_deref().unwrap_or("not stated")),
            escaped(source.sha256.get(..12).unwrap_or(&source.sha256))
        );
    }
    page.push_str("</table>\n");
}

fn number(statistic: Option<Statistic>, digits: usize) -> String {
    statistic.map_or_else(|| "-".to_owned(), |statistic| format!("{:.digits$}", statistic.mean))
}

fn interval(statistic: Option<Statistic>) -> String {
    match statistic.map(|statistic| (statistic.mean, statistic.ci95)) {
        None => "-".into(),
        Some((mean, None)) => format!("{mean:.3}"),
        Some((mean, Some([low, high]))) => format!("{mean:.3} [{low:.3}, {high:.3}]"),
    }
}

fn table_of(groups: &[&Group], name: &str, named: impl Fn(&Group) -> String) -> String {
    let mut table = format!(
        "<table><tr><th class=\"name\">{name}</th><th>masks</th><th>subjects</th><th>Dice [95 %]</th><th>surface Dice</th>\
         <th>HD95 mm</th><th>|volume error| %</th><th>empty truth</th><th>of it found nothing</th></tr>\n"
    );
    for group in groups {
        let _ = writeln!(
            table,
            "<tr><td class=\"name\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escaped(&named(group)),
            group.dice.map_or(0, |dice| dice.count),
            group.subjects,
            interval(group.dice),
            number(group.nsd, 3),
            number(group.hd95_mm, 1),
            number(group.absolute_volume_error_percent, 0),
            group.empty_truth.count,
            group.empty_truth.found_nothing
        );
    }
    table + "</table>\n"
}

/// Groups of images as they are.
fn plain<'a>(results: &'a Results, by: &str) -> Vec<&'a Group> {
    results.groups.iter().filter(|group| group.by == by && group.shift == NONE).collect()
}

fn value(group: Option<&&Group>) -> Option<Value> {
    let dice = group?.dice?;
    Some(Value { mean: dice.mean, interval: dice.ci95 })
}

fn prompt_name(group: &Group) -> String {
    if group.jitter_mm > 0.0 { format!("{} ±{} mm", group.prompt, group.jitter_mm) } else { group.prompt.clone() }
}

/// Values in the order in which they come first.
fn distinct<'a>(groups: &[&'a Group], key: impl Fn(&'a Group) -> String) -> Vec<String> {
    let mut seen = BTreeSet::new();
    groups.iter().map(|group| key(group)).filter(|value| seen.insert(value.clone())).collect()
}

/// One series for each value of `series`, over the values of `over`.
fn series(
    groups: &[&Group],
    over: &[String],
    key: impl Fn(&Group) -> String,
    series: impl Fn(&Group) -> String,
) -> Vec<Series> {
    let one = |name: String| {
        let values =
            over.iter().map(|wanted| value(groups.iter().find(|group| series(group) == name && key(group) == *wanted)));
        Series { values: values.collect(), name: name.clone() }
    };
    distinct(groups, &series).into_iter().map(one).collect()
}

fn system(group: &Group) -> String {
    if group.adapter == NONE { "base".into() } else { group.adapter.clone() }
}

fn by_prompt(results: &Results) -> String {
    let groups = plain(results, "all");
    let prompts = distinct(&groups, prompt_name);
    let plot = bars("Dice by prompt", &prompts, &series(&groups, &prompts, prompt_name, system));
    plot + &table_of(&groups, "system, prompt", |group| format!("{}, {}", system(group), prompt_name(group)))
}

fn by_modality(results: &Results) -> String {
    let groups: Vec<&Group> = plain(results, "modality").into_iter().filter(|group| group.jitter_mm == 0.0).collect();
    if groups.is_empty() {
        return String::new();
    }
    let place = |group: &Group| format!("{} {}", group.value, group.prompt);
    let places = distinct(&groups, place);
    bars("Dice by modality", &places, &series(&groups, &places, place, system))
        + &table_of(&groups, "system, modality, prompt", |group| format!("{}, {}", system(group), place(group)))
}

fn comparisons(all: &[Comparison]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<table><tr><th class=\"name\">second less first</th><th class=\"name\">prompt</th><th class=\"name\">shift</th>\
         <th class=\"name\">modality</th><th class=\"name\">measure</th><th>pairs</th><th>difference [95 %]</th>\
         <th>Wilcoxon p</th></tr>\n",
    );
    for comparison in all {
        let interval = comparison.ci95.map_or_else(String::new, |[low, high]| format!(" [{low:+.3}, {high:+.3}]"));
        let p = format!("{:.2e}", comparison.wilcoxon.p);
        let _ = writeln!(
            table,
            "<tr><td class=\"name\">{} less {}</td><td class=\"name\">{}</td><td class=\"name\">{}</td>\
             <td class=\"name\">{}</td><td class=\"name\">{}</td><td>{}</td><td>{:+.3}{interval}</td><td>{p}</td></tr>",
            escaped(&comparison.second),
            escaped(&comparison.first),
            escaped(&comparison.prompt),
            escaped(&comparison.shift),
            escaped(&comparison.modality),
            comparison.measure,
            comparison.pairs,
            comparison.mean_difference
        );
    }
    table
        + "</table>\n<p class=\"note\">Wilcoxon's signed-rank test, two-sided; structures of one subject are taken as \
             independent, and nothing is corrected for the number of tests.</p>\n"
}

/// A plot for each kind of shift that has more severities than none.
fn by_severity(results: &Results) -> String {
    let all: Vec<&Group> = results.groups.iter().filter(|group| group.by == "all" && group.jitter_mm == 0.0).collect();
    let kind = |group: &Group| group.shift.split(':').next().unwrap_or_default().to_owned();
    let mut text = String::new();
    for name in distinct(&all, kind).into_iter().filter(|name| name != NONE) {
        let groups: Vec<&Group> =
            all.iter().copied().filter(|group| group.shift == NONE || kind(group) == name).collect();
        let step = |group: &Group| group.shift.split_once(':').map_or("0", |(_, severity)| severity).to_owned();
        let steps = distinct(&groups, step);
        let line = |group: &Group| format!("{}, {}", system(group), group.prompt);
        let _ =
            write!(text, "<h3>{}</h3>\n{}", escaped(&name), lines(&name, &steps, &series(&groups, &steps, step, line)));
    }
    text
}

fn by_structure(results: &Results) -> String {
    let groups: Vec<&Group> = plain(results, "structure").into_iter().filter(|group| group.jitter_mm == 0.0).collect();
    let mut text = String::new();
    for prompt in distinct(&groups, |group| group.prompt.clone()) {
        let groups: Vec<&Group> = groups.iter().copied().filter(|group| group.prompt == prompt).collect();
        let names = distinct(&groups, |group| group.value.clone());
        let _ = writeln!(text, "<h3>{}</h3>", escaped(&prompt));
        for names in names.chunks(24) {
            text.push_str(&bars(&prompt, names, &series(&groups, names, |group| group.value.clone(), system)));
        }
        text.push_str(&table_of(&groups, "system, structure", |group| format!("{}, {}", system(group), group.value)));
    }
    text
}

fn by_complexity(results: &Results) -> String {
    let mut table = String::new();
    for correlation in results.complexity.iter().filter(|correlation| correlation.jitter_mm == 0.0) {
        let thirds: String = correlation
            .terciles
            .iter()
            .map(|third| format!("<td>{:.3}</td>", third.mean_dice))
            .chain(std::iter::repeat_n("<td>-</td>".to_owned(), 3 - correlation.terciles.len().min(3)))
            .collect();
        let _ = writeln!(
            table,
            "<tr><td class=\"name\">{}</td><td class=\"name\">{}</td><td class=\"name\">{}</td><td class=\"name\">{}</td>\
             <td>{}</td><td>{}</td>{thirds}</tr>",
            escaped(if correlation.adapter == NONE { "base" } else { &correlation.adapter }),
            escaped(&correlation.prompt),
            escaped(&correlation.shifts),
            correlation.measure,
            correlation.count,
            correlation.spearman.map_or_else(|| "-".to_owned(), |spearman| format!("{spearman:+.2}"))
        );
    }
    if table.is_empty() {
        return table;
    }
    format!(
        "<p class=\"note\">Spearman's rank correlation of a measure with Dice, and mean Dice of the masks with low, middle and \
         high values of it.</p>\n<table><tr><th class=\"name\">system</th><th class=\"name\">prompt</th>\
         <th class=\"name\">shifts</th><th class=\"name\">measure</th><th>masks</th><th>correlation</th><th>low</th>\
         <th>middle</th><th>high</th></tr>\n{table}</table>\n"
    )
}

fn pictures(worst: &[Worst]) -> String {
    if worst.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<p class=\"note\">The lowest Dice of images as they are, one for each structure of a case, text prompts left out. \
         Green: truth; orange: found. The patient's right is at the left.</p>\n",
    );
    for Worst { row, address } in worst {
        let _ = writeln!(
            text,
            "<figure><img src=\"{address}\" alt=\"\"><figcaption>{}, {} ({}), {}: Dice {:.3}</figcaption></figure>",
            escaped(&row.case),
            escaped(&row.structure),
            escaped(&row.modality),
            escaped(&row.prompt),
            row.metrics.dice.unwrap_or_default()
        );
    }
    text
}

fn skipped(results: &Results) -> String {
    let item = |(reason, count): (&String, &usize)| format!("<li>{count} x {}</li>\n", escaped(reason));
    let items: String = results.skipped.iter().map(item).collect();
    if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") }
}
