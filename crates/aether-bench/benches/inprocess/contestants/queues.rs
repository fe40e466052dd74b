//! Channels of other crates, whose receivers share the messages: flume, kanal, crossfire and async-channel.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::ready;

use super::{BOUND, Contestant, Opened, Receiver, Sender};
use crate::Error;

pub(crate) struct Flume;
pub(crate) struct Kanal;
pub(crate) struct AsyncChannel;
/// With its own kind of channel for one receiver.
pub(crate) struct Crossfire;

fn opened<S: Clone, R>((sender, receivers): (S, Vec<R>), senders: usize) -> Result<Opened<S, R>, Error> {
    Ok(Opened { senders: vec![sender; senders], receivers, end: ready(Ok(())).boxed() })
}

impl Contestant for Flume {
    const NAME: &'static str = "flume";
    type Sender = flume::Sender<Bytes>;
    type Receiver = flume::Receiver<Bytes>;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (sender, receiver) = flume::bounded(BOUND);
        opened((sender, vec![receiver; receivers]), senders)
    }
}

impl Sender for flume::Sender<Bytes> {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        for _ in 0..messages {
            self.send_async(make()).await?;
        }
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        match flume::Sender::try_send(self, message) {
            Ok(()) => Ok(true),
            Err(flume::TrySendError::Full(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Receiver for flume::Receiver<Bytes> {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        while let Ok(message) = self.recv_async().await {
            seen(&message);
        }
        0
    }
}

impl Contestant for Kanal {
    const NAME: &'static str = "kanal";
    type Sender = kanal::AsyncSender<Bytes>;
    type Receiver = kanal::AsyncReceiver<Bytes>;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (sender, receiver) = kanal::bounded_async(BOUND);
        opened((sender, vec![receiver; receivers]), senders)
    }
}

impl Sender for kanal::AsyncSender<Bytes> {
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
        Ok(kanal::AsyncSender::try_send(self, message)?)
    }
}

impl Receiver for kanal::AsyncReceiver<Bytes> {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        while let Ok(message) = self.recv().await {
            seen(&message);
        }
        0
    }
}

impl Contestant for AsyncChannel {
    const NAME: &'static str = "async-channel";
    type Sender = async_channel::Sender<Bytes>;
    type Receiver = async_channel::Receiver<Bytes>;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        let (sender, receiver) = async_channel::bounded(BOUND);
        opened((sender, vec![receiver; receivers]), senders)
    }
}

impl Sender for async_channel::Sender<Bytes> {
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
        match async_channel::Sender::try_send(self, message) {
            Ok(()) => Ok(true),
            Err(async_channel::TrySendError::Full(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Receiver for async_channel::Receiver<Bytes> {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        while let Ok(message) = self.recv().await {
            seen(&message);
        }
        0
    }
}

/// The senders of a channel for one receiver, or for several.
#[derive(Clone)]
pub(crate) enum CrossfireSender {
    ToOne(crossfire::MAsyncTx<crossfire::mpsc::Array<Bytes>>),
    ToSeveral(crossfire::MAsyncTx<crossfire::mpmc::Array<Bytes>>),
}

pub(crate) enum CrossfireReceiver {
    Only(crossfire::AsyncRx<crossfire::mpsc::Array<Bytes>>),
    OneOf(crossfire::MAsyncRx<crossfire::mpmc::Array<Bytes>>),
}

impl Contestant for Crossfire {
    const NAME: &'static str = "crossfire";
    type Sender = CrossfireSender;
    type Receiver = CrossfireReceiver;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<Self::Sender, Self::Receiver>, Error> {
        if receivers == 1 {
            let (sender, receiver) = crossfire::mpsc::bounded_async(BOUND);
            return opened(
                (CrossfireSender::ToOne(sender), vec![CrossfireReceiver::Only(receiver)]),
                senders,
            );
        }
        let (sender, receiver) = crossfire::mpmc::bounded_async(BOUND);
        let receivers = (0..receivers).map(|_| CrossfireReceiver::OneOf(receiver.clone())).collect();
        opened((CrossfireSender::ToSeveral(sender), receivers), senders)
    }
}

impl Sender for CrossfireSender {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        match self {
            Self::ToOne(sender) => {
                for _ in 0..messages {
                    sender.send(make()).await?;
                }
            }
            Self::ToSeveral(sender) => {
                for _ in 0..messages {
                    sender.send(make()).await?;
                }
            }
        }
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        let sent = match self {
            Self::ToOne(sender) => sender.try_send(message),
            Self::ToSeveral(sender) => sender.try_send(message),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(crossfire::TrySendError::Full(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Receiver for CrossfireReceiver {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        match self {
            Self::Only(receiver) => {
                while let Ok(message) = receiver.recv().await {
                    seen(&message);
                }
            }
            Self::OneOf(receiver) => {
                while let Ok(message) = receiver.recv().await {
                    seen(&message);
                }
            }
        }
        0
    }
}
