//! One side of a network: what the sending or the receiving process does for a wave, its client included.
//!
//! The other side is another thread, which is not counted, or the server.

use std::thread;

use aether_bench::DEFAULT_BYTES;
use aether_conformance::NatsServer;
use aether_core::{Aether, Channel, InboxOptions, Vibrator, Wave};
use futures::StreamExt;
use tokio::runtime::Runtime;

use super::channels::fresh;
use super::{Outcome, counted, runtime};
use crate::Error;

const CHANNEL: &str = "orders.created";

/// A server, and a runtime of one thread.
fn stage() -> Result<(Runtime, NatsServer), Error> {
    let runtime = runtime()?;
    let server = runtime.block_on(NatsServer::start())?;
    Ok((runtime, server))
}

async fn emit(aether: &Aether, waves: u64) -> Outcome {
    let (sender, channel, make) = (aether.emitter("sender")?, Channel::new(CHANNEL)?, fresh());
    for _ in 0..waves {
        sender.emit(Wave::from_bytes(&channel, make())?).await?;
    }
    Ok(aether.flush().await?)
}

async fn publish(client: &async_nats::Client, messages: u64) -> Outcome {
    let make = fresh();
    for _ in 0..messages {
        client.publish(CHANNEL, make()).await?;
    }
    Ok(client.flush().await?)
}

/// Does something in another thread, with a runtime of its own, and waits for it without doing anything else.
fn elsewhere(work: impl AsyncFnOnce() -> Outcome + Send) -> Outcome {
    thread::scope(|scope| {
        let other = scope.spawn(|| runtime()?.block_on(work()));
        other.join().map_err(|_| "the other thread panicked")?
    })
}

pub(crate) fn sender(waves: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let aether = runtime.block_on(aether::connect(&server.url()))?;
    counted(waves, |waves| runtime.block_on(emit(&aether, waves)))
}

pub(crate) fn raw_sender(messages: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let client = runtime.block_on(async_nats::connect(server.url()))?;
    counted(messages, |messages| runtime.block_on(publish(&client, messages)))
}

pub(crate) fn receiver(waves: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let aether = runtime.block_on(aether::connect(&server.url()))?;
    let mut receiver = runtime.block_on(async {
        let options = InboxOptions::interactive();
        let receiver = Vibrator::builder("receiver").inbox(options).create(&aether).await?;
        receiver.resonate_on("orders.*").await?;
        Ok::<_, Error>(receiver)
    })?;
    counted(waves, |waves| {
        // All waves wait in the server before the first is received, so the counts do not depend on who is faster.
        elsewhere(async || {
            let aether = aether::connect(&server.url()).await?;
            emit(&aether, waves).await?;
            Ok(aether.close().await?)
        })?;
        runtime.block_on(async {
            for _ in 0..waves {
                let wave = receiver.receive().await.ok_or("closed")?;
                assert_eq!(wave.payload().len(), DEFAULT_BYTES);
            }
            Ok(())
        })
    })
}

pub(crate) fn raw_receiver(messages: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let client = runtime.block_on(async_nats::connect(server.url()))?;
    let mut received = runtime.block_on(async {
        let received = client.subscribe(CHANNEL).await?;
        client.flush().await?;
        Ok::<_, Error>(received)
    })?;
    counted(messages, |messages| {
        elsewhere(async || publish(&async_nats::connect(server.url()).await?, messages).await)?;
        runtime.block_on(async {
            for _ in 0..messages {
                let message = received.next().await.ok_or("closed")?;
                assert_eq!(message.payload.len(), DEFAULT_BYTES);
            }
            Ok(())
        })
    })
}

pub(crate) fn ask(questions: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let (asking, answering) = runtime.block_on(async {
        Ok::<_, Error>((aether::connect(&server.url()).await?, aether::connect(&server.url()).await?))
    })?;
    let asker = asking.emitter("asker")?;
    runtime.block_on(async {
        let mut answerer = Vibrator::create("answerer", &answering).await?;
        answerer.resonate_on(CHANNEL).await?;
        tokio::spawn(async move {
            while let Some(question) = answerer.receive().await {
                if question.reply_bytes("yes").await.is_err() {
                    break;
                }
            }
        });
        Ok::<_, Error>(())
    })?;
    let (channel, make) = (Channel::new(CHANNEL)?, fresh());
    counted(questions, |questions| {
        runtime.block_on(async {
            for _ in 0..questions {
                let answer = asker.ask(Wave::from_bytes(&channel, make())?).await?;
                assert_eq!(answer.payload().len(), 3);
            }
            Ok(())
        })
    })
}

pub(crate) fn raw_ask(questions: u64) -> Outcome {
    let (runtime, server) = stage()?;
    let (asker, answerer) = runtime.block_on(async {
        Ok::<_, Error>((async_nats::connect(server.url()).await?, async_nats::connect(server.url()).await?))
    })?;
    runtime.block_on(async {
        let mut asked = answerer.subscribe(CHANNEL).await?;
        answerer.flush().await?;
        tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                let Some(reply) = question.reply else { continue };
                if answerer.publish(reply, "yes".into()).await.is_err() {
                    break;
                }
            }
        });
        // flush() only writes to the socket. Until the server has handled the subscription, nobody can answer.
        while asker.request(CHANNEL, "is somebody there?".into()).await.is_err() {}
        Ok::<_, Error>(())
    })?;
    let make = fresh();
    counted(questions, |questions| {
        runtime.block_on(async {
            for _ in 0..questions {
                let answer = asker.request(CHANNEL, make()).await?;
                assert_eq!(answer.payload.len(), 3);
            }
            Ok(())
        })
    })
}
