//! Hopping: services with the key follow a channel over its lanes, others cannot, and jammed lanes are left out.
//!
//! Everything runs in process and in virtual time, over a medium that loses waves on jammed lanes. The program checks the
//! numbers at the end and fails if they are wrong.
//!
//! `cargo run -p aether-examples --example hopping_demo`

use std::error::Error;
use std::time::Duration;

use aether_conformance::Jammer;
use aether_core::{Aether, Channel, Vibrator, Wave};
use aether_hopping::{Hop, Hopping, HoppingEmitter};

const CHANNEL: &str = "orders.created";
const SLOT: Duration = Duration::from_millis(20);
/// Waves in a slot.
const WAVES: u32 = 10;
const LANES: u8 = 16;
const JAMMED: [u8; 4] = [2, 5, 11, 14];
/// The number of slots within which an adaptive channel must leave out the jammed lanes. The order of lanes is random,
/// so the time varies; 40 slots are usual.
const ADAPTING: u32 = 640;

/// A sender and its receivers.
struct Scene {
    orders: HoppingEmitter,
    /// The same waves on a channel that does not adapt.
    plain: HoppingEmitter,
    stock: Vibrator,
    stock_hop: Hop,
    plain_stock: Vibrator,
    /// Has another key.
    thief: Vibrator,
    /// Receives one lane of sixteen.
    eavesdropper: Vibrator,
}

/// The waves sent on the two channels, and received by each receiver.
#[derive(Default)]
struct Heard {
    sent: u64,
    stock: u64,
    plain: u64,
    thief: u64,
    eavesdropper: u64,
}

impl Heard {
    fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.stock += more.stock;
        self.plain += more.plain;
        self.thief += more.thief;
        self.eavesdropper += more.eavesdropper;
    }

    fn lost(&self) -> f64 {
        1.0 - self.stock as f64 / self.sent as f64
    }

    fn lost_without_adapting(&self) -> f64 {
        1.0 - self.plain as f64 / self.sent as f64
    }
}

impl Scene {
    async fn set(aether: &Aether) -> Result<Self, Box<dyn Error>> {
        // Each service reads the key from its own configuration, and builds the same hop.
        let key = b"32 bytes that nobody else knows.";
        let adaptive = || Hop::keyed(key).lanes(LANES).slot(SLOT).adaptive().build();
        let plain = || Hop::keyed(key).lanes(LANES).slot(SLOT).build();

        let stock = Vibrator::create("stock", aether).await?;
        let stock_hop = adaptive()?;
        stock.resonate_hopping(CHANNEL, &stock_hop).await?;
        let plain_stock = Vibrator::create("plain stock", aether).await?;
        plain_stock.resonate_hopping("orders.plain", &plain()?).await?;

        let thief = Vibrator::create("thief", aether).await?;
        let guess = Hop::keyed(b"32 bytes that somebody guessed..").lanes(LANES).slot(SLOT).build()?;
        thief.resonate_hopping(CHANNEL, &guess).await?;
        thief.resonate_on(CHANNEL).await?;
        let eavesdropper = Vibrator::create("eavesdropper", aether).await?;
        eavesdropper.resonate_on("hop.5.*").await?;

        let shop = Vibrator::create("shop", aether).await?;
        let orders = shop.hopping(CHANNEL, &adaptive()?).await?;
        let plain = shop.hopping("orders.plain", &plain()?).await?;
        Ok(Self { orders, plain, stock, stock_hop, plain_stock, thief, eavesdropper })
    }

    /// Sends for some slots, and counts the received waves.
    async fn run(&mut self, slots: u32) -> Result<Heard, Box<dyn Error>> {
        let mut heard = Heard::default();
        let mut pace = tokio::time::interval(SLOT / WAVES);
        for number in 0..slots * WAVES {
            pace.tick().await;
            // All tasks share one thread. This moment's tasks run before more is sent: first the timers, then the tasks
            // that they wake.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            self.orders.emit(Wave::builder(CHANNEL).json(number).build()?).await?;
            self.plain.emit(Wave::builder("orders.plain").json(number).build()?).await?;
            heard.sent += 1;
            heard.stock += queued(&mut self.stock, CHANNEL).await;
            heard.plain += queued(&mut self.plain_stock, "orders.plain").await;
            heard.thief += queued(&mut self.thief, CHANNEL).await;
            // A lane does not show the channel of a wave, or whether it is a report, so all waves count.
            let ledger = self.eavesdropper.ledger();
            for _ in 0..ledger.queued {
                heard.eavesdropper += u64::from(self.eavesdropper.receive().await.is_some());
            }
        }
        Ok(heard)
    }
}

/// Takes the queued waves and checks that all are of one channel.
async fn queued(vibrator: &mut Vibrator, channel: &str) -> u64 {
    let queued = vibrator.ledger().queued;
    for _ in 0..queued {
        let wave = vibrator.receive().await.expect("the medium is open");
        assert_eq!(wave.channel().as_str(), channel, "a wave shows the channel it belongs to");
    }
    queued
}

// A real program runs in real time. This one must not depend on how busy its machine is.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    aether_core::clock::follow_tokio();
    let (aether, jammer) = Jammer::aether(1);
    let mut scene = Scene::set(&aether).await?;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);

    println!("{LANES} lanes, slots of {SLOT:?}, {WAVES} waves a slot");
    let quiet = scene.run(100).await?;
    let share = quiet.eavesdropper as f64 / (2 * quiet.sent) as f64;
    println!("  sent                                  {:>8}", quiet.sent);
    println!("  received with the key                 {:>8}", quiet.stock);
    println!("  received with another key             {:>8}", quiet.thief);
    println!("  received on one lane, with reports    {:>8}", percent(share));

    println!("lanes {JAMMED:?} lose 95 %");
    jammer.jam(&JAMMED, 0.95);
    let (mut first, mut adapting) = (Heard::default(), 0);
    while scene.orders.view().lanes_in_use.iter().any(|lane| JAMMED.contains(lane)) {
        first.add(&scene.run(8).await?);
        adapting += 8;
        assert!(adapting <= ADAPTING, "the jammed lanes are left out");
    }
    let view = scene.orders.view();
    println!("  lanes in use after {adapting} slots: {:?}", view.lanes_in_use);
    let steady = scene.run(200).await?;
    println!("                                adaptive    fixed");
    println!(
        "  lost in the first {adapting:>3} slots      {:>8} {:>8}",
        percent(first.lost()),
        percent(first.lost_without_adapting())
    );
    println!(
        "  lost in the 200 slots after   {:>8} {:>8}",
        percent(steady.lost()),
        percent(steady.lost_without_adapting())
    );
    let account = scene.stock.hop_account(&Channel::new(CHANNEL)?, &scene.stock_hop);
    println!("  loss on lane {} as known to the sender: {}", JAMMED[0], percent(f64::from(view.loss[2])));
    let account = account.ok_or("the channel is followed")?;
    println!("  waves missed according to the receiver: {}", account.missed);

    assert!(quiet.lost() < 0.02, "who has the key hears everything");
    assert_eq!(quiet.thief + first.thief + steady.thief, 0, "who has another key hears nothing");
    assert!(share < 3.0 / f64::from(LANES), "one lane of sixteen shows about a sixteenth");
    assert!(account.missed > 0, "what is missed is counted");
    // By far; `cargo xtask bench hopping` measures it.
    assert!(steady.lost() * 3.0 < steady.lost_without_adapting(), "much less is lost once they are");
    assert!(steady.lost_without_adapting() > 0.1, "a fixed sequence loses what is sent on jammed lanes");
    Ok(())
}
