//! The physics for the gateway: incidents, related channels, periodic streams, recent findings.
//!
//! A separate task drives a [`PhysicsObserver`] and stores its results, which the status reads. So neither counting
//! waves nor answering HTTP requests waits for the detectors. If there are too many waves, the detectors sample a part
//! of the time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aether::physics::PhysicsObserver;
use aether::physics::{Finding, Fringe, Incident, PhysicsReport, Severity};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::log::Log;

/// The number of findings kept. The oldest are dropped.
const KEPT: usize = 50;
/// The number of fringes kept. They are kept apart, because other findings are far more frequent.
const FRINGES_KEPT: usize = 50;
/// The number of ended incidents kept. The oldest are dropped. The engine bounds the open ones.
const ENDED_KEPT: usize = 20;
/// The maximum number of waves per step, so that a burst is analysed as a whole.
const BURST: usize = 256;
/// The minimum time between two reports, and its minimum as a multiple of the time that a report takes. Reports take at
/// most a twentieth of a processor.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_FOR_WORK: u32 = 20;
/// The pause before subscribing again after a failure.
const JOIN_PAUSE: Duration = Duration::from_secs(1);

/// The findings of a gateway's physics.
#[derive(Debug, Default)]
pub struct Insight {
    state: Mutex<State>,
    looked: Notify,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<Arc<PhysicsReport>>,
    /// Newest first.
    findings: VecDeque<(Instant, Finding)>,
    /// Newest first.
    fringes: VecDeque<(Instant, Fringe)>,
    counts: BTreeMap<&'static str, u64>,
    /// By number, with the time of the latest account.
    open: BTreeMap<u64, (Instant, Incident)>,
    /// Newest first.
    ended: VecDeque<(Instant, Incident)>,
    incidents_by_cause: BTreeMap<&'static str, u64>,
}

/// A finding and its age.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found {
    /// The age of the finding.
    pub ago: Duration,
    /// The finding.
    pub finding: Finding,
}

/// An incident and its age.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotedIncident {
    /// The time since it ended; zero while it lasts.
    pub ago: Duration,
    /// The incident.
    pub incident: Incident,
}

impl Insight {
    /// Notes incidents in this log, too.
    pub(crate) fn with(log: Arc<Log>) -> Self {
        Self { log, ..Self::default() }
    }

    /// The incidents: the open ones, the oldest first, and then at most 20 that have ended, newest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<NotedIncident> {
        let state = self.state.lock();
        let now = Instant::now();
        let open = state.open.values().map(|(at, incident)| {
            let mut incident = incident.clone();
            incident.lasted += now.saturating_duration_since(*at);
            NotedIncident { ago: Duration::ZERO, incident }
        });
        let ended = state.ended.iter().map(|(at, incident)| NotedIncident {
            ago: now.saturating_duration_since(*at),
            incident: incident.clone(),
        });
        open.chain(ended).collect()
    }

    /// The number of incidents so far, by cause.
    pub(crate) fn incidents_by_cause(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().incidents_by_cause.clone()
    }

    fn note_incidents(&self, incidents: impl Iterator<Item = Incident>) {
        for incident in incidents {
            let mut state = self.state.lock();
            match incident.until {
                Some(_) => self.end(&mut state, incident),
                None => self.begin(&mut state, incident),
            }
        }
    }

    fn begin(&self, state: &mut State, incident: Incident) {
        *state.incidents_by_cause.entry(incident.cause.as_str()).or_default() += 1;
        tracing::warn!(id = incident.id, severity = %incident.severity, "{incident}");
        let is_critical = incident.severity == Severity::Critical;
        self.log.incident_began(incident.cause.as_str(), is_critical, incident.to_string());
        state.open.insert(incident.id, (Instant::now(), incident));
    }

    fn end(&self, state: &mut State, incident: Incident) {
        state.open.remove(&incident.id);
        tracing::info!(id = incident.id, "{incident}");
        self.log.incident_ended(incident.cause.as_str(), incident.to_string());
        state.ended.truncate(ENDED_KEPT - 1);
        state.ended.push_front((Instant::now(), incident));
    }

    /// Replaces the report, and the open incidents by the incidents of the report: the engine keeps a bounded number of
    /// changes, so a beginning or an end may never have come. `changes` are the changes up to the report.
    fn replace(&self, report: PhysicsReport, changes: Vec<Incident>) {
        self.note_incidents(changes.into_iter());
        let mut state = self.state.lock();
        let now = Instant::now();
        let lasts = |id: &u64| report.incidents.iter().any(|incident| incident.id == *id);
        let over: Vec<_> = state.open.extract_if(.., |id, _| !lasts(id)).map(|(_, open)| open).collect();
        for (at, mut incident) in over {
            incident.lasted += now.saturating_duration_since(at);
            incident.until = Some(incident.since + incident.lasted);
            self.end(&mut state, incident);
        }
        for incident in &report.incidents {
            match state.open.get_mut(&incident.id) {
                Some(known) => *known = (now, incident.clone()),
                None => self.begin(&mut state, incident.clone()),
            }
        }
        state.report = Some(Arc::new(report));
    }

    /// The latest report, at most a few seconds old unless reports take long. `None` before the first report.
    #[must_use]
    pub fn report(&self) -> Option<Arc<PhysicsReport>> {
        self.state.lock().report.clone()
    }

    /// Waits for the next report. Never completes once the gateway has ended.
    ///
    /// # Cancel safety
    /// Cancelled before completion, only the notification is missed.
    pub async fn looked(&self) {
        self.looked.notified().await;
    }

    /// The latest findings, newest first, at most 50.
    #[must_use]
    pub fn findings(&self) -> Vec<Found> {
        let state = self.state.lock();
        let now = Instant::now();
        let found = |(at, finding): &(Instant, Finding)| Found {
            ago: now.saturating_duration_since(*at),
            finding: finding.clone(),
        };
        state.findings.iter().map(found).collect()
    }

    /// The latest changes of fringes with their age, newest first, at most 50.
    pub(crate) fn fringes(&self) -> Vec<(Duration, Fringe)> {
        let state = self.state.lock();
        let now = Instant::now();
        let aged = |(at, fringe): &(Instant, Fringe)| (now.saturating_duration_since(*at), fringe.clone());
        state.fringes.iter().map(aged).collect()
    }

    /// The number of findings by kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().counts.clone()
    }

    fn note(&self, findings: impl Iterator<Item = Finding>) {
        for finding in findings {
            let mut state = self.state.lock();
            *state.counts.entry(finding.as_str()).or_default() += 1;
            if let Finding::Fringe(fringe) = &finding {
                state.fringes.truncate(FRINGES_KEPT - 1);
                state.fringes.push_front((Instant::now(), fringe.clone()));
            }
            state.findings.truncate(KEPT - 1);
            state.findings.push_front((Instant::now(), finding));
        }
    }
}

