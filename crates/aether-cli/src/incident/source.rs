//! The text of a test: Rust for people, who put their own service in place of a stand-in.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use aether::physics::{Cause, Incident};
use aether_core::{Channel, Kind};

use super::fault::{Ended, Fault};
use super::found::{Found, sorted};
use super::rust::{WIDTH, comment, duration, grouped, identifier, list, millis, nanos};
use super::traffic::{Act, OBSERVER, Process, Traffic, Trigger, When, Which};
use crate::record::printable;

/// The simulation begins so long before the recording: until then, the processes find each other.
const LEAD: Duration = Duration::from_secs(2);
/// A process that starts again needs this time to find the others.
const FINDS: Duration = Duration::from_secs(1);
/// The test ends so long after the incident was found.
const AFTER: Duration = Duration::from_secs(5);

/// Everything that the text of a test needs.
pub(super) struct Test<'a> {
    pub(super) recording: &'a Path,
    pub(super) number: u64,
    /// The incident of the recording.
    pub(super) recorded: &'a Incident,
    /// The incident that the test has to find.
    pub(super) found: &'a Found,
    /// The time of the recording at which the test begins.
    pub(super) start: Duration,
    pub(super) fault: Fault,
    pub(super) traffic: Traffic,
}

/// The file.
pub(super) fn text(test: &Test<'_>) -> String {
    let mut text = head(test);
    text.push_str(&test.function());
    for process in &test.traffic.processes {
        text.push_str(&test.stand_in(process));
    }
    text.push_str(&test.observer());
    text
}

fn head(test: &Test<'_>) -> String {
    let file = printable(&test.recording.file_name().unwrap_or_default().to_string_lossy(), usize::MAX);
    let mut text = String::new();
    comment(&mut text, "//!", &format!("Incident {} of {file} as a test.", test.number));
    text.push_str("//!\n");
    comment(
        &mut text,
        "//!",
        &printable(&format!("{}: {}", test.recorded.severity, test.recorded), usize::MAX),
    );
    text.push_str("//!\n");
    if test.recorded.cause == Cause::Disconnected {
        let why = "A simulated network has no broker: the observer is cut off, and finds that all services are silent.";
        comment(&mut text, "//!", why);
        text.push_str("//!\n");
    }
    let about = "Made by `aether physics --replay FILE --incident N --as-test FILE`. Each process is a stand-in that emits, asks \
                 and answers as in the recording, which has no payloads: they are numbers. Times count from the beginning of \
                 the simulation, and the recording begins after 2 s.";
    comment(&mut text, "//!", about);
    if test.traffic.left_out > 0 {
        let left_out = format!("The {} rarest streams are left out.", test.traffic.left_out);
        comment(&mut text, "//!", &left_out);
    }
    text.push_str("//!\n");
    let dependencies = "It needs these dependencies: `aether` (the package aether-bus) with the feature `physics`, \
                        `aether-testing` (aether-bus-testing), and `tokio` with the feature `macros`.";
    comment(&mut text, "//!", dependencies);
    let slow = if matches!(test.found.incident.cause, Cause::Slow { .. }) { "Cause, " } else { "" };
    let _ = write!(
        text,
        "\nuse std::error::Error;\nuse std::sync::{{Arc, Mutex, PoisonError}};\nuse std::time::Duration;\n\n\
         use aether::physics::{{{slow}Incident, PhysicsEngine, PhysicsObserver}};\n\
         use aether_testing::sim::{{Act, Sim, StandIn}};\n\n"
    );
    text
}

