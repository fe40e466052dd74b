//! Service discovery for NATS tools: answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, each alone, with a name, or
//! with a name and an id.
//!
//! [`Nats`](super::Nats) uses it and runs two tasks per connection. One takes requests from the client as they arrive,
//! so that no message whose size the requester chooses is queued there. The other answers. Each vibrator that appears
//! in rosters is a service, and each pattern that it hears is an endpoint. Source: the service API of the NATS clients,
//! ADR-32 of the NATS architecture decision records. Aether itself does not need service discovery.

use std::sync::Arc;
use std::time::SystemTime;

use async_nats::{Message, SubscribeError};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::connection::NatsShared;
use super::subjects::{Root, may_be_answered};
use aether_core::medium::{LocalVibrator, LocalVibrators};

/// The version reported for every vibrator. Vibrators have no version of their own, but NATS tools require one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The maximum number of requests that wait to be answered. Each consists of a subject and a reply subject, which the
/// server limits to 4 KiB together. A requester whose request is dropped asks again.
const MAX_WAITING: usize = 256;

/// The kind of information that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Ping,
    Info,
    Stats,
}

/// A request waiting to be answered. Its payload carries no information and is not kept.
struct DiscoveryRequest {
    subject: String,
    reply: String,
}

impl DiscoveryRequest {
    fn of(message: &Message) -> Option<Self> {
        Request::read(&message.subject)?;
        Some(Self {
            subject: message.subject.as_str().to_owned(),
            reply: message.reply.as_deref().filter(|reply| may_be_answered(reply))?.to_owned(),
        })
    }
}

/// A parsed request: its verb, and the name and id of the services that it addresses.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    verb: Verb,
    name: Option<&'a str>,
    id: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn read(subject: &'a str) -> Option<Self> {
        let mut tokens = subject.strip_prefix("$SRV.")?.split('.');
        let verb = match tokens.next()? {
            "PING" => Verb::Ping,
            "INFO" => Verb::Info,
            "STATS" => Verb::Stats,
            _ => return None,
        };
        let request = Self { verb, name: tokens.next(), id: tokens.next() };
        tokens.next().is_none().then_some(request)
    }

    fn means(&self, service: &Described) -> bool {
        self.name.is_none_or(|name| name == service.name) && self.id.is_none_or(|id| id == service.id)
    }
}

/// The fields common to all answers.
#[derive(Serialize)]
struct Described {
    name: String,
    id: String,
    version: &'static str,
    metadata: ServiceMetadata,
}

#[derive(Serialize)]
struct ServiceMetadata {
    /// The original name. Service names may contain only letters, digits, `-` and `_`.
    vibrator: String,
    effective_floor: String,
}

#[derive(Serialize)]
struct DiscoveryAnswer<'a, T> {
    r#type: &'static str,
    #[serde(flatten)]
    service: &'a Described,
    #[serde(flatten)]
    more: T,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Info {
    description: &'static str,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Endpoint {
    name: String,
    subject: String,
    queue_group: String,
}

#[derive(Serialize)]
struct Stats {
    started: String,
    endpoints: [InboxStats; 1],
}

/// The statistics of an inbox. All patterns of a vibrator share one inbox, so it is reported as one endpoint.
#[derive(Serialize)]
struct InboxStats {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    num_requests: u64,
    /// The number of waves lost for any reason.
    num_errors: u64,
    last_error: &'static str,
    /// In nanoseconds. Not measured, because an inbox cannot tell how long the processing of its waves takes.
    processing_time: u64,
    average_processing_time: u64,
    data: Account,
}

#[derive(Serialize)]
struct Account {
    offered: u64,
    delivered: u64,
    lost: u64,
    queued: u64,
}

/// Starts answering requests until the connection ends.
pub(super) async fn answer(
    shared: Arc<NatsShared>,
    vibrators: LocalVibrators,
    mut ending: watch::Receiver<bool>,
) -> Result<(), SubscribeError> {
    let mut subscribers = Vec::new();
    for verb in ["PING", "INFO", "STATS"] {
        // Names are filtered later, because the names of future vibrators are not known at subscription time.
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.*"), format!("$SRV.{verb}.*.*")] {
            subscribers.push(shared.client.subscribe(subject).await?);
        }
    }
    let mut requests = select_all(subscribers);
    let (waiting, mut asked) = mpsc::channel(MAX_WAITING);
    let taking = Arc::clone(&shared);
    tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return,
                request = requests.next() => request,
            };
            let Some(request) = request else { return };
            taking.state.took_message();
            match DiscoveryRequest::of(&request).map(|asked| waiting.try_send(asked)) {
                Some(Err(mpsc::error::TrySendError::Closed(_))) => return,
                Some(Err(mpsc::error::TrySendError::Full(_))) => taking.state.drop_message(),
                Some(Ok(())) | None => {}
            }
        }
    });
    tokio::spawn(async move {
        while let Some(asked) = asked.recv().await {
            let Some(present) = vibrators.list() else { return };
            respond(&shared, &asked, &present).await;
        }
    });
    Ok(())
}

