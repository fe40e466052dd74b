//! The heads of the waves that passed last: which wave caused which, without payloads.
//!
//! [`StatusSource`](crate::status::StatusSource) notes every observed wave; `/api/waves/{id}/chain` reads the waves of one
//! request. Nothing is looked up while waves pass: a request is found by passes over all heads, since each names the
//! first wave of its request or at least its cause. Waves that begin a request and waves that were caused have separate
//! bounds, so a flood of measurements does not displace the chains of a quiet system.

use std::collections::{HashSet, VecDeque};

use aether_core::{Channel, Kind, Wave, WaveId};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::track::unix_ms;

/// The room for each of the two, in bytes: some 40,000 heads with ordinary names.
const MOST_BYTES: usize = 8 << 20;
/// Names of up to this number of bytes are stored in place.
const IN_PLACE: usize = 23;
/// The maximum number of waves of a request that are listed, the earliest ones.
const MOST_WAVES: usize = 500;
/// The passes over all heads for one request.
const MOST_PASSES: usize = 8;

/// The heads, the oldest of which make room for new ones.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    begun: Ring,
    caused: Ring,
}

#[derive(Debug, Default)]
struct Ring {
    heads: VecDeque<Head>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Head {
    id: WaveId,
    cause: Option<WaveId>,
    root: WaveId,
    channel: Channel,
    kind: Kind,
    amplitude: f32,
    emitted: Instant,
}

/// The waves of one request.
#[derive(Debug, Serialize)]
pub(crate) struct Chain {
    /// The first wave of the request, which may not be kept any more.
    #[serde(serialize_with = "as_text")]
    root: WaveId,
    /// The earliest first.
    waves: Vec<HeadLine>,
    /// Whether the request has more waves than are listed.
    more: bool,
}

#[derive(Debug, Serialize)]
struct HeadLine {
    #[serde(serialize_with = "as_text")]
    id: WaveId,
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    cause: Option<WaveId>,
    channel: String,
    kind: &'static str,
    amplitude: f32,
    source: String,
    emitted_unix_ms: u64,
}

impl Heads {
    /// Remembers a wave.
    pub(crate) fn note(&self, wave: &Wave) {
        let now = Instant::now();
        let cause = wave.cause().cloned();
        let head = Head {
            id: wave.id(),
            root: wave.root().clone(),
            channel: wave.channel().clone(),
            kind: wave.kind(),
            amplitude: wave.amplitude().as_f32(),
            emitted: now.checked_sub(wave.age()).unwrap_or(now),
            cause,
        };
        let mut kept = self.kept.lock();
        let ring = if head.cause.is_some() { &mut kept.caused } else { &mut kept.begun };
        ring.push(head);
    }

    /// The waves of the request to which a wave belongs; `None` if neither the wave nor any that it caused is kept.
    pub(crate) fn chain(&self, id: &WaveId) -> Option<Chain> {
        let kept = self.kept.lock();
        let all = || kept.begun.heads.iter().chain(&kept.caused.heads);
        let (mut known, mut heads, mut more) = (Known::default(), Vec::<Head>::new(), false);
        known.add(id);
        for _ in 0..MOST_PASSES {
            let before = known.ids.len();
            for head in all() {
                if !known.joins(head) {
                    continue;
                }
                if heads.len() == MOST_WAVES {
                    more = true;
                    break;
                }
                known.take(head);
                heads.push(head.clone());
            }
            // Waves that name the same first wave are found together. Only where one names nothing but its cause, there
            // is more.
            if more || known.ids.len() == before {
                break;
            }
        }
        drop(kept);
        let asked = heads.iter().find(|head| key(&head.id) == key(id)).map(|head| head.root.clone());
        let root = asked.or_else(|| heads.first().map(|head| head.root.clone()))?;
        heads.sort_by_key(|head| head.emitted);
        let (now, today) = (Instant::now(), unix_ms());
        let waves = heads.into_iter().map(|head| HeadLine::of(head, now, today)).collect();
        Some(Chain { root, waves, more })
    }
}

/// Instance and number: the names of sources are longer to compare, and differ with the instance.
type Key = (u64, u64);

fn key(id: &WaveId) -> Key {
    (id.source.instance(), id.sequence)
}

/// The ids of a request, and the ids of its waves that were taken.
#[derive(Default)]
struct Known {
    ids: HashSet<Key>,
    taken: HashSet<Key>,
    /// A bit for each id: almost all heads belong to other requests, and need no look-up.
    bits: u64,
}

impl Known {
    fn add(&mut self, id: &WaveId) {
        let key = key(id);
        self.bits |= bit(key);
        self.ids.insert(key);
    }

    fn has(&self, id: &WaveId) -> bool {
        let key = key(id);
        self.bits & bit(key) != 0 && self.ids.contains(&key)
    }

