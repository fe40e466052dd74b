//! Services that do not start, and their errors.

use std::time::Duration;

use aether_core::{Aether, AskError, JoinError, Vibrator};
use aether_service::{Breaker, CancellationToken, Service, ServiceBuilder, ServiceError, error_chain};

async fn nothing() {}

async fn refusal(builder: ServiceBuilder) -> (ServiceError, String) {
    let aether = Aether::local();
    let error = builder.build(&aether).await.unwrap_err();
    // No subscription remains.
    let user = Vibrator::create("user", &aether).await.unwrap();
    for channel in ["good", "a.b"] {
        assert!(matches!(user.ask_wave(channel, &()).await, Err(AskError::NoResonator { .. })));
    }
    let text = error_chain(&error);
    (error, text)
}

fn service() -> ServiceBuilder {
    Service::builder("service")
}

#[tokio::test]
async fn a_handler_for_an_invalid_pattern_is_named() {
    let builder = service().on("good", nothing).on("a..b", nothing).on("also > bad", nothing);
    let (error, text) = refusal(builder).await;
    assert!(matches!(error, ServiceError::Pattern { number: 2, .. }), "{text}");
    assert!(text.contains("number 2") && text.contains("\"a..b\""), "{text}");
}

#[tokio::test]
async fn handlers_that_contradict_each_other_are_named() {
    let (error, text) = refusal(service().on("a.*", nothing).on("good", nothing).on("a.b", nothing)).await;
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{text}");
    assert!(text.contains("a.b can never be called") && text.contains("for a.*"), "{text}");
    let (error, _) = refusal(service().on("good", nothing).on_query("good", nothing)).await;
    assert!(matches!(error, ServiceError::Unreachable { .. }));
    let (error, text) = refusal(service().on("a.b", nothing).group("g").on("a.*", nothing)).await;
    assert!(matches!(error, ServiceError::SharedChannels { .. }), "{text}");
    assert!(text.contains("a.b and a.*"), "{text}");
}

#[tokio::test]
async fn empty_groups_and_services_without_handlers_are_refused() {
    assert!(matches!(refusal(service()).await.0, ServiceError::NoHandlers));
    let (error, text) = refusal(service().on("good", nothing).group("late")).await;
    assert!(matches!(error, ServiceError::EmptyGroup { .. }) && text.contains("late"), "{text}");
    let (error, text) = refusal(service().group("one").group("two").on("good", nothing)).await;
    assert!(matches!(error, ServiceError::EmptyGroup { .. }) && text.contains("one"), "{text}");
    let (error, text) = refusal(service().group("a b").on("good", nothing)).await;
    assert!(matches!(error, ServiceError::Group { .. }) && text.contains("\"a b\""), "{text}");
    let (error, _) = refusal(Service::builder("").on("good", nothing)).await;
    assert!(matches!(error, ServiceError::Create(_)));
}

#[tokio::test]
async fn invalid_limits_are_refused_with_the_allowed_values() {
    let good = || service().on("good", nothing);
    let second = Duration::from_secs(1);
    for (builder, allowed) in [
        (good().concurrency(0), "at least 1"),
        (good().concurrency(usize::MAX), "at most 1048576"),
        (good().rate(0, second), "at least 1 wave"),
        (good().rate(1, Duration::ZERO), "above zero"),
        (good().rate(1, Duration::MAX), "at most a day"),
        (good().time_out(Duration::ZERO), "leave it out"),
        (good().circuit_breaker(Breaker::default().failures(0)), "at least 1 failure"),
        (good().circuit_breaker(Breaker::default().open_for(Duration::ZERO)), "above zero"),
    ] {
        let (error, text) = refusal(builder).await;
        assert!(matches!(error, ServiceError::Limits(_)) && text.contains(allowed), "{text}");
    }
}

#[tokio::test]
async fn a_closed_medium_is_an_error_that_names_the_pattern() {
    let aether = Aether::local();
    aether.close().await.unwrap();
    match service().on("good", nothing).build(&aether).await {
        Err(ServiceError::Join { pattern, source: JoinError::Closed }) => {
            assert_eq!(pattern.as_str(), "good")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn closing_the_medium_ends_the_service() {
    let aether = Aether::local();
    let service = service().on("good", nothing).build(&aether).await.unwrap();
    let running = tokio::spawn(service.run_until(CancellationToken::new()));
    aether.close().await.unwrap();
    assert_eq!(running.await.unwrap().unwrap().received, 0);
}
