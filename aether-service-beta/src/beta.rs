//! The service around the stock: hears questions, answers them, tells what changed.
//!
//! The stock lives in this process, so one process keeps it. The group `inventory` is there for a successor: while it
//! starts, what is asked still goes to one of the two. Several at a time need a stock that they share, such as a
//! database; orders that meet the wrong one are refused or undone, and what they hold comes back after the hold.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::time::Duration;

use aether_chassis::{CancellationToken, error_chain};
use aether_core::{
    Aether, ConnectError, CreateError, JoinError, PayloadError, Phase, Vibrator, Wave, WaveBuilder,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::id::{OrderId, Sku};
use crate::messages::{self, About, Answer, Low, Reserve, Supply, Told};
use crate::stock::{Refusal, Reservation, Stock};
use crate::{BetaOptions, StockSummary};

/// The group in which questions are heard.
const GROUP: &str = "inventory";

/// Why the service could not start or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BetaError {
    /// The medium could not be reached.
    #[error("the inventory service has no medium")]
    Connect(#[from] ConnectError),
    /// Its vibrator could not be made.
    #[error("the inventory service could not be made")]
    Create(#[from] CreateError),
    /// It cannot hear its channels.
    #[error("the inventory service cannot hear its channels")]
    Join(#[from] JoinError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
}

/// The inventory service, ready: every question asked from now on is heard.
#[derive(Debug)]
#[must_use = "questions wait until run() answers them"]
pub struct Beta {
    vibrator: Vibrator,
    stock: Stock,
    /// The articles that were told to run low.
    low: BTreeSet<Sku>,
    options: BetaOptions,
}

impl Beta {
    /// Makes the service and lets it hear its channels. What is asked before [`Beta::run`] waits in its inbox.
    ///
    /// # Errors
    /// [`BetaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is heard.
    pub async fn start(aether: &Aether, options: BetaOptions) -> Result<Self, BetaError> {
        let vibrator = Vibrator::create("beta", aether).await?;
        for channel in [messages::RESERVE, messages::RELEASE, messages::COMMIT, messages::RESTOCK] {
            vibrator.resonate_in_group(channel, GROUP).await?;
        }
        let stock = Stock::new(options.stocked(), options.hold);
        Ok(Self { vibrator, stock, low: BTreeSet::new(), options })
    }

    /// Answers until `shutdown` is cancelled or the medium was closed.
    ///
    /// # Errors
    /// None: the stock is in memory. The signature leaves room for one that is not.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended and the stock is gone with it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<StockSummary, BetaError> {
        let mut restock = self.options.restock_every.map(every);
        // Fine enough: a reservation stands at most an eighth longer than it should.
        let mut expiry = every((self.options.hold / 8).max(Duration::from_millis(1)));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                wave = self.vibrator.receive() => match wave {
                    Some(wave) => self.hear(&wave).await,
                    None => break,
                },
                () = tick(restock.as_mut()) => self.fill_up().await,
                _ = expiry.tick() => self.expire().await,
            }
        }
        Ok(self.stock.summary())
    }

    async fn hear(&mut self, wave: &Wave) {
        let handled = match wave.channel().as_str() {
            messages::RESERVE => self.reserve(wave).await,
            messages::RELEASE => self.release(wave).await,
            messages::COMMIT => self.commit(wave).await,
            messages::RESTOCK => self.restock(wave).await,
            _ => Ok(()),
        };
        if let Err(error) = handled {
            let problem = error_chain(&error);
            tracing::warn!(id = %wave.id(), channel = %wave.channel(), problem, "cannot be read");
            answer(wave, &Answer::Malformed { problem }).await;
        }
    }

    async fn reserve(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let Reserve { order, sku, quantity } = wave.json()?;
        let asked_before = self.stock.knows(&order);
        let reserved = self.stock.reserve(&order, &sku, quantity, Instant::now().into_std());
        let told = Told { order, sku, quantity, refusal: reserved.as_ref().err().cloned() };
        let (said, channel, amplitude) = match reserved {
            Ok(available) => (Answer::Reserved { available }, messages::RESERVED, 0.5),
            Err(refusal) => (Answer::Refused { refusal }, messages::REFUSED, 0.7),
        };
        answer(wave, &said).await;
        // A repetition changed nothing: it gets its answer, and nobody else is told again.
        if !asked_before {
            self.tell(about(channel, &told, amplitude), Some(wave)).await;
            self.watch(&told.sku, Some(wave)).await;
        }
        Ok(())
    }

    async fn release(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let About { order } = wave.json()?;
        match self.stock.release(&order) {
            Ok(freed) => {
                answer(wave, &Answer::Released).await;
                if let Some(reservation) = freed {
                    self.released(order, reservation, Some(wave)).await;
                }
            }
            Err(_) => answer(wave, &Answer::AlreadySold).await,
        }
        Ok(())
    }

    async fn commit(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let About { order } = wave.json()?;
        let committed = self.stock.commit(&order);
        answer(wave, &if committed.is_ok() { Answer::Sold } else { Answer::NotReserved }).await;
        Ok(())
    }

    async fn restock(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let Supply { sku, quantity } = wave.json()?;
        match self.stock.restock(&sku, quantity) {
            Some(available) => {
                answer(wave, &Answer::Restocked { available }).await;
                self.restocked(&Supply { sku, quantity }, Some(wave)).await;
            }
            None => {
                let refusal = Refusal::UnknownSku { sku };
                answer(wave, &Answer::Refused { refusal }).await;
            }
        }
        Ok(())
    }

    async fn fill_up(&mut self) {
        for (sku, quantity) in self.stock.fill_up() {
            self.restocked(&Supply { sku, quantity }, None).await;
        }
    }

    async fn expire(&mut self) {
        for (order, reservation) in self.stock.expire(Instant::now().into_std()) {
            tracing::warn!(%order, sku = %reservation.sku, "nobody ended this reservation");
            self.released(order, reservation, None).await;
        }
    }

    async fn released(&mut self, order: OrderId, reservation: Reservation, cause: Option<&Wave>) {
        let Reservation { sku, quantity, .. } = reservation;
        let told = Told { order, sku: sku.clone(), quantity, refusal: None };
        self.tell(about(messages::RELEASED, &told, 0.5), cause).await;
        self.watch(&sku, cause).await;
    }

    async fn restocked(&mut self, supply: &Supply, cause: Option<&Wave>) {
        let wave = Wave::builder(messages::RESTOCKED).key(supply.sku.as_str()).json(supply);
        self.tell(wave, cause).await;
        self.watch(&supply.sku, cause).await;
    }

    /// Tells when an article begins or ceases to run low: a strong wave, because somebody should act.
    async fn watch(&mut self, sku: &Sku, cause: Option<&Wave>) {
        let Some(available) = self.stock.available(sku) else { return };
        let phase = match (available <= u64::from(self.options.low_at), self.low.contains(sku)) {
            (true, false) => Phase::ASSERT,
            (false, true) => Phase::RETRACT,
            _ => return,
        };
        if phase == Phase::ASSERT {
            self.low.insert(sku.clone());
        } else {
            self.low.remove(sku);
        }
        let low = Low { sku: sku.clone(), available };
        let wave = Wave::builder(messages::LOW).key(sku.as_str()).phase(phase).amplitude(0.9).json(&low);
        self.tell(wave, cause).await;
    }

    async fn tell(&self, wave: WaveBuilder, cause: Option<&Wave>) {
        let wave = match cause {
            Some(cause) => wave.cause(cause.id()),
            None => wave,
        };
        let emitted = match wave.build() {
            Ok(wave) => self.vibrator.emit(wave).await,
            Err(error) => Err(error.into()),
        };
        // The stock is right whether or not somebody hears of it.
        if let Err(error) = emitted {
            tracing::warn!(error = error_chain(&error), "an event was not emitted");
        }
    }
}

fn about(channel: &str, told: &Told, amplitude: f32) -> WaveBuilder {
    Wave::builder(channel).key(told.order.as_str()).amplitude(amplitude).json(told)
}

/// Answers if somebody waits; the same channels can be used without waiting.
async fn answer(wave: &Wave, answer: &Answer) {
    if wave.expects_reply()
        && let Err(error) = wave.reply(answer).await
    {
        // Whoever asked will ask again and be told the same.
        tracing::debug!(id = %wave.id(), error = error_chain(&error), "an answer did not arrive");
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}
