//! Sessions of the contestants.

use aether::lan::LanOptions;
use aether_core::{Aether, InboxOptions};
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session};

use crate::side::{Contestant, Job, Outcome};

const SECRET: &str = "a secret for measurements only";

/// A session of Zenoh: a peer over TCP without multicast, all else as it comes.
pub(crate) async fn zenoh(job: &Job) -> Outcome<Session> {
    let mut config = Config::default();
    let endpoint = |port: Option<u16>| {
        let endpoints: Vec<String> = port.iter().map(|port| format!("tcp/127.0.0.1:{port}")).collect();
        format!("{endpoints:?}")
    };
    config.insert_json5("mode", "\"peer\"")?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5("connect/endpoints", &endpoint(job.connect))?;
    config.insert_json5("listen/endpoints", &endpoint(job.listen.or(Some(0))))?;
    zenoh::open(config).await
}

/// A publisher that drops nothing, once somebody hears it. `is_express`: each message leaves at once, in a packet of
/// its own.
pub(crate) async fn publisher(
    session: &Session,
    key: &'static str,
    is_express: bool,
) -> Outcome<Publisher<'static>> {
    let publisher = session.declare_publisher(key);
    let publisher = publisher.congestion_control(CongestionControl::Block).express(is_express).await?;
    let matching = publisher.matching_listener().await?;
    while !publisher.matching_status().await?.matching() {
        matching.recv_async().await?;
    }
    drop(matching);
    Ok(publisher)
}

/// The same kind of session for Aether; without ports it finds others by multicast.
pub(crate) async fn aether(job: &Job, outbox: InboxOptions) -> Outcome<Aether> {
    let mut url = "lan:".to_owned();
    if job.listen.is_some() || job.connect.is_some() {
        let port = job.listen.unwrap_or(0);
        url += &format!("?multicast=off&listen=127.0.0.1:{port}");
    }
    if let Some(port) = job.connect {
        url += &format!("&peer=127.0.0.1:{port}");
    }
    let options = LanOptions::default().outbox(outbox);
    let options = match job.of {
        Contestant::Plain => options.insecure(true),
        _ => options.secret(SECRET),
    };
    Ok(aether::builder().url(url).options(options).connect().await?)
}
