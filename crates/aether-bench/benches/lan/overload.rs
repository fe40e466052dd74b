//! Ten times as much as a line carries: weak waves are expendable, strong ones have to arrive in time.

use std::time::Duration;

use aether_bench::{Table, clock, latency, percent};
use aether_conformance::{Cable, End};
use aether_core::{AskError, Channel, InboxOptions, Vibrator, Wave};
use bytes::{BufMut, BytesMut};
use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::goal::Goals;
use crate::session::aether;
use crate::side::{Contestant, Job, Outcome, Role, Way, say};

/// The capacity of the line.
const MBIT: u64 = 10;
/// How many times as much is offered.
const TIMES: u64 = 10;
const WEAK_BYTES: usize = 1024;
const STRONG_BYTES: usize = 128;
const STRONG_EVERY: Duration = Duration::from_millis(20);
const WEAK_EVERY: Duration = Duration::from_millis(2);
/// Round trips on the idle line.
const TRIPS: usize = 200;
/// After this long without a wave the receiver reports its count.
const SILENCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn measure(cable: &Cable, seconds: u64, goals: &mut Goals) -> Outcome<()> {
    for end in [End::Left, End::Right] {
        // 32 KiB at once, and what waits for at most 50 ms: as the queue of a device.
        let rate = format!("qdisc replace dev cable root tbf rate {MBIT}mbit burst 32kb latency 50ms");
        let shaped = cable.command(end, "tc").args(rate.split(' ')).status()?;
        if !shaped.success() {
            return Err("the line cannot be made slow: tc refuses".into());
        }
    }
    let way = Way::Cable(cable);
    let drain = way.first(Role::Drain, Contestant::Sealed, seconds)?;
    drain.says::<u64>("ready")?;
    let flood = way.second(Role::Flood, Contestant::Sealed, seconds)?;
    let [idle_p50, idle_p99] = flood.says::<f64>("idle")?[..] else { return Err("no round trips".into()) };
    let [strong, weak, sent, shed, adds_up_there] = flood.says::<u64>("flooded")?[..] else {
        return Err("no account of the sender".into());
    };
    let [arrived_strong, arrived_weak, p50, p99, offered, lost, adds_up_here] =
        drain.says::<u64>("drained")?[..]
    else {
        return Err("no account of the receiver".into());
    };
    for end in [End::Left, End::Right] {
        cable.command(end, "tc").args("qdisc del dev cable root".split(' ')).status()?;
    }
    let us = |nanos: u64| latency(Some(nanos as f64 / 1e3));
    println!(
        "{MBIT} Mbit/s, {TIMES} times as much offered for {seconds} s: weak waves of {WEAK_BYTES} bytes, amplitude 0.1, and strong \
         ones of {STRONG_BYTES} bytes, 50/s. The outbox has the bounds of `InboxOptions::overload`. Round trip on the idle \
         line: p50 {}, p99 {}\n",
        latency(Some(idle_p50)),
        latency(Some(idle_p99))
    );
    let part = |arrived: u64, emitted: u64| percent(arrived as f64 * 100.0 / emitted as f64);
    let mut table = Table::new(&["waves", "emitted", "delivered", "part", "p50", "p99"]);
    table.row([
        "strong".to_owned(),
        strong.to_string(),
        arrived_strong.to_string(),
        part(arrived_strong, strong),
        us(p50),
        us(p99),
    ]);
    let arrived = part(arrived_weak, weak);
    table.row(["weak".to_owned(), weak.to_string(), arrived_weak.to_string(), arrived]);
    println!("{}", table.markdown());
    println!(
        "The outbox sent {sent} and shed {shed}; the receiver was offered {offered}, of which {lost} were lost upstream.\n"
    );
    goals.at_least(
        "strong waves delivered at 10 times the line",
        99.9,
        arrived_strong as f64 * 100.0 / strong as f64,
        " %",
    );
    goals.at_most("their p99 against the idle round trip's p50", 3.0, p99 as f64 / 1e3 / idle_p50, "");
    let adds_up = adds_up_there == 1 && adds_up_here == 1 && strong + weak == sent + shed && sent == offered;
    goals.is("each wave is accounted for", format!("{} emitted", strong + weak), adds_up);
    Ok(())
}

/// A payload with the time when it was due.
fn stamped(bytes: usize, due: u64) -> bytes::Bytes {
    let mut payload = BytesMut::with_capacity(bytes);
    payload.put_u64(due);
    payload.put_bytes(0, bytes - size_of::<u64>());
    payload.freeze()
}

