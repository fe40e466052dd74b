//! Waves of 128 bytes as fast as they go, without loss: the sender waits where there is no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_bench::{DEFAULT_BYTES, clock, median, payload};
use aether_core::{Channel, InboxOptions, Vibrator, Wave, WhenFull};
use tokio::sync::Notify;

use crate::goal::{Goals, spread};
use crate::session::{aether, publisher, zenoh};
use crate::side::{Contestant, Job, Outcome, Role, Way, say};

const CONTESTANTS: [Contestant; 3] = [Contestant::Put, Contestant::Plain, Contestant::Sealed];
/// After this long without a message, those that are missing count as lost.
const SILENCE: Duration = Duration::from_secs(3);

pub(crate) fn compare(rounds: usize, messages: u64, goals: &mut Goals) -> Outcome<()> {
    let mut rates = [const { Vec::new() }; 3];
    let mut lost = [0_u64; 3];
    for _ in 0..rounds {
        for (index, of) in CONTESTANTS.into_iter().enumerate() {
            let way = Way::loopback()?;
            let receiver = way.first(Role::Receive, of, messages)?;
            receiver.says::<u64>("ready")?;
            let sender = way.second(Role::Send, of, messages)?;
            let (Some(&start), [received, end]) =
                (sender.says::<u64>("start")?.first(), received(&receiver)?)
            else {
                return Err("a sender without a start".into());
            };
            rates[index].push(received as f64 * 1e3 / end.saturating_sub(start) as f64);
            lost[index] = lost[index].max(messages - received);
        }
    }
    println!(
        "{messages} messages of {DEFAULT_BYTES} bytes, two processes, {rounds} rounds that take turns\n"
    );
    println!("| one sender, one receiver | M/s | against Zenoh | lost |\n|---|---|---|---|");
    for ((of, ours), lost) in CONTESTANTS.iter().zip(&rates).zip(lost) {
        let ratios: Vec<f64> = ours.iter().zip(&rates[0]).map(|(ours, raw)| ours / raw).collect();
        println!("| {} | {} | {} | {lost} |", of.name(), spread(ours, 3), spread(&ratios, 2));
        if *of != Contestant::Put {
            let what = format!("throughput against Zenoh: {}", of.name());
            goals.at_least(&what, 1.0, median(ratios.iter().copied()), "");
            goals.is(&format!("nothing lost: {}", of.name()), format!("{lost} lost"), lost == 0);
        }
    }
    println!();
    Ok(())
}

fn received(receiver: &crate::side::Side) -> Outcome<[u64; 2]> {
    <[u64; 2]>::try_from(receiver.says::<u64>("received")?).map_err(|said| format!("{said:?}").into())
}

pub(crate) async fn receive(job: &Job) -> Outcome<()> {
    let (count, last) = match job.of {
        Contestant::Put | Contestant::Query => receive_raw(job).await?,
        Contestant::Plain | Contestant::Sealed => receive_waves(job).await?,
    };
    say(format_args!("received {count} {last}"));
    Ok(())
}

/// With a callback, which is Zenoh's fastest way.
async fn receive_raw(job: &Job) -> Outcome<(u64, u64)> {
    let session = zenoh(job).await?;
    let (arrived, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let last = Arc::new(AtomicU64::new(0));
    let messages = job.count;
    let subscriber = session.declare_subscriber("bench/wave").callback({
        let (arrived, all, last) = (Arc::clone(&arrived), Arc::clone(&all), Arc::clone(&last));
        move |sample| {
            assert_eq!(sample.payload().len(), DEFAULT_BYTES);
            if arrived.fetch_add(1, Ordering::Relaxed) + 1 == messages {
                last.store(clock::now(), Ordering::Relaxed);
                all.notify_one();
            }
        }
    });
    let _subscriber = subscriber.await?;
    say("ready");
    let mut before = 0;
    loop {
        let is_all = tokio::time::timeout(SILENCE, all.notified()).await.is_ok();
        let now = arrived.load(Ordering::Relaxed);
        if is_all {
            return Ok((now, last.load(Ordering::Relaxed)));
        }
        if now == before && now > 0 {
            // The silence does not count.
            return Ok((now, clock::now().saturating_sub(SILENCE.as_nanos() as u64)));
        }
        before = now;
    }
}

async fn receive_waves(job: &Job) -> Outcome<(u64, u64)> {
    let aether = aether(job, InboxOptions::interactive()).await?;
    // A sender that is faster is asked to pause.
    let inbox = InboxOptions::interactive().when_full(WhenFull::Wait { patience: SILENCE });
    let mut receiver = Vibrator::builder("receiver").inbox(inbox).create(&aether).await?;
    receiver.resonate_on("bench.wave").await?;
    say("ready");
    let messages = job.count;
    let receiving = tokio::spawn(async move {
        let (mut count, mut last) = (0, 0);
        let mut waves = Vec::new();
        while count < messages {
            // No message is expected before the sender has started.
            let within = if count == 0 { 10 * SILENCE } else { SILENCE };
            let taken =
                tokio::time::timeout(within, receiver.receive_many(&mut waves, 64)).await.unwrap_or(0);
            if taken == 0 {
                break;
            }
            for wave in waves.drain(..) {
                assert_eq!(wave.payload().len(), DEFAULT_BYTES);
            }
            count += taken as u64;
            last = clock::now();
        }
        let ledger = receiver.ledger();
        if !ledger.adds_up() || count < messages {
            eprintln!("the receiver counts {ledger:?}");
        }
        (count, last)
    });
    Ok(receiving.await?)
}

pub(crate) async fn send(job: &Job) -> Outcome<()> {
    match job.of {
        Contestant::Put | Contestant::Query => send_raw(job).await?,
        Contestant::Plain | Contestant::Sealed => send_waves(job).await?,
    }
    Ok(())
}

async fn send_raw(job: &Job) -> Outcome<()> {
    let session = zenoh(job).await?;
    let messages = job.count;
    let sending = tokio::spawn(async move {
        let publisher = publisher(&session, "bench/wave", false).await?;
        say(format_args!("start {}", clock::now()));
        for _ in 0..messages {
            publisher.put(payload(DEFAULT_BYTES)).await?;
        }
        // What is under way needs the session. The other side ends it.
        std::future::pending::<Outcome<()>>().await
    });
    sending.await?
}

async fn send_waves(job: &Job) -> Outcome<()> {
    // It waits as long as Zenoh does. With the default patience of 100 ms it sheds on a machine that is busy with other
    // work.
    let outbox = InboxOptions::interactive().when_full(WhenFull::Wait { patience: SILENCE });
    let aether = aether(job, outbox).await?;
    let emitter = aether.emitter("sender")?;
    let channel = Channel::new("bench.wave")?;
    let messages = job.count;
    let sending = tokio::spawn(async move {
        say(format_args!("start {}", clock::now()));
        for _ in 0..messages {
            emitter.emit(Wave::from_bytes(&channel, payload(DEFAULT_BYTES))?).await?;
        }
        let outbox = aether.status().outbox;
        if outbox.lost() > 0 {
            eprintln!("the outbox counts {outbox:?}");
        }
        std::future::pending::<Outcome<()>>().await
    });
    sending.await?
}
