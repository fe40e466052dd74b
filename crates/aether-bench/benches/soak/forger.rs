//! The forger: a client that may publish below the prefix and impersonates other clients.
//!
//! It learns names from the messages it receives and forges what no real sender would send: positions that jump by
//! 10^12 waves, streams that nobody started, times that are wrong by ten minutes, receivers that do not exist or want
//! nothing, and echoes of waves that were never sent. It encodes its frames by hand, following `docs/protocol/README.md`,
//! to bypass the checks of the library's own encoder.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_core::Channel;
use aether_link::wire::{Position, decode};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::boss::{JOBS, TASKS};
use crate::{CHANNEL, Outcome};

const EVERY: Duration = Duration::from_millis(50);
/// The error of the forged times.
const WRONG_BY: Duration = Duration::from_secs(590);

/// The numbers of forged messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Forged {
    pub(crate) positions: u64,
    pub(crate) times: u64,
    pub(crate) receivers: u64,
    pub(crate) echoes: u64,
}

pub(crate) struct Forger {
    forging: JoinHandle<Outcome<()>>,
    forged: Arc<Mutex<Forged>>,
}

/// The forger's knowledge of the clients it impersonates.
#[derive(Debug, Default)]
struct Known {
    /// The node that sends the waves, and its position.
    sender: Option<(u64, Position)>,
    /// The source of the commands for the service.
    boss: Option<(String, u64)>,
    /// A member of the group, as it announces itself.
    worker: Option<String>,
}

impl Forger {
    pub(crate) async fn start(medium: &str) -> Outcome<Self> {
        let client = async_nats::connect(medium).await?;
        let forged = Arc::new(Mutex::new(Forged::default()));
        let forging = tokio::spawn(forge(client, Arc::clone(&forged)));
        Ok(Self { forging, forged })
    }

    pub(crate) fn end(self) -> Forged {
        self.forging.abort();
        *self.forged.lock()
    }
}

async fn forge(client: async_nats::Client, forged: Arc<Mutex<Forged>>) -> Outcome<()> {
    let mut waves = client.subscribe(format!("aether.{CHANNEL}")).await?;
    let mut tasks = client.subscribe(format!("aether.{TASKS}")).await?;
    let mut announced = client.subscribe("aether-ask._aether.vibrators").await?;
    let (waves_on, tasks_on) = (Channel::new(CHANNEL)?, Channel::new(TASKS)?);
    let mut known = Known::default();
    let mut tick = interval(EVERY);
    let mut round = 0_u64;
    loop {
        tokio::select! {
            Some(message) = waves.next() => {
                let frame = decode(&message.payload, Some(&waves_on), std::time::Instant::now(), |_| Duration::ZERO);
                if let Ok(frame) = frame && let Some(position) = frame.position
                    && known.sender.is_none_or(|(node, _)| node == frame.sender.node) {
                    known.sender = Some((frame.sender.node, position));
                }
            }
            Some(message) = tasks.next(), if known.boss.is_none() => {
                let frame = decode(&message.payload, Some(&tasks_on), std::time::Instant::now(), |_| Duration::ZERO);
                if let Ok(frame) = frame && let Some(wave) = frame.waves.first() {
                    known.boss = Some((wave.source().name().to_owned(), wave.source().instance()));
                }
            }
            Some(message) = announced.next(), if known.worker.is_none() => {
                let text = String::from_utf8_lossy(&message.payload);
                let name = text.split('"').find(|name| name.starts_with("worker-") && name.contains('@'));
                known.worker = name.map(str::to_owned);
            }
            _ = tick.tick() => {
                round += 1;
                let count = positions(&client, &known, round).await?;
                forged.lock().positions += count.0;
                forged.lock().times += count.1;
                let receivers = receivers(&client, &known, round).await?;
                forged.lock().receivers += receivers;
                let echoes = echoes(&client, &known, round).await?;
                forged.lock().echoes += echoes;
            }
        }
    }
}

