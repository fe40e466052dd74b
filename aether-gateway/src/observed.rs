//! The observed traffic by channel.
//!
//! The gateway records every wave here; the page, the metrics and the command line read it. It holds names and numbers
//! but no waves, so it never keeps a question open or a payload in memory.
//!
//! The table is bounded: up to a maximum number of channels have a line each, all others share one. When the table is
//! full, a new channel replaces the one that was silent for longest, if that was for [`SILENT`]. So made-up names do
//! not keep their lines, and a channel with at least one wave a minute never loses its line to them. Where waves are signed,
//! the signer that has caused most lines makes room for one that has caused fewer. The counts of a
//! replaced line go to a separate sum, because adding them to the shared line would make its rate jump.

use std::collections::HashMap;
use std::time::Duration;

use aether_core::{Amplitude, Channel, Kind, Source, Wave};
use aether_metrics::prometheus_client::metrics::histogram::Histogram;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::emitters::Emitters;
use crate::rate::Rate;
use crate::track::{Buckets, Moment, Track};

/// The shared line of all channels without their own.
pub use aether_metrics::OTHER;

/// The silence after which another channel may take over a line.
const SILENT: Duration = Duration::from_secs(60);

/// How many lines are looked at for one that makes room, so that a large table costs no more.
const MOST_LOOKED_AT: usize = 1024;

/// Upper bounds of the age histogram in seconds: from delivery inside the process to waves that waited during an
/// outage.
const AGE_BOUNDS: [f64; 15] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0, 10.0, 60.0];

/// The record of all waves that the gateway has observed.
#[derive(Debug)]
pub struct Observed {
    since: Instant,
    max_channels: usize,
    table: Mutex<Table>,
    ages: Histogram,
}

#[derive(Debug)]
struct Table {
    waves: u64,
    payload_bytes: u64,
    rate: Rate,
    channels: LruCache<Channel, Entry>,
    /// How many lines each signer has caused, and all who have not signed together.
    by_signer: HashMap<Option<u64>, usize>,
    other: Option<Entry>,
    forgotten: Forgotten,
}

/// The counts of replaced lines.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Forgotten {
    /// The number of replaced lines.
    pub(crate) channels: u64,
    pub(crate) waves: u64,
    pub(crate) payload_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    kinds: [Count; Kind::ALL.len()],
    last_source: Source,
    last_amplitude: Amplitude,
    last_seen: Instant,
    track: Track,
    /// The emitters of waves other than answers.
    emitters: Emitters,
    /// The signer that caused the line.
    signer: Option<u64>,
}

/// The last second of a channel.
#[derive(Debug, Clone)]
pub(crate) struct Second {
    pub(crate) channel: Channel,
    pub(crate) moment: Moment,
}

/// A channel with its rate and its emitters.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    pub(crate) channel: Channel,
    pub(crate) waves: u64,
    pub(crate) per_second: f64,
    pub(crate) energy: f64,
    pub(crate) emitters: Emitters,
    pub(crate) last_seen: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    waves: u64,
    payload_bytes: u64,
}

/// The observed traffic of one channel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ObservedChannel {
    /// The name, or [`OTHER`].
    pub channel: String,
    /// The waves by kind, without kinds that did not occur.
    pub kinds: Vec<ObservedKind>,
    /// The vibrator that emitted the last wave.
    pub last_source: String,
    /// The amplitude of the last wave at its source.
    pub last_amplitude: Amplitude,
    /// The time since the last wave.
    pub last_seen: Duration,
}

/// The waves of one kind on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedKind {
    /// The kind.
    pub kind: Kind,
    /// The number of waves.
    pub waves: u64,
    /// The size of their payloads together, in bytes.
    pub payload_bytes: u64,
}

impl Observed {
    pub(crate) fn new(max_channels: usize) -> Self {
        Self {
            since: Instant::now(),
            max_channels,
            table: Mutex::new(Table {
                waves: 0,
                payload_bytes: 0,
                rate: Rate::default(),
                channels: LruCache::unbounded(),
                by_signer: HashMap::new(),
                other: None,
                forgotten: Forgotten::default(),
            }),
            ages: Histogram::new(AGE_BOUNDS),
        }
    }

    /// The number of observed waves.
    #[must_use]
    pub fn waves(&self) -> u64 {
        self.table.lock().waves
    }

