//! The bus in process: from `emit` to `receive`.

use aether::rules::{Border, Rule, Rules};
use aether_bench::DEFAULT_BYTES;
use aether_core::{Aether, Channel, InboxOptions, Vibrator, Wave};
use bytes::Bytes;

use super::channels::{fresh, shared};
use super::{Outcome, counted, runtime};
use crate::Error;

const CHANNEL: &str = "orders.created";
const BATCH: u64 = 64;
const INBOX: usize = 1024;
const RECEIVERS: usize = 8;

async fn receiver(aether: &Aether, name: &str) -> Result<Vibrator, Error> {
    let options = InboxOptions::interactive().max_waves(INBOX);
    let receiver = Vibrator::builder(name).inbox(options).create(aether).await?;
    receiver.resonate_on("orders.*").await?;
    Ok(receiver)
}

fn check(wave: &Wave) {
    assert_eq!(wave.payload().len(), DEFAULT_BYTES);
}

pub(crate) fn turns_fresh(waves: u64) -> Outcome {
    turns(waves, &Aether::local(), 1, fresh())
}

pub(crate) fn turns_shared(waves: u64) -> Outcome {
    turns(waves, &Aether::local(), 1, shared())
}

pub(crate) fn fanout_fresh(waves: u64) -> Outcome {
    turns(waves, &Aether::local(), RECEIVERS, fresh())
}

pub(crate) fn border_shared(waves: u64) -> Outcome {
    behind(waves, Border::default())
}

pub(crate) fn rules_shared(waves: u64) -> Outcome {
    behind(waves, Border::new(Rules::new([Rule::new("*").emit([">"]).listen([">"])])?))
}

fn behind(waves: u64, border: Border) -> Outcome {
    let aether = runtime()?.block_on(aether::builder().guard(border).connect())?;
    turns(waves, &aether, 1, shared())
}

fn turns(waves: u64, aether: &Aether, receivers: usize, make: impl Fn() -> Bytes) -> Outcome {
    let runtime = runtime()?;
    let sender = aether.emitter("sender")?;
    let mut hearers = Vec::new();
    for _ in 0..receivers {
        hearers.push(runtime.block_on(receiver(aether, "receiver"))?);
    }
    let channel = Channel::new(CHANNEL)?;
    counted(waves, |waves| {
        runtime.block_on(async {
            for _ in 0..waves {
                sender.emit(Wave::from_bytes(&channel, make())?).await?;
                for hearer in &mut hearers {
                    check(&hearer.receive().await.ok_or("closed")?);
                }
            }
            Ok(())
        })
    })
}

pub(crate) fn tasks_fresh(waves: u64) -> Outcome {
    tasks(waves, fresh())
}

pub(crate) fn tasks_shared(waves: u64) -> Outcome {
    tasks(waves, shared())
}

fn tasks(waves: u64, make: impl Fn() -> Bytes) -> Outcome {
    let runtime = runtime()?;
    let aether = Aether::local();
    let sender = aether.emitter("sender")?;
    let mut hearer = Some(runtime.block_on(receiver(&aether, "receiver"))?);
    let channel = Channel::new(CHANNEL)?;
    counted(waves, |waves| {
        let mut receiver = hearer.take().ok_or("the receiver is gone")?;
        let receiver = runtime.block_on(async {
            let receiving = tokio::spawn(async move {
                for _ in 0..waves {
                    check(&receiver.receive().await.ok_or("closed")?);
                }
                Ok::<_, Error>(receiver)
            });
            for _ in 0..waves {
                sender.emit(Wave::from_bytes(&channel, make())?).await?;
            }
            receiving.await?
        })?;
        hearer = Some(receiver);
        Ok(())
    })
}

pub(crate) fn many_fresh(waves: u64) -> Outcome {
    many(waves, fresh())
}

pub(crate) fn many_shared(waves: u64) -> Outcome {
    many(waves, shared())
}

fn many(waves: u64, make: impl Fn() -> Bytes) -> Outcome {
    let runtime = runtime()?;
    let aether = Aether::local();
    let sender = aether.emitter("sender")?;
    let mut receiver = runtime.block_on(receiver(&aether, "receiver"))?;
    let channel = Channel::new(CHANNEL)?;
    let mut taken = Vec::with_capacity(BATCH as usize);
    counted(waves, |waves| {
        runtime.block_on(async {
            for _ in 0..waves / BATCH {
                let batch = (0..BATCH).filter_map(|_| Wave::from_bytes(&channel, make()).ok());
                assert_eq!(sender.emit_all(batch).await?.emitted, BATCH);
                let mut left = BATCH as usize;
                while left > 0 {
                    left -= receiver.receive_many(&mut taken, left).await;
                }
                taken.drain(..).for_each(|wave| check(&wave));
            }
            Ok(())
        })
    })
}

pub(crate) fn ask(questions: u64) -> Outcome {
    let runtime = runtime()?;
    let aether = Aether::local();
    let asker = aether.emitter("asker")?;
    let mut answerer = runtime.block_on(receiver(&aether, "answerer"))?;
    runtime.spawn(async move {
        while let Some(question) = answerer.receive().await {
            if question.reply_bytes("yes").await.is_err() {
                break;
            }
        }
    });
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

pub(crate) fn channel_constant(channels: u64) -> Outcome {
    counted(channels, |channels| {
        for _ in 0..channels {
            assert!(!std::hint::black_box(Channel::new(std::hint::black_box(CHANNEL))?).is_reserved());
        }
        Ok(())
    })
}

pub(crate) fn emit_by_name(waves: u64) -> Outcome {
    let runtime = runtime()?;
    let aether = Aether::local();
    let sender = aether.emitter("sender")?;
    let mut receiver = runtime.block_on(receiver(&aether, "receiver"))?;
    let make = fresh();
    counted(waves, |waves| {
        runtime.block_on(async {
            for _ in 0..waves {
                sender.emit_bytes(CHANNEL, make()).await?;
                check(&receiver.receive().await.ok_or("closed")?);
            }
            Ok(())
        })
    })
}
