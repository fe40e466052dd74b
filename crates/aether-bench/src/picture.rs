//! The picture of a comparison: strong messages by load, as an SVG.
//!
//! It is written without a plotting crate: two panels of lines are a page of code, and the crates (plotters, charming)
//! cannot adapt the colours of an SVG to the reader's light or dark theme, which takes one `@media` rule here.

use std::fmt::Write as _;

use crate::overload::Comparison;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 420.0;
/// The panels, each as its left edge and its width.
const PANELS: [(f64, f64); 2] = [(70.0, 370.0), (520.0, 370.0)];
const TOP: f64 = 84.0;
const BOTTOM: f64 = 360.0;
/// From 10 us to 10 s.
const DECADES: (i32, i32) = (1, 7);

/// Okabe and Ito's colours, which most people tell apart; the lines also differ in their marks.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-weight:600;font-size:13px}\
.grid{stroke:#d0d7de;stroke-width:1}\
.axis{stroke:#57606a;stroke-width:1}\
.line{fill:none;stroke-width:2}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#8b949e}}";

/// One contestant: its points by load.
struct Series<'a> {
    name: &'a str,
    number: usize,
    /// Load, strong p99 in microseconds, strong delivered in percent.
    points: Vec<(f64, Option<f64>, f64)>,
}

/// The picture. Left: the p99 of strong messages, on a logarithmic scale; right: the share of them that was delivered.
#[must_use]
pub fn svg(comparison: &Comparison) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut loads: Vec<f64> = Vec::new();
    for run in &comparison.runs {
        if !names.contains(&run.report.contestant.as_str()) {
            names.push(&run.report.contestant);
        }
        if !loads.contains(&run.load) {
            loads.push(run.load);
        }
    }
    loads.sort_by(f64::total_cmp);
    let series: Vec<Series<'_>> = names
        .iter()
        .enumerate()
        .map(|(number, &name)| {
            let runs = comparison.runs.iter().filter(|run| run.report.contestant == name);
            let points =
                runs.map(|run| (run.load, run.report.strong.p99_us, run.report.strong.delivered_percent()));
            Series { name, number, points: points.collect() }
        })
        .collect();

    let mut drawing = Drawing::begin();
    drawing.legend(&series);
    let p99_at = |us: f64| {
        let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
        let share = (us.max(1.0).log10().clamp(low, high) - low) / (high - low);
        BOTTOM - share * (BOTTOM - TOP)
    };
    let decades = (DECADES.0..=DECADES.1).map(|decade| {
        let us = 10_f64.powi(decade);
        let label = match decade {
            ..3 => format!("{us:.0} us"),
            3..6 => format!("{:.0} ms", us / 1e3),
            _ => format!("{:.0} s", us / 1e6),
        };
        (p99_at(us), label)
    });
    drawing.panel(PANELS[0], "p99 of the strong messages", decades, &loads);
    let percent_at = |percent: f64| BOTTOM - percent.clamp(0.0, 100.0) / 100.0 * (BOTTOM - TOP);
    let percents = (0..=5).map(|fifth| (percent_at(f64::from(fifth) * 20.0), format!("{} %", fifth * 20)));
    drawing.panel(PANELS[1], "strong messages delivered", percents, &loads);
    for one in &series {
        let p99 = one.points.iter().filter_map(|(load, p99, _)| Some((*load, p99_at((*p99)?))));
        drawing.line(one.number, p99.map(|(load, y)| (load_at(PANELS[0], &loads, load), y)));
        let delivered = one.points.iter().map(|(load, _, percent)| (*load, percent_at(*percent)));
        drawing.line(one.number, delivered.map(|(load, y)| (load_at(PANELS[1], &loads, load), y)));
    }
    drawing.end()
}

/// Loads have equal distances, because they are chosen so that each step matters.
fn load_at((left, width): (f64, f64), loads: &[f64], load: f64) -> f64 {
    let index = loads.iter().position(|other| *other >= load).unwrap_or(0);
    left + width * (index as f64 + 0.5) / loads.len().max(1) as f64
}

