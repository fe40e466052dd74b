//! Unit tests of the detector of retry storms.

use super::*;
use aether_core::WaveId;

const SECOND: Duration = Duration::from_secs(1);

/// One service that sends requests on one channel.
struct Shop {
    storms: RetryStorms,
    channel: Channel,
    source: Source,
    start: Instant,
    sequence: u64,
}

impl Shop {
    fn new() -> Self {
        Self {
            storms: RetryStorms::new(RetryOptions::default()).unwrap(),
            channel: Channel::new("payment.charge").unwrap(),
            source: Source::with_instance("shop", 1).unwrap(),
            start: aether_core::clock::test_now(),
            sequence: 0,
        }
    }

    fn request(&mut self, key: &str, content: &str, attempt: u32, at: Duration) -> u64 {
        self.sequence += 1;
        let request = Request {
            channel: &self.channel,
            source: &self.source,
            sequence: self.sequence,
            kind: Kind::Command,
            key: Some(key),
            content: content.as_bytes(),
            attempt,
            caused: false,
            age: Duration::ZERO,
        };
        // Each wave arrives twice.
        for _ in 0..2 {
            self.storms.asked(&request, self.start + at);
        }
        self.sequence
    }

    fn answer(&mut self, sequence: u64, failed: bool, at: Duration) {
        let question = WaveId { source: self.source.clone(), sequence };
        let answer = Answer { channel: &self.channel, question: &question, content: b"", failed };
        self.storms.answered(&answer, self.start + at);
    }

    fn found(&mut self) -> Vec<Finding> {
        std::iter::from_fn(|| self.storms.tick()).collect()
    }

    /// One interval of 10 s with this many orders, each attempted as given; returns the findings.
    fn interval(&mut self, number: u32, keys: u32, tries: impl Fn(u32) -> u32) -> Vec<Finding> {
        let begin = 10 * SECOND * number;
        let most = (0..keys).map(&tries).max().unwrap();
        for (attempt, key) in (0..most).flat_map(|attempt| (0..keys).map(move |key| (attempt, key))) {
            if attempt < tries(key) {
                let at = begin + 10 * SECOND * (attempt * keys + key) / (most * keys);
                self.request(&format!("order-{number}-{key}"), "", 1, at);
            }
        }
        self.found()
    }
}

/// Requests at random moments, sorted by time: the second, the key and the content.
type Requests = Vec<(f64, String, String)>;

impl Shop {
    fn send(&mut self, mut requests: Requests) -> Vec<Finding> {
        requests.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut found = Vec::new();
        for (second, key, content) in requests {
            self.request(&key, &content, 1, Duration::from_secs_f64(second));
            found.extend(self.found());
        }
        found
    }
}

/// Moments by chance (Poisson) at a rate a second.
fn moments(random: &mut fastrand::Rng, from: f64, to: f64, rate: f64) -> Vec<f64> {
    let mut next = from;
    std::iter::from_fn(|| {
        next -= (1.0 - random.f64()).ln() / rate;
        (next < to).then_some(next)
    })
    .collect()
}

#[test]
fn a_storm_is_reported_once_and_again_after_a_calm() {
    let mut shop = Shop::new();
    let rounds: Vec<usize> = [1, 1, 3, 4, 4, 1, 1, 3, 4, 4, 1]
        .into_iter()
        .enumerate()
        .map(|(number, tries)| shop.interval(number as u32, 500, |_| tries).len())
        .collect();
    // Judged when the next interval has begun. The sample is drawn at random, so it may take a second one.
    let (calm, storms) = rounds.split_at(3);
    let (first, again) = storms.split_at(4);
    assert_eq!([calm, first, again].map(|rounds| rounds.iter().sum::<usize>()), [0, 1, 1], "{rounds:?}");
    assert_eq!(shop.storms.clock_jumps(), 0);
}

#[test]
fn a_sample_estimates_the_mean_of_all_requests() {
    let mut shop = Shop::new();
    shop.interval(0, 5000, |_| 1);
    shop.interval(1, 5000, |key| 1 + key % 4);
    let found = shop.interval(2, 1, |_| 1);
    let [Finding::RetryStorm { attempts_per_key, before, keys, .. }] = found[..] else { panic!("{found:?}") };
    assert_eq!(before, 1.0);
    assert!((16..=128).contains(&keys), "{keys}");
    // About five standard errors.
    assert!((attempts_per_key - 2.5).abs() < 1.0, "{attempts_per_key}");
}

#[test]
fn a_high_but_steady_rate_is_not_a_storm() {
    let mut shop = Shop::new();
    for number in 0..50 {
        assert_eq!(shop.interval(number, 500, |_| 2), []);
    }
    // Too few requests are not judged either.
    assert_eq!(shop.interval(50, 5, |_| 50), []);
    assert_eq!(shop.interval(51, 5, |_| 1), []);
}

#[test]
fn customers_who_order_more_are_not_a_storm() {
    for (seed, same_content) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut requests = Vec::new();
        // Ten times the load after five minutes.
        for (from, to, rate) in [(0.0, 300.0, 2.0), (300.0, 600.0, 20.0)] {
            for second in moments(&mut random, from, to, rate) {
                let content = if same_content { String::new() } else { format!("order {second}") };
                requests.push((second, format!("customer-{}", random.u32(..200)), content));
            }
        }
        assert_eq!(Shop::new().send(requests), [], "seed {seed}, same content: {same_content}");
    }
}

