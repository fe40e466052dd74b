//! One connection to `/ws`: reads requests, and writes what the [session](super::session) has for its client.
//!
//! One task does both, so a client that does not read is not read either, and what waits for it is bounded. It is given up
//! when it has not read for the time of `max_stall_s`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aether_metrics::ClientAddress;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::session::Session;
use super::shared::Shared;
use crate::access::WaveRights;
use crate::admission::{Busy, Permit};
use crate::bucket::TokenBucket;
use crate::gate::{Caller, GateError};

/// What is written at once. A larger buffer would only hide that a client does not read.
const WRITE_BUFFER: usize = 32 << 10;
/// How many emits and questions of one client may run at a time. Beyond it the client is not read.
const RUNNING: usize = 16;
/// The number of bytes read at once. The buffer is filled with zeros before each attempt to read: with the usual 128
/// KiB, that took a sixth of the time of a gateway with a thousand clients.
const READ_BUFFER: usize = 4 << 10;
const FAREWELL: Duration = Duration::from_secs(1);
const BUSY: u16 = 1013;
const TOO_LONG: u16 = 1009;
const GOING_AWAY: u16 = 1001;

pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<ClientAddress>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(error) = shared.gate.origin(&caller) {
        shared.taps.refuse(&error);
        return error.into_response();
    }
    let rights = shared.gate.rights_of(&caller);
    let permit = shared.sockets.enter(client.source());
    let upgrade = upgrade
        .max_message_size(shared.limits.max_frame_bytes)
        .max_frame_size(shared.limits.max_frame_bytes)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
    // The permit is given back also if the upgrade fails, with the closure.
    upgrade.on_upgrade(move |socket| {
        let serving = serve(socket, Arc::clone(&shared), permit, caller, rights);
        shared.connections.track_future(serving)
    })
}

async fn serve(
    socket: WebSocket,
    shared: Arc<Shared>,
    permit: Result<Permit, Busy>,
    caller: Caller,
    rights: Result<WaveRights, GateError>,
) {
    let (mut sink, mut stream) = socket.split();
    // Held until the connection has ended.
    let _permit = match permit {
        Ok(permit) => permit,
        Err(busy) => {
            shared.taps.refuse_for(busy.as_str());
            return farewell(&mut sink, BUSY, "too many connections").await;
        }
    };
    shared.taps.sockets.fetch_add(1, Ordering::Relaxed);
    let end = run(&shared, &mut sink, &mut stream, Session::new(Arc::clone(&shared), caller, rights)).await;
    shared.taps.sockets.fetch_sub(1, Ordering::Relaxed);
    match end {
        End::Gone => {}
        End::Stopped => farewell(&mut sink, GOING_AWAY, "the gateway ends").await,
        End::Stalled => shared.taps.stalled(),
        End::TooLong => farewell(&mut sink, TOO_LONG, "the message is too long").await,
    }
}

/// Why a connection ends.
enum End {
    Gone,
    Stopped,
    Stalled,
    TooLong,
}

async fn run(
    shared: &Shared,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    mut session: Session,
) -> End {
    let limits = &shared.limits;
    let mut bucket = TokenBucket::new(limits.messages_burst, limits.messages_per_second, Instant::now());
    let mut turns = shared.views.turns();
    let mut ping = interval(limits.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut heard = Instant::now();
    let wake = Arc::clone(&session.wake);
    let mut collecting_until = Instant::now();
    loop {
        let mut messages = session.messages();
        let now = Instant::now();
        if now >= collecting_until {
            let (waves, again) = session.waves(now);
            collecting_until = again.unwrap_or(now);
            messages.extend(waves);
        }
        let collects = now < collecting_until;
        if !messages.is_empty() {
            let writing = async {
                for message in messages {
                    sink.feed(Message::Text(message)).await?;
                }
                sink.flush().await
            };
            match timeout(limits.max_stall, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Stalled,
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return End::Stopped,
            received = stream.next(), if session.running.len() < RUNNING => {
                heard = Instant::now();
                // Read more slowly, so nothing is lost. Also pings, which cost an answer each.
                while let Err(wait) = bucket.take(Instant::now()) {
                    tokio::time::sleep(wait).await;
                }
                match received {
                    Some(Err(error)) if is_too_long(&error) => return End::TooLong,
                    None | Some(Ok(Message::Close(_)) | Err(_)) => return End::Gone,
                    Some(Ok(Message::Text(text))) => receive(&mut session, &text, limits.max_message_bytes),
                    Some(Ok(Message::Binary(_))) => {
                        session.refuse_message("json", "messages are texts".to_owned());
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                }
            }
            Some(reply) = session.running.next(), if !session.running.is_empty() => {
                if session.running.len() + 1 == RUNNING {
                    // It is read again. Until now it was not, so its silence starts again.
                    heard = Instant::now();
                }
                session.replies.push_back(reply);
            }
            () = wake.notified(), if !collects => {}
            () = sleep_until(collecting_until), if collects => {}
            turned = turns.changed() => if turned.is_err() { return End::Stopped },
            _ = ping.tick() => {
                // One that is not read may have answered: nobody has looked.
                if session.running.len() < RUNNING && heard.elapsed() > limits.max_silence {
                    return End::Stalled;
                }
                match timeout(limits.max_stall, sink.send(Message::Ping(Bytes::new()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Gone,
                    Err(_) => return End::Stalled,
                }
            }
        }
    }
}

fn receive(session: &mut Session, text: &Utf8Bytes, most: usize) {
    if text.len() > most {
        let text = format!("the message has {} bytes: at most {most} are allowed", text.len());
        return session.refuse_message("message_size", text);
    }
    session.receive(text);
}

/// Whether a message was longer than what is read at all. The library of WebSockets has no type for it here.
fn is_too_long(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("too long") {
            return true;
        }
        source = error.source();
    }
    false
}

async fn farewell(sink: &mut SplitSink<WebSocket, Message>, code: u16, reason: &'static str) {
    let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    let _ = timeout(FAREWELL, sink.send(Message::Close(Some(close)))).await;
}
