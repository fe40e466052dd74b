//! The programs of the prototype that Aether replaces, as its two pages have them: with `?` after what can fail, and in the
//! words of `docs/start/coming-from-the-prototype.md` where Aether differs.

use std::time::Duration;

use aether::wave::ChannelError;
use aether::{Aether, Channel, Kind, Pattern, Vibrator, Wave};
use serde_json::{Value, json};

type Tried = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn a_service_reacts_to_a_pattern_and_skips_its_own_waves() -> Tried {
    let aether = Aether::default();
    let mut users = Vibrator::create("user-service", &aether).await?;
    let mut mail = Vibrator::create("mail-service", &aether).await?;
    mail.resonate_on(Channel::new("user.*")).await?;
    users.resonate_on(Pattern::new("user.*")).await?;

    let payload = json!({ "id": 17, "email": "ada@example.org" });
    users.emit_wave(Channel::new("user.created"), payload).await?;

    let wave = mail.receive().await.ok_or("closed")?;
    let payload: Value = wave.json()?;
    assert_eq!((&payload["email"], wave.source().name()), (&json!("ada@example.org"), "user-service"));
    assert!(users.try_receive().is_err(), "its own waves are not heard");
    Ok(())
}

#[tokio::test]
async fn everything_is_heard_by_a_star() -> Tried {
    let aether = Aether::default();
    let mut observer = Vibrator::create("observer", &aether).await?;
    observer.resonate_on(Channel::new("*")).await?;
    let shop = Vibrator::create("shop", &aether).await?;
    shop.emit(Wave::new("order.created", json!({ "total": 99 }))?).await?;
    shop.emit(Wave::builder(Channel::new("order.payment.failed")).amplitude(1.0).json(json!({})).build()?)
        .await?;
    let strong = observer.receive().await.ok_or("closed")?;
    assert_eq!(strong.channel(), &Channel::new("order.payment.failed")?, "the strongest first");
    assert_eq!(observer.receive().await.ok_or("closed")?.json::<Value>()?["total"], 99);
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_neither_a_channel_nor_a_pattern_is_refused_with_its_reason() -> Tried {
    let aether = Aether::default();
    let shop = Vibrator::create("shop", &aether).await?;
    let refused = shop.resonate_on(Channel::new("orders.>.lamps")).await.unwrap_err().to_string();
    assert_eq!(refused, shop.resonate_on("orders.>.lamps").await.unwrap_err().to_string());
    assert!(shop.resonate_on(Channel::new("two words")).await.is_err());
    assert!(shop.emit_wave(Channel::new("orders.*"), 1).await.is_err(), "a wave has one channel");
    assert!(matches!(Pattern::try_from(Channel::new("")), Err(ChannelError::Empty)));
    Ok(())
}

#[test]
fn waves_decay_in_time_and_by_hops() -> Tried {
    let wave = Wave::builder("order.created").amplitude(1.0).half_life(Duration::from_secs(8)).build()?;
    assert_eq!((wave.amplitude().as_f32(), wave.hops()), (1.0, 0));
    let signal =
        |hops| aether::wave::Signal { hops, ..aether::wave::Signal::new(wave.amplitude(), wave.half_life()) };
    assert!((signal(0).amplitude_at(Duration::from_secs(8)) - 0.5).abs() < 0.01);
    assert!((signal(1).amplitude_at(Duration::ZERO) - 0.95).abs() < 0.001);
    assert_eq!(aether::wave::MAX_HOPS, 10);
    Ok(())
}

#[test]
fn channels_match_patterns() -> Tried {
    let channel = Channel::new("orders.created")?;
    assert!(channel.matches(&Pattern::new("orders.*")?) && Pattern::new("orders.>")?.matches(&channel));
    assert!(!channel.matches(&Pattern::new("payments.*")?));
    Ok(())
}

#[cfg(feature = "hopping")]
#[tokio::test]
async fn a_channel_hops_by_time() -> Tried {
    use aether::hopping::{Hop, Hopping};

    let aether = Aether::default();
    let (hop_count, hop_interval) = (4, Duration::from_millis(200));
    let mut stock = Vibrator::create("stock", &aether).await?;
    stock.resonate_hopping(Channel::new("orders"), &Hop::timed(hop_count, hop_interval)?).await?;
    let shop = Vibrator::create("shop", &aether).await?;
    let hop = Hop::timed(hop_count, hop_interval)?;
    shop.emit_hopping_wave(Channel::new("orders"), &hop, json!({ "id": 17 })).await?;
    let wave = stock.receive().await.ok_or("closed")?;
    assert_eq!((wave.channel().as_str(), &wave.json::<Value>()?["id"]), ("orders", &json!(17)));
    Ok(())
}

#[cfg(feature = "physics")]
#[tokio::test(start_paused = true)]
async fn the_engine_is_asked_wave_by_wave() -> Tried {
    use aether::Phase;
    use aether::physics::{Finding, PhysicsEngine, interference};

    aether_core::clock::follow_tokio();
    let aether = Aether::default();
    let mut ear = Vibrator::create("ear", &aether).await?;
    ear.resonate_on(Channel::new("orders")).await?;
    let shop = Vibrator::create("shop", &aether).await?;
    let (mut physics, mut standing) = (PhysicsEngine::new(), 0);
    for beat in 0..200 {
        shop.emit_wave("orders", beat).await?;
        let wave = ear.receive().await.ok_or("closed")?;
        let found = physics.detect_patterns(&wave, aether_core::clock::now());
        standing += found.iter().filter(|finding| matches!(finding, Finding::Standing(_))).count();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(standing, 1, "the channel beats once a second");

    let wave = |phase| Wave::builder("orders").amplitude(0.5).phase(phase).build();
    let (one, same, opposite) = (wave(Phase::ASSERT)?, wave(Phase::ASSERT)?, wave(Phase::RETRACT)?);
    assert!((interference(&one, &same) - 0.75).abs() < 0.001);
    assert!(interference(&one, &opposite) < 0.001);
    Ok(())
}

#[tokio::test]
async fn commands_are_done_and_queries_are_answered() -> Tried {
    let aether = Aether::default();
    let mut orders = Vibrator::create("order-service", &aether).await?;
    orders.resonate_on(Channel::new("commands.create_order")).await?;
    orders.resonate_on(Channel::new("queries.get_order")).await?;
    let service = tokio::spawn(async move {
        let mut order = json!(null);
        while let Some(wave) = orders.receive().await {
            match wave.channel().as_str() {
                "commands.create_order" => order = wave.json::<Value>().expect("JSON"),
                _ => wave.reply(&order).await.expect("the asker waits"),
            }
        }
    });
    let shop = Vibrator::create("shop", &aether).await?;
    let command =
        Wave::builder("commands.create_order").kind(Kind::Command).json(json!({ "id": 17 })).build()?;
    shop.emit(command).await?;
    let order = shop.ask_wave("queries.get_order", json!({ "id": 17 })).await?;
    assert_eq!(order.json::<Value>()?["id"], 17);
    aether.close().await?;
    service.await?;
    Ok(())
}