    /// The size of their payloads together, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.table.lock().payload_bytes
    }

    /// Waves a second, over the last ten seconds or so.
    #[must_use]
    pub fn waves_per_second(&self) -> f64 {
        self.table.lock().rate.per_second(self.since.elapsed())
    }

    /// The number of channels with a line of their own.
    pub(crate) fn known_channels(&self) -> usize {
        self.table.lock().channels.len()
    }

    /// The time since counting began.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// When counting began.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The channels ordered by name. [`OTHER`] comes last, if present.
    #[must_use]
    pub fn channels(&self) -> Vec<ObservedChannel> {
        let table = self.table.lock();
        // Read the clock after taking the lock, so that no line is newer.
        let now = Instant::now();
        let mut channels: Vec<_> =
            table.channels.iter().map(|(channel, entry)| entry.line(channel.as_str(), now)).collect();
        let other = table.other.as_ref().map(|entry| entry.line(OTHER, now));
        drop(table);
        channels.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        channels.extend(other);
        channels
    }

    /// Ends a second of every channel, and with `ends_bucket` a bucket of its history. Returns the channels that had waves
    /// in it, and the sum over all.
    pub(crate) fn end_second(&self, ends_bucket: bool) -> (Vec<Second>, Moment) {
        let mut table = self.table.lock();
        let mut all = Moment::default();
        let mut seconds = Vec::new();
        for (channel, entry) in table.channels.iter_mut() {
            let moment = entry.end_second(ends_bucket);
            all += moment;
            if moment.waves > 0 {
                seconds.push(Second { channel: channel.clone(), moment });
            }
        }
        if let Some(other) = &mut table.other {
            all += other.end_second(ends_bucket);
        }
        (seconds, all)
    }

    /// A copy of the last buckets of the channels that had waves last, of at most this many.
    pub(crate) fn tracks(&self, most: usize, buckets: usize) -> Vec<(Channel, Buckets)> {
        let table = self.table.lock();
        // The table is ordered by the last wave, the newest first.
        let channels = table.channels.iter().take(most);
        channels.map(|(channel, entry)| (channel.clone(), entry.track.last(buckets))).collect()
    }

    /// The busiest channels with their emitters, the busiest first.
    pub(crate) fn busiest(&self, most: usize) -> Vec<Emitted> {
        let table = self.table.lock();
        let now = Instant::now();
        let emitted = |(channel, entry): (&Channel, &Entry)| Emitted {
            channel: channel.clone(),
            waves: entry.kinds.iter().map(|count| count.waves).sum(),
            per_second: entry.track.per_second(),
            energy: entry.track.energy(),
            emitters: entry.emitters.clone(),
            last_seen: now.saturating_duration_since(entry.last_seen),
        };
        let mut all: Vec<_> = table.channels.iter().map(emitted).collect();
        drop(table);
        all.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then_with(|| b.waves.cmp(&a.waves)));
        all.truncate(most);
        all
    }

    /// The counts that are in no line any more.
    pub(crate) fn forgotten(&self) -> Forgotten {
        self.table.lock().forgotten
    }

    /// The ages of the waves when they were observed.
    pub(crate) fn ages(&self) -> Histogram {
        self.ages.clone()
    }

    pub(crate) fn note(&self, wave: &Wave) {
        self.note_signed(wave, wave.proven_source().map(|source| source.signer().0));
    }

    fn note_signed(&self, wave: &Wave, signer: Option<u64>) {
        self.ages.observe(wave.age().as_secs_f64());
        let now = Instant::now();
        let mut table = self.table.lock();
        table.note(wave, signer, (now, now - self.since), self.max_channels);
    }
}

