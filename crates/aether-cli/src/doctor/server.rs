//! The medium: whether the server answers, what it is and allows, and what this user may do on it.
//!
//! It connects with the NATS client directly, because the medium itself hides the server's refusals behind retries.

use std::time::{Duration, Instant};

use aether::check_address;
use aether::nats::{NatsClientError, TlsFailure};
use aether::seal::{Role, SealKeys, Sealer};
use aether_core::clock::micros_since_1970;
use aether_core::medium::without_secrets;
use aether_link::wire::{Position, Sender, encode_at};
use aether_service::config::{Configuration, MediumSettings, OrOff};
use aether_service::error_chain;
use async_nats::{Client, Event, ServerAddr, ServerError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::finding::Finding;

const CHECK: &str = "medium";
/// How long the server has for each step.
const PATIENCE: Duration = Duration::from_secs(5);
/// The oldest server that the tests run against.
const OLDEST: (u64, u64) = (2, 10);
/// The payload that servers take by default.
const USUAL_PAYLOAD: usize = 1 << 20;

/// `url` is the medium of the configuration, or one of its paths.
pub(super) async fn check(config: &Configuration, url: &str) -> Vec<Finding> {
    let settings = config.settings();
    if let Err(error) = check_address(url) {
        let text = error_chain(&error);
        return vec![Finding::fail(CHECK, text, "use nats://host:port or tls://host:port")];
    }
    let servers: Result<Vec<ServerAddr>, _> = url.split(',').map(|url| url.trim().parse()).collect();
    let url = without_secrets(url);
    if settings.medium.args().is_local() {
        let text = "local: reaches only vibrators inside one process";
        return vec![Finding::warn(CHECK, text, "set medium.url to nats://host:port for several processes")];
    }
    let servers = match servers {
        Ok(servers) => servers,
        Err(error) => {
            let text = format!("{url} is not an address: {}", error_chain(&error));
            return vec![Finding::fail(CHECK, text, "use nats://host:port or tls://host:port")];
        }
    };
    let (refusals, mut refused) = mpsc::unbounded_channel();
    let on_event = move |event| {
        if let Event::ServerError(ServerError::Other(text)) = event {
            // The receiver lives until the checks are over.
            let _ = refusals.send(text);
        }
        std::future::ready(())
    };
    let options = settings.medium.args().nats("aether-doctor");
    let connecting =
        options.connect_client(&servers, |options| options.connection_timeout(PATIENCE), on_event);
    let begun = Instant::now();
    let client = match timeout(PATIENCE, connecting).await {
        Ok(Ok(client)) => client,
        Ok(Err(NatsClientError::Connect(error))) => return vec![unreachable(&url, &error)],
        Ok(Err(error)) => {
            let text = format!("cannot log in to {url}: {}", error_chain(&error));
            let remedy = "correct the file, or medium.login, medium.ca, medium.certificate";
            return vec![Finding::fail(CHECK, text, remedy)];
        }
        Err(_) => {
            let text = format!("{url} did not answer within {PATIENCE:?}");
            return vec![Finding::fail(
                CHECK,
                text,
                "check the address, the firewall and that it is a NATS server",
            )];
        }
    };
    let mut findings = vec![Finding::ok(CHECK, format!("{url} answered within {:.0?}", begun.elapsed()))];
    findings.extend(server(&client));
    findings.extend(permissions(&client, &settings.medium, &mut refused).await);
    findings
}

fn unreachable(url: &str, error: &async_nats::ConnectError) -> Finding {
    use async_nats::ConnectErrorKind as Kind;
    let text = format!("cannot connect to {url}: {}", error_chain(error));
    if let Some(failure) = TlsFailure::of(error) {
        return Finding::fail(CHECK, text, failure.to_string());
    }
    let remedy = match error.kind() {
        Kind::AuthorizationViolation | Kind::Authentication => {
            "set medium.login to a file with the secret of this program: credentials:PATH, nkey:PATH, token:PATH or \
             password:USER:PATH"
        }
        Kind::Dns => "check the name of the server",
        _ => "start the server (nats-server), or correct medium.url",
    };
    Finding::fail(CHECK, text, remedy)
}

/// The findings about the server, from its own description.
fn server(client: &Client) -> Vec<Finding> {
    let info = client.server_info();
    let mut numbers = info.version.split(['.', '-']).map_while(|part| part.parse::<u64>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let text = format!("nats-server {} {:?}", info.version, info.server_name);
    let mut findings = vec![if version < OLDEST {
        Finding::warn("server", text, "update it to 2.10 or newer: older ones are not tested")
    } else {
        Finding::ok("server", text)
    }];
    if info.lame_duck_mode {
        let text = "the server is shutting down";
        findings.push(Finding::warn("server", text, "connect to another one, or wait until it is back"));
    }
    let text = format!("a message has at most {} bytes", info.max_payload);
    findings.push(if info.max_payload < USUAL_PAYLOAD {
        Finding::warn(
            "max_payload",
            text,
            "larger waves are refused: raise max_payload of the server if yours are larger",
        )
    } else {
        Finding::ok("max_payload", text)
    });
    let text = if info.jetstream { "on" } else { "off; no wave needs it, but the server keeps nothing" };
    findings.push(Finding::ok("JetStream", text));
    findings
}

/// A message that a listener to everything takes for a frame without waves. If waves are sealed, so is this one: others
/// would count it as refused.
fn probe(settings: &MediumSettings, role: Role, subject: &str) -> Bytes {
    let position = Position { stream: 0, first: 0, age_micros: 0 };
    let sender = Sender { node: 0, sent_micros: micros_since_1970() };
    // A frame without waves cannot be invalid.
    let frame = encode_at(sender, Some(position), None, &[], Instant::now()).unwrap_or_default();
    let keys = match &settings.keys {
        OrOff::On(path) => SealKeys::from_file(path).ok(),
        OrOff::Off => None,
    };
    // What is wrong with the keys is a finding of its own.
    let sealed = keys.and_then(|keys| Sealer::new(keys).ok()?.seal(role, subject, "", &frame).ok());
    sealed.unwrap_or(frame)
}

/// Sends itself a message below each root of subjects.
async fn permissions(
    client: &Client,
    settings: &MediumSettings,
    refused: &mut mpsc::UnboundedReceiver<String>,
) -> Vec<Finding> {
    let prefix = &settings.prefix;
    // Nobody else has this subject.
    let own = client.new_inbox();
    let (inbox, own) = own.rsplit_once('.').unwrap_or(("_INBOX", "doctor"));
    let roots = [
        ("waves", Role::Waves, format!("{prefix}.aether-doctor.{own}")),
        ("questions", Role::Questions, format!("{prefix}-ask.aether-doctor.{own}")),
        ("copies for observers", Role::Copies, format!("{prefix}-seen.aether-doctor.{own}")),
        ("control messages", Role::Control, format!("{prefix}-ask._aether.doctor.{own}")),
        ("answers", Role::Answers, client.new_inbox()),
    ];
    let (mut waiting, mut probes) = (Vec::new(), Vec::new());
    for (what, role, subject) in roots {
        let subscribed = client.subscribe(subject.clone()).await;
        waiting.push((what, subject.clone(), subscribed));
        probes.push((role, subject));
    }
    let discovery = client.subscribe("$SRV.PING").await;
    for (role, subject) in probes {
        let probe = probe(settings, role, &subject);
        // A failure shows as a message that does not arrive.
        let _ = client.publish(subject, probe).await;
    }
    // The server handles the messages of a client in order, so its refusals have arrived afterwards.
    let flushed = timeout(PATIENCE, client.flush()).await.is_ok_and(|flushed| flushed.is_ok());
    if !flushed {
        return vec![Finding::fail(
            "permissions",
            "the server did not confirm the messages of this check",
            "try again; if it stays so, look at the server's log",
        )];
    }
    let mut findings = Vec::new();
    let mut texts = Vec::new();
    let arriving = waiting.into_iter().map(async |(what, subject, subscribed)| {
        let arrived = match subscribed {
            Ok(mut messages) => {
                timeout(Duration::from_secs(1), messages.next()).await.is_ok_and(|message| message.is_some())
            }
            Err(_) => false,
        };
        (what, subject, arrived)
    });
    let all = join_all(arriving).await;
    while let Ok(text) = refused.try_recv() {
        texts.push(text);
    }
    for (what, subject, arrived) in all {
        if arrived {
            continue;
        }
        let root = subject
            .rsplit_once(".aether-doctor")
            .or_else(|| subject.rsplit_once("._aether"))
            .map_or(inbox, |(root, _)| root);
        let why: Vec<_> = texts.iter().filter(|text| text.contains(&subject)).map(String::as_str).collect();
        let why =
            if why.is_empty() { "a message to itself did not arrive".to_owned() } else { why.join("; ") };
        let text = format!("{what} do not pass: {why}");
        findings.push(Finding::fail(
            "permissions",
            text,
            format!("allow this user to publish and to subscribe to {root}.> on the server"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "permissions",
            format!("may publish and subscribe below {prefix}, {prefix}-ask, {prefix}-seen and {inbox}"),
        ));
    }
    // The client hands refusals on in a task of its own, so one may be on its way.
    while let Ok(Some(text)) = timeout(Duration::from_millis(200), refused.recv()).await {
        texts.push(text);
    }
    let is_refused = discovery.is_err() || texts.iter().any(|text| text.contains("$SRV"));
    findings.push(if is_refused {
        let remedy = "allow it to subscribe to $SRV.>, or use NatsOptions::discovery(false) in the program";
        Finding::warn("discovery", "may not answer the service discovery of NATS tools", remedy)
    } else {
        Finding::ok("discovery", "may answer the service discovery of NATS tools")
    });
    findings
}
