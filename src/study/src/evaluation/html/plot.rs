//! Plots as SVG: bars with intervals, and lines over severities. No script, no font, nothing loaded.

use std::fmt::Write;

/// Easily told apart, also by people who see colours differently (Okabe and Ito).
pub(super) const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 12.0;

/// A number from 0 to 1, with its interval.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) mean: f64,
    pub(super) interval: Option<[f64; 2]>,
}

/// A name and its value in each group, where it has one.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<Option<Value>>,
}

/// Text as it stands in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn y(value: f64, height: f64) -> f64 {
    TOP + (1.0 - value.clamp(0.0, 1.0)) * height
}

/// The frame: lines at each fifth, with numbers; names below.
fn frame(svg: &mut String, names: &[String], height: f64, turned: bool) {
    for fifth in 0..=5 {
        let (value, at) = (f64::from(fifth) / 5.0, y(f64::from(fifth) / 5.0, height));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let _ = write!(
        svg,
        "<text transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">Dice</text>",
        TOP + height / 2.0
    );
    let each = (WIDTH - LEFT) / names.len().max(1) as f64;
    for (index, name) in names.iter().enumerate() {
        let (x, base) = (LEFT + (index as f64 + 0.5) * each, TOP + height);
        let place = if turned {
            format!("transform=\"translate({:.1} {:.1}) rotate(-45)\" text-anchor=\"end\"", x + 4.0, base + 12.0)
        } else {
            format!("x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\"", base + 16.0)
        };
        let _ = write!(svg, "<text {place}>{}</text>", escaped(name));
    }
}

fn legend(svg: &mut String, series: &[Series], at: f64) {
    let mut x = LEFT;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
            at - 10.0,
            x + 16.0,
            escaped(&series.name)
        );
        x += 30.0 + 7.0 * series.name.chars().count() as f64;
    }
}

fn page(body: &str, height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\" font-size=\"12\">{body}</svg>\n",
        escaped(title)
    )
}

/// Bars from 0 to 1, one for each series in each group.
pub(super) fn bars(title: &str, groups: &[String], series: &[Series]) -> String {
    let turned = groups.len() > 6;
    let height = 220.0;
    let below = if turned { 120.0 } else { 26.0 };
    let mut svg = String::new();
    frame(&mut svg, groups, height, turned);
    let each = (WIDTH - LEFT) / groups.len().max(1) as f64;
    let wide = (0.8 * each / series.len().max(1) as f64).min(40.0);
    for (number, (series_, colour)) in series.iter().zip(COLOURS.iter().cycle()).enumerate() {
        for (index, value) in series_.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let x = LEFT + (index as f64 + 0.5) * each + (number as f64 - series.len() as f64 / 2.0) * wide;
            let (top, base) = (y(value.mean, height), TOP + height);
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{} {}: {:.3}</title></rect>",
                (wide - 1.0).max(1.0),
                base - top,
                escaped(&series_.name),
                escaped(&groups[index]),
                value.mean
            );
            if let Some([low, high]) = value.interval {
                let middle = x + wide / 2.0;
                let _ = write!(
                    svg,
                    "<line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#222\"/>",
                    y(low, height),
                    y(high, height)
                );
            }
        }
    }
    let at = TOP + height + below + 14.0;
    legend(&mut svg, series, at);
    page(&svg, at + 10.0, title)
}

/// Lines from 0 to 1 over steps.
pub(super) fn lines(title: &str, steps: &[String], series: &[Series]) -> String {
    let height = 190.0;
    let mut svg = String::new();
    frame(&mut svg, steps, height, false);
    let each = (WIDTH - LEFT) / steps.len().max(1) as f64;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (index, value) in series.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let (x, at) = (LEFT + (index as f64 + 0.5) * each, y(value.mean, height));
            let _ = write!(path, "{}{x:.1} {at:.1}", if path.is_empty() { 'M' } else { 'L' });
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let _ = write!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
    }
    let at = TOP + height + 40.0;
    legend(&mut svg, series, at);
    page(&svg, at + 10.0, title)
}
