//! Strategies of proptest for channels, patterns, waves and histories.
//!
//! ```
//! use aether_core::Wave;
//! use aether_testing::strategies::{channel, pattern_for, wave};
//! use proptest::prelude::*;
//!
//! proptest! {
//!     # #![proptest_config(ProptestConfig::with_cases(16))]
//!     # /*
//!     #[test]
//!     # */
//!     fn a_retry_is_weaker(wave in wave()) {
//!         prop_assert!(wave.resent().is_none_or(|again| again.amplitude() < wave.amplitude()));
//!     }
//! }
//! # a_retry_is_weaker();
//! ```

use std::collections::HashMap;
use std::time::Duration;

use aether_core::WaveError;
use aether_core::{Amplitude, Channel, Kind, Pattern, Phase, Vibrator, Wave};
use aether_service::error_chain;
use proptest::collection::{SizeRange, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::time::sleep;

use crate::bus::TestBus;

/// One token of a channel: a lower-case letter, then up to eight letters, digits, `-` or `_`.
fn token() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,8}"
}

/// Channels of one to four tokens. They are never reserved.
pub fn channel() -> impl Strategy<Value = Channel> {
    vec(token(), 1..=4).prop_filter_map("a channel", |tokens| Channel::new(tokens.join(".")).ok())
}

/// Patterns of one to four tokens with `*` and `>`, and `*` alone, which matches everything.
pub fn pattern() -> impl Strategy<Value = Pattern> {
    let tokens = vec(prop_oneof![3 => token(), 1 => Just("*".to_owned())], 0..=3);
    let last = prop_oneof![2 => token(), 1 => Just("*".to_owned()), 1 => Just(">".to_owned())];
    (tokens, last).prop_filter_map("a pattern", |(mut tokens, last)| {
        tokens.push(last);
        Pattern::new(tokens.join(".")).ok()
    })
}

/// Patterns that match this channel: some tokens are replaced by `*`, and the end perhaps by `>`.
pub fn pattern_for(channel: &Channel) -> impl Strategy<Value = Pattern> + use<> {
    let tokens: Vec<String> = channel.tokens().map(str::to_owned).collect();
    let count = tokens.len();
    (vec(any::<bool>(), count), option::of(0..count)).prop_filter_map("a pattern", move |(stars, cut)| {
        let mut tokens: Vec<_> =
            tokens.iter().zip(&stars).map(|(token, star)| if *star { "*" } else { token }).collect();
        // `>` matches one or more tokens.
        if let Some(cut) = cut {
            tokens.truncate(cut);
            tokens.push(">");
        }
        Pattern::new(tokens.join(".")).ok()
    })
}

/// All kinds of waves.
pub fn kind() -> impl Strategy<Value = Kind> {
    select(&Kind::ALL[..])
}

/// Kinds that a service emits by itself: all but responses.
fn emitted_kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Event, Kind::Broadcast, Kind::Command])
}

/// Waves that were not emitted, on any channel: all kinds, amplitudes, phases and keys, with payloads of up to 64 bytes
/// that are empty, text, JSON or binary.
pub fn wave() -> impl Strategy<Value = Wave> {
    wave_on(channel())
}

/// Like [`wave`], on channels of this strategy. `Just(channel)` is a single one.
pub fn wave_on(channel: impl Strategy<Value = Channel>) -> impl Strategy<Value = Wave> {
    wave_of(channel, kind())
}

fn wave_of(
    channel: impl Strategy<Value = Channel>,
    kind: impl Strategy<Value = Kind>,
) -> impl Strategy<Value = Wave> {
    let parts = (channel, kind, any::<u16>(), any::<bool>(), option::of("[a-z0-9]{1,8}"), payload());
    parts.prop_filter_map("a wave", |(channel, kind, loss, retracts, key, payload)| {
        built(&channel, kind, Amplitude::from_loss(loss), retracts, key.as_deref(), &payload).ok()
    })
}

#[derive(Debug, Clone)]
enum Payload {
    Empty,
    Text(String),
    Json(i64),
    Bytes(Vec<u8>),
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        ".{0,16}".prop_map(Payload::Text),
        any::<i64>().prop_map(Payload::Json),
        vec(any::<u8>(), 0..=64).prop_map(Payload::Bytes),
    ]
}

fn built(
    channel: &Channel,
    kind: Kind,
    amplitude: Amplitude,
    retracts: bool,
    key: Option<&str>,
    payload: &Payload,
) -> Result<Wave, WaveError> {
    let builder = Wave::builder(channel).kind(kind).amplitude(amplitude);
    let builder = if retracts { builder.phase(Phase::RETRACT) } else { builder };
    let builder = key.into_iter().fold(builder, |builder, key| builder.key(key));
    match payload {
        Payload::Empty => builder,
        Payload::Text(text) => builder.text(text),
        Payload::Json(number) => builder.json(number),
        Payload::Bytes(bytes) => builder.bytes(bytes.clone()),
    }
    .build()
}

/// One step of a history: a pause, and then a wave from a source.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Step {
    /// The time since the step before it.
    pub pause: Duration,
    /// The name of the vibrator that emits.
    pub source: String,
    /// The wave.
    pub wave: Wave,
}

/// Waves of several sources over time, to be played on a test bus.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct History {
    /// The steps in order.
    pub steps: Vec<Step>,
}

impl History {
    /// Emits the waves one after the other, each after its pause, by one vibrator for each source name. Returns the
    /// number of waves. With paused time it takes no time.
    ///
    /// # Panics
    /// If the medium refuses a wave.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the steps so far were emitted.
    pub async fn play(&self, bus: &TestBus) -> usize {
        let mut vibrators: HashMap<&str, Vibrator> = HashMap::new();
        for (number, step) in self.steps.iter().enumerate() {
            sleep(step.pause).await;
            if !vibrators.contains_key(&*step.source) {
                vibrators.insert(&step.source, bus.vibrator(&step.source).await);
            }
            if let Err(error) = vibrators[&*step.source].emit(step.wave.clone()).await {
                panic!("step {number} of the history was refused: {}", error_chain(&error));
            }
        }
        self.steps.len()
    }
}

/// Histories of events, broadcasts and commands: this many waves, from up to three sources named `a`, `b` and `c`, on a
/// few channels of this strategy, with pauses of 0 to 10 s.
///
/// Commands that nothing hears become dead letters.
pub fn history(
    channel: impl Strategy<Value = Channel>,
    waves: impl Into<SizeRange>,
) -> impl Strategy<Value = History> {
    let step = (0_u64..=10_000, select(vec!["a", "b", "c"]), wave_of(channel, emitted_kind()));
    let steps = vec(step, waves).prop_map(|steps| {
        let step = |(millis, source, wave): (u64, &str, Wave)| Step {
            pause: Duration::from_millis(millis),
            source: source.to_owned(),
            wave,
        };
        steps.into_iter().map(step).collect()
    });
    steps.prop_map(|steps| History { steps })
}
