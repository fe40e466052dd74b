//! Logs in JetStream: read from the server when somebody asks, once for all who ask within a second.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether::nats::NatsOptions;
use aether_core::medium::without_secrets;
use aether_log::{JetStreamError, JetStreamView, StreamEffort};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, timeout};

use super::lines::StreamReading;

/// How long a request waits for a reading that began after it. Then it gets the last one.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// For how long a reading counts as what is there now, and how much longer than it took.
const FRESH: Duration = Duration::from_secs(1);
const TIMES: u32 = 4;
/// The same after a server that has no JetStream or refuses: each attempt is an error in its log.
const REFUSED: Duration = Duration::from_secs(10);
/// The time after which no further log is read, and all that one reading may take.
const TIME: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(15);

/// The servers whose logs are shown.
#[derive(Clone)]
pub(crate) struct LogServers {
    url: String,
    nats: NatsOptions,
}

impl LogServers {
    pub(crate) fn new(url: impl Into<String>, nats: NatsOptions) -> Self {
        Self { url: url.into(), nats }
    }
}

impl fmt::Debug for LogServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogServers").field("url", &without_secrets(&self.url)).finish_non_exhaustive()
    }
}

/// The logs of these servers, as they were read last.
#[derive(Debug)]
pub(crate) struct Streams {
    servers: LogServers,
    shown_url: String,
    asked: Notify,
    last: watch::Sender<Arc<StreamReading>>,
    /// Opened by the first one who asks, and kept.
    view: Mutex<Option<Arc<JetStreamView>>>,
}

impl Streams {
    pub(super) fn new(servers: LogServers) -> Self {
        let shown_url = without_secrets(&servers.url);
        let nothing = StreamReading::of_none(Some(shown_url.clone()), "it was not read yet");
        let last = watch::Sender::new(Arc::new(nothing));
        Self { servers, shown_url, asked: Notify::new(), last, view: Mutex::default() }
    }

    /// The connection to the servers.
    ///
    /// # Errors
    /// [`JetStreamError`]: no server answers, or it has no JetStream.
    pub(crate) async fn view(&self) -> Result<Arc<JetStreamView>, JetStreamError> {
        let mut view = self.view.lock().await;
        if let Some(opened) = &*view {
            return Ok(Arc::clone(opened));
        }
        let LogServers { url, nats } = &self.servers;
        let opened = Arc::new(JetStreamView::open(url, nats.clone()).await?);
        Ok(Arc::clone(view.insert(opened)))
    }

    /// The last reading.
    pub(super) fn last(&self) -> Arc<StreamReading> {
        Arc::clone(&self.last.borrow())
    }

    /// Has them read, unless that was done just now. Nothing waits for it.
    pub(super) fn ask(&self) {
        if !self.last.borrow().is_fresh() {
            self.asked.notify_one();
        }
    }

    /// What is there now, or what was read last if the server does not answer in time.
    pub(crate) async fn now(&self) -> Arc<StreamReading> {
        let mut read = self.last.subscribe();
        self.ask();
        // The sender lives as long as this.
        let _ = timeout(PATIENCE, read.wait_for(|reading| reading.is_fresh())).await;
        self.last()
    }

    /// Reads when somebody asks.
    pub(super) async fn run(&self) {
        loop {
            self.asked.notified().await;
            // Others have asked for the same reading.
            if self.last.borrow().is_fresh() {
                continue;
            }
            let began = Instant::now();
            let read = timeout(WHOLE, self.read()).await;
            let read = read.unwrap_or_else(|_| {
                Err(JetStreamError::NoAnswer { name: self.shown_url.clone(), after: WHOLE })
            });
            let (reading, fresh) = match read {
                Ok(reading) => (reading, FRESH.max(began.elapsed() * TIMES)),
                Err(error) => {
                    let reason = aether_service::error_chain(&error);
                    (StreamReading::of_none(Some(self.shown_url.clone()), reason), REFUSED)
                }
            };
            self.last.send_replace(Arc::new(reading.fresh_until(Instant::now() + fresh)));
        }
    }

    async fn read(&self) -> Result<StreamReading, JetStreamError> {
        let view = self.view().await?;
        match view.standing(StreamEffort::default().time(TIME)).await {
            Ok(standing) => Ok(StreamReading::of(self.shown_url.clone(), standing)),
            Err(error) => {
                // The next reading connects again.
                *self.view.lock().await = None;
                Err(error)
            }
        }
    }
}