/// Sends frames without waves in the sender's name. Returns how many have a false position and how many a false time.
async fn positions(client: &async_nats::Client, known: &Known, round: u64) -> Outcome<(u64, u64)> {
    let Some((node, position)) = known.sender else { return Ok((0, 0)) };
    let subject = format!("aether.{CHANNEL}");
    let now = micros();
    let wrong = now - WRONG_BY.as_micros() as u64;
    // The frame belongs to no real stream, so its position means nothing and only its time matters.
    let long_ago = Position { stream: 0, first: 0, age_micros: 0 };
    client.publish(subject.clone(), frame(node, wrong, Some(long_ago), None).into()).await?;
    let lie = match round % 2 {
        0 => Position { first: position.first + 1_000_000_000_000, ..position },
        _ => Position { stream: 1 << 62, first: 0, age_micros: 0 },
    };
    client.publish(subject, frame(node, now, Some(lie), None).into()).await?;
    Ok((1, 1))
}

/// Announces receivers that do not exist, and announces in the name of a group member that it is overloaded.
async fn receivers(client: &async_nats::Client, known: &Known, round: u64) -> Outcome<u64> {
    let subject = "aether-ask._aether.vibrators";
    let patterns: Vec<_> = (0..256).map(|n| format!("{{\"pattern\":\"made.up.{round}.{n}\"}}")).collect();
    let mut list = vec![format!(
        "{{\"vibrator\":\"made-up@{round:x}\",\"hears\":[{}],\"floor\":0,\"effective_floor\":0}}",
        patterns.join(",")
    )];
    if let Some(worker) = &known.worker {
        list.push(format!(
            "{{\"vibrator\":\"{worker}\",\"hears\":[{{\"pattern\":\"{JOBS}\",\"group\":\"workers\"}}],\
             \"floor\":1,\"effective_floor\":1}}"
        ));
    }
    for announcement in &list {
        let list = format!("[{announcement}]");
        let frame = frame(round, micros(), None, Some(notice("forger", round, &list)));
        client.publish_with_reply(subject, "_INBOX.nobody.hears.this", frame.into()).await?;
    }
    Ok(list.len() as u64)
}

/// Sends echoes of waves that the boss never sent, and an echo that reports more waves than the boss sent.
async fn echoes(client: &async_nats::Client, known: &Known, round: u64) -> Outcome<u64> {
    let Some((name, instance)) = &known.boss else { return Ok(0) };
    let subject = format!("aether-ask._aether.echo.{instance:x}");
    for (sequence, count) in [(u64::MAX - round, 1), (1, u64::MAX)] {
        let list = format!(
            "[{{\"of\":\"{name}@{instance:x}/{sequence}\",\"channel\":\"{TASKS}\",\"reason\":\"shed\",\"hint\":\"\",\
             \"by\":\"forger\",\"count\":{count}}}]"
        );
        let frame = frame(round, micros(), None, Some(notice("forger", round, &list)));
        client.publish_with_reply(subject.clone(), "_INBOX.nobody.hears.this", frame.into()).await?;
    }
    Ok(2)
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// A frame without a channel, with at most one notice.
fn frame(node: u64, sent: u64, position: Option<Position>, notice: Option<Notice<'_>>) -> Vec<u8> {
    let mut frame = b"\xaeTH\x01".to_vec();
    frame.extend(node.to_le_bytes());
    frame.extend(sent.to_le_bytes());
    frame.push(0); // no channel
    frame.push(u8::from(notice.is_some())); // sources
    if let Some(notice) = &notice {
        frame.extend(notice.instance.to_le_bytes());
        varint(&mut frame, notice.source.len() as u64);
        frame.extend(notice.source.as_bytes());
    }
    let mut fields = Vec::new();
    if let Some(Position { stream, first, age_micros }) = position {
        let mut content = Vec::new();
        [stream, first, age_micros].into_iter().for_each(|number| varint(&mut content, number));
        varint(&mut fields, 1); // the tag of a position
        varint(&mut fields, content.len() as u64);
        fields.extend(content);
    }
    frame.extend((fields.len() as u16).to_le_bytes());
    frame.extend(fields);
    frame.push(u8::from(notice.is_some())); // waves
    if let Some(notice) = notice {
        // Source 0, an event, amplitude 1, no decay, 0 hops, JSON; number 1, age 0, no fields.
        let mut record = vec![0, 0, 0, 0, 0, 255, 0, 1, 1, 0, 0, 0];
        record.extend(notice.payload.as_bytes());
        frame.extend((record.len() as u32).to_le_bytes());
        frame.extend(record);
    }
    frame
}

struct Notice<'a> {
    source: &'a str,
    instance: u64,
    payload: &'a str,
}

const fn notice<'a>(source: &'a str, instance: u64, payload: &'a str) -> Notice<'a> {
    Notice { source, instance, payload }
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
