//! Unit tests of the detector of polling.

use std::time::Duration;

use super::*;
use aether_core::WaveId;

const SECOND: Duration = Duration::from_secs(1);

/// Services that ask about the stock.
struct Stage {
    pollings: Pollings,
    channel: Channel,
    start: Instant,
    sequence: u64,
}

impl Stage {
    fn new() -> Self {
        let pollings = Pollings::new(PollingOptions::default()).unwrap();
        Self {
            pollings,
            channel: Channel::new("stock.level").unwrap(),
            start: aether_core::clock::test_now(),
            sequence: 0,
        }
    }

    /// Asks a question and answers it. Each wave arrives twice.
    fn asks(&mut self, asker: u64, key: &str, content: &str, answer: &str, second: f64) {
        self.sequence += 1;
        let source = Source::with_instance("shop", asker).unwrap();
        let now = self.start + Duration::from_secs_f64(second);
        let request = Request {
            channel: &self.channel,
            source: &source,
            sequence: self.sequence,
            kind: Kind::Query,
            key: Some(key),
            content: content.as_bytes(),
            attempt: 1,
            caused: false,
            age: Duration::ZERO,
        };
        self.pollings.asked(&request, now);
        self.pollings.asked(&request, now);
        let question = WaveId { source: source.clone(), sequence: self.sequence };
        let answer =
            Answer { channel: &self.channel, question: &question, content: answer.as_bytes(), failed: false };
        self.pollings.answered(&answer, now);
        self.pollings.answered(&answer, now);
    }

