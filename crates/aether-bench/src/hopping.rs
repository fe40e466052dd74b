//! How an adaptive hopping channel recovers from jammed lanes, and the picture of it.

use std::fmt::Write as _;

/// The share of lost waves in each slot, for an adaptive channel and for a fixed one.
#[derive(Debug)]
pub struct Recovery {
    /// The slot from which on lanes are jammed.
    pub jammed_from: usize,
    /// The slot from which on the channel counts as steady.
    pub steady_from: usize,
    /// The losses of an adaptive channel.
    pub adaptive: Vec<f64>,
    /// The losses of a fixed channel.
    pub fixed: Vec<f64>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 270.0;
/// The number of slots averaged per point: single slots are lost completely or not at all.
const SMOOTHED: usize = 16;
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-weight:600;font-size:13px}\
.grid{stroke:#d0d7de;stroke-width:1}\
.line{fill:none;stroke-width:2}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}}";

impl Recovery {
    /// The loss of an adaptive channel after it has adapted.
    #[must_use]
    pub fn steady_loss(&self) -> f64 {
        let steady = self.adaptive.get(self.steady_from..).unwrap_or_default();
        steady.iter().sum::<f64>() / steady.len().max(1) as f64
    }
}

/// The picture, as an SVG: loss over slots.
#[must_use]
pub fn picture(recovery: &Recovery) -> String {
    let slots = recovery.adaptive.len().max(1);
    let x = |slot: usize| LEFT + (RIGHT - LEFT) * slot as f64 / slots as f64;
    let y = |loss: f64| BOTTOM - (BOTTOM - TOP) * loss;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Loss over slots with half of the lanes jammed\"><style>{STYLE}</style>\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">Waves lost with 8 of 16 lanes jammed, mean of {SMOOTHED} slots</text>"
    );
    // Writing to a String cannot fail.
    for percent in [0, 25, 50, 75, 100] {
        let y = y(f64::from(percent) / 100.0);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let jammed = x(recovery.jammed_from);
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{jammed:.1}\" x2=\"{jammed:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">jammed from here</text>",
        jammed + 4.0,
        TOP + 12.0
    );
    for (slot, anchor) in [(0, "start"), (slots / 2, "middle"), (slots, "end")] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">slot {slot}</text>",
            x(slot),
            BOTTOM + 18.0
        );
    }
    for (number, (name, losses, colour)) in
        [("fixed", &recovery.fixed, "#d55e00"), ("adaptive", &recovery.adaptive, "#0072b2")]
            .into_iter()
            .enumerate()
    {
        let points: Vec<String> = (0..losses.len())
            .map(|slot| {
                let window = &losses[slot.saturating_sub(SMOOTHED - 1)..=slot];
                let mean = window.iter().sum::<f64>() / window.len() as f64;
                format!("{:.1},{:.1}", x(slot), y(mean))
            })
            .collect();
        let legend = LEFT + 100.0 * number as f64;
        let _ = write!(
            svg,
            "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>\
             <line class=\"line\" stroke=\"{colour}\" x1=\"{legend}\" x2=\"{}\" y1=\"306\" y2=\"306\"/>\
             <text x=\"{}\" y=\"310\">{name}</text>",
            points.join(" "),
            legend + 24.0,
            legend + 30.0
        );
    }
    svg + "</svg>\n"
}