impl Table {
    fn note(
        &mut self,
        wave: &Wave,
        signer: Option<u64>,
        (now, elapsed): (Instant, Duration),
        max_channels: usize,
    ) {
        let payload_bytes = wave.payload().len() as u64;
        self.waves += 1;
        self.payload_bytes += payload_bytes;
        self.rate.note(elapsed);
        let entry = if let Some(entry) = self.channels.get_mut(wave.channel()) {
            entry
        } else if wave.channel().as_str() != OTHER && self.has_line(signer, now, max_channels) {
            *self.by_signer.entry(signer).or_default() += 1;
            self.channels.get_or_insert_mut(wave.channel().clone(), || Entry::first(wave, signer, now))
        } else {
            // A channel with the name of the shared line shares it, because two lines of one name would be invalid
            // metrics.
            self.other.get_or_insert_with(|| Entry::first(wave, None, now))
        };
        entry.note_emitter(wave);
        entry.track.note(payload_bytes, wave.amplitude());
        entry.last_amplitude = wave.amplitude();
        entry.last_seen = now;
        if let Some(at) = Kind::ALL.iter().position(|kind| *kind == wave.kind()) {
            entry.kinds[at].waves += 1;
            entry.kinds[at].payload_bytes += payload_bytes;
        }
    }

    /// Whether there is a line for one more channel of a signer. Frees the line of a silent channel if necessary, or
    /// one of the signer that has most.
    fn has_line(&mut self, signer: Option<u64>, now: Instant, max_channels: usize) -> bool {
        if self.channels.len() < max_channels {
            return true;
        }
        let is_silent = |entry: &Entry| now.saturating_duration_since(entry.last_seen) >= SILENT;
        let silent = self.channels.peek_lru().filter(|(_, entry)| is_silent(entry));
        let gone = silent.map(|(channel, _)| channel.clone()).or_else(|| self.of_largest(signer));
        let Some(entry) = gone.and_then(|gone| self.channels.pop(&gone)) else { return false };
        if let Some(lines) = self.by_signer.get_mut(&entry.signer) {
            *lines -= 1;
            if *lines == 0 {
                self.by_signer.remove(&entry.signer);
            }
        }
        self.forgotten.channels += 1;
        for count in entry.kinds {
            self.forgotten.waves += count.waves;
            self.forgotten.payload_bytes += count.payload_bytes;
        }
        true
    }

    /// The channel that was silent for longest of the signer that has most lines, if that has more than this one.
    fn of_largest(&self, signer: Option<u64>) -> Option<Channel> {
        let own = self.by_signer.get(&signer).copied().unwrap_or_default();
        let (largest, lines) = self.by_signer.iter().max_by_key(|(_, lines)| **lines)?;
        let mut oldest = self.channels.iter().rev().take(MOST_LOOKED_AT);
        // With one line more they would only take turns.
        let of_largest = (*lines > own + 1).then(|| oldest.find(|(_, entry)| entry.signer == *largest));
        of_largest.flatten().map(|(channel, _)| channel.clone())
    }
}

impl Entry {
    fn first(wave: &Wave, signer: Option<u64>, now: Instant) -> Self {
        Self {
            kinds: Default::default(),
            last_source: wave.source().clone(),
            last_amplitude: wave.amplitude(),
            last_seen: now,
            track: Track::default(),
            emitters: Emitters::default(),
            signer,
        }
    }

    /// Remembers who emits on the channel. An answer travels on the channel of its question, so it tells nothing.
    fn note_emitter(&mut self, wave: &Wave) {
        if wave.kind() != Kind::Response {
            self.emitters.note(wave.source().name());
        }
        self.last_source = wave.source().clone();
    }

    fn end_second(&mut self, ends_bucket: bool) -> Moment {
        self.emitters.end_second();
        self.track.end_second(ends_bucket)
    }

    fn line(&self, channel: &str, now: Instant) -> ObservedChannel {
        let kinds = Kind::ALL.into_iter().zip(self.kinds).filter(|(_, count)| count.waves > 0);
        ObservedChannel {
            channel: channel.to_owned(),
            kinds: kinds
                .map(|(kind, Count { waves, payload_bytes })| ObservedKind { kind, waves, payload_bytes })
                .collect(),
            last_source: self.last_source.name().to_owned(),
            last_amplitude: self.last_amplitude,
            last_seen: now.saturating_duration_since(self.last_seen),
        }
    }
}