    /// The pollers found: their instance, the number of their questions, and the period in milliseconds.
    fn found(&mut self) -> Vec<(u64, usize, u128)> {
        std::iter::from_fn(|| self.pollings.tick())
            .map(|finding| match finding {
                Finding::Polling { source, questions, period, .. } => {
                    (source.instance(), questions, period.as_millis())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn a_poller_is_reported_once_however_often_the_answer_changes() {
    let mut stage = Stage::new();
    for second in 0..600 {
        stage.asks(1, "lamp", "how many", &format!("{}", second / 40), f64::from(second));
    }
    assert_eq!(stage.found(), [(1, 1, 1000)]);
    let counts = stage.pollings.counts();
    assert_eq!((counts.questions, counts.answers, counts.unknown_answers), (1200, 600, 600));
}

#[test]
fn a_poller_that_stops_and_begins_again_is_reported_again() {
    let mut stage = Stage::new();
    for (from, expected) in [(0, 1), (30, 0), (100, 1)] {
        for second in from..from + 25 {
            stage.asks(1, "lamp", "how many", "17", f64::from(second));
        }
        assert_eq!(stage.found().len(), expected, "from second {from}");
    }
}

#[test]
fn one_poller_of_three_keys_is_one_finding() {
    let mut stage = Stage::new();
    for turn in 0..60 {
        let key = ["lamp", "shelf", "chair"][turn % 3];
        stage.asks(1, key, "how many", &format!("{} of them", key.len()), turn as f64);
    }
    assert_eq!(stage.found(), [(1, 3, 3000)]);
}

#[test]
fn a_poller_of_more_keys_than_are_remembered_is_found() {
    let mut stage = Stage::new();
    for turn in 0..40 * 60 {
        stage.asks(1, &format!("lamp-{}", turn % 40), "how many", "17", f64::from(turn) / 10.0);
    }
    let found = stage.found();
    assert_eq!((found.len(), found[0].0, found[0].2), (1, 1, 4000));
}

#[test]
fn different_questions_with_one_answer_are_not_polling() {
    let mut stage = Stage::new();
    for turn in 0..500u32 {
        let at = f64::from(turn) / 5.0;
        stage.asks(1, &format!("order-{turn}"), "reserve", "ok", at);
        stage.asks(2, "orders", &format!("reserve {turn}"), "ok", at);
    }
    assert_eq!(stage.found(), []);
}

#[test]
fn one_question_with_different_answers_or_at_moments_by_chance_is_not_polling() {
    let mut stage = Stage::new();
    for turn in 0..3000u32 {
        stage.asks(1, "lamp", "how many", &format!("{}", turn / 4), f64::from(turn));
    }
    assert_eq!(stage.found(), []);
    let (mut stage, mut random, mut at) = (Stage::new(), fastrand::Rng::with_seed(3), 0.0);
    for _ in 0..3000 {
        at -= (1.0 - random.f64()).ln();
        stage.asks(2, "lamp", "how many", "17", at);
    }
    assert_eq!(stage.found(), []);
}

#[test]
fn questions_with_a_cause_commands_and_resends_are_not_polling() {
    let mut stage = Stage::new();
    let source = Source::with_instance("shop", 1).unwrap();
    for sequence in 1..=100 {
        let now = stage.start + SECOND * sequence as u32;
        let plain = Request {
            channel: &stage.channel,
            source: &source,
            sequence,
            kind: Kind::Query,
            key: None,
            content: b"",
            attempt: 1,
            caused: false,
            age: Duration::ZERO,
        };
        let question = WaveId { source: source.clone(), sequence };
        let answer = Answer { channel: &stage.channel, question: &question, content: b"ok", failed: false };
        for request in [
            Request { caused: true, ..plain },
            Request { kind: Kind::Command, ..plain },
            Request { attempt: 2, ..plain },
        ] {
            stage.pollings.asked(&request, now);
            stage.pollings.answered(&answer, now);
        }
    }
    assert_eq!((stage.found(), stage.pollings.counts().questions), (vec![], 0));
}

#[test]
fn no_polling_ends_in_a_time_that_was_not_observed() {
    let mut stage = Stage::new();
    for round in 0..20u32 {
        for second in 0..30 {
            stage.asks(1, "lamp", "how many", "17", f64::from(100 * round + second));
        }
        let now = stage.start + SECOND * (100 * (round + 1) - 1);
        stage.pollings.not_seen(now - 69 * SECOND, now);
    }
    assert_eq!(stage.found().len(), 1);
}

#[test]
fn a_wave_of_any_kind_that_is_answered_is_a_question() {
    let mut stage = Stage::new();
    let asker = aether_core::medium::Sequencer::new(Source::with_instance("shop", 1).unwrap());
    let stock = aether_core::medium::Sequencer::new(Source::with_instance("stock", 9).unwrap());
    let channel = stage.channel.clone();
    for second in 0..20 {
        let now = stage.start + SECOND * second;
        let mut question = Wave::builder(&channel).text("lamp").build().unwrap();
        question.stamp(&asker, aether_core::clock::moment_of(now));
        stage.pollings.observe(&question, now);
        let answer = Wave::builder(&channel).kind(Kind::Response).cause(question.id()).text("17");
        let mut answer = answer.build().unwrap();
        answer.stamp(&stock, aether_core::clock::moment_of(now));
        stage.pollings.observe(&answer, now);
    }
    assert_eq!(stage.found(), [(1, 1, 1000)]);
}

#[test]
fn a_flood_of_askers_and_questions_is_bounded() {
    let mut stage = Stage::new();
    stage.pollings = Pollings::new(PollingOptions::default().max_pollers(8)).unwrap();
    for turn in 0..20_000u32 {
        stage.asks(u64::from(turn % 16) + 1, &format!("{turn}"), "", "ok", f64::from(turn) / 1000.0);
    }
    for turn in 0..20u32 {
        for asker in 1..=16 {
            stage.asks(asker, "lamp", "", "ok", f64::from(100 + turn));
        }
    }
    for (_, poller) in stage.pollings.pollers.iter() {
        assert!(poller.questions.capacity() <= QUESTIONS);
    }
    assert!(stage.pollings.found.len() <= 8);
    assert!(stage.pollings.counts().pollers_evicted > 1000);
}

#[test]
fn impossible_options_are_refused() {
    let refused = |options| Pollings::new(options).unwrap_err().option();
    assert_eq!(refused(PollingOptions::default().unchanged(0)), "polling.unchanged");
    assert_eq!(refused(PollingOptions::default().max_pollers(0)), "polling.max_pollers");
}
