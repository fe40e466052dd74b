//! What the detectors found: one line for people, fields for programs.

use std::fmt;

use super::strobe::Sampling;
use crate::channel::Channel;
use crate::physics::resonance::{Edge, Tier};

/// Something that changed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// One channel follows another, which was not known at the last report.
    Related {
        /// How surely, and how fast.
        edge: Box<Edge>,
    },
    /// An edge that the last report had is no longer found: it fell silent, or too much else was seen since.
    Unrelated {
        /// The channel of the causes.
        from: Channel,
        /// The channel of the effects.
        to: Channel,
        /// How it was known.
        tier: Tier,
    },
    /// There are more waves than the engine may take in; it looks away for a while.
    Sampling {
        /// How many it took in.
        sampling: Sampling,
    },
    /// The clock that the engine was given went back, or forth by more than a minute.
    ClockJumped {
        /// How often it did so far.
        times: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Related { edge } => {
                let lag = edge.median_lag.as_secs_f64() * 1e3;
                write!(f, "{} -> {} follows after {lag:.1} ms", edge.from, edge.to)?;
                write!(f, " ({}, {:.2} a wave", edge.tier, edge.effect)?;
                if !edge.handlers.is_empty() {
                    write!(f, ", by {}", edge.handlers.join(", "))?;
                }
                f.write_str(")")
            }
            Self::Unrelated { from, to, tier } => write!(f, "{from} -> {to} is no longer found ({tier})"),
            Self::Sampling { sampling } => {
                write!(f, "too many waves: {:.1} % of them are looked at", 100.0 * sampling.rate())
            }
            Self::ClockJumped { times } => write!(f, "the clock jumped, for the {times}. time"),
        }
    }
}