impl ObservedChannel {
    /// The waves of all kinds.
    #[must_use]
    pub fn waves(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.waves).sum()
    }

    /// The size of their payloads together, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.payload_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(channel: &str, kind: Kind) -> Wave {
        Wave::builder(channel).kind(kind).bytes("12345").build().unwrap()
    }

    #[tokio::test]
    async fn channels_beyond_the_bound_share_one_line_and_every_wave_is_counted() {
        let observed = Observed::new(2);
        for channel in ["b", "a", "c", OTHER, "d", "a"] {
            observed.note(&wave(channel, Kind::Event));
        }
        observed.note(&wave("a", Kind::Query));
        let lines: Vec<_> = observed.channels().iter().map(|c| (c.channel.clone(), c.waves())).collect();
        assert_eq!(lines, [("a".to_owned(), 3), ("b".to_owned(), 1), (OTHER.to_owned(), 3)]);
        assert_eq!((observed.waves(), observed.payload_bytes()), (7, 35));
        let of_a = &observed.channels()[0].kinds;
        assert_eq!(
            of_a.iter().map(|k| (k.kind, k.waves)).collect::<Vec<_>>(),
            [(Kind::Event, 2), (Kind::Query, 1)]
        );
    }

    #[tokio::test]
    async fn a_channel_with_the_name_of_the_shared_line_shares_it() {
        let observed = Observed::new(10);
        observed.note(&wave(OTHER, Kind::Event));
        observed.note(&wave("a", Kind::Event));
        let names: Vec<_> = observed.channels().into_iter().map(|c| c.channel).collect();
        assert_eq!(names, ["a", OTHER]);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_names_lose_their_lines_and_take_none_from_an_active_channel() {
        let observed = Observed::new(3);
        let has = |channel: &str| observed.channels().iter().any(|line| line.channel == channel);
        let mut made_up = 0;
        // A flood of three minutes, with a wave every 20 s on a real channel.
        for _ in 0..9 {
            observed.note(&wave("busy", Kind::Event));
            for _ in 0..100 {
                observed.note(&wave(&format!("made.up.{made_up}"), Kind::Event));
                made_up += 1;
            }
            assert!(has("busy"));
            assert_eq!(observed.channels().len(), 4, "three lines and the shared one");
            tokio::time::advance(Duration::from_secs(20)).await;
        }
        assert!(!has("made.up.0"));
        let busy = observed.channels().into_iter().find(|line| line.channel == "busy");
        assert_eq!(busy.unwrap().waves(), 9);

        // When the flood is over, a new channel gets a line.
        tokio::time::advance(SILENT).await;
        observed.note(&wave("busy", Kind::Event));
        observed.note(&wave("new", Kind::Event));
        assert!(has("new") && has("busy"));
        let forgotten = observed.forgotten();
        let shown = observed.channels().iter().map(ObservedChannel::waves).sum::<u64>();
        assert_eq!(observed.waves(), shown + forgotten.waves, "nothing goes uncounted");
        let shown = observed.channels().iter().map(ObservedChannel::payload_bytes).sum::<u64>();
        assert_eq!(observed.payload_bytes(), shown + forgotten.payload_bytes);
        assert!(forgotten.channels > 2);
    }

    #[tokio::test]
    async fn a_signer_with_channels_without_end_takes_no_line_from_another() {
        let observed = Observed::new(100);
        let [evil, shop] = [1, 2].map(Some);
        for invented in 0..1000 {
            observed.note_signed(&wave(&format!("made.up.{invented}"), Kind::Event), evil);
        }
        for order in 0..10 {
            observed.note_signed(&wave(&format!("orders.{order}"), Kind::Event), shop);
            observed.note_signed(&wave(&format!("plain.{order}"), Kind::Event), None);
        }
        for invented in 0..1000 {
            observed.note_signed(&wave(&format!("made.up.{invented}"), Kind::Event), evil);
        }
        let of = |prefix: &str| {
            let channels = observed.channels();
            channels.iter().filter(|line| line.channel.starts_with(prefix)).count()
        };
        assert_eq!((of("orders."), of("plain."), of("made.up.")), (10, 10, 80));
        let (shown, forgotten) = (observed.channels(), observed.forgotten());
        assert_eq!(forgotten.channels, 20, "the pages show that lines were replaced");
        assert_eq!(observed.waves(), shown.iter().map(ObservedChannel::waves).sum::<u64>() + forgotten.waves);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_has_the_time_since_its_last_wave() {
        let observed = Observed::new(10);
        observed.note(&wave("a", Kind::Event));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(observed.channels()[0].last_seen, Duration::from_secs(3));
        assert_eq!(observed.waves_per_second(), 1.0 / 3.0);
    }
}
