//! The events of a simulation: a number that tells two runs apart, and the last events as text.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Wave;
use parking_lot::Mutex;

use crate::seed::{mixed, number_of};
use crate::wave_line;

/// The events that a failure prints.
const KEPT: usize = 60;

/// An event. Processes are given by their place.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A process started, was killed, and so on.
    Process {
        process: usize,
        what: &'static str,
    },
    /// The simulation did something to the network or to a clock.
    Did {
        what: String,
    },
    Connected {
        between: [usize; 2],
    },
    Broken {
        between: [Option<usize>; 2],
    },
    /// A message of the medium arrived at a process.
    Arrived {
        from: usize,
        to: usize,
    },
    /// A message for somebody who was not connected.
    Unsent {
        from: usize,
    },
    /// Messages that were on their way when their connection ended.
    Lost {
        messages: usize,
    },
    /// A store has written or synced.
    Disk {
        process: usize,
        what: &'static str,
        /// The bytes, or names in a folder.
        bytes: u64,
    },
    /// A wave passed from the network to the inboxes of a process.
    Wave {
        to: usize,
        wave: Wave,
    },
}

impl Event {
    fn digest(&self) -> u64 {
        match self {
            Self::Process { process, what } => mixed([1, *process as u64, number_of(what)]),
            Self::Did { what } => mixed([2, number_of(what)]),
            Self::Connected { between } => mixed([3, between[0] as u64, between[1] as u64]),
            Self::Broken { between } => mixed([4, number(between[0]), number(between[1])]),
            Self::Arrived { from, to } => mixed([5, *from as u64, *to as u64]),
            Self::Unsent { from } => mixed([6, *from as u64]),
            Self::Lost { messages } => mixed([7, *messages as u64]),
            Self::Disk { process, what, bytes } => mixed([9, *process as u64, number_of(what), *bytes]),
            Self::Wave { to, wave } => {
                let source = wave.source();
                let (name, channel) = (number_of(source.name()), number_of(wave.channel().as_str()));
                mixed([8, *to as u64, name, source.instance(), wave.id().sequence, channel])
            }
        }
    }

    fn line(&self, names: &[String]) -> Option<String> {
        let name = |process: usize| names.get(process).map_or("?", |name| &**name);
        Some(match self {
            Self::Process { process, what } => format!("{} {what}", name(*process)),
            Self::Did { what } => what.clone(),
            Self::Connected { between } => {
                format!("{} and {} are connected", name(between[0]), name(between[1]))
            }
            Self::Broken { between: [one, other] } => {
                let name = |process: &Option<usize>| process.map_or("?", name);
                format!("the connection of {} and {} is broken", name(one), name(other))
            }
            // There are many of them, and the waves in them are shown.
            Self::Arrived { .. } | Self::Unsent { .. } | Self::Disk { .. } => return None,
            Self::Lost { messages } => format!("{messages} messages on their way are lost"),
            Self::Wave { to, wave } => {
                let cause = wave.cause().map(wave_line::short_id);
                let described =
                    wave_line::described(wave, &wave_line::short_id(&wave.id()), cause.as_deref());
                format!("{} <- {}", name(*to), described.trim_end())
            }
        })
    }
}

fn number(process: Option<usize>) -> u64 {
    process.map_or(u64::MAX, |process| process as u64)
}

#[derive(Default)]
struct Events {
    digest: u64,
    last: VecDeque<(Duration, Event)>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

/// All that happens in one simulation. Clones are the same trace.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Events>>);

impl Trace {
    pub(super) fn note(&self, at: Duration, event: Event) {
        let mut events = self.0.lock();
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        events.digest = mixed([events.digest, nanos, event.digest()]);
        if matches!(event, Event::Arrived { .. } | Event::Unsent { .. } | Event::Disk { .. }) {
            return;
        }
        if events.last.len() == KEPT {
            events.last.pop_front();
        }
        events.last.push_back((at, event));
    }

    /// Two runs with the same events at the same times have the same number.
    pub(super) fn digest(&self) -> u64 {
        self.0.lock().digest
    }

    /// The last events, a line each.
    pub(super) fn last(&self, names: &[String]) -> String {
        let mut text = String::new();
        for (at, event) in &self.0.lock().last {
            if let Some(line) = event.line(names) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  {:>12}  {line}", wave_line::seconds(*at));
            }
        }
        text
    }
}
