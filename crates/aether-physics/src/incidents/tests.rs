//! Tests of incidents, through the engine and in virtual time.

mod lost_processes;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Cause, Incident, Severity};
use crate::{EngineOptions, Interfere, PhysicsEngine};
use aether_core::clock::Instant;
use aether_core::medium::Sequencer;
use aether_core::{Kind, Pattern, Source, Wave, WaveBuilder, WaveId};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// A bus that is observed by an engine, in virtual time.
struct World {
    engine: PhysicsEngine,
    now: Instant,
    services: BTreeMap<String, Sequencer>,
    /// The incidents of the engine, with the time since the beginning.
    said: Vec<Incident>,
    down: Vec<&'static str>,
    processes: Vec<lost_processes::Process>,
}

impl World {
    fn new() -> Self {
        Self::with(EngineOptions::default())
    }

    fn with(options: EngineOptions) -> Self {
        Self {
            engine: options.build().unwrap(),
            now: aether_core::clock::test_now() + 1000 * SECOND,
            services: BTreeMap::new(),
            said: Vec::new(),
            down: Vec::new(),
            processes: Vec::new(),
        }
    }

    /// Lets time pass, as an observer that ticks when it should.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.next_change().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tick();
            if self.engine.next_change() == Some(at) {
                break;
            }
        }
        self.now = end;
        self.tick();
    }

    fn tick(&mut self) {
        self.read_accounts();
        while self.engine.tick(self.now).is_some() {}
        self.said.extend(std::iter::from_fn(|| self.engine.incident()));
    }

    /// A service emits, unless it is down or the medium is.
    fn emit(&mut self, service: &'static str, wave: WaveBuilder) -> Option<WaveId> {
        if self.down.contains(&service) || self.down.contains(&"medium") {
            return None;
        }
        let source = |name: &str| Sequencer::new(Source::new(name).unwrap());
        let sequencer = self.services.entry(service.to_owned()).or_insert_with(|| source(service));
        let mut wave = wave.build().unwrap();
        wave.stamp(sequencer, aether_core::clock::moment_of(self.now));
        self.engine.observe(&wave, self.now);
        self.tick();
        Some(wave.id())
    }

    /// An order: the shop asks the stock, which emits an event and answers.
    fn order(&mut self, key: u32, takes: Duration) {
        let key = key.to_string();
        let Some(created) = self.emit("shop", Wave::builder("orders.created").key(&key)) else { return };
        let ask = Wave::builder("stock.reserve").kind(Kind::Command).key(&key).cause(created);
        let Some(question) = self.emit("shop", ask) else { return };
        self.pass(takes);
        self.emit("stock", Wave::builder("stock.reserved").key(&key).cause(question.clone()));
        let answer = Wave::builder("stock.reserve").kind(Kind::Response).key(&key).cause(question);
        if let Some(answer) = self.emit("stock", answer) {
            self.emit("shop", Wave::builder("orders.completed").key(&key).cause(answer));
        }
    }

    /// Four orders a second, and a heartbeat of the stock and of a monitor.
    fn trade(&mut self, seconds: u32) {
        for second in 0..seconds {
            self.emit("stock", Wave::builder("stock.level"));
            self.emit("monitor", Wave::builder("monitor.alive"));
            for order in 0..4 {
                self.order(10 * second + order, 2 * MILLI);
                self.pass(248 * MILLI);
            }
        }
    }

    /// The incidents since the last call.
    fn said(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.said)
    }
}

fn texts(said: &[Incident]) -> Vec<String> {
    said.iter().map(ToString::to_string).collect()
}

