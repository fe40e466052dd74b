//! The sending task: sends emitted waves from the outbox in batches, and the messages that bypass the outbox.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use aether_core::{Channel, Wave};
use aether_link::Numbers;
use aether_link::wire::{self, Position};
use bytes::Bytes;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};

use crate::message::{self, MAX_FRAME, Message, Tag};
use crate::shared::{Past, Shared};

/// Sends until the medium has ended or the hub is gone.
pub(crate) async fn send(
    shared: Arc<Shared>,
    mut output: OwnedWriteHalf,
    mut past: mpsc::Receiver<Past>,
    mut ended: watch::Receiver<bool>,
) {
    let (mut numbers, mut batch, mut flushes) = (Numbers::new(), Vec::new(), Vec::new());
    let mut is_open = true;
    loop {
        let round = numbers.next_round();
        let sent = tokio::select! {
            biased;
            Some(next) = past.recv() => match next {
                Past::Message(message) => write(&mut output, message).await,
                Past::Flush { mark, marker } => {
                    flushes.push((mark, marker));
                    Ok(())
                }
            },
            is_filled = shared.outbox.filled(), if is_open => {
                is_open = is_filled;
                shared.outbox.take_many(512, 256 << 10, &mut batch);
                send_batch(&shared, &mut output, &mut numbers, &mut batch).await
            }
            _ = tokio::time::sleep_until(round.unwrap_or_else(Instant::now).into()), if round.is_some() => {
                announce(&shared, &mut output, numbers.due(Instant::now())).await
            }
            () = async { drop(ended.wait_for(|ended| *ended).await) }, if !is_open => return,
        };
        let flushed = async {
            while let Some(place) = flushes.iter().position(|(mark, _)| shared.outbox.has_passed(*mark)) {
                announce(&shared, &mut output, numbers.unannounced(Instant::now())).await?;
                write(&mut output, flushes.swap_remove(place).1).await?;
            }
            io::Result::Ok(())
        };
        if sent.is_err() || flushed.await.is_err() {
            // Waves emitted from now on stay in the outbox, which sheds and counts them.
            return shared.broke();
        }
    }
}

async fn write(output: &mut OwnedWriteHalf, message: Message) -> io::Result<()> {
    message::write(output, &message.into_bytes()).await
}

/// Sends waves in as few frames as their order and the maximum frame size allow.
async fn send_batch(
    shared: &Shared,
    output: &mut OwnedWriteHalf,
    numbers: &mut Numbers,
    batch: &mut Vec<Wave>,
) -> io::Result<()> {
    let mut sent = 0;
    for run in batch.chunk_by(|one, next| one.channel() == next.channel()) {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let mut bytes = wire::frame_bound(None);
            let fits = |wave: &&Wave| {
                bytes += wire::record_bound(wave);
                bytes <= MAX_FRAME
            };
            let (these, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let now = Instant::now();
            let (stream, forgotten) = numbers.stream(first.channel(), now);
            let frame = shared.frame(Some(stream.position(now)), these, now);
            stream.sent(these.len(), now);
            let written = async {
                announce(shared, output, forgotten).await?;
                write(output, waves(first.channel(), frame.ok_or(io::ErrorKind::InvalidData)?)).await
            };
            if let Err(error) = written.await {
                let lost = &batch[sent..];
                shared.outbox.count_unsendable(lost.len() as u64);
                shared.outbox.report_unsendable(lost);
                return Err(error);
            }
            sent += these.len();
            rest = later;
        }
    }
    batch.clear();
    Ok(())
}

fn waves(channel: &Channel, frame: Bytes) -> Message {
    Message { tag: Tag::Waves, number: 0, channel: channel.clone(), frame }
}

/// Announces the positions of streams in frames without waves.
async fn announce(
    shared: &Shared,
    output: &mut OwnedWriteHalf,
    streams: impl IntoIterator<Item = (Channel, Position)>,
) -> io::Result<()> {
    for (channel, position) in streams {
        if let Some(frame) = shared.frame(Some(position), &[], Instant::now()) {
            write(output, waves(&channel, frame)).await?;
        }
    }
    Ok(())
}
