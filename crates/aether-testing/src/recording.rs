//! The records of a probe, as text that is the same in every run: for snapshots and for reading.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aether_core::{Pattern, Source, Wave, WaveId};

use crate::wave_line;

/// The waves that a probe has seen, in order. Its text contains nothing random: sources are names, causes are line
/// numbers, and times count from the start of the bus.
///
/// Compare the text with a string, a file, or a snapshot crate such as `insta`. Times are stable if the clock is paused;
/// otherwise leave them out with [`without_times`](Self::without_times).
///
/// ```text
///  1     0.000 s  event     orders.created            from shop          0.50  {"sku":"lamp"}
///  2     0.000 s  command   stock.reserve             from orders        0.80  key=17  because of 1
///  3     0.200 s  event     stock.reserved            from stock         0.50  because of 2
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    waves: Vec<(Wave, Duration)>,
    times: bool,
}

impl Recording {
    pub(crate) fn new(waves: Vec<(Wave, Duration)>) -> Self {
        Self { waves, times: true }
    }

    /// Leaves out the times, which differ from run to run in real time.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        self.times = false;
        self
    }

    /// Leaves out the waves of a pattern, such as heartbeats. Causes that point to them are printed as ids.
    ///
    /// # Panics
    /// If the pattern is invalid.
    #[must_use]
    #[track_caller]
    pub fn without(mut self, pattern: &str) -> Self {
        let pattern = match Pattern::new(pattern) {
            Ok(pattern) => pattern,
            Err(error) => panic!("{pattern:?} is not a pattern: {error}"),
        };
        self.waves.retain(|(wave, _)| !pattern.matches(wave.channel()));
        self
    }

    /// The waves, in the order of their arrival at the probe.
    pub fn waves(&self) -> impl ExactSizeIterator<Item = &Wave> {
        self.waves.iter().map(|(wave, _)| wave)
    }
}

/// Names for sources: the name alone, and with a number from the second instance of a name on.
#[derive(Default)]
struct Names {
    instances: HashMap<String, Vec<u64>>,
}

impl Names {
    fn of(&mut self, source: &Source) -> String {
        let instances = self.instances.entry(source.name().to_owned()).or_default();
        let number =
            instances.iter().position(|instance| *instance == source.instance()).unwrap_or_else(|| {
                instances.push(source.instance());
                instances.len() - 1
            });
        if number == 0 { source.name().to_owned() } else { format!("{}#{}", source.name(), number + 1) }
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut names, mut lines) = (Names::default(), HashMap::<WaveId, usize>::new());
        for (number, (wave, at)) in (1..).zip(&self.waves) {
            let source = names.of(wave.source());
            let cause = wave.cause().map(|cause| match lines.get(cause) {
                Some(line) => line.to_string(),
                None => format!("{}/{}", names.of(&cause.source), cause.sequence),
            });
            // A wave can arrive twice; it is its first line that causes.
            lines.entry(wave.id()).or_insert(number);
            let described = wave_line::described(wave, &source, cause.as_deref());
            match self.times {
                true => {
                    writeln!(f, "{number:>3}  {:>10}  {}", wave_line::seconds(*at), described.trim_end())?
                }
                false => writeln!(f, "{number:>3}  {}", described.trim_end())?,
            }
        }
        Ok(())
    }
}