#[test]
fn a_stopped_service_is_one_incident_that_names_it_with_all_that_follows_and_ends_when_it_is_back() {
    let mut world = World::new();
    world.trade(60);
    assert_eq!(texts(&world.said()), [""; 0], "healthy");
    world.down = vec!["stock"];
    world.trade(8);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    let incident = &said[0];
    assert_eq!((incident.cause.as_str(), incident.severity, incident.id), ("stopped", Severity::Critical, 1));
    assert_eq!(
        (&incident.services[..], &incident.waiting[..]),
        (&["stock".to_owned()][..], &["shop".to_owned()][..])
    );
    assert!(incident.lasted < 8 * SECOND, "{incident:?}");
    let text = incident.to_string();
    assert!(text.starts_with("stock stopped: its 3 streams are silent for "), "{text}");
    assert!(
        text.contains("so is orders.completed that follows, and shop waits for answers; check the process"),
        "{text}"
    );
    world.trade(30);
    assert_eq!(texts(&world.said()), [""; 0], "it lasts");
    assert_eq!(world.engine.report().incidents.len(), 1);
    world.down.clear();
    world.trade(60);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert_eq!((said[0].id, said[0].until.is_some()), (1, true));
    assert!(said[0].to_string().starts_with("ended: stock sent nothing for 3"), "{}", said[0]);
    assert!(world.engine.report().incidents.is_empty());
    // It is found again as soon as the first time: the outage is not a habit.
    world.down = vec!["stock"];
    world.trade(8);
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_service_without_a_heartbeat_is_named_by_unanswered_questions() {
    let mut world = World::new();
    for order in 0..400 {
        if order == 320 {
            world.down = vec!["stock"];
            assert_eq!(texts(&world.said()), [""; 0]);
        }
        world.order(order, 2 * MILLI);
        world.pass(248 * MILLI);
    }
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert_eq!((&said[0].cause, &said[0].services[..]), (&Cause::Stopped, &["stock".to_owned()][..]));
    assert!(said[0].lasted < 10 * SECOND);
}

#[test]
fn a_service_that_lives_and_does_not_answer_is_said_to() {
    let mut world = World::new();
    for order in 0..400 {
        world.emit("stock", Wave::builder("stock.level"));
        if order < 320 {
            world.order(order, 2 * MILLI);
        } else {
            world.emit("shop", Wave::builder("stock.reserve").kind(Kind::Command));
        }
        world.pass(250 * MILLI);
    }
    let said = texts(&world.said());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("stock lives, and has not answered stock.reserve for 5."), "{said:?}");
}

#[test]
fn commands_that_nobody_ever_answers_are_no_incident() {
    let mut world = World::new();
    for second in 0..120 {
        world.emit("stock", Wave::builder("stock.level"));
        world.emit("shop", Wave::builder("lamp.switch").kind(Kind::Command).key(&format!("{second}")));
        world.pass(SECOND);
    }
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn all_services_silent_at_once_are_one_incident_of_the_medium() {
    let mut world = World::new();
    for _ in 0..2 {
        world.trade(60);
        assert_eq!(texts(&world.said()), [""; 0]);
        world.down = vec!["medium"];
        world.trade(12);
        let said = texts(&world.said());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("all services fell silent at once, "), "{said:?}");
        // The services come back one after the other.
        world.down = vec!["stock", "monitor"];
        world.trade(2);
        world.down = vec!["monitor"];
        world.trade(2);
        world.down.clear();
        world.trade(20);
        let said = texts(&world.said());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("ended: all services were silent for 1"), "{said:?}");
    }
}

#[test]
fn a_lost_connection_is_an_incident_and_no_service_is_blamed() {
    let mut world = World::new();
    world.trade(60);
    world.down = vec!["medium"];
    world.engine.disconnected(world.now);
    world.trade(20);
    world.engine.connected(world.now);
    world.down.clear();
    world.trade(30);
    let said = world.said();
    assert_eq!(said.len(), 2, "{:?}", texts(&said));
    assert_eq!((&said[0].cause, said[0].services.len()), (&Cause::Disconnected, 0));
    assert_eq!(said[1].to_string(), "ended: the observer had no connection for 19.8 s");
}

#[test]
fn questions_that_waited_for_the_connection_are_not_unanswered_yet() {
    let mut world = World::new();
    world.trade(60);
    world.engine.disconnected(world.now);
    world.pass(8 * SECOND);
    world.engine.connected(world.now);
    // The shop sends what it asked during the outage; the stock is back a moment later.
    let shop = &world.services["shop"];
    for age in 1..8 {
        let ask = Wave::builder("stock.reserve").kind(Kind::Command).key(&format!("{age}"));
        let mut question = ask.build().unwrap();
        question.stamp(shop, aether_core::clock::moment_of(world.now - age * SECOND));
        world.engine.observe(&question, world.now);
    }
    world.tick();
    world.pass(SECOND);
    world.trade(20);
    let said = world.said();
    assert_eq!(said.len(), 2, "{:?}", texts(&said));
    assert!(said.iter().all(|incident| incident.cause == Cause::Disconnected), "{:?}", texts(&said));
}

