use super::*;
use crate::complexity::ImageComplexity;
use crate::dataset::Part;
use crate::metrics::Metrics;

fn row(case: &str, adapter: &str, dice: Option<f64>) -> Row {
    Row {
        dataset: "set".into(),
        case: case.into(),
        subject: case.into(),
        modality: if case.starts_with('c') { "CT" } else { "MR" }.into(),
        contrast: None,
        part: Part::Test,
        structure: "liver".into(),
        adapter: adapter.into(),
        prompt: "box".into(),
        jitter_mm: 0.0,
        shift: NONE.into(),
        status: if dice.is_some() { Status::Measured } else { Status::EmptyTruth },
        reason: None,
        metrics: Metrics { truth_ml: 5.0, found_ml: 2.0, dice, nsd: dice, ..Metrics::default() },
        complexity: ImageComplexity::default(),
        foreground_contrast: None,
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (adapter, more) in [(NONE, 0.0), ("mr", 0.1)] {
        for (index, case) in ["c1", "c2", "m1", "m2"].into_iter().enumerate() {
            rows.push(row(case, adapter, Some(0.5 + more + 0.05 * index as f64)));
        }
        rows.push(row("m3", adapter, None));
    }
    rows
}

#[test]
fn empty_truth_is_counted_apart() {
    let groups = groups(&rows(), &EvaluationOptions::default());
    let all = groups.iter().find(|group| group.by == "all" && group.adapter == "mr").expect("it is there");
    let dice = all.dice.expect("four have it");
    assert_eq!((all.rows, all.subjects, dice.count), (5, 4, 4));
    assert_eq!(all.empty_truth, EmptyTruth { count: 1, found_nothing: 0, mean_found_ml: 2.0 });
    assert!((dice.mean - 0.675).abs() < 1e-12 && (dice.median - 0.675).abs() < 1e-12);
    let [low, high] = dice.ci95.expect("four subjects");
    assert!(0.6 <= low && low < dice.mean && dice.mean < high && high <= 0.75);
    let values =
        |by: &str| groups.iter().filter(|group| group.by == by).map(|group| group.value.clone()).collect::<Vec<_>>();
    assert_eq!(values("modality"), ["CT", "MR", "CT", "MR"]);
    assert_eq!(values("structure"), ["liver", "liver"]);
}

#[test]
fn systems_are_compared_on_the_masks_that_both_have() {
    let mut rows = rows();
    rows.retain(|row| !(row.adapter == "mr" && row.case == "c1"));
    let comparisons = comparisons(&rows, &[], &EvaluationOptions::default());
    let names: Vec<_> = comparisons.iter().map(|c| (c.modality.as_str(), c.measure.as_str(), c.pairs)).collect();
    let expected = [("all", "dice", 3), ("all", "nsd", 3), ("CT", "dice", 1), ("CT", "nsd", 1), ("MR", "dice", 2)];
    assert_eq!(names[..5], expected);
    let all = &comparisons[0];
    assert_eq!((all.first.as_str(), all.second.as_str()), (NONE, "mr"));
    assert!((all.mean_difference - 0.1).abs() < 1e-12 && all.wilcoxon.pairs == 3);
}

#[test]
fn a_row_survives_the_journal_and_the_table() {
    let row = Row { reason: Some("a, \"b\"".into()), ..row("c1", NONE, Some(1.0 / 3.0)) }.rounded();
    let text = serde_json::to_string(&row).expect("plain data");
    assert_eq!(serde_json::from_str::<Row>(&text).expect("a row"), row);
    assert_eq!(row.metrics.dice, Some(0.333_333));
    let header = super::super::row::CSV_HEADER;
    assert_eq!(header.split(',').count(), 22);
    assert!(row.csv().starts_with("set,c1,c1,CT,,test,liver,none,box,0,none,measured,\"a, \"\"b\"\"\",5,2,0.333333,"));
}

#[test]
fn thirds_are_by_the_measure() {
    let thirds = terciles((0..6).map(|index| (f64::from(5 - index), f64::from(index))).collect());
    let means: Vec<f64> = thirds.iter().map(|third| third.mean_dice).collect();
    assert_eq!(means, [4.5, 2.5, 0.5]);
    assert_eq!(thirds[0].range, [0.0, 1.0]);
}