/// Watches until `shutdown` is cancelled or the medium is closed, and then processes the queued waves.
pub(crate) async fn watch(mut observer: PhysicsObserver, insight: &Insight, shutdown: CancellationToken) {
    let mut look_at = Instant::now() + PAUSE;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep_until(look_at) => {
                let started = Instant::now();
                let Some(looked) = look(observer, insight).await else { return };
                observer = looked;
                look_at = Instant::now() + PAUSE.max(started.elapsed() * PAUSE_FOR_WORK);
            }
            advanced = observer.advance(BURST) => match advanced {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe again; retrying in a second");
                    sleep(JOIN_PAUSE).await;
                }
            },
        }
        take_results(&mut observer, insight);
    }
    // Only the waves queued now: emitters that continue must not keep the gateway from ending.
    for _ in 0..observer.ledger().queued.div_ceil(BURST as u64) {
        if !matches!(coop::unconstrained(observer.advance(BURST)).now_or_never(), Some(Ok(Some(1..)))) {
            break;
        }
    }
    look(observer, insight).await;
}

fn take_results(observer: &mut PhysicsObserver, insight: &Insight) {
    insight.note(std::iter::from_fn(|| observer.found()));
    insight.note_incidents(std::iter::from_fn(|| observer.incident()));
}

