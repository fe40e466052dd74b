//! The rate at which messages are received, where senders send as fast as there is room.

use std::sync::Arc;
use std::time::Instant;

use aether_bench::{median, payload};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;

use crate::contestants::{
    AsyncChannel, Broadcast, Bus, BusGroup, BusManyAtOnce, Contestant, Crossfire, Flume, Kanal, Mpsc,
    MpscEach, MpscManyAtOnce, Opened, Receiver as _, Sender as _,
};
use crate::{Error, Outcome, Table};

/// Sizes in bytes, with the number of messages of a round.
const SIZES: [(usize, usize); 4] = [(16, 240_000), (128, 240_000), (4096, 80_000), (256 << 10, 1_600)];
/// The number of senders or receivers where there are many.
const MANY: usize = 8;

/// Whether the payload of each message is allocated, or all messages are clones of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Fresh,
    Shared,
}

impl Payload {
    const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Shared => "shared",
        }
    }
}

/// Senders, receivers and what they send.
#[derive(Debug, Clone, Copy)]
struct Job {
    senders: usize,
    receivers: usize,
    bytes: usize,
    messages: usize,
    payload: Payload,
}

/// The outcome of the messages of a round.
struct Round {
    /// Messages received a second, by all receivers together.
    rate: f64,
    /// The share of messages that receivers missed.
    lost: f64,
}

type Run = fn(Job) -> BoxFuture<'static, Result<Round, Error>>;

/// Contestants that run beside each other.
struct Group {
    table: Table,
    title: &'static str,
    senders: usize,
    receivers: usize,
    /// The first is the one that the others are compared with.
    contestants: Vec<(&'static str, Run)>,
}

fn entry<C: Contestant>() -> (&'static str, Run) {
    (C::NAME, |job| run::<C>(job).boxed())
}

fn groups() -> Vec<Group> {
    let queues = || vec![entry::<Flume>(), entry::<Kanal>(), entry::<AsyncChannel>(), entry::<Crossfire>()];
    let to_one = || [vec![entry::<Mpsc>()], queues(), vec![entry::<Bus>()]].concat();
    let to_all = || vec![entry::<Broadcast>(), entry::<MpscEach>(), entry::<Bus>()];
    let group = |table, title, senders, receivers, contestants| Group {
        table,
        title,
        senders,
        receivers,
        contestants,
    };
    vec![
        group(Table::One, "one sender, one receiver", 1, 1, to_one()),
        group(
            Table::Many,
            "the same, 64 at once",
            1,
            1,
            vec![entry::<MpscManyAtOnce>(), entry::<BusManyAtOnce>()],
        ),
        group(Table::Fanin, "8 senders, one receiver", MANY, 1, to_one()),
        group(Table::Fanout, "one sender, 8 receivers that all hear it", 1, MANY, to_all()),
        group(Table::All, "8 senders, 8 receivers that all hear them", MANY, MANY, to_all()),
        group(
            Table::Shared,
            "8 senders, one of 8 receivers takes each message",
            MANY,
            MANY,
            [queues(), vec![entry::<BusGroup>()]].concat(),
        ),
    ]
}

/// Prints a table for each number of senders and receivers that is wanted.
pub(crate) fn compare(
    runtime: &Runtime,
    rounds: usize,
    sizes: &[usize],
    wanted: impl Fn(Table) -> bool,
) -> Outcome {
    let sizes: Vec<_> =
        SIZES.into_iter().filter(|(bytes, _)| sizes.is_empty() || sizes.contains(bytes)).collect();
    for group in groups().into_iter().filter(|group| wanted(group.table)) {
        let columns: Vec<_> = sizes
            .iter()
            .flat_map(|&size| [Payload::Fresh, Payload::Shared].map(|payload| (size, payload)))
            .collect();
        let head =
            columns.iter().map(|((bytes, _), payload)| format!("{}, {}", size_name(*bytes), payload.name()));
        let head: Vec<_> = std::iter::once(group.title.to_owned()).chain(head).collect();
        let mut table = aether_bench::Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
        let mut cells = vec![Vec::new(); group.contestants.len()];
        for ((bytes, messages), payload) in columns {
            let job = Job { senders: group.senders, receivers: group.receivers, bytes, messages, payload };
            for (cell, text) in cells.iter_mut().zip(column(runtime, rounds, &group, job)?) {
                cell.push(text);
            }
        }
        for ((name, _), cells) in group.contestants.iter().zip(cells) {
            table.row(std::iter::once((*name).to_owned()).chain(cells));
        }
        println!("\n{}", table.markdown());
    }
    Ok(())
}

fn size_name(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// One cell for each contestant: millions a second, and the ratio to the first contestant in the same round.
fn column(runtime: &Runtime, rounds: usize, group: &Group, job: Job) -> Result<Vec<String>, Error> {
    let mut seen: Vec<Vec<Round>> = Vec::new();
    for _ in 0..rounds {
        let round = group.contestants.iter().map(|(_, run)| runtime.block_on(run(job)));
        seen.push(round.collect::<Result<_, _>>()?);
    }
    let cell = |at: usize| {
        let rate = median(seen.iter().map(|round| round[at].rate)) / 1e6;
        let ratio = median(seen.iter().map(|round| round[at].rate / round[0].rate));
        let lost = median(seen.iter().map(|round| round[at].lost)) * 100.0;
        let digits = if rate < 1.0 { 3 } else { 2 };
        let lost = if lost > 0.0 { format!(", {lost:.0} % lost") } else { String::new() };
        format!("{rate:.digits$} ({ratio:.2}{lost})")
    };
    Ok((0..group.contestants.len()).map(cell).collect())
}

/// Fails if a message is missing without being counted as lost.
async fn run<C: Contestant>(job: Job) -> Result<Round, Error> {
    let Job { senders, bytes, messages, .. } = job;
    let Opened { senders: sending, receivers, end } = C::open(senders, job.receivers).await?;
    let heard_by_all = receivers.len();
    let all_ready = Arc::new(Barrier::new(senders + receivers.len() + 1));
    let mut receiving = Vec::new();
    for mut receiver in receivers {
        let all_ready = Arc::clone(&all_ready);
        receiving.push(tokio::spawn(async move {
            all_ready.wait().await;
            let mut received = 0_u64;
            let lost = receiver
                .receive_all(|message| {
                    assert_eq!(message.len(), bytes);
                    received += 1;
                })
                .await;
            (received, lost)
        }));
    }
    let mut tasks = Vec::new();
    for mut sender in sending {
        let (all_ready, shared) = (Arc::clone(&all_ready), payload(bytes));
        tasks.push(tokio::spawn(async move {
            all_ready.wait().await;
            match job.payload {
                Payload::Fresh => {
                    sender.send_all(messages / senders, move || Bytes::from(vec![7; bytes])).await
                }
                Payload::Shared => sender.send_all(messages / senders, move || shared.clone()).await,
            }
        }));
    }
    all_ready.wait().await;
    let start = Instant::now();
    for task in tasks {
        task.await??;
    }
    end.await?;
    let (mut received, mut lost) = (0, 0);
    for receiver in receiving {
        let counts = receiver.await?;
        received += counts.0;
        lost += counts.1;
    }
    let took = start.elapsed().as_secs_f64();
    let offered = messages as u64;
    if received + lost != offered && received + lost != offered * heard_by_all as u64 {
        return Err(format!("{}: {received} received and {lost} lost of {offered}", C::NAME).into());
    }
    Ok(Round { rate: received as f64 / took, lost: lost as f64 / (received + lost) as f64 })
}
