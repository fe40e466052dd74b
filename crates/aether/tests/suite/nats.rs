//! The NATS medium against a real server: the conformance suite.

use aether::nats::{NatsError, NatsOptions, Wire};
use aether::seal::SealKeys;
use aether_conformance::{self, Foreign, ForeignMessage, Harness, Link, NatsServer, Report, Site, SiteError};
use aether_core::{Aether, Amplitude, ConnectError, HalfLife, InboxOptions, Kind, Vibrator, Wave, WaveId};
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::sync::{Mutex, OnceCell};

use crate::proxy::Proxy;

/// Starts a server for each site.
struct OverNats {
    wire: Wire,
    keys: Option<SealKeys>,
}

struct NatsSite {
    wire: Wire,
    keys: Option<SealKeys>,
    server: Mutex<NatsServer>,
    url: String,
    port: u16,
    /// One for each connected `Aether`.
    proxies: Mutex<Vec<Proxy>>,
    client: OnceCell<async_nats::Client>,
}

impl Harness for OverNats {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        Box::pin(async {
            let server =
                NatsServer::start().await.map_err(|error| SiteError::new("start a server", error))?;
            Ok(Box::new(NatsSite {
                wire: self.wire,
                keys: self.keys.clone(),
                url: server.url(),
                port: server.port(),
                server: Mutex::new(server),
                proxies: Mutex::default(),
                client: OnceCell::new(),
            }) as Box<dyn Site>)
        })
    }
}

impl Site for NatsSite {
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(async {
            let proxy = Proxy::new(self.port).await.map_err(|error| SiteError::new("listen", error))?;
            let url = proxy.url();
            self.proxies.lock().await.push(proxy);
            let options = NatsOptions::default().wire(self.wire).outbox(outbox);
            let options = match &self.keys {
                Some(keys) => options.keys(keys.clone()),
                None => options,
            };
            let connected = aether::builder().url(url).options(options).connect().await;
            connected.map_err(|error| SiteError::new("connect", error))
        })
    }

    fn link(&self) -> Option<&dyn Link> {
        Some(self)
    }

    fn foreign(&self) -> Option<&dyn Foreign> {
        // What is not sealed is refused.
        self.keys.is_none().then_some(self as &dyn Foreign)
    }
}

impl Link for NatsSite {
    fn cut(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            let killed = self.server.lock().await.kill().await;
            killed.map_err(|error| SiteError::new("kill the server", error))?;
            join_all(self.proxies.lock().await.iter().map(Proxy::cut)).await;
            Ok(())
        })
    }

    fn mend(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            let restarted = self.server.lock().await.restart().await;
            restarted.map_err(|error| SiteError::new("restart the server", error))?;
            for proxy in self.proxies.lock().await.iter() {
                proxy.mend();
            }
            Ok(())
        })
    }
}

impl NatsSite {
    async fn client(&self) -> Result<&async_nats::Client, SiteError> {
        let connected = self.client.get_or_try_init(|| async_nats::connect(&self.url)).await;
        connected.map_err(|error| SiteError::new("connect a foreign client", error))
    }
}

fn headers(message: &ForeignMessage) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in &message.headers {
        headers.append(&**name, &**value);
    }
    headers
}

impl Foreign for NatsSite {
    fn publish(&self, channel: &str, message: ForeignMessage) -> BoxFuture<'_, Result<(), SiteError>> {
        let subject = format!("aether.{channel}");
        Box::pin(async move {
            let client = self.client().await?;
            let published = if message.headers.is_empty() {
                client.publish(subject, message.payload).await
            } else {
                client.publish_with_headers(subject, headers(&message), message.payload).await
            };
            published.map_err(|error| SiteError::new("publish", error))?;
            // A server processes a client's messages in order: once it reports that this has no receiver, it has the
            // other.
            match client.request("nobody.hears.this", "".into()).await {
                Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => Ok(()),
                Err(error) => Err(SiteError::new("publish", error)),
                Ok(_) => Err(SiteError::new("publish", "a subject without a receiver was answered")),
            }
        })
    }

    fn request(
        &self,
        channel: &str,
        message: ForeignMessage,
    ) -> BoxFuture<'_, Result<ForeignMessage, SiteError>> {
        let subject = format!("aether.{channel}");
        Box::pin(async move {
            let client = self.client().await?;
            let answer = client.request(subject, message.payload).await;
            let answer = answer.map_err(|error| SiteError::new("request", error))?;
            let headers = answer.headers.unwrap_or_default();
            let headers = headers
                .iter()
                .flat_map(|(name, values)| {
                    values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
                })
                .collect();
            Ok(ForeignMessage { headers, payload: answer.payload })
        })
    }
}

async fn report(wire: Wire) -> Report {
    let report = aether_conformance::run(&OverNats { wire, keys: None }).await;
    assert!(report.skipped().is_empty(), "\n{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_nats_medium_conforms_on_many_threads() {
    let report = report(Wire::Frames).await;
    assert!(report.passed(), "\n{report}");
}

#[tokio::test(flavor = "current_thread")]
async fn the_nats_medium_conforms_on_one_thread() {
    let report = report(Wire::Frames).await;
    assert!(report.passed(), "\n{report}");
}

/// All but what messages of foreign publishers do, which are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_nats_medium_conforms_with_sealed_waves() {
    let keys = Some(SealKeys::generate().unwrap());
    let report = aether_conformance::run(&OverNats { wire: Wire::Frames, keys }).await;
    let skipped = [
        "a_foreign_message_arrives_as_a_wave_with_default_values",
        "foreign_headers_become_metadata",
        "a_foreign_requester_gets_a_plain_answer",
        "malformed_messages_are_counted_and_end_nothing",
    ];
    assert_eq!(report.skipped(), skipped, "\n{report}");
    assert!(report.passed(), "\n{report}");
}