/// A string to which elements are added. Writing to a String cannot fail, so results are ignored.
struct Drawing(String);

impl Drawing {
    fn begin() -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"Strong messages under overload: their p99 and the share delivered, by load\">\n\
             <style>{STYLE}</style>\n"
        ))
    }

    fn legend(&mut self, series: &[Series<'_>]) {
        let width = (WIDTH - 2.0 * PANELS[0].0) / series.len().max(1) as f64;
        for one in series {
            let x = PANELS[0].0 + width * one.number as f64;
            self.mark(one.number, x + 6.0, 20.0);
            let _ = writeln!(self.0, "<text x=\"{:.1}\" y=\"24\">{}</text>", x + 18.0, escaped(one.name));
        }
    }

    fn panel(
        &mut self,
        (left, width): (f64, f64),
        title: &str,
        ticks: impl Iterator<Item = (f64, String)>,
        loads: &[f64],
    ) {
        let right = left + width;
        let _ = writeln!(self.0, "<text class=\"title\" x=\"{left}\" y=\"62\">{title}</text>");
        for (y, label) in ticks {
            let _ = writeln!(self.0, "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>");
            let (x, y) = (left - 8.0, y + 4.0);
            let _ = writeln!(self.0, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>");
        }
        for load in loads {
            let x = load_at((left, width), loads, *load);
            let y = BOTTOM + 18.0;
            let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{load}x</text>");
        }
        let _ = writeln!(self.0, "<path class=\"axis\" d=\"M{left} {BOTTOM}H{right}\"/>");
        let (x, y) = (left + width / 2.0, BOTTOM + 40.0);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">offered load, in capacities of the handler</text>"
        );
    }

    fn line(&mut self, number: usize, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<(f64, f64)> = points.collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if path.len() > 1 {
            let colour = colour(number);
            let _ = writeln!(self.0, "<path class=\"line\" stroke=\"{colour}\" d=\"M{}\"/>", path.join("L"));
        }
        for (x, y) in points {
            self.mark(number, x, y);
        }
    }

    /// A different mark for each contestant, for readers who cannot distinguish the colours.
    fn mark(&mut self, number: usize, x: f64, y: f64) {
        let colour = colour(number);
        let _ = match number % 4 {
            0 => writeln!(self.0, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"),
            1 => writeln!(
                self.0,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{colour}\"/>",
                x - 4.0,
                y - 4.0
            ),
            2 => writeln!(self.0, "<path d=\"M{x:.1} {:.1}l5 9h-10z\" fill=\"{colour}\"/>", y - 5.0),
            _ => writeln!(
                self.0,
                "<path d=\"M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z\" fill=\"{colour}\"/>",
                y - 5.5
            ),
        };
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_formed_and_shows_every_contestant_in_both_panels() {
        let mut comparison = crate::tables::tests::comparison();
        comparison.runs[2].report.strong.p99_us = None;
        for run in &mut comparison.runs {
            run.report.contestant = run.report.contestant.replace("Aether", "A<ther & co");
        }
        let text = svg(&comparison);
        let document = roxmltree::Document::parse(&text).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        for part in ["tokio mpsc", "A<ther & co", "0.5x", "10x", "10 us", "10 s", "100 %"] {
            assert!(texts.contains(&part), "{part}: {texts:?}");
        }
        let lines = document.descendants().filter(|node| node.attribute("class") == Some("line")).count();
        // One contestant lacks a p99, so it has a point and no line.
        assert_eq!(lines, 3);
        assert!(text.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_comparison_that_was_interrupted_at_once_is_a_picture_too() {
        let mut comparison = crate::tables::tests::comparison();
        comparison.runs.clear();
        roxmltree::Document::parse(&svg(&comparison)).unwrap();
    }
}
