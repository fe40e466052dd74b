//! Compares the inbox with a list searched from end to end: slow, and obviously right.

use std::collections::{BTreeMap, HashMap};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;

/// Whole and half octaves, so that some share a level and some do not; the last two are below the floor used here.
const AMPLITUDES: [f32; 7] = [1.0, 0.9, 0.5, 0.49, 0.3, 0.1, 0.001];

#[derive(Debug, Clone)]
struct Setting {
    max_waves: usize,
    /// In multiples of the weight of a wave with an empty payload.
    max_weights: usize,
    order: ServeOrder,
    waits: bool,
    floor: bool,
    sojourn: bool,
}

#[derive(Debug, Clone)]
struct OfferedWave {
    amplitude: f32,
    /// In tenths of the weight of a wave with an empty payload.
    size: usize,
    decays: bool,
}

#[derive(Debug, Clone)]
enum ModelStep {
    OfferIfRoom(OfferedWave),
    OfferNow(OfferedWave),
    OfferAll(Vec<OfferedWave>),
    Receive,
    ReceiveEven,
    TakeMany { waves: usize, weights: usize },
    Wait { millis: u64 },
    Close,
}

fn any_setting() -> impl Strategy<Value = Setting> {
    let order = prop_oneof![Just(ServeOrder::Strength), Just(ServeOrder::Arrival)];
    let max_waves = prop_oneof![1..10_usize, 60..100_usize];
    let max_weights = prop_oneof![2..10_usize, 50..200_usize, Just(1000)];
    (max_waves, max_weights, order, any::<[bool; 3]>()).prop_map(
        |(max_waves, max_weights, order, [waits, floor, sojourn])| Setting {
            max_waves,
            max_weights,
            order,
            waits,
            floor,
            sojourn,
        },
    )
}

fn any_offered() -> impl Strategy<Value = OfferedWave> {
    let size = prop_oneof![3 => Just(0), 2 => 0..30_usize, 1 => 30..150_usize];
    (prop::sample::select(AMPLITUDES.to_vec()), size, prop::bool::weighted(0.3))
        .prop_map(|(amplitude, size, decays)| OfferedWave { amplitude, size, decays })
}

/// A receiver takes waves one by one and a medium's outbox takes many at once; no inbox sees both.
fn any_steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let offer = || {
        prop_oneof![
            any_offered().prop_map(ModelStep::OfferIfRoom),
            any_offered().prop_map(ModelStep::OfferNow),
            prop::collection::vec(any_offered(), 0..20).prop_map(ModelStep::OfferAll),
        ]
    };
    let wait = || (0..15_u64).prop_map(|millis| ModelStep::Wait { millis });
    let received = prop_oneof![
        20 => offer(), 25 => Just(ModelStep::Receive), 3 => Just(ModelStep::ReceiveEven), 2 => wait(), 1 => Just(ModelStep::Close),
    ];
    let sent = prop_oneof![
        20 => offer(),
        10 => (1..40_usize, 1..40_usize).prop_map(|(waves, weights)| ModelStep::TakeMany { waves, weights }),
        2 => wait(),
    ];
    prop_oneof![
        4 => prop::collection::vec(received, 0..200),
        1 => prop::collection::vec(sent, 0..100),
    ]
}

/// A wave in the reference list.
#[derive(Debug, Clone)]
struct ModelItem {
    wave: Wave,
    number: u64,
    level: u8,
    since: Moment,
}

