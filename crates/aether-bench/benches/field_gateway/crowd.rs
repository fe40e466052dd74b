//! Many clients, some of which do not read, and what the others notice of it.

use std::fmt;
use std::time::Duration;

use futures::SinkExt as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::processes::Server;
use crate::socket::{Socket, now};

const DURATION: Duration = Duration::from_secs(10);
/// The time that a reader has for the last write. A server that needs longer has stalled.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many clients, of which how many do not read, and how much is written.
pub(crate) struct Load {
    clients: usize,
    silent: usize,
    writes_per_second: u64,
    /// The size of a value in bytes.
    bytes: usize,
    /// Every client wants the writes of one room of this number; one room is everything.
    rooms: u64,
}

/// The goal, once where everybody wants everything, and once where ten clients share a room.
pub(crate) const GATEWAY: [Load; 2] = [
    Load { clients: 1000, silent: 100, writes_per_second: 1000, bytes: 100, rooms: 1 },
    Load { clients: 1000, silent: 100, writes_per_second: 1000, bytes: 100, rooms: 100 },
];

/// The loads for both: values large enough to fill the buffers of sockets that nobody reads.
pub(crate) const BOTH: [Load; 2] = [
    Load { clients: 50, silent: 0, writes_per_second: 50, bytes: 16_000, rooms: 1 },
    Load { clients: 50, silent: 5, writes_per_second: 50, bytes: 16_000, rooms: 1 },
];

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, silent, writes_per_second, bytes, rooms } = self;
        write!(f, "{clients} clients, {silent} do not read, {writes_per_second} writes/s of {bytes} bytes")?;
        if *rooms > 1 { write!(f, ", {rooms} rooms") } else { Ok(()) }
    }
}

/// The observations of one reader.
struct Seen {
    micros: Histogram<u64>,
    /// The number of the last write that it saw.
    is_complete: bool,
}

/// In the own protocol.
pub(crate) async fn own(server: &Server, load: &Load) -> String {
    let mut sockets = Vec::new();
    for client in 0..load.clients {
        let pattern =
            if load.rooms == 1 { "*".to_owned() } else { format!("room/{}/*", client as u64 % load.rooms) };
        sockets.push(Socket::subscribed(&server.url, &format!("client-{client}"), &pattern).await);
    }
    measure(server, load, sockets).await
}

/// In protocol 0.4.
pub(crate) async fn old(server: &Server, load: &Load) -> String {
    let mut sockets = Vec::new();
    for _ in 0..load.clients {
        sockets.push(Socket::old(&server.url).await);
    }
    measure(server, load, sockets).await
}

async fn measure(server: &Server, load: &Load, mut sockets: Vec<Socket>) -> String {
    // They are open, and nobody reads them.
    let silent = sockets.split_off(load.clients - load.silent);
    let writes = load.writes_per_second * DURATION.as_secs();
    let mut readers = JoinSet::new();
    let end = Instant::now() + DURATION + PATIENCE;
    let per_room = load.rooms;
    for (at, socket) in sockets.into_iter().enumerate() {
        // Rooms are written in turns, so the last of each is one of the last.
        let room = at as u64 % per_room;
        let last = (0..writes).rev().find(|n| n % per_room == room).unwrap();
        readers.spawn(read(socket, last, end));
    }
    let writing = tokio::spawn(write(Socket::old(&server.url).await, writes, load));
    let mut micros = Histogram::<u64>::new(3).unwrap();
    let (mut complete, mut all) = (0, 0);
    while let Some(seen) = readers.join_next().await {
        let seen = seen.unwrap();
        micros.add(&seen.micros).unwrap();
        complete += usize::from(seen.is_complete);
        all += 1;
    }
    writing.abort();
    drop(silent);
    let ms = |value: u64| format!("{:.1} ms", value as f64 / 1e3);
    format!(
        "{} | {} | {} | {complete} of {all} readers saw the last write",
        ms(micros.value_at_quantile(0.5)),
        ms(micros.value_at_quantile(0.99)),
        ms(micros.max())
    )
}

/// Writes on a fixed schedule. Each value has the moment at which it was due, so a server that holds the writer up is not
/// spared the delay of the next ones.
fn write(socket: Socket, writes: u64, load: &Load) -> impl Future<Output = ()> + use<> {
    let (rooms, per_second) = (load.rooms, u32::try_from(load.writes_per_second).unwrap());
    let padding = "x".repeat(load.bytes);
    // Its echoes are read by another task, so that they hold nothing up.
    let mut sink = socket.drained();
    async move {
        let mut due = interval(Duration::from_secs(1) / per_second);
        for n in 0..writes {
            let tick = due.tick().await;
            let was_due = now() - tick.elapsed().as_secs_f64() * 1000.0;
            let (room, key) = (n % rooms, n % 1000);
            let write = format!(
                r#"{{"type":"set","key":"room/{room}/{key}","value":"n={n};at={was_due:.3};{padding}"}}"#
            );
            if timeout(PATIENCE, sink.send(Message::text(write))).await.is_err() {
                return;
            }
        }
        // The connection stays open until the readers are done.
        std::future::pending().await
    }
}

/// Reads until the last write. Of writes of one key that wait, a client of the own protocol gets the newest, so the age of
/// what it sees is measured, and that it sees the last.
async fn read(mut socket: Socket, last: u64, end: Instant) -> Seen {
    let mut seen = Seen { micros: Histogram::new(3).unwrap(), is_complete: false };
    let reading = async {
        while let Some(text) = socket.next().await {
            let seen_at = now();
            for part in text.split("n=").skip(1) {
                let Some((n, rest)) = part.split_once(";at=") else { continue };
                let Some((at, _)) = rest.split_once(';') else { continue };
                let (Ok(n), Ok(at)) = (n.parse::<u64>(), at.parse::<f64>()) else { continue };
                let micros = ((seen_at - at) * 1000.0).max(1.0) as u64;
                seen.micros.record(micros).unwrap();
                if n == last {
                    seen.is_complete = true;
                    return;
                }
            }
        }
    };
    let _ = tokio::time::timeout_at(end, reading).await;
    seen
}
