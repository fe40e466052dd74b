//! Aether: emitters and vibrators of one process.

use std::time::Duration;

use aether_core::{Aether, Channel, EmitError, Emitter, InboxOptions, Vibrator, Wave, WhenFull};
use bytes::Bytes;
use futures::FutureExt;

use super::{BATCH, BOUND, Contestant, Opened, Receiver, Sender};
use crate::Error;

const CHANNEL: &str = "bench.wave";
/// Longer than a busy machine may delay a receiver, so that nothing is shed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every receiver hears every wave.
pub(crate) struct Bus;
/// Each wave goes to one of the receivers, which are a group.
pub(crate) struct BusGroup;
/// The same with `emit_all` and `receive_many`.
pub(crate) struct BusManyAtOnce;

pub(crate) struct BusSender {
    emitter: Emitter,
    channel: Channel,
}

impl BusSender {
    fn wave(&self, payload: Bytes) -> Wave {
        Wave::from_bytes(&self.channel, payload).expect("a valid channel")
    }
}

pub(crate) struct BusReceiver(Vibrator);

impl Contestant for Bus {
    const NAME: &'static str = "Aether";
    type Sender = BusSender;
    type Receiver = BusReceiver;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<BusSender, BusReceiver>, Error> {
        let opened = open(senders, receivers).await?;
        for receiver in &opened.receivers {
            receiver.0.resonate_on(CHANNEL).await?;
        }
        Ok(opened)
    }
}

impl Contestant for BusGroup {
    const NAME: &'static str = "Aether, a group";
    type Sender = BusSender;
    type Receiver = BusReceiver;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<BusSender, BusReceiver>, Error> {
        let opened = open(senders, receivers).await?;
        for receiver in &opened.receivers {
            receiver.0.resonate_in_group(CHANNEL, "receivers").await?;
        }
        Ok(opened)
    }
}

/// Receivers that hear nothing yet.
async fn open(senders: usize, receivers: usize) -> Result<Opened<BusSender, BusReceiver>, Error> {
    let (aether, channel) = (Aether::local(), Channel::new(CHANNEL)?);
    let inbox = InboxOptions::interactive().max_waves(BOUND).max_bytes(usize::MAX / 2);
    let inbox = inbox.when_full(WhenFull::Wait { patience: PATIENCE });
    let mut silent = Vec::new();
    for number in 0..receivers {
        let name = format!("receiver{number}");
        let receiver = Vibrator::builder(&name).inbox(inbox.clone()).create(&aether).await?;
        silent.push(BusReceiver(receiver));
    }
    let sender = |_| Ok(BusSender { emitter: aether.emitter("sender")?, channel: channel.clone() });
    let senders = (0..senders).map(sender).collect::<Result<_, Error>>()?;
    let end = async move { Ok(aether.close().await?) }.boxed();
    Ok(Opened { senders, receivers: silent, end })
}

impl Sender for BusSender {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        for _ in 0..messages {
            self.emitter.emit(self.wave(make())).await?;
        }
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        match self.emitter.try_emit(self.wave(message)) {
            Ok(_) => Ok(true),
            Err(EmitError::Full { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Receiver for BusReceiver {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        while let Some(wave) = self.0.receive().await {
            seen(wave.payload());
        }
        self.lost()
    }
}

impl BusReceiver {
    fn lost(&self) -> u64 {
        let ledger = self.0.ledger();
        assert!(ledger.adds_up(), "{ledger:?}");
        ledger.lost()
    }
}

pub(crate) struct ManySender(BusSender);
pub(crate) struct ManyReceiver(BusReceiver);

impl Contestant for BusManyAtOnce {
    const NAME: &'static str = "Aether, emit_all and receive_many of 64";
    type Sender = ManySender;
    type Receiver = ManyReceiver;

    async fn open(senders: usize, receivers: usize) -> Result<Opened<ManySender, ManyReceiver>, Error> {
        let Opened { senders, receivers, end } = Bus::open(senders, receivers).await?;
        let (senders, receivers) =
            (senders.into_iter().map(ManySender), receivers.into_iter().map(ManyReceiver));
        Ok(Opened { senders: senders.collect(), receivers: receivers.collect(), end })
    }
}

impl Sender for ManySender {
    async fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> Result<(), Error> {
        self.0.emitter.emit_all((0..messages).map(|_| self.0.wave(make()))).await?;
        Ok(())
    }

    fn try_send(&mut self, message: Bytes) -> Result<bool, Error> {
        self.0.try_send(message)
    }
}

impl Receiver for ManyReceiver {
    async fn receive_all(&mut self, mut seen: impl FnMut(&[u8]) + Send) -> u64 {
        let mut taken = Vec::with_capacity(BATCH);
        while self.0.0.receive_many(&mut taken, BATCH).await > 0 {
            taken.drain(..).for_each(|wave| seen(wave.payload()));
        }
        self.0.lost()
    }
}
