//! tokio's bounded mpsc channel, beside which the bus is counted.

use aether_bench::DEFAULT_BYTES;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Outcome, counted, runtime};

const BATCH: u64 = 64;
const BOUND: usize = 1024;

/// Makes the payload of each message.
type Make = Box<dyn Fn() -> Bytes + Send>;

pub(super) fn fresh() -> Make {
    Box::new(|| vec![7; DEFAULT_BYTES].into())
}

pub(super) fn shared() -> Make {
    let payload = Bytes::from(vec![7; DEFAULT_BYTES]);
    Box::new(move || payload.clone())
}

pub(crate) fn turns_fresh(messages: u64) -> Outcome {
    turns(messages, &fresh())
}

pub(crate) fn turns_shared(messages: u64) -> Outcome {
    turns(messages, &shared())
}

fn turns(messages: u64, make: &Make) -> Outcome {
    let runtime = runtime()?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(BOUND);
    counted(messages, |messages| {
        runtime.block_on(async {
            for _ in 0..messages {
                sender.send(make()).await?;
                assert_eq!(receiver.recv().await.ok_or("closed")?.len(), DEFAULT_BYTES);
            }
            Ok(())
        })
    })
}

pub(crate) fn tasks_fresh(messages: u64) -> Outcome {
    tasks(messages, &fresh())
}

pub(crate) fn tasks_shared(messages: u64) -> Outcome {
    tasks(messages, &shared())
}

fn tasks(messages: u64, make: &Make) -> Outcome {
    let runtime = runtime()?;
    counted(messages, |messages| {
        runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel::<Bytes>(BOUND);
            let receiving = tokio::spawn(async move {
                while let Some(message) = receiver.recv().await {
                    assert_eq!(message.len(), DEFAULT_BYTES);
                }
            });
            for _ in 0..messages {
                sender.send(make()).await?;
            }
            drop(sender);
            Ok(receiving.await?)
        })
    })
}

pub(crate) fn many_fresh(messages: u64) -> Outcome {
    many(messages, &fresh())
}

pub(crate) fn many_shared(messages: u64) -> Outcome {
    many(messages, &shared())
}

fn many(messages: u64, make: &Make) -> Outcome {
    let runtime = runtime()?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(BOUND);
    let mut taken = Vec::with_capacity(BATCH as usize);
    counted(messages, |messages| {
        runtime.block_on(async {
            for _ in 0..messages / BATCH {
                for _ in 0..BATCH {
                    sender.send(make()).await?;
                }
                let mut left = BATCH as usize;
                while left > 0 {
                    left -= receiver.recv_many(&mut taken, left).await;
                }
                assert!(taken.drain(..).all(|message| message.len() == DEFAULT_BYTES));
            }
            Ok(())
        })
    })
}