async fn respond(shared: &NatsShared, asked: &DiscoveryRequest, present: &[LocalVibrator]) {
    let Some(request) = Request::read(&asked.subject) else { return };
    for vibrator in present {
        let service = described(vibrator);
        if request.means(&service) {
            let answer =
                write(request.verb, &service, vibrator, |pattern| shared.subject(Root::Waves, pattern));
            // Publishing fails once the connection has ended. No requester is waiting then.
            let _ = shared.client.publish(asked.reply.clone(), answer.into()).await;
        }
    }
}

fn write(
    verb: Verb,
    service: &Described,
    vibrator: &LocalVibrator,
    subject: impl Fn(&str) -> String,
) -> Vec<u8> {
    let heard = &vibrator.heard;
    let written = match verb {
        Verb::Ping => serde_json::to_vec(&DiscoveryAnswer {
            r#type: "io.nats.micro.v1.ping_response",
            service,
            more: Nothing {},
        }),
        Verb::Info => {
            let endpoints = heard.iter().map(|heard| Endpoint {
                name: endpoint_name(heard.pattern.as_str()),
                subject: subject(heard.pattern.as_str()),
                queue_group: heard.group.as_deref().unwrap_or_default().to_owned(),
            });
            let more = Info { description: "a vibrator of Aether", endpoints: endpoints.collect() };
            serde_json::to_vec(&DiscoveryAnswer { r#type: "io.nats.micro.v1.info_response", service, more })
        }
        Verb::Stats => {
            let ledger = vibrator.ledger;
            let inbox = InboxStats {
                name: "inbox",
                subject: subject(if let [only] = &heard[..] { only.pattern.as_str() } else { ">" }),
                queue_group: "",
                num_requests: ledger.delivered,
                num_errors: ledger.lost(),
                last_error: "",
                processing_time: 0,
                average_processing_time: 0,
                data: Account {
                    offered: ledger.offered,
                    delivered: ledger.delivered,
                    lost: ledger.lost(),
                    queued: ledger.queued,
                },
            };
            let more = Stats { started: started(vibrator.made_at), endpoints: [inbox] };
            serde_json::to_vec(&DiscoveryAnswer { r#type: "io.nats.micro.v1.stats_response", service, more })
        }
    };
    // Strings and integers can always be serialized.
    written.unwrap_or_default()
}

fn described(vibrator: &LocalVibrator) -> Described {
    let source = &vibrator.vibrator;
    Described {
        name: allowed(source.name()),
        id: format!("{:x}", source.instance()),
        version: VERSION,
        metadata: ServiceMetadata {
            vibrator: source.name().to_owned(),
            effective_floor: vibrator.effective_floor.as_f32().to_string(),
        },
    }
}

/// The start time in the format that NATS tools expect. A clock set before 1970 counts as 1970.
fn started(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// The name with every character that service names do not allow replaced by `_`.
fn allowed(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// The endpoint name for a pattern, for example `orders-any` for `orders.*`.
fn endpoint_name(pattern: &str) -> String {
    let tokens = pattern.split('.').map(|token| match token {
        "*" => "any".to_owned(),
        ">" => "all".to_owned(),
        token => allowed(token),
    });
    tokens.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_their_subjects() {
        let request = |verb, name, id| Some(Request { verb, name, id });
        assert_eq!(Request::read("$SRV.PING"), request(Verb::Ping, None, None));
        assert_eq!(Request::read("$SRV.INFO.stock"), request(Verb::Info, Some("stock"), None));
        assert_eq!(Request::read("$SRV.STATS.stock.1f"), request(Verb::Stats, Some("stock"), Some("1f")));
        for other in ["$SRV", "$SRV.SCHEMA", "$SRV.PING.a.b.c", "SRV.PING"] {
            assert_eq!(Request::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_clock_set_before_1970_does_not_end_the_answers() {
        let before = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
        assert_eq!(started(before), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn names_are_what_nats_allows() {
        assert_eq!(allowed("a shop/2.x"), "a_shop_2_x");
        assert_eq!(endpoint_name("orders.*.>"), "orders-any-all");
        assert_eq!(endpoint_name("a$b.c_d"), "a_b-c_d");
    }
}
