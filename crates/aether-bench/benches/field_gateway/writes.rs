//! 64 writers, each of which waits until its writes are on the disk.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::processes::Server;
use crate::socket::{Socket, now};

const WRITERS: u64 = 64;
const DURATION: Duration = Duration::from_secs(5);

/// Durable writes a second through the own protocol. The writers subscribe to nothing.
pub(crate) async fn own(server: &Server, window: u64) -> f64 {
    let mut writers = JoinSet::new();
    let start = Instant::now();
    for writer in 0..WRITERS {
        let url = server.url.clone();
        writers.spawn(async move {
            let mut socket = Socket::own(&url, &format!("writer-{writer}")).await;
            let (mut sent, mut durable) = (0, 0);
            while start.elapsed() < DURATION || durable < sent {
                while sent < durable + window && start.elapsed() < DURATION {
                    sent += 1;
                    let at = now();
                    let key = format!("{writer}/{}", sent % 1000);
                    socket
                        .send(format!(
                            r#"{{"type":"set","op":{sent},"at":{at},"key":"{key}","value":{sent},"durable":true}}"#
                        ))
                        .await;
                }
                if durable < sent && socket.next().await.unwrap().starts_with(r#"{"type":"durable""#) {
                    durable += 1;
                }
            }
            durable
        });
    }
    rate(writers, start).await
}

/// Writes a second whose echo came back, in protocol 0.4.
pub(crate) async fn echoed(server: &Server) -> f64 {
    let mut writers = JoinSet::new();
    let start = Instant::now();
    for writer in 0..WRITERS {
        let url = server.url.clone();
        writers.spawn(async move {
            let mut socket = Socket::old(&url).await;
            let mut echoed = 0_u64;
            while start.elapsed() < DURATION {
                let key = format!("{writer}/{}", echoed % 1000);
                socket.send(format!(r#"{{"type":"set","key":"{key}","value":{echoed}}}"#)).await;
                let own = format!("\"{writer}/");
                while !socket.next().await.unwrap().contains(&own) {}
                echoed += 1;
            }
            echoed
        });
    }
    rate(writers, start).await
}

async fn rate(writers: JoinSet<u64>, start: Instant) -> f64 {
    let writes: u64 = writers.join_all().await.into_iter().sum();
    writes as f64 / start.elapsed().as_secs_f64()
}