/// Makes a report. It can take long with hundreds of busy channels, so it runs outside of the async tasks.
async fn look(mut observer: PhysicsObserver, insight: &Insight) -> Option<PhysicsObserver> {
    let looked = tokio::task::spawn_blocking(move || {
        let report = observer.report();
        // Before time goes on: what begins later is not in the report.
        let changes = std::iter::from_fn(|| observer.incident()).collect();
        (observer, report, changes)
    });
    match looked.await {
        Ok((mut observer, report, changes)) => {
            insight.replace(report, changes);
            take_results(&mut observer, insight);
            insight.looked.notify_waiters();
            Some(observer)
        }
        Err(error) => {
            tracing::error!(%error, "physics task panicked; detection stopped");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether::physics::{Claim, Interfere, PhysicsEngine};
    use aether_core::{Aether, Amplitude, Channel, Phase, Source, Vibrator, Wave};

    async fn observed(aether: &Aether) -> PhysicsObserver {
        PhysicsObserver::open("physics", ">", PhysicsEngine::default(), aether).await.unwrap()
    }

    /// Emits `times` pairs of waves, of which one causes the other.
    async fn trade(shop: &Vibrator, times: usize) {
        for _ in 0..times {
            let created = shop.emit(Wave::from_bytes("orders.created", "").unwrap()).await.unwrap();
            let paid = Wave::builder("orders.paid").cause(shop.id_of(&created)).build().unwrap();
            shop.emit(paid).await.unwrap();
        }
    }

    #[tokio::test]
    async fn waves_queued_at_the_end_are_in_the_last_report() {
        let aether = Aether::local();
        let (observer, insight) = (observed(&aether).await, Insight::default());
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        assert!(insight.report().is_none());
        trade(&shop, 1000).await;
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        watch(observer, &insight, shutdown).await;
        let report = insight.report().unwrap();
        assert_eq!(report.map.edge("orders.created", "orders.paid").unwrap().waves, 1000);
        let related = insight.findings().into_iter().filter(|found| found.finding.as_str() == "related");
        assert_eq!((related.count(), insight.counts()["related"]), (1, 1));
    }

    #[tokio::test]
    async fn it_ends_with_the_medium() {
        let aether = Aether::local();
        let (observer, insight) = (observed(&aether).await, Insight::default());
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        trade(&shop, 1).await;
        aether.close().await.unwrap();
        watch(observer, &insight, CancellationToken::new()).await;
        assert_eq!(insight.report().unwrap().map.edges.len(), 1);
    }

    #[test]
    fn an_incident_whose_beginning_or_end_never_came_is_that_of_the_report() {
        let (mut engine, insight, begin) = (PhysicsEngine::default(), Insight::default(), Instant::now());
        let at = |seconds| (begin + Duration::from_secs(seconds)).into_std();
        assert!(engine.tick(at(0)).is_none());
        engine.disconnected(at(1));
        // Its beginning is taken away, as it would be when too many wait.
        let ticks = (1..60).find_map(|second| {
            assert!(engine.tick(at(second)).is_none());
            engine.incident()
        });
        let began = ticks.expect("an incident");
        assert_eq!(began.cause.as_str(), "disconnected");
        insight.replace(engine.report(), Vec::new());
        assert!(
            matches!(&*insight.incidents(), [only] if only.incident.id == began.id && only.incident.until.is_none())
        );
        assert_eq!(insight.incidents_by_cause(), BTreeMap::from([("disconnected", 1)]));

        engine.connected(at(60));
        assert!(engine.incident().is_some_and(|ended| ended.until.is_some()));
        insight.replace(engine.report(), Vec::new());
        assert!(
            matches!(&*insight.incidents(), [only] if only.incident.until.is_some()),
            "it is open for ever"
        );
        assert_eq!(insight.incidents_by_cause(), BTreeMap::from([("disconnected", 1)]));
        assert_eq!(
            serde_json::to_value(insight.log.newest(9)).unwrap()["entries"].as_array().unwrap().len(),
            2
        );
    }

    #[test]
    fn fringes_are_kept_although_other_findings_are_far_more_frequent() {
        let mut alerts = Interfere::by_key().sources(2).rise(0.7).build().unwrap();
        let (channel, now) = (Channel::new("probes.down").unwrap(), std::time::Instant::now());
        for probe in ["frankfurt", "oslo"] {
            let source = Source::new(probe).unwrap();
            let (amplitude, phase, age) = (Amplitude::NORMAL, Phase::ASSERT, Duration::ZERO);
            alerts.claim(&channel, "db-7", &source, Claim { amplitude, phase, sequence: 1, age }, now);
        }
        let insight = Insight::default();
        insight.note(alerts.tick(now).into_iter().map(Finding::Fringe));
        insight.note((1..=2 * KEPT as u64).map(|times| Finding::ClockJumped { times }));
        assert!(insight.findings().iter().all(|found| found.finding.as_str() == "clock_jumped"));
        let [(_, fringe)] = &insight.fringes()[..] else { panic!() };
        assert_eq!((&*fringe.key, fringe.sources), ("db-7", 2));
    }

    #[test]
    fn only_the_latest_findings_are_kept_and_all_are_counted() {
        let insight = Insight::default();
        insight.note((1..=KEPT as u64 + 10).map(|times| Finding::ClockJumped { times }));
        let kept: Vec<_> = insight.findings().into_iter().map(|found| found.finding).collect();
        assert_eq!((kept.len(), &kept[0]), (KEPT, &Finding::ClockJumped { times: KEPT as u64 + 10 }));
        assert_eq!(insight.counts(), BTreeMap::from([("clock_jumped", KEPT as u64 + 10)]));
    }
}