pub(crate) async fn drain(job: &Job) -> Outcome<()> {
    let aether = aether(job, InboxOptions::interactive()).await?;
    let mut oracle = Vibrator::create("oracle", &aether).await?;
    oracle.resonate_on("bench.ask").await?;
    let mut drain = Vibrator::create("drain", &aether).await?;
    drain.resonate_on("bench.load.*").await?;
    say("ready");
    let answering = tokio::spawn(async move {
        while let Some(question) = oracle.receive().await {
            question.reply(&1).await?;
        }
        Outcome::Ok(())
    });
    let mut latencies = Histogram::<u64>::new(3)?;
    let (mut strong, mut weak) = (0_u64, 0_u64);
    loop {
        let within = if strong == 0 { 20 * SILENCE } else { SILENCE };
        let Ok(Some(wave)) = timeout(within, drain.receive()).await else { break };
        if wave.channel().as_str().ends_with("strong") {
            let due = wave.payload().first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            latencies.record(clock::now().saturating_sub(due.ok_or("a wave without a time")?))?;
            strong += 1;
        } else {
            weak += 1;
        }
    }
    let ledger = drain.ledger();
    let (p50, p99) = (latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99));
    let adds_up = u64::from(ledger.adds_up() && ledger.delivered == strong + weak);
    let (offered, lost) = (ledger.offered, ledger.lost_upstream);
    say(format_args!("drained {strong} {weak} {p50} {p99} {offered} {lost} {adds_up}"));
    answering.abort();
    Ok(())
}

pub(crate) async fn flood(job: &Job) -> Outcome<()> {
    let aether = aether(job, InboxOptions::overload()).await?;
    let asker = aether.emitter("asker")?;
    let question = || Wave::builder("bench.ask").text("?").build();
    loop {
        match asker.ask_within(question()?, PATIENCE).await {
            Ok(_) => break,
            Err(AskError::NoResonator { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error.into()),
        }
    }
    let mut trips = Histogram::<u64>::new(3)?;
    for _ in 0..TRIPS {
        let start = clock::now();
        asker.ask_within(question()?, PATIENCE).await?;
        trips.record(clock::now() - start)?;
    }
    let us = |quantile| trips.value_at_quantile(quantile) as f64 / 1e3;
    say(format_args!("idle {} {}", us(0.5), us(0.99)));
    let before = aether.status().outbox;
    let lasts = Duration::from_secs(job.count);
    let flooding = tokio::spawn(emit_weak(aether.clone(), lasts));
    let strong = emit_strong(&aether, lasts).await?;
    let weak = flooding.await??;
    aether.flush().await?;
    let outbox = aether.status().outbox;
    let (sent, shed) = (outbox.delivered - before.delivered, outbox.lost() - before.lost());
    let adds_up = u64::from(outbox.adds_up() && outbox.queued == 0);
    say(format_args!("flooded {strong} {weak} {sent} {shed} {adds_up}"));
    std::future::pending().await
}

async fn emit_weak(aether: aether_core::Aether, lasts: Duration) -> Outcome<u64> {
    let (emitter, channel) = (aether.emitter("flood")?, Channel::new("bench.load.weak")?);
    let per_second = TIMES * MBIT * 1_000_000 / 8 / WEAK_BYTES as u64;
    let start = clock::now();
    let mut ticks = interval(WEAK_EVERY);
    let mut emitted = 0;
    loop {
        ticks.tick().await;
        let since = (clock::now() - start).min(lasts.as_nanos() as u64);
        // Emits missed by a late tick are made up for.
        while emitted < since / 1000 * per_second / 1_000_000 {
            let wave = Wave::builder(channel.clone()).bytes(stamped(WEAK_BYTES, 0)).amplitude(0.1).build()?;
            emitter.emit(wave).await?;
            emitted += 1;
        }
        if since == lasts.as_nanos() as u64 {
            return Ok(emitted);
        }
    }
}

async fn emit_strong(aether: &aether_core::Aether, lasts: Duration) -> Outcome<u64> {
    let (emitter, channel) = (aether.emitter("strong")?, Channel::new("bench.load.strong")?);
    let mut ticks = interval(STRONG_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let waves = (lasts.as_nanos() / STRONG_EVERY.as_nanos()) as u64;
    // The first tick is due at once.
    ticks.tick().await;
    let start = clock::now();
    for number in 0..waves {
        let due = start + number * STRONG_EVERY.as_nanos() as u64;
        let wave = Wave::builder(channel.clone()).bytes(stamped(STRONG_BYTES, due)).amplitude(1.0).build()?;
        emitter.emit(wave).await?;
        ticks.tick().await;
    }
    Ok(waves)
}