    /// Whether a head belongs to the request and was not taken.
    fn joins(&self, head: &Head) -> bool {
        (self.has(&head.root)
            || self.has(&head.id)
            || head.cause.as_ref().is_some_and(|cause| self.has(cause)))
            && !self.taken.contains(&key(&head.id))
    }

    fn take(&mut self, head: &Head) {
        self.taken.insert(key(&head.id));
        self.add(&head.id);
        self.add(&head.root);
        head.cause.iter().for_each(|cause| self.add(cause));
    }
}

fn bit((instance, sequence): Key) -> u64 {
    1 << ((instance ^ sequence) & 63)
}

impl Ring {
    fn push(&mut self, head: Head) {
        self.bytes += head.bytes();
        self.heads.push_back(head);
        while self.bytes > MOST_BYTES {
            let Some(oldest) = self.heads.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

impl Head {
    /// Its size, with long names as if nothing else held them.
    fn bytes(&self) -> usize {
        let long = |name: &str| if name.len() > IN_PLACE { name.len() } else { 0 };
        let cause = self.cause.as_ref().map_or(0, |cause| long(cause.source.name()));
        let names = long(self.id.source.name()) + long(self.root.source.name()) + long(self.channel.as_str());
        size_of::<Self>() + names + cause
    }
}

impl HeadLine {
    fn of(head: Head, now: Instant, today: u64) -> Self {
        let ago = u64::try_from(now.saturating_duration_since(head.emitted).as_millis()).unwrap_or(u64::MAX);
        Self {
            source: head.id.source.name().to_owned(),
            id: head.id,
            cause: head.cause,
            channel: head.channel.to_string(),
            kind: head.kind.as_str(),
            amplitude: (head.amplitude * 1000.0).round() / 1000.0,
            emitted_unix_ms: today.saturating_sub(ago),
        }
    }
}

fn as_text<S: Serializer>(id: &WaveId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn as_optional_text<S: Serializer>(id: &Option<WaveId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::{Aether, Vibrator};

    fn channels(chain: &Chain) -> Vec<&str> {
        chain.waves.iter().map(|wave| wave.channel.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_found_from_each_of_its_waves_through_a_flood_of_others() {
        let aether = Aether::local();
        let mut hearer = Vibrator::create("hearer", &aether).await.unwrap();
        hearer.resonate_on(">").await.unwrap();
        let shop =
            Vibrator::create("a-shop-whose-name-is-longer-than-it-fits-in-place", &aether).await.unwrap();
        let heads = Heads::default();
        let mut ids = Vec::new();
        let mut cause = None;
        for channel in ["orders.created", "payments.asked", "payments.done"] {
            let wave = Wave::builder(channel);
            let wave = cause.iter().cloned().fold(wave, aether_core::WaveBuilder::cause);
            shop.emit(wave.build().unwrap()).await.unwrap();
            let wave = hearer.receive().await.unwrap();
            heads.note(&wave);
            cause = Some(wave.id());
            ids.push(wave.id());
            tokio::time::advance(std::time::Duration::from_millis(10)).await;
        }
        for id in &ids {
            let chain = heads.chain(id).unwrap();
            assert_eq!(channels(&chain), ["orders.created", "payments.asked", "payments.done"], "{id}");
            assert!(!chain.more);
        }
        let flood = hearer_of_one(&shop, &mut hearer).await;
        for _ in 0..200_000 {
            heads.note(&flood);
        }
        let kept = heads.kept.lock();
        assert!(
            kept.begun.bytes <= MOST_BYTES && kept.begun.heads.len() > 20_000,
            "{}",
            kept.begun.heads.len()
        );
        drop(kept);
        let chain = heads.chain(&ids[2]).unwrap();
        assert_eq!(channels(&chain), ["payments.asked", "payments.done"], "the first one was displaced");
        assert_eq!(heads.chain(&ids[0]).unwrap().waves.len(), 2, "it is found by what it caused");
        assert_eq!(heads.chain(&flood.id()).unwrap().waves.len(), 1, "a wave that comes again is the same");
        assert!(heads.chain(&"nobody@1/1".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_request_of_very_many_waves_is_cut_and_says_so() {
        let aether = Aether::local();
        let mut hearer = Vibrator::create("hearer", &aether).await.unwrap();
        hearer.resonate_on(">").await.unwrap();
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let heads = Heads::default();
        let first = hearer_of_one(&shop, &mut hearer).await;
        heads.note(&first);
        for _ in 0..=MOST_WAVES {
            shop.emit(Wave::builder("row").cause(first.id()).build().unwrap()).await.unwrap();
            heads.note(&hearer.receive().await.unwrap());
        }
        let chain = heads.chain(&first.id()).unwrap();
        assert_eq!((chain.waves.len(), chain.more, chain.root), (MOST_WAVES, true, first.id()));
    }

    async fn hearer_of_one(shop: &Vibrator, hearer: &mut Vibrator) -> Wave {
        shop.emit(Wave::builder("measured").build().unwrap()).await.unwrap();
        hearer.receive().await.unwrap()
    }
}
