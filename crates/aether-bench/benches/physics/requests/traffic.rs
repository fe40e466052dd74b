//! Traffic with a known truth: requests that are repeated by a retry policy, by customers, by readers and by pollers.

use aether_core::Kind;
use fastrand::Rng;

use crate::random::{exponential, normal, uniform};

/// The load rises, or the storm begins, after this time.
const CALM: f64 = 600.0;
const END: f64 = 1200.0;
const HOUR: f64 = 3600.0;

/// A request, and its answer if it gets one.
pub(super) struct Ask {
    pub(super) at: f64,
    pub(super) source: usize,
    pub(super) kind: Kind,
    pub(super) key: String,
    pub(super) content: String,
    pub(super) attempt: u32,
    pub(super) answer: Option<String>,
    pub(super) fails: bool,
}

/// Requests among which there is a storm from a moment on, or none.
pub(super) struct Storm {
    pub(super) name: &'static str,
    pub(super) storm_at: Option<f64>,
    pub(super) asks: fn(&mut Rng) -> Vec<Ask>,
}

/// Questions with some pollers among them.
pub(super) struct Polled {
    pub(super) name: &'static str,
    pub(super) pollers: usize,
    pub(super) asks: fn(&mut Rng) -> Vec<Ask>,
}

pub(super) const STORMS: [Storm; 14] = [
    storm("0.2/s, 4 more after 4 to 15 s", |random| retried(random, 0.2, 0.0, 4, LONG)),
    storm("0.5/s, 4 more after 4 to 15 s", |random| retried(random, 0.5, 0.0, 4, LONG)),
    storm("5/s, 2 more after 4 to 15 s", |random| retried(random, 5.0, 0.0, 2, LONG)),
    storm("0.5/s, 4 more after 0.1 to 0.5 s", |random| retried(random, 0.5, 0.0, 4, SHORT)),
    storm("50/s, 2 more after 0.1 to 0.5 s", |random| retried(random, 50.0, 0.0, 2, SHORT)),
    storm("200/s, 3 more after 4 to 15 s", |random| retried(random, 200.0, 0.0, 3, LONG)),
    storm("20/s, 5 % are usually repeated, then 3 more", |random| retried(random, 20.0, 0.05, 3, LONG)),
    storm("5/s, 3 attempts, marked, with other contents", marked),
    storm("5/s, 3 more, each answered by a failure", failing),
    healthy("5 % are repeated all the time", |random| retried(random, 20.0, 0.05, 0, LONG)),
    healthy("200 customers, each order new, 10 times the load", |random| customers(random, true, 10.0)),
    healthy("200 customers with the same request, 10 times the load", |random| {
        customers(random, false, 10.0)
    }),
    healthy("200 customers with the same request, 3 times the load", |random| customers(random, false, 3.0)),
    healthy("20 answered questions, 10 times the load", readers),
];

pub(super) const POLLING: [Polled; 8] = [
    Polled { name: "15 pollers, 1 to 30 s, 5 % jitter, answers that change", pollers: 15, asks: pollers },
    Polled { name: "one poller of three keys", pollers: 1, asks: |random| poller_of(random, 3, 1.0) },
    Polled { name: "one poller of 40 keys", pollers: 1, asks: |random| poller_of(random, 40, 0.2) },
    Polled {
        name: "different questions, all answered ok, at an even rate",
        pollers: 0,
        asks: |_| even(false),
    },
    Polled {
        name: "the same question with changing answers, at an even rate",
        pollers: 0,
        asks: |_| even(true),
    },
    Polled { name: "20 questions by chance", pollers: 0, asks: by_chance },
    Polled { name: "one question by chance, each second", pollers: 0, asks: one_by_chance },
    Polled { name: "commands with one answer at an even rate", pollers: 0, asks: |_| leases() },
];

/// The pauses between two attempts, in seconds.
const LONG: (f64, f64) = (4.0, 15.0);
const SHORT: (f64, f64) = (0.1, 0.5);

const fn storm(name: &'static str, asks: fn(&mut Rng) -> Vec<Ask>) -> Storm {
    Storm { name, storm_at: Some(CALM), asks }
}

const fn healthy(name: &'static str, asks: fn(&mut Rng) -> Vec<Ask>) -> Storm {
    Storm { name, storm_at: None, asks }
}

fn command(at: f64, key: String, content: String) -> Ask {
    Ask { at, source: 0, kind: Kind::Command, key, content, attempt: 1, answer: None, fails: false }
}

fn question(at: f64, source: usize, key: String, answer: String) -> Ask {
    let content = "how many".to_owned();
    Ask { at, source, kind: Kind::Query, key, content, attempt: 1, answer: Some(answer), fails: false }
}

