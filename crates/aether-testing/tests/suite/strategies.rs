//! The strategies make what they say.

use aether_core::{Channel, Kind};
use aether_testing::TestBus;
use aether_testing::strategies::{channel, history, pattern, pattern_for, wave, wave_on};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_pattern_for_a_channel_matches_it(
        (channel, pattern) in channel().prop_flat_map(|channel| (Just(channel.clone()), pattern_for(&channel)))
    ) {
        prop_assert!(pattern.matches(&channel), "{pattern} and {channel}");
        prop_assert!(!channel.is_reserved());
    }

    #[test]
    fn patterns_cover_themselves(pattern in pattern()) {
        prop_assert!(pattern.covers(&pattern));
    }

    #[test]
    fn waves_have_the_channel_of_their_strategy_and_no_identity(
        wave in wave_on(Just(Channel::new("orders.created").unwrap())), other in wave()
    ) {
        prop_assert_eq!(wave.channel().as_str(), "orders.created");
        prop_assert_eq!((wave.sequence(), other.sequence()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_history_is_played_in_its_order_and_time(history in history(channel(), 0..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bus = TestBus::start().await;
            let mut probe = bus.probe("*").await;
            let started = tokio::time::Instant::now();
            let played = history.play(&bus).await;
            let pauses: std::time::Duration = history.steps.iter().map(|step| step.pause).sum();
            assert_eq!((played, started.elapsed()), (history.steps.len(), pauses));
            let seen = probe.rest();
            let channels = |waves: Vec<&aether_core::Wave>| -> Vec<String> {
                waves.iter().map(|wave| format!("{} {}", wave.channel(), wave.kind())).collect()
            };
            assert_eq!(channels(seen.iter().collect()), channels(history.steps.iter().map(|step| &step.wave).collect()));
            assert!(seen.iter().all(|wave| wave.kind() != Kind::Response));
            bus.dead_letters();
            bus.finish().await;
        });
    }
}