#[test]
fn what_was_not_observed_is_no_evidence() {
    let mut world = World::new();
    world.trade(60);
    // The observer did not run for a minute, and reports it.
    let from = world.now;
    world.now += 60 * SECOND;
    world.engine.not_seen(from, world.now);
    world.trade(30);
    // The observer did not run for a minute, and nobody noticed.
    world.now += 60 * SECOND;
    world.trade(30);
    assert_eq!(texts(&world.said()), [""; 0]);
    world.down = vec!["stock"];
    world.trade(12);
    assert_eq!(world.said().len(), 1, "afterwards it judges as before");
}

#[test]
fn services_that_stop_together_are_one_incident() {
    let mut world = World::new();
    let beats = |world: &mut World, seconds: u32| {
        for second in 0..seconds {
            world.emit("a", Wave::builder("a.alive"));
            world.emit("c", Wave::builder("c.alive"));
            if second % 2 == 0 {
                world.emit("b", Wave::builder("b.alive"));
            }
            world.pass(SECOND);
        }
    };
    beats(&mut world, 100);
    world.down = vec!["a", "b"];
    beats(&mut world, 30);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    let open = world.engine.report().incidents;
    let mut services = open[0].services.clone();
    services.sort();
    assert_eq!(services, ["a", "b"]);
    assert!(open[0].to_string().ends_with("; check their host"), "{}", open[0]);
}

#[test]
fn a_slow_service_is_a_warning_that_ends() {
    let mut world = World::new();
    let mut said = Vec::new();
    for (takes, orders) in [(2, 300), (400, 60), (2, 300)] {
        for order in 0..orders {
            world.order(order, takes * MILLI);
            world.emit("stock", Wave::builder("stock.level"));
            world.pass(100 * MILLI);
        }
        said.push(world.said());
    }
    assert_eq!(texts(&said[0]), [""; 0]);
    let [slow] = &said[1][..] else { panic!("{:?}", texts(&said[1])) };
    assert_eq!(slow.severity, Severity::Warning);
    let text = "stock is slow: stock.reserve is answered after 400 ms instead of 2.00 ms; check its load";
    assert_eq!(slow.to_string(), text);
    assert_eq!(said[2].len(), 1, "{:?}", texts(&said[2]));
    assert!(said[2][0].to_string().starts_with("ended: stock was slow to answer stock.reserve for "));
}

#[test]
fn a_slow_service_that_stops_is_said_to_have_stopped() {
    let mut world = World::new();
    for (takes, orders) in [(2, 300), (400, 60)] {
        for order in 0..orders {
            world.order(order, takes * MILLI);
            world.emit("stock", Wave::builder("stock.level"));
            world.pass(100 * MILLI);
        }
    }
    assert_eq!(world.said().len(), 1);
    world.down = vec!["stock"];
    for second in 0..10 {
        world.emit("shop", Wave::builder("orders.created").key(&format!("{second}")));
        world.emit("shop", Wave::builder("stock.reserve").kind(Kind::Command));
        world.pass(SECOND);
    }
    let said = texts(&world.said());
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("ended: stock was slow") && said[1].starts_with("stock stopped: "),
        "{said:?}"
    );
}

#[test]
fn a_job_that_stops_in_a_living_service_is_a_warning() {
    let mut world = World::new();
    for second in 0..200 {
        world.emit("stock", Wave::builder("stock.level"));
        if !(100..150).contains(&second) {
            world.emit("stock", Wave::builder("stock.audit"));
        }
        world.pass(SECOND);
    }
    let said = world.said();
    assert_eq!(said.len(), 2, "{:?}", texts(&said));
    assert_eq!(said[0].cause.as_str(), "stream_stopped");
    assert!(said[0].to_string().starts_with("stock.audit by stock is silent for "), "{}", said[0]);
    assert!(said[1].until.is_some());
}

