//! How long a process takes until its first wave is delivered: after its start, and once both run.

use std::time::Duration;

use aether_bench::{clock, median};
use aether_conformance::Cable;
use aether_core::{AskError, InboxOptions, Vibrator, Wave};

use crate::goal::{Goals, spread};
use crate::session::aether;
use crate::side::{Contestant, Job, Outcome, Role, Way, say};

/// Joins of a running process.
const JOINS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions while nobody is found.
const AGAIN: Duration = Duration::from_millis(1);

pub(crate) fn measure(cable: Option<&Cable>, starts: usize, goals: &mut Goals) -> Outcome<()> {
    let mut late = [const { Vec::new() }; 2];
    let mut both = [const { Vec::new() }; 2];
    let (mut joined, mut longest_join) = (Vec::new(), Vec::new());
    let found = if cable.is_some() { "by multicast over a cable" } else { "by `peer=` over loopback" };
    for _ in 0..starts {
        for (are_both_new, figures) in [(false, &mut late), (true, &mut both)] {
            let way = cable.map_or_else(Way::loopback, |cable| Ok(Way::Cable(cable)))?;
            let start = clock::now();
            let hearer = way.first(Role::Hear, Contestant::Sealed, 0)?;
            if !are_both_new {
                hearer.says::<u64>("ready")?;
            }
            let start = if are_both_new { start } else { clock::now() };
            let joiner = way.second(Role::Join, Contestant::Sealed, JOINS)?;
            let since = |word| -> Outcome<f64> {
                let at = joiner.says::<u64>(word)?.first().copied().ok_or("a side without a time")?;
                Ok(at.saturating_sub(start) as f64 / 1e6)
            };
            figures[0].push(since("connected")?);
            figures[1].push(since("answered")?);
            let [p50, most] = joiner.says::<f64>("joined")?[..] else { return Err("no joins".into()) };
            joined.push(p50);
            longest_join.push(most);
        }
    }
    println!("Found {found}, sealed; two processes, {starts} starts of each kind\n");
    println!("| ms | connected | first wave there and answered |\n|---|---|---|");
    for (what, figures) in [("one starts while the other runs", &late), ("both start", &both)] {
        println!("| {what} | {} | {} |", spread(&figures[0], 0), spread(&figures[1], 0));
        let most = figures[1].iter().copied().fold(f64::NAN, f64::max);
        goals.at_most(&format!("the slowest first wave: {what}"), 1000.0, most, " ms");
    }
    println!("\n| ms, both run | median of {JOINS} joins | longest |\n|---|---|---|");
    println!("| from joining to the first wave | {} | {} |\n", spread(&joined, 2), spread(&longest_join, 2));
    goals.at_most("from joining to the first wave, both run", 100.0, median(longest_join), " ms");
    Ok(())
}

/// Answers, and emits on a channel when asked to.
pub(crate) async fn hear(job: &Job) -> Outcome<()> {
    let aether = aether(job, InboxOptions::interactive()).await?;
    let mut hearer = Vibrator::create("hearer", &aether).await?;
    hearer.resonate_on("bench.first").await?;
    say("ready");
    while let Some(wave) = hearer.receive().await {
        if wave.is_question() {
            wave.reply(&1).await?;
        } else {
            let channel = wave.text()?.to_owned();
            hearer.emit(Wave::builder(channel).text("now").build()?).await?;
        }
    }
    Ok(())
}

pub(crate) async fn join(job: &Job) -> Outcome<()> {
    let aether = aether(job, InboxOptions::interactive()).await?;
    say(format_args!("connected {}", clock::now()));
    let asker = aether.emitter("asker")?;
    loop {
        match asker.ask_within(Wave::builder("bench.first").text("?").build()?, PATIENCE).await {
            Ok(_) => break,
            Err(AskError::NoResonator { .. }) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
    say(format_args!("answered {}", clock::now()));
    let mut joins = Vec::new();
    for number in 0..job.count {
        let start = clock::now();
        let mut joiner = Vibrator::create("joiner", &aether).await?;
        let channel = format!("bench.joined.{number}");
        joiner.resonate_on(&*channel).await?;
        asker.emit(Wave::builder("bench.first").text(&channel).build()?).await?;
        tokio::time::timeout(PATIENCE, joiner.receive()).await?.ok_or("closed")?;
        joins.push(clock::now().saturating_sub(start) as f64 / 1e6);
    }
    let most = joins.iter().copied().fold(f64::NAN, f64::max);
    say(format_args!("joined {} {most}", median(joins)));
    Ok(())
}
