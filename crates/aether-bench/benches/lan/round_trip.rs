//! Round trips of 128 bytes, one after the other.

use std::time::{Duration, Instant};

use aether_bench::{DEFAULT_BYTES, median, payload};
use aether_core::{Channel, InboxOptions, Vibrator, Wave};
use hdrhistogram::Histogram;
use zenoh::Wait as _;
use zenoh::qos::CongestionControl;

use crate::goal::{Goals, spread};
use crate::session::{aether, publisher, zenoh};
use crate::side::{Contestant, Job, Outcome, Role, Way, say};

const CONTESTANTS: [Contestant; 4] =
    [Contestant::Put, Contestant::Query, Contestant::Plain, Contestant::Sealed];
/// Not counted: they warm up connections and caches.
const FIRST: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn compare(rounds: usize, questions: u64, goals: &mut Goals) -> Outcome<()> {
    let mut measured = [const { [Vec::new(), Vec::new()] }; 4];
    for _ in 0..rounds {
        for (index, of) in CONTESTANTS.into_iter().enumerate() {
            let way = Way::loopback()?;
            let answerer = way.first(Role::Answer, of, questions)?;
            answerer.says::<u64>("ready")?;
            let asker = way.second(Role::Ask, of, questions)?;
            let said = asker.says::<f64>("asked")?;
            for (all, figure) in measured[index].iter_mut().zip(said) {
                all.push(figure);
            }
        }
    }
    println!(
        "{questions} round trips of {DEFAULT_BYTES} bytes one after the other, two processes, {rounds} rounds that take turns\n"
    );
    println!("| round trip | p50 us | p99 us | p50 against put and subscribe |\n|---|---|---|---|");
    for (of, [p50, p99]) in CONTESTANTS.iter().zip(&measured) {
        let ratios: Vec<f64> = p50.iter().zip(&measured[0][0]).map(|(ours, raw)| ours / raw).collect();
        println!("| {} | {} | {} | {} |", of.name(), spread(p50, 1), spread(p99, 1), spread(&ratios, 2));
        if matches!(of, Contestant::Plain | Contestant::Sealed) {
            let what = format!("round trip p50 against Zenoh: {}", of.name());
            goals.at_most(&what, 1.2, median(ratios.iter().copied()), "");
        }
    }
    println!();
    Ok(())
}

pub(crate) async fn answer(job: &Job) -> Outcome<()> {
    match job.of {
        Contestant::Put => {
            let session = zenoh(job).await?;
            let back = session.declare_publisher("bench/pong").congestion_control(CongestionControl::Block);
            let back = back.express(true).await?;
            let there = session.declare_subscriber("bench/ping").callback(move |sample| {
                if let Err(error) = back.put(sample.payload().clone()).wait() {
                    eprintln!("no answer: {error}");
                }
            });
            let _there = there.await?;
            say("ready");
            std::future::pending().await
        }
        Contestant::Query => {
            let session = zenoh(job).await?;
            let answering = session.declare_queryable("bench/question").callback(|query| {
                let payload = query.payload().cloned().unwrap_or_default();
                if let Err(error) = query.reply("bench/question", payload).express(true).wait() {
                    eprintln!("no answer: {error}");
                }
            });
            let _answering = answering.await?;
            say("ready");
            std::future::pending().await
        }
        Contestant::Plain | Contestant::Sealed => {
            let aether = aether(job, InboxOptions::interactive()).await?;
            let mut answerer = Vibrator::create("answerer", &aether).await?;
            answerer.resonate_on("bench.question").await?;
            say("ready");
            let answering = tokio::spawn(async move {
                while let Some(question) = answerer.receive().await {
                    question.reply_bytes(question.payload().clone()).await?;
                }
                Outcome::Ok(())
            });
            answering.await?
        }
    }
}

/// Measures a round trip many times.
async fn trips<F: Future<Output = Outcome<()>>>(
    count: u64,
    mut trip: impl FnMut() -> F,
) -> Outcome<Histogram<u64>> {
    let mut latency = Histogram::new(3)?;
    for number in 0..FIRST + count {
        let start = Instant::now();
        trip().await?;
        if number >= FIRST {
            latency.record(start.elapsed().as_nanos() as u64)?;
        }
    }
    Ok(latency)
}

pub(crate) async fn ask(job: &Job) -> Outcome<()> {
    let job = job.clone();
    // In a task, as in a service: the thread that blocks on the runtime is woken more slowly.
    let latency = tokio::spawn(async move { measure(&job).await }).await??;
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    say(format_args!("asked {} {}", us(0.5), us(0.99)));
    Ok(())
}

async fn measure(job: &Job) -> Outcome<Histogram<u64>> {
    match job.of {
        Contestant::Put => {
            let session = zenoh(job).await?;
            let answers = session.declare_subscriber("bench/pong").await?;
            let there = publisher(&session, "bench/ping", true).await?;
            let (there, answers) = (&there, &answers);
            trips(job.count, || async {
                there.put(payload(DEFAULT_BYTES)).await?;
                answers.recv_async().await?;
                Ok(())
            })
            .await
        }
        Contestant::Query => {
            let session = zenoh(job).await?;
            let querier = session.declare_querier("bench/question").express(true).await?;
            let matching = querier.matching_listener().await?;
            while !querier.matching_status().await?.matching() {
                matching.recv_async().await?;
            }
            let querier = &querier;
            trips(job.count, || async {
                let replies = querier.get().payload(payload(DEFAULT_BYTES)).await?;
                let reply = replies.recv_async().await?;
                reply.result().map_err(|error| format!("{error:?}"))?;
                Ok(())
            })
            .await
        }
        Contestant::Plain | Contestant::Sealed => {
            let aether = aether(job, InboxOptions::interactive()).await?;
            let asker = aether.emitter("asker")?;
            let channel = Channel::new("bench.question")?;
            let (asker, channel) = (&asker, &channel);
            trips(job.count, || async {
                asker.ask_within(Wave::from_bytes(channel, payload(DEFAULT_BYTES))?, PATIENCE).await?;
                Ok(())
            })
            .await
        }
    }
}