/// The reference list and its counts.
struct Model {
    options: InboxOptions,
    items: Vec<ModelItem>,
    closed: bool,
    ledger: Ledger,
    losses: Vec<(u64, ShedReason)>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.wave.weight()).sum()
    }

    fn lose(&mut self, number: u64, reason: ShedReason) {
        self.losses.push((number, reason));
        self.ledger.count_loss(reason);
    }

    /// The room that waves weaker than normal leave free: an eighth, at least one, but not everything.
    fn kept(total: usize, level: u8) -> usize {
        let is_weak = level > Wave::builder("a").build().unwrap().signal().level();
        if is_weak { (total / 8).max(1).min(total - 1) } else { 0 }
    }

    /// Whether the wave is taken.
    fn offer(&mut self, wave: &Wave, offer: Offer) -> bool {
        let number = number(wave);
        let refusal = if self.closed {
            Some(ShedReason::Closed)
        } else if !wave.audible_at(Moment::now, self.options.floor) {
            Some(ShedReason::BelowFloor)
        } else {
            (wave.weight() > self.options.max_bytes).then_some(ShedReason::Full)
        };
        if let Some(reason) = refusal {
            self.ledger.offered += 1;
            self.lose(number, reason);
            return true;
        }
        let level = wave.signal().level();
        let (max_waves, max_bytes) = (self.options.max_waves, self.options.max_bytes);
        let fits = self.bytes() + wave.weight() <= max_bytes - Self::kept(max_bytes, level);
        let admitted =
            self.items.len() < max_waves - Self::kept(max_waves, level) && (fits || self.items.is_empty());
        if !admitted && offer == Offer::IfRoom && self.options.when_full != WhenFull::Shed {
            return false;
        }
        self.ledger.offered += 1;
        self.items.push(ModelItem { wave: wave.clone(), number, level, since: Moment::now() });
        while self.items.len() > self.options.max_waves || self.bytes() > self.options.max_bytes {
            let weakest = self.items.iter().map(|item| item.level).max().unwrap();
            let oldest = self.items.iter().position(|item| item.level == weakest).unwrap();
            let evicted = self.items.remove(oldest);
            self.lose(evicted.number, ShedReason::Full);
        }
        true
    }

    /// Takes the first wave, in the order of receiving, that is wanted and not too late.
    fn receive(&mut self, order: ServeOrder, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        loop {
            let wanted = self.items.iter().filter(|item| wanted(item.number));
            let next = match order {
                ServeOrder::Strength => wanted.min_by_key(|item| item.level)?,
                ServeOrder::Arrival => wanted.min_by_key(|item| item.number)?,
            };
            let (number, wave, since) = (next.number, next.wave.clone(), next.since);
            self.items.retain(|item| item.number != number);
            if self.options.sojourn_cap.is_some_and(|cap| since.elapsed() > cap) {
                self.lose(number, ShedReason::Sojourn);
            } else if !wave.audible_at(Moment::now, self.options.floor) {
                self.lose(number, ShedReason::Expired);
            } else {
                self.ledger.delivered += 1;
                return Some(number);
            }
        }
    }
}

/// Follows the inbox itself, independently of the model: waves offered and not yet seen coming out are queued.
#[derive(Default)]
struct Watch {
    queued: BTreeMap<u64, (u8, Amplitude, usize)>,
    /// The newest delivered number of each amplitude.
    newest: HashMap<Amplitude, u64>,
    /// Several waves were offered at once, so their order relative to an eviction is unknown.
    several: bool,
}

impl Watch {
    fn offered(&mut self, wave: &Wave) {
        self.queued.insert(number(wave), (wave.signal().level(), wave.amplitude(), wave.weight()));
    }

    fn lost(&mut self, number: u64, reason: ShedReason, max_bytes: usize) -> TestCaseResult {
        let (level, _, weight) = self.queued.remove(&number).unwrap();
        if reason == ShedReason::Full && weight <= max_bytes && !self.several {
            let weakest = self.queued.values().map(|queued| queued.0).max().unwrap_or(0);
            prop_assert!(weakest <= level, "{number} was evicted and a weaker wave was not");
        }
        Ok(())
    }

    fn delivered(&mut self, number: u64, in_order: bool) -> TestCaseResult {
        let (_, amplitude, _) = self.queued.remove(&number).unwrap();
        if in_order {
            let before = self.newest.insert(amplitude, number);
            prop_assert!(before < Some(number), "{number} after {before:?}");
        }
        Ok(())
    }
}

struct Comparison {
    inbox: Inbox,
    model: Model,
    watch: Watch,
    reported: Arc<Mutex<Vec<(u64, ShedReason)>>>,
    weight: usize,
    last: u64,
    /// Receiving by a condition takes younger waves before older ones.
    in_order: bool,
}

impl Comparison {
    fn new(setting: &Setting) -> Self {
        let weight = numbered(0, 0.5).weight() - 1;
        let reported = Arc::new(Mutex::new(Vec::new()));
        let report = Arc::clone(&reported);
        let options = InboxOptions::interactive()
            .max_waves(setting.max_waves)
            .max_bytes(setting.max_weights * weight)
            .order(setting.order)
            .when_full(if setting.waits { WhenFull::Wait { patience: PATIENCE } } else { WhenFull::Shed })
            .floor(if setting.floor { Floor::new(0.2).unwrap() } else { Floor::OPEN })
            .sojourn_cap(setting.sojourn.then_some(Duration::from_millis(20)))
            .on_shed(move |wave: &Wave, reason| report.lock().push((number(wave), reason)));
        let inbox = Inbox::new(options.clone()).unwrap();
        let model = Model {
            options,
            items: Vec::new(),
            closed: false,
            ledger: Ledger::default(),
            losses: Vec::new(),
        };
        Self { inbox, model, watch: Watch::default(), reported, weight, last: 0, in_order: true }
    }

    fn wave(&mut self, offered: &OfferedWave) -> Wave {
        self.last += 1;
        let builder = Wave::builder("a").amplitude(offered.amplitude);
        let builder =
            if offered.decays { builder.half_life(Duration::from_millis(8)) } else { builder.never_decays() };
        // Padded with spaces in front of the number that identifies the wave.
        let text = format!("{:>width$}", self.last, width = offered.size * self.weight / 10);
        emitted(builder.text(text))
    }