/// Moments by chance (Poisson).
fn moments(random: &mut Rng, from: f64, to: f64, rate: f64) -> Vec<f64> {
    let mut at = from;
    let mut moments = Vec::new();
    loop {
        at += exponential(random, 1.0 / rate);
        if at >= to {
            return moments;
        }
        moments.push(at);
    }
}

/// Requests of which a share is usually repeated once, and each several times during the storm.
fn retried(random: &mut Rng, rate: f64, usually: f64, more: u32, (least, most): (f64, f64)) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (number, at) in moments(random, 0.0, END, rate).into_iter().enumerate() {
        let storm = if at < CALM { 0 } else { more };
        let attempts = 1 + storm.max(u32::from(random.f64() < usually));
        let mut at = at;
        for _ in 0..attempts {
            asks.push(command(at, format!("order-{number}"), "charge".to_owned()));
            at += uniform(random, least, most);
        }
    }
    asks
}

fn marked(random: &mut Rng) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (number, at) in moments(random, 0.0, END, 5.0).into_iter().enumerate() {
        for attempt in 1..=if at < CALM { 1 } else { 3 } {
            let at = at + f64::from(attempt - 1);
            let ask = command(at, format!("order-{number}"), format!("sent at {at}"));
            asks.push(Ask { attempt, ..ask });
        }
    }
    asks
}

fn failing(random: &mut Rng) -> Vec<Ask> {
    let asks = retried(random, 5.0, 0.0, 3, SHORT);
    let fail = |ask: Ask| {
        let fails = ask.at >= CALM;
        Ask { kind: Kind::Query, answer: Some("failed".to_owned()), fails, ..ask }
    };
    asks.into_iter().map(fail).collect()
}

fn customers(random: &mut Rng, new: bool, load: f64) -> Vec<Ask> {
    let mut moments_of = moments(random, 0.0, CALM, 2.0);
    moments_of.extend(moments(random, CALM, END, 2.0 * load));
    let customer = |(number, at): (usize, f64)| {
        let content = if new { format!("order {number}") } else { "refresh".to_owned() };
        command(at, format!("customer-{}", random.u32(..200)), content)
    };
    moments_of.into_iter().enumerate().map(customer).collect()
}

fn readers(random: &mut Rng) -> Vec<Ask> {
    let mut moments_of = moments(random, 0.0, CALM, 2.0);
    moments_of.extend(moments(random, CALM, END, 20.0));
    let read =
        |at: f64| question(at, 0, format!("lamp-{}", random.u32(..20)), format!("{}", (at / 120.0) as u64));
    moments_of.into_iter().map(read).collect()
}

/// Questions of one asker: at a period with jitter, with an answer that changes every four minutes.
fn polls(random: &mut Rng, source: usize, key: &str, period: f64, from: f64) -> Vec<Ask> {
    let mut at = from;
    let mut asks = Vec::new();
    while at < HOUR {
        asks.push(question(at, source, key.to_owned(), format!("{key} {}", (at / 240.0) as u64)));
        at += period * (1.0 + 0.05 * normal(random)).max(0.1);
    }
    asks
}

fn pollers(random: &mut Rng) -> Vec<Ask> {
    let one = |source: usize| {
        let period = uniform(random, 1.0, 30.0);
        polls(random, source, &format!("lamp-{source}"), period, 0.0)
    };
    (0..15).flat_map(one).collect()
}

fn poller_of(random: &mut Rng, keys: usize, pause: f64) -> Vec<Ask> {
    let mut asks = Vec::new();
    let mut at = 0.0;
    while at < HOUR {
        let key = asks.len() % keys;
        asks.push(question(at, 0, format!("lamp-{key}"), format!("{} of them", 10 * key)));
        at += pause * (1.0 + 0.05 * normal(random)).max(0.1);
    }
    asks
}

fn even(same: bool) -> Vec<Ask> {
    let ask = |n: u32| {
        let (key, answer) = if same { (0, n.to_string()) } else { (n, "ok".to_owned()) };
        question(f64::from(n) / 2.0, 0, format!("order-{key}"), answer)
    };
    (0..7200).map(ask).collect()
}

fn by_chance(random: &mut Rng) -> Vec<Ask> {
    let at = moments(random, 0.0, HOUR, 5.0);
    at.into_iter().map(|at| question(at, 0, format!("lamp-{}", random.u32(..20)), "17".to_owned())).collect()
}

fn one_by_chance(random: &mut Rng) -> Vec<Ask> {
    let at = moments(random, 0.0, HOUR, 1.0);
    at.into_iter().map(|at| question(at, 0, "lamp".to_owned(), "17".to_owned())).collect()
}

fn leases() -> Vec<Ask> {
    let renew = |n: u32| Ask {
        kind: Kind::Command,
        answer: Some("ok".to_owned()),
        ..question(10.0 * f64::from(n), 0, "shop".to_owned(), String::new())
    };
    (0..360).map(renew).collect()
}
