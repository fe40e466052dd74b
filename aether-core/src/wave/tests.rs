//! Unit tests of waves.

use super::*;

#[test]
fn the_weight_counts_what_a_wave_holds() {
    let weight = |make: fn(WaveBuilder) -> WaveBuilder| {
        make(Wave::builder("a").key("k").bytes("x")).build().unwrap().weight()
    };
    let plain = weight(|wave| wave);
    let cause = |name: &str| WaveId { source: Source::new(name).unwrap(), sequence: 1 };
    assert!(weight(|wave| wave.bytes("x".repeat(101))) == plain + 100);
    assert!(weight(|wave| wave.content_type("application/cbor")) >= plain + "application/cbor".len());
    let short = Wave::builder("a").cause(cause("x")).build().unwrap().weight();
    assert_eq!(Wave::builder("a").cause(cause(&"x".repeat(101))).build().unwrap().weight(), short + 100);
    // Empty values use memory as well.
    let with = weight(|wave| (0..MAX_METADATA_ENTRIES).fold(wave, |wave, _| wave.metadata("n", "")));
    assert!(with >= plain + MAX_METADATA_ENTRIES * 2 * size_of::<Box<str>>());
}

#[test]
fn the_greatest_age_grows_no_further() {
    let mut body = Body::clone(&Wave::from_bytes("a", "x").unwrap().body);
    let now = Moment::now();
    (body.age, body.since) = (Duration::MAX, Some(now));
    assert_eq!(Wave::from_body(body).age_at(now + Duration::from_secs(1)), Duration::MAX);
}

#[tokio::test(start_paused = true)]
async fn age_grows_from_the_emission_and_a_kept_clone_stays_unsent() {
    let sequencer = Sequencer::new(Source::new("alpha").unwrap());
    let kept = Wave::from_bytes("a.b", "x").unwrap();
    let mut sent = kept.clone();
    sent.stamp(&sequencer, Moment::now());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(sent.age(), Duration::from_secs(3));
    assert_eq!((sent.sequence(), kept.sequence()), (1, 0));
    assert_eq!(kept.id().to_string(), "-@0/0");
    assert_eq!(kept.age(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_relay_keeps_the_age_and_stops_at_the_last_hop() {
    let sequencer = Sequencer::new(Source::new("alpha").unwrap());
    let mut wave = Wave::from_bytes("a", "x").unwrap();
    wave.stamp(&sequencer, Moment::now());
    let id = wave.id();
    for hop in 1..=MAX_HOPS {
        tokio::time::advance(Duration::from_secs(1)).await;
        wave = wave.relayed(Moment::now()).unwrap();
        assert_eq!((wave.hops(), wave.age()), (hop, Duration::from_secs(u64::from(hop))));
    }
    assert_eq!(wave.id(), id);
    assert!(wave.relayed(Moment::now()).is_none());
}

#[test]
fn kinds_are_read_back_and_others_refused() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("Event".parse::<Kind>().is_err());
}
