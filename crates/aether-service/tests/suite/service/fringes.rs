//! Corroborated alerts: one instance of a group reports each, and a handler gets it like any wave.

use std::time::Duration;

use aether::physics::{Fringe, FringeKind, Interfere};
use aether_conformance::NatsServer;
use aether_core::{Aether, Emitter, Kind, Phase, Vibrator, Wave, WaveId};
use aether_service::{Resend, RetryBudget, Service, ServiceError, State};
use tokio::sync::mpsc;

use crate::service::stage::{LONG, Stage, listener};

/// Long enough for every instance to report what it wants to, in virtual time.
const SILENCE: Duration = Duration::from_secs(120);

type Pages = mpsc::UnboundedSender<(&'static str, Fringe)>;

/// Two sources within a minute, so alerts last longer than a silence.
fn options() -> Interfere {
    Interfere::by_key().sources(2).rise(0.7).fall(0.3).window(Duration::from_secs(600))
}

async fn page(State((name, pages)): State<(&'static str, Pages)>, fringe: Fringe) {
    pages.send((name, fringe)).unwrap();
}

async fn instance(aether: &Aether, name: &'static str, group: Option<&str>, pages: &Pages) -> Stage {
    let builder = Service::builder("pager").state((name, pages.clone()));
    let builder = group.into_iter().fold(builder, |builder, group| builder.group(group));
    Stage::on(aether.clone(), builder.on_fringe("probes.*", options(), page)).await
}

async fn claim(probe: &Emitter, key: &str, phase: Phase) -> WaveId {
    let receipt = probe.emit(Wave::builder("probes.down").key(key).phase(phase)).await.unwrap();
    probe.id_of(&receipt)
}

async fn next(pages: &mut mpsc::UnboundedReceiver<(&'static str, Fringe)>) -> (&'static str, Fringe) {
    tokio::time::timeout(LONG, pages.recv()).await.expect("a page").unwrap()
}

async fn none(pages: &mut mpsc::UnboundedReceiver<(&'static str, Fringe)>) {
    let more = tokio::time::timeout(SILENCE, pages.recv()).await;
    assert!(more.is_err(), "nobody reports it again: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn one_instance_of_a_group_reports_a_fringe_with_the_claims_that_made_it() {
    let aether = Aether::local();
    let (sender, mut pages) = mpsc::unbounded_channel();
    let first = instance(&aether, "first", Some("pagers"), &sender).await;
    let second = instance(&aether, "second", Some("pagers"), &sender).await;
    let probes = ["oslo", "rome"].map(|name| aether.emitter(name).unwrap());
    let deploy = aether.emitter("deploy").unwrap();
    let cause = deploy.id_of(&deploy.emit(Wave::builder("deployed")).await.unwrap());
    let one = claim(&probes[0], "db", Phase::ASSERT).await;
    let two = claim(&probes[1].caused_by(cause.clone()), "db", Phase::ASSERT).await;

    let emitted = tokio::time::Instant::now();
    let (_, risen) = next(&mut pages).await;
    assert_eq!(emitted.elapsed(), Duration::ZERO, "the first instance does not wait for the other");
    assert_eq!((risen.kind, &*risen.key, risen.sources), (FringeKind::Rise, "db", 2));
    assert_eq!(risen.channel.as_str(), "probes.down");
    // The two are of the same moment of the paused clock, so either may count as the later one.
    let of = |wave| risen.claims.iter().find(|claim| claim.wave == wave).unwrap();
    assert_eq!((of(one.clone()).request(), of(two.clone()).request()), (&one, &cause), "their requests");
    let claims: Vec<_> =
        risen.claims.iter().map(|claim| (&claim.wave, &claim.cause, claim.asserts)).collect();
    let (of_one, of_two) = ((&one, &None, true), (&two, &Some(cause), true));
    assert!(claims == [of_one, of_two] || claims == [of_two, of_one], "{claims:?}");
    assert_eq!(risen.id, risen.claims[1].wave, "the claim that made it rise");
    none(&mut pages).await;

    for probe in &probes {
        claim(probe, "db", Phase::RETRACT).await;
    }
    let (_, fallen) = next(&mut pages).await;
    assert_eq!((fallen.kind, &fallen.id), (FringeKind::Fall, &risen.id), "it closes the same alert");
    none(&mut pages).await;
    assert_eq!(first.close().await.succeeded + second.close().await.succeeded, 2);
    assert!(aether.ledger().adds_up() && aether.dead_letters().list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_instance_takes_over_and_a_newcomer_repeats_nothing() {
    let aether = Aether::local();
    let (sender, mut pages) = mpsc::unbounded_channel();
    let first = instance(&aether, "first", Some("pagers"), &sender).await;
    let second = instance(&aether, "second", Some("pagers"), &sender).await;
    let probes = ["oslo", "rome"].map(|name| aether.emitter(name).unwrap());
    let down = async |key| {
        for probe in &probes {
            claim(probe, key, Phase::ASSERT).await;
        }
    };
    down("db").await;
    assert_eq!(&*next(&mut pages).await.1.key, "db");
    none(&mut pages).await;

    // The first instance of the group is the one that reports. Nothing is open that the other has to report again.
    first.close().await;
    none(&mut pages).await;
    let third = instance(&aether, "third", Some("pagers"), &sender).await;
    down("db").await;
    // Long enough that it is another alert.
    for _ in 0..2 {
        none(&mut pages).await;
    }
    down("web").await;
    assert_eq!(&*next(&mut pages).await.1.key, "web");
    none(&mut pages).await;

    // Also when the instance that stays is the one that came last.
    second.close().await;
    for probe in &probes {
        claim(probe, "db", Phase::RETRACT).await;
    }
    let (by, fallen) = next(&mut pages).await;
    assert_eq!((by, fallen.kind, &*fallen.key), ("third", FringeKind::Fall, "db"));
    none(&mut pages).await;
    third.close().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_group_every_instance_handles_every_fringe() {
    let aether = Aether::local();
    let (sender, mut pages) = mpsc::unbounded_channel();
    let both =
        [instance(&aether, "first", None, &sender).await, instance(&aether, "second", None, &sender).await];
    for name in ["oslo", "rome"] {
        claim(&aether.emitter(name).unwrap(), "db", Phase::ASSERT).await;
    }
    let mut names = [next(&mut pages).await.0, next(&mut pages).await.0];
    names.sort_unstable();
    assert_eq!(names, ["first", "second"]);
    none(&mut pages).await;
    for one in both {
        assert_eq!(one.close().await.succeeded, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fringe_whose_handler_fails_is_retried_and_becomes_a_dead_letter() {
    async fn fails(fringe: Fringe, wave: Wave) -> Result<(), String> {
        assert_eq!(
            (wave.kind(), wave.key(), wave.cause()),
            (Kind::Command, Some(&*fringe.key), Some(&fringe.id))
        );
        Err(format!("no pager for {}", fringe.key))
    }
    let aether = Aether::local();
    let mut reports = Vibrator::builder("watch").observe().create(&aether).await.unwrap();
    reports.resonate_on("fringes.>").await.unwrap();
    let resend = Resend::default().most(2).budget(RetryBudget::unlimited());
    let builder =
        Service::builder("pager").group("pagers").retry(resend).on_fringe("probes.>", options(), fails);
    let stage = Stage::on(aether.clone(), builder).await;
    for name in ["oslo", "rome"] {
        claim(&aether.emitter(name).unwrap(), "db", Phase::ASSERT).await;
    }
    let report = reports.receive().await.unwrap();
    assert_eq!(report.channel().as_str(), "fringes.pagers.probes._all");
    tokio::time::sleep(LONG).await;
    let account = stage.close().await;
    assert_eq!((account.received, account.retried, account.failed), (3, 2, 1));
    let letters = aether.dead_letters().list();
    assert_eq!((letters.len(), &letters[0].wave.id()), (1, &report.id()));
    assert_eq!(&*letters[0].wave.json::<Fringe>().unwrap().key, "db", "the letter is the whole fringe");
}

#[tokio::test]
async fn options_and_patterns_that_are_not_valid_are_refused() {
    async fn nothing(_: Fringe) {}
    let aether = Aether::local();
    let build = async |pattern: &str, options| {
        Service::builder("pager").group("pagers").on_fringe(pattern, options, nothing).build(&aether).await
    };
    let wrong = build("probes.*", options().sources(0)).await.unwrap_err();
    assert!(matches!(wrong, ServiceError::Interfere { .. }), "{wrong:?}");
    for pattern in ["probes..x", &["a"; 16].join(".")] {
        let wrong = build(pattern, options()).await.unwrap_err();
        assert!(
            matches!(&wrong, ServiceError::Pattern { number: 1, given, .. } if given == pattern),
            "{wrong:?}"
        );
    }
}

/// An instance that hears of a report too late repeats it. A busy machine may bring that about, but not each time.
#[tokio::test(flavor = "multi_thread")]
async fn instances_in_two_processes_report_once_over_nats() {
    for _ in 0..5 {
        if handled_by_two_processes().await == 2 {
            return;
        }
    }
    panic!("both instances report the same fringes each time");
}

/// The number of reports of an alert that begins and ends.
async fn handled_by_two_processes() -> u64 {
    let server = NatsServer::start().await.unwrap();
    let connect = async || aether::connect(&server.url()).await.unwrap();
    let (here, there, elsewhere) = (connect().await, connect().await, connect().await);
    let mut reports = listener(&elsewhere, "fringes.>").await;
    let (sender, mut pages) = mpsc::unbounded_channel();
    let both = [
        instance(&here, "here", Some("pagers"), &sender).await,
        instance(&there, "there", Some("pagers"), &sender).await,
    ];
    let probes = ["oslo", "rome"].map(|name| elsewhere.emitter(name).unwrap());
    for probe in &probes {
        claim(probe, "db", Phase::ASSERT).await;
    }
    let (_, fringe) = next(&mut pages).await;
    assert_eq!((&*fringe.key, fringe.sources, fringe.kind), ("db", 2, FringeKind::Rise));
    let reported = tokio::time::timeout(LONG, reports.receive()).await.unwrap().unwrap();
    assert_eq!(reported.json::<Fringe>().unwrap().id, fringe.id);
    // Both know by now what was reported. The end of it is one report again.
    for probe in &probes {
        claim(probe, "db", Phase::RETRACT).await;
    }
    while next(&mut pages).await.1.kind != FringeKind::Fall {}
    let mut handled = 0;
    for one in both {
        handled += one.close().await.succeeded;
    }
    handled
}
