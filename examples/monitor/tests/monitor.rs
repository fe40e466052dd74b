//! The three services on one bus, in virtual time: hours take milliseconds.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aether_core::{EchoReason, Wave};
use aether_monitor::{BEAT, PagerError, alerter, notifier, probe, watch};
use aether_testing::{Fault, Faults, Running, TestBus};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

/// The monitor with three probes of one database.
struct Monitor {
    bus: TestBus,
    alerters: Vec<Running>,
    probes: Vec<(Arc<AtomicBool>, AbortHandle)>,
    /// The pager fails this many times before it sends a page again.
    fails: Arc<AtomicUsize>,
    pages: mpsc::UnboundedReceiver<String>,
}

impl Monitor {
    async fn start(faults: &Faults) -> Self {
        let bus = TestBus::builder().faults(faults).start().await;
        let mut alerters = Vec::new();
        for _ in 0..2 {
            alerters.push(bus.serve(alerter()).await);
            tokio::spawn(watch(bus.aether().clone(), bus.aether().emitter("watch").unwrap()));
        }
        let (send, pages) = mpsc::unbounded_channel();
        let fails = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&fails);
        let pager = move |text: &str| {
            let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if fails.is_ok() { Err(PagerError) } else { send.send(text.to_owned()).map_err(|_| PagerError) }
        };
        bus.serve(notifier(Arc::new(pager))).await;
        let mut probes = Vec::new();
        for name in ["oslo", "rome", "york"] {
            let (is_up, emitter) = (Arc::new(AtomicBool::new(true)), bus.aether().emitter(name).unwrap());
            let state = Arc::clone(&is_up);
            let probing = probe(emitter, "db".to_owned(), move || ready(state.load(Ordering::Relaxed)));
            probes.push((is_up, tokio::spawn(probing).abort_handle()));
        }
        Self { bus, alerters, probes, fails, pages }
    }

    fn set(&self, probes: std::ops::Range<usize>, is_up: bool) {
        self.probes[probes].iter().for_each(|probe| probe.0.store(is_up, Ordering::Relaxed));
    }

    /// The next page, and no other.
    async fn page(&mut self) -> String {
        let page = timeout(20 * MINUTE, self.pages.recv()).await.expect("a page").unwrap();
        self.quiet().await;
        page
    }

    async fn quiet(&mut self) {
        let more = timeout(5 * MINUTE, self.pages.recv()).await;
        assert!(more.is_err(), "another page: {more:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_its_end_are_paged_once_although_claims_are_lost_and_the_pager_fails() {
    let faults = Faults::new();
    faults.add(Fault::lose(0.2).on("probes.down"));
    faults.add(Fault::delay(Duration::ZERO).up_to(Duration::from_secs(2)).on("probes.down"));
    let mut monitor = Monitor::start(&faults).await;
    monitor.quiet().await;
    monitor.fails.store(2, Ordering::Relaxed);
    monitor.set(0..3, false);
    assert!(monitor.page().await.starts_with("db is down, by "));
    monitor.set(0..3, true);
    assert_eq!(monitor.page().await, "db is no longer down");
    monitor.bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_probe_alone_pages_nobody_and_two_do() {
    let mut monitor = Monitor::start(&Faults::new()).await;
    monitor.set(0..1, false);
    monitor.quiet().await;
    monitor.set(1..2, false);
    assert_eq!(monitor.page().await, "db is down, by 2 sources");
    monitor.bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_sent_is_a_dead_letter_and_the_notifier_still_answers() {
    let mut monitor = Monitor::start(&Faults::new()).await;
    let operator = monitor.bus.vibrator("operator").await;
    monitor.fails.store(usize::MAX, Ordering::Relaxed);
    monitor.set(0..3, false);
    sleep(BEAT * 2).await;
    // The circuit breaker of the pager is open, or tries one page at a time.
    let status = operator.ask(Wave::builder("notifier.status")).await.unwrap();
    assert_eq!(status.text().unwrap(), "on duty");
    monitor.quiet().await;
    let letters = monitor.bus.dead_letters();
    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!((letter.wave.key(), letter.reason), (Some("db"), EchoReason::HandlerFailed));

    monitor.fails.store(0, Ordering::Relaxed);
    monitor.bus.aether().dead_letters().replay(letter.number, &operator).await.unwrap();
    assert!(monitor.page().await.starts_with("db is down, by "));
    monitor.bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_other_alerter_takes_over_and_repeats_nothing() {
    let mut monitor = Monitor::start(&Faults::new()).await;
    monitor.set(0..3, false);
    assert!(monitor.page().await.starts_with("db is down"));
    monitor.alerters[0].crash().await;
    monitor.quiet().await;
    monitor.set(0..3, true);
    assert_eq!(monitor.page().await, "db is no longer down");
    monitor.bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_falls_silent_is_paged() {
    let mut monitor = Monitor::start(&Faults::new()).await;
    monitor.quiet().await;
    sleep(60 * MINUTE).await;
    monitor.probes[2].1.abort();
    assert_eq!(
        timeout(5 * MINUTE, monitor.pages.recv()).await.unwrap().unwrap(),
        "york is silent, by 2 sources"
    );
    monitor.bus.finish().await;
}
