//! The activity of each service and of each of its streams, with who causes it. Bounded tables.

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::pulse::Pulse;
use crate::finding::Finding;
use crate::recent::Recent;
use crate::timeline::Moment;
use aether_core::{Channel, Kind, Wave};

/// The maximum number of services. Beyond it, the one that was silent longest is forgotten.
const MAX_SERVICES: usize = 256;
/// The maximum number of streams, each of one service on one channel.
const MAX_STREAMS: usize = 1024;
/// The maximum number of services that are kept as causes of one stream.
const MAX_CAUSES: usize = 4;
/// A stream or service of which at least nine tenths of the waves have a cause follows others.
const FOLLOWS: u64 = 10;

/// A service: the vibrators of one name.
#[derive(Debug)]
pub(super) struct Service {
    /// All of its waves.
    pub(super) life: Pulse,
    /// The waves that no other wave caused.
    pub(super) own: Option<Pulse>,
    waves: u64,
    own_waves: u64,
}

/// The waves of one service on one channel.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pulse: Pulse,
    waves: u64,
    caused: u64,
    /// The services whose waves caused this stream lately.
    pub(super) causes: SmallVec<[SmolStr; 2]>,
    /// The report that the stream has missed a beat, until its next wave.
    pub(super) missing: Option<Box<Finding>>,
}

#[derive(Debug)]
pub(super) struct StreamKey {
    pub(super) channel: Channel,
    pub(super) service: SmolStr,
}

#[derive(Debug)]
pub(super) struct Activity {
    services: Recent<SmolStr, Service>,
    streams: Recent<StreamKey, Stream>,
    /// The slots of the last wave: most waves follow one of the same stream.
    latest: Option<(u32, u32)>,
    /// The last wave of any service.
    pub(super) last: Moment,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            services: Recent::new(MAX_SERVICES),
            streams: Recent::new(MAX_STREAMS),
            latest: None,
            last: Moment::default(),
        }
    }
}

impl Activity {
    pub(super) fn observe(&mut self, wave: &Wave, now: Moment, watched: Moment) {
        let (stream, service) = self.slots(wave, now);
        let is_caused = wave.cause().is_some() || wave.kind() == Kind::Response;
        let service = self.services.value_mut(service);
        service.waves += 1;
        service.life.beat(now, watched);
        if !is_caused {
            service.own_waves += 1;
            service.own.get_or_insert_with(|| Pulse::new(now)).beat(now, watched);
        }
        let stream = self.streams.value_mut(stream);
        stream.waves += 1;
        stream.pulse.beat(now, watched);
        stream.missing = None;
        if let Some(cause) = wave.cause() {
            stream.caused += 1;
            let name = cause.source.name();
            if stream.causes.last().is_none_or(|last| last != name) {
                stream.causes.retain(|known| known != name);
                if stream.causes.len() == MAX_CAUSES {
                    stream.causes.remove(0);
                }
                stream.causes.push(SmolStr::new(name));
            }
        }
        self.last = now;
    }

    fn slots(&mut self, wave: &Wave, now: Moment) -> (u32, u32) {
        let (channel, name) = (wave.channel(), wave.source().name());
        if let Some((stream, service)) = self.latest {
            let key = self.streams.key(stream);
            if key.service == name && key.channel == *channel {
                return (stream, service);
            }
        }
        let hash = self.services.hash_of(name);
        let service = self.services.touch(hash, |known| known == name).unwrap_or_else(|| {
            let fresh = || Service { life: Pulse::new(now), own: None, waves: 0, own_waves: 0 };
            let renew = |key: &mut SmolStr, service: &mut Service| {
                *key = name.into();
                *service = fresh();
            };
            self.services.insert(hash, || (name.into(), fresh()), renew)
        });
        let hash = self.streams.hash_of((channel, name));
        let is_it = |key: &StreamKey| key.service == name && key.channel == *channel;
        let stream = self.streams.touch(hash, is_it).unwrap_or_else(|| {
            let key = || StreamKey { channel: channel.clone(), service: name.into() };
            let fresh = || Stream {
                pulse: Pulse::new(now),
                waves: 0,
                caused: 0,
                causes: SmallVec::new(),
                missing: None,
            };
            let renew = |known: &mut StreamKey, stream: &mut Stream| {
                *known = key();
                *stream = fresh();
            };
            self.streams.insert(hash, || (key(), fresh()), renew)
        });
        self.latest = Some((stream, service));
        (stream, service)
    }

    /// Keeps the report that a stream has missed a beat.
    pub(super) fn missed(&mut self, channel: &Channel, service: &str, finding: &Finding) {
        let hash = self.streams.hash_of((channel, service));
        let slot = self.streams.find(hash, |key| key.service == service && key.channel == *channel);
        if let Some(slot) = slot {
            self.streams.value_mut(slot).missing = Some(Box::new(finding.clone()));
        }
    }

    pub(super) fn service(&self, name: &str) -> Option<&Service> {
        let slot = self.services.find(self.services.hash_of(name), |known| known == name)?;
        Some(self.services.value(slot))
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&SmolStr, &Service)> {
        self.services.iter()
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = (&StreamKey, &Stream)> {
        self.streams.iter()
    }

    pub(super) fn streams_of(&self, name: &str) -> impl Iterator<Item = (&StreamKey, &Stream)> {
        self.streams.iter().filter(move |(key, _)| key.service == name)
    }

    pub(super) fn stream(&self, channel: &Channel, name: &str) -> Option<&Stream> {
        let is_it = |key: &StreamKey| key.service == name && key.channel == *channel;
        let slot = self.streams.find(self.streams.hash_of((channel, name)), is_it)?;
        Some(self.streams.value(slot))
    }
}

impl Service {
    /// Whether it emits by itself. One that only answers and reacts is silent when nobody asks.
    pub(super) fn has_own(&self) -> bool {
        self.own_waves * FOLLOWS > self.waves
    }
}

impl Stream {
    /// Whether its waves are caused by others.
    pub(super) fn follows(&self) -> bool {
        self.caused * FOLLOWS > self.waves * (FOLLOWS - 1)
    }
}