/// The client keeps headers in a hash map and trims their values, so metadata arrive in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nats_medium_conforms_with_cloud_events_but_for_the_order_of_metadata() {
    let report = report(Wire::CloudEvents).await;
    assert_eq!(report.failed(), ["metadata_arrive_in_order_and_byte_for_byte"], "\n{report}");
}

#[tokio::test]
async fn a_dropped_aether_sends_what_it_took_and_closes_the_connection() {
    let server = NatsServer::start().await.unwrap();
    let proxy = Proxy::new(server.port()).await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("dropped").await.unwrap();
    {
        let here = aether::connect(&proxy.url()).await.unwrap();
        let emitter = Vibrator::create("emitter", &here).await.unwrap();
        emitter.resonate_on("dropped").await.unwrap();
        emitter.resonate_in_group("dropped", "group").await.unwrap();
        for count in 0..1000 {
            emitter.emit_bytes("dropped", format!("{count}")).await.unwrap();
        }
    }
    for count in 0..1000 {
        assert_eq!(ear.receive().await.unwrap().text().unwrap(), format!("{count}"));
    }
    proxy.unused().await;
}

#[tokio::test]
async fn attributes_of_a_foreign_cloud_event_are_read() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("orders.*").await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "17"),
        ("ce-source", "/shop"),
        ("ce-type", "created"),
        ("ce-partitionkey", "order-17"),
        ("ce-aetherkind", "command"),
        ("ce-aetheramplitude", "0.9"),
        ("ce-aetherhalflife", "never"),
        ("Content-Type", "application/cbor"),
    ] {
        headers.insert(name, value);
    }
    client.publish_with_headers("aether.orders.created", headers, "x".into()).await.unwrap();
    let wave = ear.receive().await.unwrap();
    assert_eq!(wave.source().name(), "/shop");
    assert_eq!(wave.key(), Some("order-17"));
    assert_eq!(wave.kind(), Kind::Command);
    assert_eq!(wave.amplitude(), Amplitude::new(0.9).unwrap());
    assert_eq!(wave.half_life(), HalfLife::NEVER);
    assert_eq!(wave.content_type().as_str(), "application/cbor");
    assert_eq!(wave.metadata().value("ce-id"), Some("17"));
    assert_eq!(wave.metadata().value("ce-partitionkey"), None);
}

#[tokio::test]
async fn a_prefix_that_another_system_uses_for_its_questions_is_refused() {
    for (prefix, refused) in
        [("shop-ask", true), ("shop-seen", true), ("a.b-ask", true), ("ask", false), ("shop-ask.eu", false)]
    {
        // Nothing listens on port 1, so only a prefix that is refused fails in this way.
        let connected = aether::builder()
            .url("nats://127.0.0.1:1")
            .options(NatsOptions::default().prefix(prefix))
            .connect()
            .await;
        let error = connected.unwrap_err();
        match error.of_medium() {
            Some(NatsError::PrefixTaken { prefix: named, suffix }) => {
                assert!(refused && named == prefix && prefix.ends_with(suffix), "{prefix}");
            }
            Some(error) => panic!("{prefix}: {error}"),
            None => {
                assert!(matches!(error, ConnectError::Unreachable { .. }) && !refused, "{prefix}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn the_answer_of_a_responder_that_knows_no_requests_belongs_to_that_of_its_question() {
    let server = NatsServer::start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut questions = client.subscribe("aether-ask.price").await.unwrap();
    client.flush().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let request: WaveId = "shop@7/1".parse().unwrap();
    let asker =
        aether.emitter("asker").unwrap().with_baggage("tenant", "acme").unwrap().caused_by(request.clone());
    // A foreign client, and an Aether that knows causes only.
    let older = |id: WaveId| {
        let answer = Wave::builder("price").kind(Kind::Response).cause(id).text("9").build().unwrap();
        let sender = aether_link::wire::Sender { node: 1, sent_micros: 1 };
        aether_link::wire::encode(sender, None, &[answer], std::time::Instant::now()).unwrap()
    };
    for is_foreign in [true, false] {
        let question = asker.question(Wave::builder("price").build().unwrap()).unwrap();
        let id = question.id();
        let payload = if is_foreign { "9".into() } else { older(id.clone()) };
        let answers = async {
            let reply = questions.next().await.unwrap().reply.unwrap();
            client.publish(reply, payload).await.unwrap();
        };
        let (answer, ()) = tokio::join!(question.ask_within(std::time::Duration::from_secs(60)), answers);
        let answer = answer.unwrap();
        assert_eq!((answer.text().unwrap(), answer.cause()), ("9", Some(&id)));
        assert_eq!((answer.root(), answer.baggage().value("tenant")), (request.clone(), Some("acme")));
    }
}
