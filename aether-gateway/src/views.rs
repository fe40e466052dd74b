//! The live pages as JSON: each view is written once for all clients.
//!
//! [`Views::run`] ends the seconds of the [history](crate::history) and writes the views that anybody watches. A client
//! that reads slowly gets the latest one, with the number of missed ones; nothing queues for it. `/api/...` writes a
//! view on request.

mod hour;
mod ledger;
mod map;
mod overview;
mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aether_core::account::KnownProcess;
use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::archive::recorder::Recorder;
use crate::attention::Attention;
use crate::history::History;
use crate::increments::{Increments, Told};
use crate::losses::{self, Lately};
use crate::observed::Second;
use crate::pulses::Pulses;
use crate::status::StatusSource;
use crate::track::{BUCKET_SECONDS, BUCKETS, Moment};

const SECOND: Duration = Duration::from_secs(1);
/// Views that change slowly are written once in this number of seconds.
const SLOW: u64 = 2;
/// The maximum number of channels in a history: those that had waves last.
const MOST_CHANNELS: usize = 1000;

/// One view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Overview,
    Services,
    Ledger,
    /// Without the channels on which programs talk about themselves.
    Map,
    /// With them.
    WholeMap,
}

impl View {
    pub(crate) const ALL: [Self; 5] =
        [Self::Overview, Self::Services, Self::Ledger, Self::Map, Self::WholeMap];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Services => "services",
            Self::Ledger => "ledger",
            Self::Map => "map",
            Self::WholeMap => "whole_map",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.name() == name)
    }

    const fn every(self) -> u64 {
        match self {
            Self::Overview => 1,
            Self::Services | Self::Ledger | Self::Map | Self::WholeMap => SLOW,
        }
    }
}

/// All views, and what they are written from.
#[derive(Debug)]
pub(crate) struct Views {
    source: Arc<StatusSource>,
    history: Mutex<History>,
    increments: Mutex<Increments>,
    lost_lately: Mutex<Lately>,
    attention: Mutex<Attention>,
    pulses: Mutex<Pulses>,
    recorder: Option<Mutex<Recorder>>,
    last: Mutex<Last>,
    turn: watch::Sender<u64>,
    shown: [Shown; View::ALL.len()],
    asked: Notify,
}

/// The last second.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    channels: Vec<Second>,
    all: Moment,
}

/// A view as it was written last.
#[derive(Debug, Default)]
struct Shown {
    watchers: AtomicUsize,
    written: Mutex<Option<Written>>,
}

/// A view as it is sent. Its number grows by one each time that it is written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    view: View,
    number: u64,
    /// The message for clients that missed nothing, who share it, and the size of the part before the view in it.
    message: Utf8Bytes,
    head: usize,
}

/// A client's interest in a view, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watching {
    views: Arc<Views>,
    pub(crate) view: View,
    /// The number of the one that it was told last.
    pub(crate) told: u64,
}

impl Views {
    pub(crate) fn new(source: Arc<StatusSource>, archive: Option<Archive>) -> Arc<Self> {
        let increments = Mutex::new(Increments::new(source.observed().since()));
        Arc::new(Self {
            source,
            history: Mutex::default(),
            increments,
            lost_lately: Mutex::default(),
            attention: Mutex::new(Attention::new()),
            pulses: Mutex::default(),
            recorder: archive.map(|archive| Mutex::new(Recorder::new(archive))),
            last: Mutex::default(),
            turn: watch::Sender::new(0),
            shown: Default::default(),
            asked: Notify::new(),
        })
    }