    fn step(&mut self, step: &ModelStep) -> TestCaseResult {
        let mut cx = Context::from_waker(Waker::noop());
        self.watch.several = false;
        match step {
            ModelStep::OfferIfRoom(offered) => {
                let wave = self.wave(offered);
                let expected = self.model.offer(&wave, Offer::IfRoom);
                prop_assert_eq!(self.inbox.has_room_for(&wave), expected, "has_room_for");
                let taken = self.inbox.offer(wave.clone(), Offer::IfRoom);
                prop_assert_eq!(taken.is_ok(), expected);
                match taken {
                    Ok(()) => self.watch.offered(&wave),
                    Err(back) => prop_assert_eq!(number(&back), self.last),
                }
            }
            ModelStep::OfferNow(offered) => {
                let wave = self.wave(offered);
                self.watch.offered(&wave);
                self.model.offer(&wave, Offer::Now);
                prop_assert!(self.inbox.offer(wave, Offer::Now).is_ok());
            }
            ModelStep::OfferAll(all) => {
                let waves: Vec<_> = all.iter().map(|offered| self.wave(offered)).collect();
                self.watch.several = true;
                for wave in &waves {
                    self.watch.offered(wave);
                    self.model.offer(wave, Offer::Now);
                }
                self.inbox.offer_all(waves);
            }
            ModelStep::Receive => {
                let polled = self.inbox.poll_receive(&mut cx).map(|wave| wave.as_ref().map(number));
                let expected = self.model.receive(self.model.options.order, |_| true);
                self.check_received(polled, expected)?;
            }
            ModelStep::ReceiveEven => {
                self.in_order = false;
                let even = |number: u64| number.is_multiple_of(2);
                let polled = self.inbox.poll_receive_where(&mut cx, &mut 0, |wave| even(number(wave)));
                let expected = self.model.receive(self.model.options.order, even);
                self.check_received(polled.map(|wave| wave.as_ref().map(number)), expected)?;
            }
            ModelStep::TakeMany { waves, weights } => {
                let (mut taken, most_bytes) = (Vec::new(), weights * self.weight);
                self.inbox.take_many(*waves, most_bytes, &mut taken);
                let (order, mut taken, mut bytes) = (self.model.options.order, taken.iter(), 0);
                for _ in 0..*waves {
                    if bytes >= most_bytes {
                        break;
                    }
                    let (wave, expected) = (taken.next(), self.model.receive(order, |_| true));
                    prop_assert_eq!(wave.map(number), expected);
                    let Some(wave) = wave else { break };
                    bytes += wave.weight();
                    self.watch.delivered(number(wave), self.in_order)?;
                }
                prop_assert_eq!(taken.count(), 0, "more than {} waves or {} bytes", waves, most_bytes);
            }
            ModelStep::Wait { .. } => {}
            ModelStep::Close => {
                self.model.closed = true;
                self.inbox.close();
            }
        }
        self.check()
    }

    fn check_received(&mut self, polled: Poll<Option<u64>>, expected: Option<u64>) -> TestCaseResult {
        prop_assert_eq!(
            polled,
            match expected {
                None if !self.model.closed => Poll::Pending,
                expected => Poll::Ready(expected),
            }
        );
        expected.map_or(Ok(()), |number| self.watch.delivered(number, self.in_order))
    }

    /// Invariants after every step.
    fn check(&mut self) -> TestCaseResult {
        let ledger = self.inbox.ledger();
        prop_assert!(ledger.adds_up(), "{:?}", ledger);
        prop_assert_eq!(ledger, Ledger { queued: self.model.items.len() as u64, ..self.model.ledger });
        let reported = std::mem::take(&mut *self.reported.lock());
        prop_assert_eq!(&reported, &std::mem::take(&mut self.model.losses));
        for (number, reason) in reported {
            self.watch.lost(number, reason, self.model.options.max_bytes)?;
        }
        prop_assert_eq!(ledger.queued, self.watch.queued.len() as u64);
        prop_assert!(self.watch.queued.len() <= self.model.options.max_waves);
        let bytes: usize = self.watch.queued.values().map(|queued| queued.2).sum();
        prop_assert!(bytes <= self.model.options.max_bytes);
        Ok(())
    }
}

fn compare(setting: &Setting, steps: &[ModelStep]) -> TestCaseResult {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut comparison = Comparison::new(setting);
        for step in steps {
            if let ModelStep::Wait { millis } = step {
                tokio::time::advance(Duration::from_millis(*millis)).await;
            }
            comparison.step(step)?;
        }
        comparison.inbox.abandon();
        // Abandoned waves are reported in the order of strength, whatever the order of receiving.
        comparison.model.items.sort_by_key(|item| (item.level, item.number));
        for item in std::mem::take(&mut comparison.model.items) {
            comparison.model.lose(item.number, ShedReason::Closed);
        }
        comparison.check()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_sorted_list(setting in any_setting(), steps in any_steps()) {
        compare(&setting, &steps)?;
    }
}