#[test]
fn an_hour_of_irregular_traffic_is_no_incident() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut world = World::new();
    let start = world.now;
    // Each service has a mean gap, and emits this number of waves at once.
    let services =
        [("people", 0.5, 1), ("batch", 7.0, 30), ("cron", 60.0, 1), ("rare", 20.0, 2), ("busy", 0.05, 1)];
    let mut due: Vec<Instant> = vec![start; services.len()];
    while world.now < start + 3600 * SECOND {
        let (at, next) =
            due.iter().enumerate().min_by_key(|(_, due)| **due).map(|(at, due)| (at, *due)).unwrap();
        world.pass(next.saturating_duration_since(world.now));
        let (name, mean, waves) = services[at];
        for _ in 0..waves {
            world.emit(name, Wave::builder(format!("{name}.event").as_str()));
        }
        let gap = if name == "cron" { mean } else { -mean * libm::log(1.0 - random.f64()) };
        due[at] += Duration::from_secs_f64(gap);
    }
    assert_eq!(texts(&world.said()), [""; 0]);
}

#[test]
fn lasting_losses_are_a_warning_and_single_ones_are_not() {
    let mut world = World::new();
    let lose = |world: &mut World, seconds: u32, every: u32| {
        for second in 0..seconds {
            world.emit("stock", Wave::builder("stock.level"));
            if second % every == 0 {
                world.engine.lost(50, world.now - SECOND, world.now);
            }
            world.pass(SECOND);
        }
    };
    lose(&mut world, 300, 60);
    assert_eq!(texts(&world.said()), [""; 0]);
    lose(&mut world, 40, 1);
    assert_eq!(world.said()[0].cause, Cause::Losses);
    lose(&mut world, 60, 1000);
    assert!(world.said()[0].until.is_some());
}

#[test]
fn a_claim_by_enough_sources_is_an_incident_until_it_is_retracted() {
    let pattern = Pattern::new("probes.>").unwrap();
    let claims = Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(10 * SECOND);
    let mut world = World::with(EngineOptions::default().interfere(pattern, claims));
    for probe in ["oslo", "rome"] {
        world.emit(probe, Wave::builder("probes.down").key("db-7"));
    }
    let said = texts(&world.said());
    assert_eq!(said, ["enough sources claim \"db-7\" on probes.down; check what it names"]);
    world.pass(60 * SECOND);
    assert_eq!(texts(&world.said()).len(), 1);
}

#[test]
fn requests_that_are_repeated_are_an_incident_unless_a_stopped_service_explains_them() {
    let ask = |world: &mut World, attempts: u32| {
        for interval in 0..3 {
            for request in 0..100 * attempts {
                let key = format!("{interval}-{}", request % 100);
                world.emit("shop", Wave::builder("mail.send").kind(Kind::Command).key(&key));
                world.pass(10 * SECOND / (100 * attempts));
            }
        }
    };
    let mut world = World::new();
    ask(&mut world, 1);
    assert_eq!(texts(&world.said()), [""; 0]);
    ask(&mut world, 4);
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert_eq!(said[0].cause.as_str(), "retry_storm");

    let mut world = World::new();
    world.trade(60);
    world.down = vec!["stock"];
    for second in 0..40 {
        for attempt in 0..10 {
            let key = format!("{}", 10 * (second / 4) + attempt);
            world.emit("shop", Wave::builder("stock.reserve").kind(Kind::Command).key(&key));
            world.pass(100 * MILLI);
        }
        world.emit("monitor", Wave::builder("monitor.alive"));
    }
    let said = world.said();
    assert_eq!(said.len(), 1, "{:?}", texts(&said));
    assert_eq!((said[0].cause.as_str(), &said[0].services[0][..]), ("stopped", "stock"));
    let open = &world.engine.report().incidents[0];
    assert!(open.findings.iter().any(|finding| finding.as_str() == "retry_storm"), "{:?}", open.findings);
}

#[test]
fn a_flood_of_names_and_of_faults_is_bounded() {
    let mut world = World::new();
    let names: Vec<&'static str> = (0..600).map(|n| &*format!("service-{n}").leak()).collect();
    for _ in 0..30 {
        for name in &names {
            world.emit(name, Wave::builder(format!("{name}.alive").as_str()));
        }
        world.emit("monitor", Wave::builder("monitor.alive"));
        world.pass(SECOND);
    }
    for _ in 0..30 {
        world.emit("monitor", Wave::builder("monitor.alive"));
        world.pass(SECOND);
    }
    let report = world.engine.report();
    assert!(report.incidents.len() <= super::MAX_OPEN, "{}", report.incidents.len());
    assert!(world.said().len() <= super::MAX_CHANGES);
}
