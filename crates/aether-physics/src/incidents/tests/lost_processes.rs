//! Tests of services that only react: their processes are missed, not their waves.

use std::time::Duration;

use super::{Cause, MILLI, SECOND, Severity, World, texts};
use aether_core::account::KnownProcess;
use aether_core::clock::Instant;
use aether_core::{Pattern, Source, Wave};

/// A process that tells its account every five seconds.
pub(super) struct Process {
    source: Source,
    started: Instant,
    ended: Option<Instant>,
    /// Whether its last account was a farewell.
    has_left: bool,
    /// No account came between these moments.
    unheard: Option<(Instant, Instant)>,
}

impl World {
    fn start(&mut self, name: &'static str, hears: &str) {
        let instance = 1 + self.processes.len() as u64;
        let source = Source::with_instance(name, instance).unwrap();
        self.processes.push(Process {
            source,
            started: self.now,
            ended: None,
            has_left: false,
            unheard: None,
        });
        self.engine.tuned(name, &[Pattern::new(hears).unwrap()]);
        self.down.retain(|down| *down != name);
    }

    fn end(&mut self, name: &'static str, has_left: bool) {
        let of_name = |process: &&mut Process| process.source.name() == name && process.ended.is_none();
        let process = self.processes.iter_mut().find(of_name).unwrap();
        (process.ended, process.has_left) = (Some(self.now), has_left);
        self.down.push(name);
    }

    pub(super) fn read_accounts(&mut self) {
        if self.processes.is_empty() || !self.engine.wants_accounts(self.now) {
            return;
        }
        let known = |process: &Process| {
            let until = match process.unheard {
                Some((from, to)) if self.now < to => from,
                _ => process.ended.unwrap_or(self.now),
            };
            let heard = match process.has_left {
                true => until,
                false => until - Duration::from_millis((until - process.started).as_millis() as u64 % 5000),
            };
            let name = process.source.name();
            KnownProcess::sample(process.source.clone(), &[name], self.now - heard, process.has_left)
        };
        let all: Vec<_> = self.processes.iter().map(known).collect();
        self.engine.told(&all, self.now);
    }

    /// Twenty measurements a second; who hears them makes an event of each, or of those that a filter lets pass.
    fn measure(&mut self, seconds: u32, passes: impl Fn(u32) -> bool) {
        for wave in 0..20 * seconds {
            if let Some(cause) = self.emit("sensor", Wave::builder("telemetry.in"))
                && passes(wave)
            {
                self.emit("ingest", Wave::builder("events.live.info").cause(cause));
            }
            self.pass(50 * MILLI);
        }
    }

    fn plant() -> Self {
        let mut world = Self::new();
        world.start("sensor", "sensor.settings");
        world.pass(1700 * MILLI);
        world.start("ingest", "telemetry.>");
        world
    }
}

#[test]
fn a_lost_service_that_only_reacts_is_named_while_its_input_flows_and_its_input_does_not_explain_it_away() {
    let mut world = World::plant();
    world.measure(60, |_| true);
    assert_eq!(texts(&world.said()), [""; 0], "healthy");
    world.end("ingest", false);
    world.measure(30, |_| true);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    let incident = &said[0];
    assert_eq!((&incident.cause, incident.severity), (&Cause::Stopped, Severity::Critical));
    assert_eq!(incident.services, ["ingest"]);
    assert!(incident.lasted < 20 * SECOND, "{incident:?}");
    let text = incident.to_string();
    assert!(text.starts_with("ingest stopped: its stream events.live.info is silent for 1"), "{text}");
    assert!(text.ends_with(" s while telemetry.in goes on; check the process"), "{text}");

    // Its input stops as well, for another reason.
    world.end("sensor", false);
    world.pass(30 * SECOND);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert_eq!((&said[0].services[..], said[0].followers.len()), (&["sensor".to_owned()][..], 0), "{said:?}");
    assert_eq!(world.engine.report().incidents.len(), 2);

    world.start("ingest", "telemetry.>");
    world.start("sensor", "sensor.settings");
    world.measure(30, |_| true);
    let said = world.said();
    assert_eq!(said.len(), 2, "{:?}", texts(&said));
    assert!(said.iter().all(|incident| incident.until.is_some()));
}

#[test]
fn a_service_that_rightly_stays_quiet_is_no_incident() {
    let mut world = World::plant();
    // An alarm lasts for a minute, and then there is nothing to say.
    world.measure(60, |_| true);
    world.measure(300, |_| false);
    // Bursts.
    world.measure(300, |wave| wave % 900 < 40);
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn a_service_that_only_hears_is_named_when_it_is_lost_and_is_back_with_its_account() {
    let mut world = World::plant();
    world.start("pager", "telemetry.>");
    world.measure(30, |_| true);
    world.end("pager", false);
    world.measure(30, |_| true);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert!(said[0].to_string().starts_with("pager stopped: it is silent for 1"), "{}", said[0]);
    world.start("pager", "telemetry.>");
    world.measure(15, |_| true);
    assert!(matches!(&world.said()[..], [ended] if ended.until.is_some()));
}

#[test]
fn a_service_that_leaves_or_is_replaced_or_has_nothing_to_hear_is_no_incident() {
    let mut world = World::plant();
    world.start("pager", "alarms.>");
    world.start("stock", "telemetry.>");
    world.measure(30, |_| true);
    world.end("ingest", true);
    world.end("pager", false);
    world.end("stock", false);
    world.measure(4, |_| true);
    world.start("stock", "telemetry.>");
    world.measure(120, |_| true);
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn one_of_several_processes_of_a_service_may_be_lost() {
    let mut world = World::plant();
    world.start("ingest", "telemetry.>");
    world.measure(30, |_| true);
    world.end("ingest", false);
    world.down.clear();
    world.measure(60, |_| true);
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn accounts_that_could_not_be_heard_are_no_evidence() {
    let mut world = World::plant();
    world.measure(30, |_| true);
    let began = world.now;
    world.engine.disconnected(world.now);
    world.pass(40 * SECOND);
    world.engine.connected(world.now);
    world.pass(MILLI);
    assert_eq!(world.said().len(), 2, "the outage, and its end");
    // Waves are heard at once, and accounts later.
    for process in &mut world.processes {
        process.unheard = Some((began, world.now + 9 * SECOND));
    }
    world.measure(60, |wave| wave > 200);
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn a_host_that_is_cut_off_is_not_lost_when_its_waves_are_back_before_its_accounts() {
    let mut world = World::plant();
    world.measure(30, |_| true);
    let began = world.now;
    world.down = vec!["sensor", "ingest"];
    for process in &mut world.processes {
        process.unheard = Some((began, world.now + 64 * SECOND));
    }
    world.pass(60 * SECOND);
    world.down.clear();
    world.said();
    world.measure(60, |wave| wave > 80);
    let said = world.said();
    assert!(said.iter().all(|incident| incident.until.is_some()), "{:?}", texts(&said));
}