impl Test<'_> {
    /// A time of the recording in the simulation.
    fn time(&self, at: Duration) -> Duration {
        at.saturating_sub(self.start) + LEAD
    }

    /// The name of the function that makes the stand-in of a process: another one for each.
    fn function_of(&self, process: &Process) -> String {
        let name = identifier(&process.name);
        let before = self.traffic.processes.iter().take_while(|other| other.name != process.name);
        match before.filter(|other| identifier(&other.name) == name).count() {
            0 => name,
            others => format!("{name}_as_{}", others + 1),
        }
    }

    fn function(&self) -> String {
        let incident = &self.found.incident;
        let mut text = String::from("#[test]\n");
        let about = match incident.services.first() {
            Some(service) if incident.services.len() == 1 && incident.cause != Cause::AllSilent => {
                format!("{service}_{}", incident.cause.as_str())
            }
            _ => incident.cause.as_str().to_owned(),
        };
        let _ = writeln!(text, "fn {}_is_found() {{", identifier(&about));
        text.push_str("    let mut sim = Sim::with_seed(1);\n");
        let example = self.traffic.processes.first().map_or("shop", |process| &process.name);
        comment(
            &mut text,
            "    //",
            &printable(
                &format!(
                    "To test a real service, put it in place of its stand-in: sim.serve({example:?}, || service()), where \
                     service() makes its ServiceBuilder."
                ),
                usize::MAX,
            ),
        );
        for process in &self.traffic.processes {
            let Process { name, .. } = process;
            let function = self.function_of(process);
            let one = format!(
                "    sim.process({name:?}, |aether, shutdown| {function}().run(aether, shutdown));\n"
            );
            if one.len() <= WIDTH {
                text.push_str(&one);
            } else {
                let _ = writeln!(
                    text,
                    "    sim.process(\n        {name:?},\n        |aether, shutdown| {function}().run(aether, shutdown),\n    );"
                );
            }
        }
        text.push_str("    let found = observe(&mut sim);\n\n");
        text.push_str(&self.lives());
        text.push_str(&self.fault_text());
        let end = self.time(self.found.at) + AFTER;
        let _ = writeln!(text, "    sim.run_for({});\n", millis(end));
        text.push_str(
            "    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();\n    let is_it = |incident: &&Incident| {\n",
        );
        let cause = incident.cause.as_str();
        if incident.cause == Cause::AllSilent {
            let _ = writeln!(
                text,
                "        // It names the services that were due first, which the seed decides."
            );
            let _ = writeln!(text, "        incident.cause.as_str() == {cause:?}\n    }};");
        } else {
            let services = &incident.services;
            let _ = writeln!(
                text,
                "        incident.cause.as_str() == {cause:?} && incident.services == {services:?}\n    }};"
            );
        }
        text.push_str(
            "    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!(\"not among {found:#?}\"));\n",
        );
        text.push_str("    assert_eq!(\n        as_recorded(incident.clone()).to_string(),\n");
        let _ = writeln!(text, "        {:?}\n    );", incident.to_string());
        for (name, names) in [
            ("streams", sorted(&incident.streams)),
            ("followers", sorted(&incident.followers)),
            ("waiting", sorted(&incident.waiting)),
        ] {
            let left = format!("sorted(&incident.{name})");
            if names.is_empty() {
                let _ =
                    writeln!(text, "    assert!(incident.{name}.is_empty(), \"{{:?}}\", incident.{name});");
            } else {
                let list = list(names.iter().map(|name| format!("{name:?}")), 8);
                let one = format!("    assert_eq!({left}, {list});");
                if one.len() <= WIDTH && !one.contains('\n') {
                    let _ = writeln!(text, "{one}");
                } else {
                    let _ = writeln!(text, "    assert_eq!(\n        {left},\n        {list}\n    );");
                }
            }
        }
        text.push_str("    sim.finish();\n}\n");
        text
    }

    /// The ends and new starts of processes before the fault.
    fn lives(&self) -> String {
        let mut text = String::new();
        for process in &self.traffic.processes {
            for pair in process.lives.windows(2) {
                let [(.., last), (_, first, _)] = pair else { continue };
                let killed = self.time(*last) + Duration::from_millis(20);
                let again = self.time(*first).saturating_sub(FINDS).max(killed + Duration::from_millis(10));
                let name = &process.name;
                let _ = writeln!(text, "    sim.at({}, |sim| sim.kill({name:?}));", millis(killed));
                let _ = writeln!(text, "    sim.at({}, |sim| sim.restart({name:?}));", millis(again));
            }
        }
        text
    }

    fn fault_text(&self) -> String {
        let mut text = String::new();
        match &self.fault {
            Fault::Stopped(services) => {
                text.push_str("    // The fault.\n");
                for (service, at, how) in services {
                    let does = if *how == Ended::Frozen { "freeze" } else { "kill" };
                    let at = millis(self.time(*at));
                    for process in self.traffic.processes.iter().filter(|process| process.service == *service)
                    {
                        let _ = writeln!(text, "    sim.at({at}, |sim| sim.{does}({:?}));", process.name);
                    }
                }
            }
            Fault::CutOff { at } => {
                text.push_str("    // The fault.\n");
                let names =
                    list(self.traffic.processes.iter().map(|process| format!("{:?}", process.name)), 8);
                let at = millis(self.time(*at));
                let _ = writeln!(text, "    let others = {names};");
                let _ = writeln!(text, "    sim.at({at}, move |sim| sim.cut(&[{OBSERVER:?}], &others));");
            }
            Fault::Hangs { .. } => text.push_str("    // The fault is the `hangs_from` below.\n"),
            Fault::Slow { .. } => text.push_str("    // The fault is the `late_from` below.\n"),
            Fault::StreamStopped { .. } => text.push_str("    // The fault is an `until` below.\n"),
            Fault::Traffic { .. } => text.push_str("    // The fault is in the traffic below.\n"),
        }
        text
    }

    fn stand_in(&self, process: &Process) -> String {
        let mut text = format!("\nfn {}() -> StandIn {{\n", self.function_of(process));
        let _ = write!(text, "    StandIn::new({:?})", process.service);
        for act in &process.acts {
            let calls = self.calls(process, act);
            let one = format!("        .act({})", calls.concat());
            if one.len() <= WIDTH && !one.contains('\n') {
                let _ = write!(text, "\n{one}");
                continue;
            }
            let _ = write!(text, "\n        .act(\n            {}", calls[0]);
            for call in &calls[1..] {
                let _ = write!(text, "\n                {call}");
            }
            text.push_str(",\n        )");
        }
        text.push_str("\n}\n");
        text
    }

    /// An act as a chain of calls.
    fn calls(&self, process: &Process, act: &Act) -> Vec<String> {
        let makes = match act.kind {
            Kind::Broadcast => "broadcast",
            Kind::Query => "query",
            Kind::Command => "command",
            Kind::Response if act.failure => "failure",
            Kind::Response => "answer",
            _ => "event",
        };
        let mut calls = vec![format!("Act::{makes}({:?})", act.channel.as_str())];
        if act.kind != Kind::Response {
            match &*act.amplitude.to_string() {
                "0.5" => {}
                whole if whole.bytes().all(|byte| byte.is_ascii_digit()) => {
                    calls.push(format!(".amplitude({whole}.0)"));
                }
                amplitude => calls.push(format!(".amplitude({amplitude})")),
            }
            calls.extend(act.key.as_ref().map(|key| format!(".key({key:?})")));
        }
        match &act.when {
            When::Every { period, jitter, from, until } => {
                calls.push(format!(".every({})", duration(*period)));
                if *jitter >= 0.005 {
                    calls.push(format!(".jitter({jitter:.2})"));
                }
                calls.push(format!(".from({})", millis(self.time(*from))));
                if !self.goes_on(process, *period, *until) {
                    calls.push(format!(".until({})", millis(self.time(*until + *period / 2))));
                }
            }
            When::At(times) => {
                let times = times.iter().map(|time| grouped(self.time(*time).as_millis()));
                calls.push(format!(".at_millis(&{})", list(times, 16)));
            }
            When::After(trigger, chosen) => {
                match trigger {
                    Trigger::Heard(channel) if act.kind == Kind::Response && *channel == act.channel => {}
                    Trigger::Heard(channel) => calls.push(format!(".on({:?})", channel.as_str())),
                    Trigger::Own(channel) => calls.push(format!(".after({:?})", channel.as_str())),
                    Trigger::Answer(channel) => calls.push(format!(".after_answer({:?})", channel.as_str())),
                }
                let numbers =
                    |numbers: &[u32]| list(numbers.iter().map(|number| grouped(u128::from(*number))), 16);
                match chosen {
                    Which::All => {}
                    Which::Only(causes) => calls.push(format!(".only(&{})", numbers(causes))),
                    Which::Except(causes) => calls.push(format!(".except(&{})", numbers(causes))),
                    Which::Share(share) => calls.push(format!(".share({share:.3})")),
                }
                if !act.delay.is_zero() {
                    calls.push(format!(".later({})", duration(act.delay)));
                }
                calls.extend(self.fault_of(process, act, trigger));
            }
        }
        calls.extend(act.tries.map(|(most, interval)| format!(".tries({most}, {})", duration(interval))));
        calls
    }

    /// The change of an act by the fault.
    fn fault_of(&self, process: &Process, act: &Act, trigger: &Trigger) -> Option<String> {
        let heard = |on: &Channel| matches!(trigger, Trigger::Heard(channel) if channel == on);
        match &self.fault {
            Fault::Hangs { service, channel, at }
                if process.service == *service && heard(channel) && act.delay_later.is_none() =>
            {
                Some(format!(".hangs_from({})", millis(self.time(*at))))
            }
            Fault::Slow { service, at } if process.service == *service && act.kind == Kind::Response => {
                let later = act.delay_later.filter(|later| *later > act.delay * 3)?;
                Some(format!(".late_from({}, {})", millis(self.time(*at)), duration(later)))
            }
            _ => None,
        }
    }

    /// Whether a stream ends with the test or with the fault only.
    fn goes_on(&self, process: &Process, period: Duration, until: Duration) -> bool {
        let ends = match &self.fault {
            Fault::Stopped(services) => {
                services.iter().find(|(service, ..)| *service == process.service).map(|(_, at, _)| *at)
            }
            Fault::CutOff { at } => Some(*at),
            _ => None,
        };
        until + period * 2 >= ends.unwrap_or(self.found.at)
    }

    /// The helpers of the test.
    fn observer(&self) -> String {
        let incident = &self.found.incident;
        let slow = match &incident.cause {
            Cause::Slow { takes, before, .. } => format!(
                "    if let Cause::Slow {{ takes, before, .. }} = &mut incident.cause {{\n        (*takes, *before) = ({}, {});\n    }}\n",
                nanos(*takes),
                nanos(*before)
            ),
            _ => String::new(),
        };
        let sorts =
            [incident.streams.len(), incident.followers.len(), incident.waiting.len()].iter().any(|n| *n > 0);
        let sorted = if sorts {
            "\nfn sorted(names: &[impl ToString]) -> Vec<String> {\n    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();\n    \
             names.sort_unstable();\n    names\n}\n"
        } else {
            ""
        };
        format!(
            "\n/// The incident with the times of the recording, so that the sentence is the same.\n\
             fn as_recorded(mut incident: Incident) -> Incident {{\n    incident.lasted = {};\n{slow}    incident\n}}\n{sorted}\n{OBSERVE}",
            nanos(incident.lasted)
        )
    }
}

/// The observer of the test.
const OBSERVE: &str = r#"/// Runs the detectors in a process of their own, and returns the incidents that they find, when they begin.
fn observe(sim: &mut Sim) -> Arc<Mutex<Vec<Incident>>> {
    let found = Arc::<Mutex<Vec<Incident>>>::default();
    let into = Arc::clone(&found);
    sim.process("observer", move |aether, shutdown| {
        let found = Arc::clone(&into);
        async move {
            let engine = PhysicsEngine::default();
            let mut observer = PhysicsObserver::open("observer", ">", engine, &aether).await?;
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok::<_, Box<dyn Error + Send + Sync>>(()),
                    advanced = observer.advance(256) => if advanced?.is_none() { return Ok(()) },
                }
                while observer.found().is_some() {}
                while let Some(incident) = observer.incident() {
                    if incident.until.is_none() {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(incident);
                    }
                }
            }
        }
    });
    found
}
"#;
