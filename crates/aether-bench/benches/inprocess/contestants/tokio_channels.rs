//! tokio's channels: mpsc, an mpsc for each receiver, and broadcast.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::ready;
use tokio::sync::{broadcast, mpsc};

use super::{BATCH, BOUND, Contestant, Opened, Receiver, Sender};
use crate::Error;

pub(crate) struct Mpsc;
/// Taken out by `recv_many`. Sending many at once is not possible.
pub(crate) struct MpscManyAtOnce;
/// Each receiver has a channel, and a sender sends to all of them, one after the other.
pub(crate) struct MpscEach;
/// A sender yields after every 64 messages. It never waits for room, so otherwise most messages are lost.
pub(crate) struct Broadcast;

impl Contestant for Mpsc {
    const NAME: &'static str = "tokio mpsc";
    type Sender = mpsc::Sender<Bytes>;
    type Receiver = mpsc::Receiver<Bytes>;

    async fn open(senders: usize, _: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (sender, receiver) = mpsc::channel(BOUND);
        Ok(Opened { senders: vec![sender; senders], receivers: vec![receiver], end: ready(Ok(())).boxed() })
    }
}

impl Sender for mpsc::Sender<Bytes> {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        for _ in 0..messages {
            self.send(make()).await?;
        }
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        match mpsc::Sender::try_send(self, message) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Receiver for mpsc::Receiver<Bytes> {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        while let Some(message) = self.recv().await {
            seen(&message);
        }
        0
    }
}

pub(crate) struct ManyReceiver(mpsc::Receiver<Bytes>);

impl Contestant for MpscManyAtOnce {
    const NAME: &'static str = "tokio mpsc, recv_many of 64";
    type Sender = mpsc::Sender<Bytes>;
    type Receiver = ManyReceiver;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let Opened { senders, receivers, end } = Mpsc::open(senders, receivers).await?;
        Ok(Opened { senders, receivers: receivers.into_iter().map(ManyReceiver).collect(), end })
    }
}

impl Receiver for ManyReceiver {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        let mut taken = Vec::with_capacity(BATCH);
        while self.0.recv_many(&mut taken, BATCH).await > 0 {
            taken.drain(..).for_each(|message| seen(&message));
        }
        0
    }
}

pub(crate) struct EachSender(Vec<mpsc::Sender<Bytes>>);

impl Contestant for MpscEach {
    const NAME: &'static str = "a tokio mpsc for each";
    type Sender = EachSender;
    type Receiver = mpsc::Receiver<Bytes>;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (to_all, receivers): (Vec<_>, Vec<_>) = (0..receivers).map(|_| mpsc::channel(BOUND)).unzip();
        let senders = (0..senders).map(|_| EachSender(to_all.clone())).collect();
        Ok(Opened { senders, receivers, end: ready(Ok(())).boxed() })
    }
}

impl Sender for EachSender {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        for _ in 0..messages {
            let message = make();
            for sender in &self.0 {
                sender.send(message.clone()).await?;
            }
        }
        Ok(())
    }

    fn try_send(&mut self, _: Bytes) -> Result<bool, Error> {
        Err("several channels have no common bound".into())
    }
}

impl Contestant for Broadcast {
    const NAME: &'static str = "tokio broadcast that yields";
    type Sender = broadcast::Sender<Bytes>;
    type Receiver = broadcast::Receiver<Bytes>;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (sender, _) = broadcast::channel(BOUND);
        let receivers = (0..receivers).map(|_| sender.subscribe()).collect();
        Ok(Opened { senders: vec![sender; senders], receivers, end: ready(Ok(())).boxed() })
    }
}

impl Sender for broadcast::Sender<Bytes> {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        for sent in 1..=messages {
            self.send(make())?;
            if sent.is_multiple_of(BATCH) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        self.send(message)?;
        Ok(true)
    }
}

impl Receiver for broadcast::Receiver<Bytes> {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        let mut lost = 0;
        loop {
            match self.recv().await {
                Ok(message) => seen(&message),
                Err(broadcast::error::RecvError::Lagged(missed)) => lost += missed,
                Err(broadcast::error::RecvError::Closed) => return lost,
            }
        }
    }
}
