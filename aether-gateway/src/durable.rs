//! Durable logs in folders and in JetStream: what they hold, their consumers, and how far these are behind.
//!
//! A task reads the folders every five seconds, and when somebody asks. Another one reads JetStream, only when somebody
//! asks. Requests and scrapes get the last reading, so a disk or a server that does not answer delays nobody. The task
//! locks and writes nothing: the programs that own the logs do not notice. Operations of a person on dead letters and
//! consumers are in [`letters`](crate::letters) and [`consumers`](crate::consumers).

mod folder;
mod lines;
mod reader;
mod stores;
mod streams;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use folder::{LogFolder, LogFolderError};
pub(crate) use lines::{AllLogs, ConsumerLine, LogLine, StandingLine, Store};
use lines::{Reading, StreamReading};
use reader::Reader;
pub(crate) use streams::LogServers;
use streams::Streams;
pub(crate) use waiting::{FirstWaves, LogName, UnknownLog};

/// How often the folders are read when nobody asks.
const EVERY: Duration = Duration::from_secs(5);
/// The shortest pause between two readings, and how much longer than the reading it is: at most a tenth of a processor
/// reads, however many ask.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
const PAUSES: u32 = 10;
/// Why nothing is said of logs in JetStream.
const NO_SERVERS: &str = "this gateway is on no NATS server";

/// The logs that the gateway shows.
#[derive(Debug)]
pub(crate) struct Durable {
    folders: Vec<LogFolder>,
    /// The file with the keys of sealed ones.
    keys: Option<PathBuf>,
    asked: Notify,
    last: watch::Sender<Arc<Reading>>,
    streams: Option<Streams>,
    /// Turns of requests for the waves of consumers.
    readers: Arc<Semaphore>,
}

impl Durable {
    pub(crate) fn new(folders: Vec<LogFolder>, keys: Option<PathBuf>, servers: Option<LogServers>) -> Self {
        let last = watch::Sender::new(Arc::new(Reading::of_none(EVERY)));
        let readers = Arc::new(Semaphore::new(waiting::READERS));
        Self { folders, keys, asked: Notify::new(), last, streams: servers.map(Streams::new), readers }
    }

    /// The last reading. Has JetStream read for the next caller.
    pub(crate) fn last(&self) -> AllLogs {
        let streams = self.streams.as_ref().map(|streams| {
            streams.ask();
            streams.last()
        });
        AllLogs { folders: self.last_of_folders(), streams: streams.unwrap_or_else(no_streams) }
    }

    /// What is there now, or what was read last where the disk or the server does not answer in time.
    pub(crate) async fn now(&self) -> AllLogs {
        let streams = async {
            match &self.streams {
                Some(streams) => streams.now().await,
                None => no_streams(),
            }
        };
        let (folders, streams) = tokio::join!(self.folders_now(), streams);
        AllLogs { folders, streams }
    }

    fn last_of_folders(&self) -> Arc<Reading> {
        Arc::clone(&self.last.borrow())
    }

    async fn folders_now(&self) -> Arc<Reading> {
        if self.folders.is_empty() {
            return self.last_of_folders();
        }
        let (asked, mut read) = (Instant::now(), self.last.subscribe());
        self.asked.notify_one();
        let is_new = |reading: &Arc<Reading>| reading.began.is_some_and(|began| began >= asked);
        // The sender lives as long as this.
        let _ = timeout(streams::PATIENCE, read.wait_for(is_new)).await;
        self.last_of_folders()
    }

    /// Reads until it is stopped.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let folders = async {
            if self.folders.is_empty() {
                return;
            }
            let mut reader = Reader::new(self.folders.clone(), EVERY);
            let mut due = Instant::now();
            loop {
                let began = Instant::now();
                // Asking more often does not shorten the time that a history covers.
                let is_sample = began >= due;
                if is_sample {
                    due = began + EVERY;
                }
                reader = match read(reader, began, is_sample).await {
                    Some((reader, reading)) => {
                        self.last.send_replace(Arc::new(reading));
                        reader
                    }
                    None => {
                        tracing::error!("the durable logs could not be read; they are opened again");
                        Reader::new(self.folders.clone(), EVERY)
                    }
                };
                let pause = LEAST_PAUSE.max(began.elapsed() * PAUSES);
                sleep(pause).await;
                // Until somebody asks, or it is time.
                let _ = timeout_at(due, self.asked.notified()).await;
            }
        };
        let streams = async {
            if let Some(streams) = &self.streams {
                streams.run().await;
            }
        };
        let reading = async { tokio::join!(folders, streams) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = reading => {}
        }
    }
}

fn no_streams() -> Arc<StreamReading> {
    Arc::new(StreamReading::of_none(None, NO_SERVERS))
}

/// Reads in a thread of its own, for which the end of the program does not wait: a disk may not answer. `None` if it
/// panicked or there is no thread.
async fn read(mut reader: Reader, began: Instant, is_sample: bool) -> Option<(Reader, Reading)> {
    let (done, read) = oneshot::channel();
    let reading = move || {
        let reading = reader.read(began, is_sample);
        // Nobody waits any more if the gateway has ended.
        let _ = done.send((reader, reading));
    };
    thread::Builder::new().name("aether-durable".to_owned()).spawn(reading).ok()?;
    read.await.ok()
}