    /// Becomes ready whenever views have been written.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    pub(crate) fn watch(self: &Arc<Self>, view: View) -> Watching {
        self.shown[view as usize].watchers.fetch_add(1, Ordering::Relaxed);
        self.asked.notify_one();
        Watching { views: Arc::clone(self), view, told: 0 }
    }

    /// Ends seconds and writes views until it is stopped.
    pub(crate) async fn run(self: &Arc<Self>, stop: CancellationToken) {
        // Losses until now do not count for the first bucket.
        self.read_accounts();
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        second.tick().await;
        loop {
            let ends_second = tokio::select! {
                () = stop.cancelled() => break,
                _ = second.tick() => true,
                () = self.asked.notified() => false,
            };
            let views = Arc::clone(self);
            let written = tokio::task::spawn_blocking(move || {
                if ends_second {
                    views.end_second();
                }
                views.write_watched(ends_second);
            });
            if let Err(error) = written.await {
                tracing::error!(%error, "the views of the pages could not be written");
            }
            self.turn.send_modify(|turn| *turn += 1);
        }
        let views = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || views.end_recording()).await {
            tracing::error!(%error, "the last minute could not be recorded");
        }
    }

    fn end_second(&self) {
        self.source.log().readiness(self.source.readiness());
        let mut last = self.last.lock();
        last.number += 1;
        let ends_bucket = last.number.is_multiple_of(BUCKET_SECONDS as u64);
        let (channels, all) = self.source.observed().end_second(ends_bucket);
        let processes = self.read_accounts();
        self.attention.lock().end_second(&processes, self.source.roster(), &channels);
        last.channels = channels;
        last.all = all;
        drop(last);
        let grown = ends_bucket.then(|| self.increments.lock().take());
        let mut history = self.history.lock();
        history.add(all);
        if let Some(grown) = &grown {
            let lost = losses::by_reason(grown);
            history.end_bucket(&lost);
            self.lost_lately.lock().end_bucket(grown);
            for (reason, waves) in lost {
                self.source.log().lost(reason, waves, losses::worst_for(grown, reason).as_deref());
            }
        }
        drop(history);
        if ends_bucket {
            self.pulses.lock().end_bucket(&processes);
        }
        if let Some(recorder) = &self.recorder {
            let mut recorder = recorder.lock();
            recorder.add(all);
            if let Some(grown) = &grown {
                recorder.count(grown, self.source.insight().as_deref());
            }
        }
    }

    fn read_accounts(&self) -> Vec<KnownProcess> {
        let processes = self.source.accounts().processes();
        self.increments.lock().read(processes.iter().map(Told::from), Instant::now());
        processes
    }

    /// Records the begun second and minute.
    fn end_recording(&self) {
        let Some(recorder) = &self.recorder else { return };
        let (_, all) = self.source.observed().end_second(false);
        let mut recorder = recorder.lock();
        recorder.add(all);
        self.read_accounts();
        recorder.end(&self.increments.lock().take(), self.source.insight().as_deref());
    }

    /// Writes what is watched and due, and what is watched and was not written yet.
    fn write_watched(&self, ends_second: bool) {
        let number = self.last.lock().number;
        for view in View::ALL {
            let shown = &self.shown[view as usize];
            if shown.watchers.load(Ordering::Relaxed) == 0 {
                // Kept for the rest of the second, so a client that comes and goes does not have it written each time.
                if ends_second {
                    *shown.written.lock() = None;
                }
                continue;
            }
            let is_due = ends_second && number.is_multiple_of(view.every());
            let before = shown.written.lock().as_ref().map(|written| written.number);
            if before.is_some() && !is_due {
                continue;
            }
            match self.json(view) {
                Ok(json) => {
                    // Counted on from the number of the second, so it never falls when nobody watched meanwhile.
                    let number = before.map_or(number + 1, |before| before + 1);
                    *shown.written.lock() = Some(Written::new(view, number, &json));
                }
                Err(error) => tracing::error!(%error, view = view.name(), "a view could not be written"),
            }
        }
    }

    /// Writes one view.
    ///
    /// # Errors
    /// Never for the types that are written.
    pub(crate) fn json(&self, view: View) -> Result<String, serde_json::Error> {
        match view {
            View::Overview => serde_json::to_string(&self.overview()),
            View::Services => {
                let services = services::Services::of(&self.source, &self.pulses.lock());
                serde_json::to_string(&services)
            }
            View::Ledger => serde_json::to_string(&ledger::Ledgers::of(self.source.read())),
            View::Map | View::WholeMap => {
                let map = map::Map::of(&self.source, &self.pulses.lock(), view == View::WholeMap);
                serde_json::to_string(&map)
            }
        }
    }

    fn overview(&self) -> overview::Overview {
        let last = self.last.lock();
        let overview = overview::Overview::of(
            &self.source,
            last.number,
            &last.channels,
            last.all,
            &self.lost_lately.lock(),
        );
        overview.with_attention(self.attention.lock().concerns())
    }

    /// The last buckets of everything, at most an hour, of each channel if `of_channels`, and of each service if
    /// `of_services`.
    ///
    /// # Errors
    /// Never for the types that are written.
    pub(crate) fn history(
        &self,
        buckets: usize,
        of_channels: bool,
        of_services: bool,
    ) -> Result<String, serde_json::Error> {
        let most = buckets.min(BUCKETS);
        let past = self.history.lock().last(most);
        // Copied while the observer waits, and written afterwards.
        let observed = self.source.observed();
        let channels = of_channels.then(|| observed.tracks(MOST_CHANNELS, most));
        let services = of_services.then(|| self.pulses.lock().of_vibrators(most));
        serde_json::to_string(&hour::Hour::of(past, channels, services))
    }
}

impl Written {
    fn new(view: View, number: u64, json: &str) -> Self {
        let head = head(view, number, 0);
        Self { view, number, message: format!("{head}{json}}}").into(), head: head.len() }
    }

    /// The message for a client that has missed `missed` messages before.
    pub(crate) fn message(self, missed: u64) -> Utf8Bytes {
        if missed == 0 {
            return self.message;
        }
        let head = head(self.view, self.number, missed);
        format!("{head}{}", &self.message[self.head..]).into()
    }
}

fn head(view: View, number: u64, missed: u64) -> String {
    format!(r#"{{"op":"view","view":"{}","number":{number},"missed":{missed},"data":"#, view.name())
}

impl Watching {
    /// The view, if it was written since the client was told, and how many the client missed in between.
    pub(crate) fn take(&mut self) -> Option<(Written, u64)> {
        let written = self.views.shown[self.view as usize].written.lock().clone()?;
        if written.number == self.told {
            return None;
        }
        let missed = if self.told == 0 { 0 } else { written.number.saturating_sub(self.told + 1) };
        self.told = written.number;
        Some((written, missed))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.views.shown[self.view as usize].watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
