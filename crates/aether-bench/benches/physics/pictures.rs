//! The pictures of the page on detectors, each drawn from one run of a generator: a service map, a folded standing wave
//! and a fringe.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aether::physics::{Claim, Interfere, StandingOptions, StandingWaves};
use aether_core::{Amplitude, Channel, Phase, Source};
use fastrand::Rng;

use super::Outcome;
use super::random::normal;
use super::resonance::{Link, shop_map};

/// The colours of Okabe and Ito, which most people can distinguish.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:13px}\
.a{stroke:#57606a;stroke-width:1;fill:none}.b{fill:none;stroke:#57606a}.right{stroke:#009e73;stroke-width:2;fill:none}\
.missed{stroke:#e69f00;stroke-width:2;stroke-dasharray:5 4;fill:none}.wrong{stroke:#d55e00;stroke-width:2;fill:none}\
.bar{fill:#0072b2}.other{fill:#cc79a7}.line{stroke:#0072b2;stroke-width:2;fill:none}.s{font-size:10px}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.a,.b{stroke:#8b949e}}";

fn picture(width: f64, height: f64, title: &str, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<text x=\"16\" y=\"22\" class=\"t\">{title}</text>\n{content}</svg>\n"
    )
}

pub(super) fn draw(root: &Path, seed: u64) -> Outcome {
    let docs = root.join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("physics-map.svg"), map(seed))?;
    std::fs::write(docs.join("physics-standing.svg"), standing(seed)?)?;
    std::fs::write(docs.join("physics-fringe.svg"), fringe(seed)?)?;
    Ok(())
}

/// The shop's map by timing alone, arranged in columns by the longest path from a root.
fn map(seed: u64) -> String {
    let links = shop_map(seed);
    let mut column: BTreeMap<&str, usize> = BTreeMap::new();
    for link in &links {
        column.entry(&link.from).or_default();
        column.entry(&link.to).or_default();
    }
    // Repeat once for each possible column. Wrong edges do not move anything.
    for _ in 0..column.len() {
        for link in links.iter().filter(|link| link.is_true) {
            let to = column[&*link.from] + 1;
            column.entry(&link.to).and_modify(|at| *at = (*at).max(to.min(8)));
        }
    }
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let place: BTreeMap<&str, (f64, f64)> = column
        .iter()
        .map(|(name, column)| {
            let row = rows.entry(*column).or_default();
            *row += 1;
            (*name, (16.0 + 150.0 * *column as f64, 8.0 + 50.0 * *row as f64 + 14.0 * (*column % 2) as f64))
        })
        .collect();
    let mut content = String::new();
    for Link { from, to, is_true, lag } in &links {
        let ((x, y), (to_x, to_y)) = (place[&**from], place[&**to]);
        let (x, y, to_y) = (x + 104.0, y + 13.0, to_y + 13.0);
        let middle = (x + to_x) / 2.0;
        let class = match (is_true, lag) {
            (true, Some(_)) => "right",
            (true, None) => "missed",
            (false, _) => "wrong",
        };
        let _ = writeln!(
            content,
            "<path class=\"{class}\" d=\"M{x:.0} {y:.0}C{middle:.0} {y:.0} {middle:.0} {to_y:.0} {to_x:.0} {to_y:.0}\"/>"
        );
        if let Some(lag) = lag {
            let milliseconds = lag.as_secs_f64() * 1e3;
            let _ = writeln!(
                content,
                "<text class=\"s\" x=\"{:.0}\" y=\"{:.0}\">{milliseconds:.0} ms</text>",
                middle - 12.0,
                (y + to_y) / 2.0 - 3.0
            );
        }
    }
    for (name, (x, y)) in &place {
        let _ = writeln!(
            content,
            "<rect class=\"b\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"104\" height=\"26\" rx=\"4\"/>\
             <text class=\"s\" x=\"{:.0}\" y=\"{:.0}\">{name}</text>",
            x + 6.0,
            y + 17.0
        );
    }
    let width = place.values().fold(0.0_f64, |most, (x, _)| most.max(*x)) + 130.0;
    let height = place.values().fold(0.0_f64, |most, (_, y)| most.max(*y)) + 60.0;
    let _ = writeln!(
        content,
        "<text class=\"s\" x=\"16\" y=\"{:.0}\">green: true and found, with its median lag; orange, dashed: true and not found; red: \
         found and not true. 10 minutes, no causes, seed {seed}.</text>",
        height - 12.0
    );
    picture(width.max(640.0), height, "The service map of the shop, by timing alone (L1)", &content)
}

/// The moments of one stream, folded at the detected period and at another one.
fn standing(seed: u64) -> Result<String, Box<dyn std::error::Error>> {
    let mut random = Rng::with_seed(seed);
    let (channel, source) = (Channel::new("stock.level")?, Source::new("stock")?);
    let mut detector = StandingWaves::new(StandingOptions::default())?;
    let (start, mut moments) = (Instant::now(), Vec::new());
    for beat in 1..=160 {
        let moment = f64::from(beat) + 0.05 * normal(&mut random);
        if random.f64() >= 0.2 {
            moments.push(moment);
            let now = start + Duration::from_secs_f64(moment);
            detector.beat(&channel, &source, Duration::ZERO, now);
            while detector.tick(now).is_some() {}
        }
    }
    let found = detector.stream(&channel, &source).ok_or("the stream of the picture was not found")?;
    let period = found.period.as_secs_f64();
    let mut content = String::new();
    for (panel, folded_at) in [period, 0.83 * period].into_iter().enumerate() {
        let left = 40.0 + 400.0 * panel as f64;
        let mut bins = [0_u32; 40];
        for moment in &moments {
            bins[(((moment / folded_at + 0.5).fract() * 40.0) as usize).min(39)] += 1;
        }
        for (bin, count) in bins.iter().enumerate() {
            let height = f64::from(*count) * 4.0;
            let _ = writeln!(
                content,
                "<rect class=\"{}\" x=\"{:.0}\" y=\"{:.0}\" width=\"8\" height=\"{height:.0}\"/>",
                if panel == 0 { "bar" } else { "other" },
                left + 9.0 * bin as f64,
                250.0 - height
            );
        }
        let what = if panel == 0 { "the period that was found" } else { "another one" };
        let _ = writeln!(
            content,
            "<path class=\"a\" d=\"M{left} 250H{}\"/><text class=\"s\" x=\"{left}\" y=\"268\">folded at {folded_at:.3} s, {what}</text>",
            left + 360.0
        );
    }
    let title = format!(
        "A heartbeat of 1 s, 5 % jitter, 20 % of the beats missing: regularity {:.2}, {} beats",
        found.regularity, found.beats
    );
    Ok(picture(840.0, 284.0, &title, &content))
}

/// The resultant of five probes' claims about one thing, second by second.
fn fringe(seed: u64) -> Result<String, Box<dyn std::error::Error>> {
    let mut random = Rng::with_seed(seed);
    let channel = Channel::new("probes.alert")?;
    let probes = (0..5).map(|n| Source::with_instance("probe", n + 1)).collect::<Result<Vec<_>, _>>()?;
    let mut detector =
        Interfere::by_key().window(Duration::from_secs(30)).sources(3).rise(0.95).fall(0.5).build()?;
    let half = Amplitude::new(0.7)?;
    let (start, mut sequence) = (Instant::now(), 0);
    let (mut line, mut marks) = (String::new(), String::new());
    for second in 0..240_u64 {
        let now = start + Duration::from_secs(second);
        for (number, probe) in probes.iter().enumerate() {
            let number = number as u64;
            // One probe has a blip at 20 s. A fault lasts from 80 s to 180 s, after which each probe retracts its
            // claim.
            let asserts = (number == 0 && second == 20)
                || ((80 + 3 * number)..180).contains(&second) && random.f64() < 0.2;
            let retracts = second == 180 + 2 * number;
            if asserts || retracts {
                sequence += 1;
                let phase = if asserts { Phase::ASSERT } else { Phase::RETRACT };
                let claim = Claim { amplitude: half, phase, sequence, age: Duration::ZERO };
                detector.claim(&channel, "a disk", probe, claim, now);
            }
        }
        while let Some(fringe) = detector.tick(now) {
            let _ = writeln!(
                marks,
                "<path class=\"wrong\" d=\"M{0:.0} 50V250\"/><text class=\"s\" x=\"{0:.0}\" y=\"44\">{1:?}, {2} sources</text>",
                40.0 + 3.2 * second as f64,
                fringe.kind,
                fringe.sources
            );
        }
        let amplitude = detector.resultant(&channel, "a disk", now).map_or(0.0, |sum| sum.amplitude);
        let step = if line.is_empty() { 'M' } else { 'L' };
        let _ = write!(line, "{step}{:.1} {:.1}", 40.0 + 3.2 * second as f64, 250.0 - 200.0 * amplitude);
    }
    let mut content = format!("<path class=\"line\" d=\"{line}\"/>\n{marks}");
    for (value, name) in [(0.0, "0"), (0.5, "0.5: fall"), (0.95, "0.95: rise")] {
        let y = 250.0 - 200.0 * value;
        let _ = writeln!(
            content,
            "<path class=\"a\" stroke-dasharray=\"2 4\" d=\"M40 {y}H808\"/><text class=\"s\" x=\"44\" y=\"{}\">{name}</text>",
            y - 3.0
        );
    }
    content.push_str(
        "<text class=\"s\" x=\"40\" y=\"268\">240 s. At 20 s one probe asserts; from 80 s on five do, at 180 s they begin to \
         retract.</text>\n",
    );
    Ok(picture(
        840.0,
        284.0,
        "Five probes about one disk: the resultant amplitude, and its two fringes",
        &content,
    ))
}
