//! One write after the other, from `set` until its echo or its acknowledgement.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::processes::Server;
use crate::socket::{Socket, now};

/// How often both servers are measured, in turns.
pub(crate) const ROUNDS: usize = 3;
const WARM_UP: u64 = 500;
const WRITES: u64 = 5000;

/// Protocol 0.4: until the echo.
pub(crate) async fn echo(server: &Server) -> String {
    let mut socket = Socket::old(&server.url).await;
    let mut times = Histogram::<u64>::new(3).unwrap();
    for n in 0..WARM_UP + WRITES {
        let start = Instant::now();
        socket.send(format!(r#"{{"type":"set","key":"k","value":{n}}}"#)).await;
        let echo: serde_json::Value = serde_json::from_str(&socket.next().await.unwrap()).unwrap();
        assert_eq!((&echo["type"], echo["value"].as_u64()), (&"set".into(), Some(n)));
        if n >= WARM_UP {
            times.record(start.elapsed().as_nanos() as u64).unwrap();
        }
    }
    row(&times)
}

/// The own protocol: until the write is on the disk.
pub(crate) async fn durable(server: &Server) -> String {
    let mut socket = Socket::own(&server.url, "round-trip").await;
    let mut times = Histogram::<u64>::new(3).unwrap();
    for op in 1..=WARM_UP + WRITES / 5 {
        let start = Instant::now();
        let at = now();
        socket
            .send(format!(r#"{{"type":"set","op":{op},"at":{at},"key":"k","value":{op},"durable":true}}"#))
            .await;
        loop {
            let answer: serde_json::Value = serde_json::from_str(&socket.next().await.unwrap()).unwrap();
            if answer["type"] == "durable" {
                assert_eq!(answer["op"].as_u64(), Some(op));
                break;
            }
            assert_eq!(answer["type"], "ack", "{answer}");
        }
        if op > WARM_UP {
            times.record(start.elapsed().as_nanos() as u64).unwrap();
        }
    }
    row(&times)
}

fn row(times: &Histogram<u64>) -> String {
    let ms = |quantile| format!("{:.3} ms", times.value_at_quantile(quantile) as f64 / 1e6);
    [0.5, 0.95, 0.99].map(ms).join(" | ")
}