#[test]
fn slow_storms_with_long_pauses_are_found() {
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut requests = Vec::new();
        // One request in two seconds. After five minutes each is repeated four times, with pauses of 4 to 15 s.
        for second in moments(&mut random, 0.0, 600.0, 0.5) {
            let (key, mut at) = (format!("order-{second}"), second);
            for _ in 0..=if second < 300.0 { 0 } else { 4 } {
                requests.push((at, key.clone(), "charge".to_owned()));
                at += 4.0 + 11.0 * random.f64();
            }
        }
        let found = Shop::new().send(requests);
        let [Finding::RetryStorm { attempts_per_key, before, .. }] = found[..] else {
            panic!("seed {seed}: {found:?}")
        };
        assert!(attempts_per_key > 1.5 && before < 1.1, "{found:?}");
    }
}

#[test]
fn repeating_what_was_answered_is_not_a_retry_unless_the_answer_is_a_failure() {
    for failed in [false, true] {
        let mut shop = Shop::new();
        let mut found = Vec::new();
        for second in 0..300u32 {
            let repeats = second >= 150;
            // Ten questions a second; later, each is asked three times.
            for n in 0..if repeats { 30u32 } else { 10 } {
                let key = format!("lamp-{second}-{}", n % 10);
                let at = SECOND * second + Duration::from_millis(30 * u64::from(n));
                let sequence = shop.request(&key, "how many", 1, at);
                shop.answer(sequence, failed, at + Duration::from_millis(5));
            }
            found.extend(shop.found());
        }
        assert_eq!(found.len(), usize::from(failed), "{found:?}");
    }
}

#[test]
fn a_marked_attempt_is_a_retry_whatever_its_content() {
    let mut shop = Shop::new();
    let mut found = Vec::new();
    for second in 0..200u32 {
        for attempt in 1..=if second < 100 { 1 } else { 3 } {
            let at = SECOND * second + Duration::from_millis(100 * u64::from(attempt));
            shop.request("lamp", &format!("sent at {at:?}"), attempt, at);
        }
        found.extend(shop.found());
    }
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn an_incompletely_observed_interval_is_not_a_calm() {
    let mut shop = Shop::new();
    for number in 0..30 {
        // Of every other interval only the first attempts are seen, so the averages go up and down.
        let half = number % 2 == 0;
        assert_eq!(shop.interval(number, 500, |_| if half { 1 } else { 3 }), []);
        if half {
            let end = shop.start + 10 * SECOND * (number + 1);
            shop.storms.not_seen(end - 5 * SECOND, end - Duration::from_nanos(1));
        }
    }
    // Once everything is observed again, the storm is found.
    for number in 30..50 {
        assert_eq!(shop.interval(number, 500, |_| 1), []);
    }
    let found: Vec<Finding> = (50..70).flat_map(|number| shop.interval(number, 500, |_| 3)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn only_commands_and_queries_are_requests() {
    let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
    let wave = |kind| Wave::builder("a").kind(kind).key("k").build().unwrap();
    storms.observe(&wave(Kind::Event), aether_core::clock::test_now());
    storms.observe(&wave(Kind::Response), aether_core::clock::test_now());
    assert_eq!(storms.observed(), 0);
    storms.observe(&wave(Kind::Command), aether_core::clock::test_now());
    storms.observe(&wave(Kind::Query), aether_core::clock::test_now());
    assert_eq!(storms.observed(), 2);
}

#[test]
fn a_flood_of_channels_and_requests_is_bounded() {
    let mut shop = Shop::new();
    shop.storms = RetryStorms::new(RetryOptions::default().max_channels(4)).unwrap();
    for n in 0..20_000u64 {
        shop.channel = Channel::new(format!("c{}", n % 32)).unwrap();
        shop.request(&format!("k{n}"), "", 1, Duration::from_millis(n));
    }
    for n in 0..20_000u64 {
        shop.channel = Channel::new("one").unwrap();
        shop.request(&format!("k{n}"), "", 1, Duration::from_millis(20_000 + n));
    }
    let bounded = |attempts: &Attempts| attempts.memory() <= 128;
    assert!(shop.storms.channels.iter().all(|(_, attempts)| bounded(attempts)));
    assert_eq!((shop.storms.channels.len(), shop.storms.channels_evicted()), (4, 20_000 + 1 - 4));
    assert!(shop.storms.found.len() <= 4);
}

#[test]
fn impossible_options_are_refused() {
    let options = RetryOptions::default;
    let refused = |options| RetryStorms::new(options).unwrap_err().option();
    assert_eq!(refused(options().interval(Duration::ZERO)), "retries.interval");
    assert_eq!(refused(options().longest_pause(Duration::MAX)), "retries.longest_pause");
    for bad in [1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(options().attempts(bad)), "retries.attempts");
    }
    assert_eq!(refused(options().max_channels(0)), "retries.max_channels");
}
