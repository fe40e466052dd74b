//! A gateway on a free local port, and an HTTP client for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Wave};
use aether_gateway::{Gateway, GatewayOptions, Insight};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

/// Time that passes only on order of the test, while sockets work as always. For tests of one thread: tokio's paused
/// time jumps ahead as soon as everything waits for a socket. Connections to a NATS server are made before, because
/// that takes time.
pub(crate) struct StoppedTime {
    /// A blocking task keeps the time from jumping. It ends when this is dropped.
    _held: std::sync::mpsc::Sender<()>,
}

impl StoppedTime {
    pub(crate) fn new() -> Self {
        aether_core::clock::follow_tokio();
        tokio::time::pause();
        let (held, ended) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || ended.recv());
        Self { _held: held }
    }

    /// Lets a tenth of a second pass, and the millisecond to which timers are rounded up.
    pub(crate) async fn tenth_passes(&self) {
        tokio::time::advance(Duration::from_millis(101)).await;
        yield_now().await;
    }

    pub(crate) async fn second_passes(&self) {
        for _ in 0..10 {
            self.tenth_passes().await;
        }
    }
}

/// A running gateway, with a way to wait for observed waves.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<()>,
    pub(crate) insight: Option<Arc<Insight>>,
    /// Where the test decides about the time.
    time: Option<StoppedTime>,
    seen: mpsc::UnboundedReceiver<String>,
}

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) async fn run(aether: &Aether, options: GatewayOptions) -> Running {
    run_at(aether, options, any_port()).await
}

/// A gateway whose time passes only on order of the test.
pub(crate) async fn run_stopped(aether: &Aether, options: GatewayOptions) -> Running {
    let time = StoppedTime::new();
    let running = Running { time: Some(time), ..run(aether, options).await };
    // What is due at once is due when the time has passed to which timers are rounded up.
    running.second_passes().await;
    running
}

pub(crate) async fn run_at(aether: &Aether, options: GatewayOptions, address: SocketAddr) -> Running {
    let (see, seen) = mpsc::unbounded_channel();
    let options = options.listen(address).on_wave(move |wave: &Wave| {
        // The test may have dropped its receiver.
        let _ = see.send(wave.channel().to_string());
    });
    let gateway = Gateway::start(aether, options).await.unwrap();
    let shutdown = CancellationToken::new();
    let (mut address, insight) = (gateway.address(), gateway.insight());
    if address.ip().is_unspecified() {
        address.set_ip(any_port().ip());
    }
    let ended = tokio::spawn(gateway.run(shutdown.clone()));
    Running { address, shutdown, ended, insight, time: None, seen }
}

impl Running {
    /// Waits until `waves` more waves were observed.
    pub(crate) async fn observes(&mut self, waves: usize) {
        for _ in 0..waves {
            self.seen.recv().await.expect("the observer lives");
        }
    }

    /// Lets a second pass if the test decides about the time; otherwise it passes by itself.
    pub(crate) async fn second_passes(&self) {
        if let Some(time) = &self.time {
            time.second_passes().await;
        }
    }

    /// Waits for the next report of the physics. Of a time that the test decides about, as much passes as that needs.
    pub(crate) async fn looked(&self) {
        let looked = self.insight.as_ref().expect("the gateway has physics").looked();
        tokio::pin!(looked);
        // Between two seconds everything else gets as far as an answer takes.
        let passing = async {
            for _ in 0..600 {
                self.second_passes().await;
                self.get("/livez").await;
            }
        };
        tokio::select! {
            () = &mut looked => {}
            () = passing, if self.time.is_some() => panic!("no report in ten minutes"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str) -> Answer {
        self.accepting(method, path, "application/openmetrics-text").await
    }

    /// The answer to a request with an `Accept` header.
    pub(crate) async fn accepting(&self, method: &str, path: &str, accept: &str) -> Answer {
        let request = ureq::http::Request::builder()
            .method(method)
            .header("accept", accept)
            .uri(format!("http://{}{path}", self.address))
            .body(())
            .unwrap();
        tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
            let mut response = ureq::Agent::new_with_config(agent).run(request).unwrap();
            Answer {
                code: response.status().as_u16(),
                content_type: response
                    .headers()
                    .get("content-type")
                    .map(|value| value.to_str().unwrap().to_owned())
                    .unwrap_or_default(),
                body: response.body_mut().read_to_string().unwrap(),
            }
        })
        .await
        .unwrap()
    }

    pub(crate) async fn stop(mut self) {
        // The end may wait for a time.
        self.time = None;
        self.shutdown.cancel();
        self.ended.await.unwrap();
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// The names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Of what a server has said before it closed the connection.
    pub(crate) fn of(said: &[u8]) -> Self {
        let end = said.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(said)));
        let head = String::from_utf8(said[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let code = lines.next().unwrap()[9..12].parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { code, headers: lines.map(header).collect(), body: said[end + 4..].to_vec() }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let body = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

/// The answer to a request, which is sent as it is.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    Reply::of(&said)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// Parsed metrics: the value of each name and set of labels.
pub(crate) struct Metrics(BTreeMap<(String, Vec<(String, String)>), f64>);

impl Metrics {
    /// Reads the OpenMetrics text format strictly enough to refuse a line that Prometheus would refuse.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "no end mark: {text}");
        let mut lines = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            assert!(name.starts_with("aether_") || name.starts_with("process_"), "{line}");
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => read_labels(rest),
                None => (Vec::new(), rest),
            };
            let value = value.trim_start().parse().unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(lines.insert((name.to_owned(), labels), value), None, "twice: {line}");
        }
        Self(lines)
    }

    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        *self.0.get(&(name.to_owned(), wanted)).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }

    /// The sum over all lines of a name that contain these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of_line: &[(String, String)]| {
            labels.iter().all(|(k, v)| of_line.iter().any(|(name, value)| name == k && value == v))
        };
        self.0.iter().filter(|((n, of_line), _)| n == name && has(of_line)).map(|(_, value)| value).sum()
    }
}

fn read_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        match after[end + 1..].split_at(1) {
            (",", more) => rest = more,
            ("}", value) => return (labels, value),
            other => panic!("{other:?}"),
        }
    }
}
