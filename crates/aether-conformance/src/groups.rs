//! Line 3, groups: each wave goes to exactly one member.

use std::collections::BTreeSet;
use std::ops::Range;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::report::{Checked, Failure, holds, same};
use super::stage::{Stage, listener, number, numbered, reached, vibrator};
use aether_core::{Aether, InboxOptions, Kind, Vibrator, Wave, WhenFull};

super::case::cases! {
    3 Groups each_wave_reaches_one_member_of_a_group_and_all_members_get_some,
    3 Groups a_group_shares_many_channels_while_others_come_and_go,
    3 Groups each_group_and_each_lone_listener_gets_every_wave,
    4 Groups a_group_continues_without_a_member_that_leaves,
    7 Groups a_full_member_of_a_group_costs_the_others_nothing,
}

/// The members of one group, each receiving in a task of its own.
struct RunningGroup {
    /// The receiving member, and the number received.
    heard: mpsc::UnboundedReceiver<(usize, u64)>,
    /// Aborts the members when dropped.
    _members: JoinSet<Checked>,
}

impl RunningGroup {
    async fn new(name: &str, places: &[(&Aether, &str)]) -> Checked<Self> {
        let (sender, heard) = mpsc::unbounded_channel();
        let mut members = JoinSet::new();
        for (index, (end, pattern)) in places.iter().enumerate() {
            let mut member = member(&format!("{name}-{index}"), end, pattern, name).await?;
            let sender = sender.clone();
            members.spawn(async move {
                while let Some(wave) = member.receive().await {
                    // Fails once the case is over.
                    let _ = sender.send((index, number(&wave)?));
                }
                Ok(())
            });
        }
        Ok(Self { heard, _members: members })
    }

    async fn next(&mut self, stage: &Stage, what: &str) -> Checked<(usize, u64)> {
        let heard = stage.within(what, self.heard.recv()).await?;
        heard.ok_or_else(|| Failure::new(what, "the end of all members"))
    }

    /// Receives each of the numbers exactly once, and nothing else.
    async fn hear_each(&mut self, stage: &Stage, what: &str, numbers: Range<u64>) -> Checked {
        let mut missing: BTreeSet<u64> = numbers.collect();
        while let Some(first) = missing.first() {
            let expected = format!("{what} to receive number {first} and {} more", missing.len() - 1);
            let (member, number) = self.next(stage, &expected).await?;
            if !missing.remove(&number) {
                let seen = format!("number {number} again, at member {member}");
                return Err(Failure::new("each wave at one member only", seen));
            }
        }
        Ok(())
    }
}

async fn member(name: &str, end: &Aether, pattern: &str, group: &str) -> Checked<Vibrator> {
    let member = vibrator(name, end).await?;
    member.resonate_in_group(pattern, group).await?;
    Ok(member)
}

async fn each_wave_reaches_one_member_of_a_group_and_all_members_get_some(stage: &Stage) -> Checked {
    let (here, there) = (&stage.here, &stage.there);
    let places = [here, here, here, there, there].map(|end| (end, "work.*"));
    let mut group = RunningGroup::new("workers", &places).await?;
    let (left, right) = (vibrator("left", here).await?, vibrator("right", there).await?);
    for count in 0..1000 {
        left.emit(numbered("work.a", 2 * count)?).await?;
        right.emit(numbered("work.b", 2 * count + 1)?).await?;
    }
    group.hear_each(stage, "the group", 0..2000).await?;
    // One at a time, because a medium may deliver many waves to one member at once. The broker chooses the member for
    // each wave; the chance that one of five is never chosen in 1000 waves is 10^-96.
    let mut idle: BTreeSet<usize> = (0..places.len()).collect();
    for count in 2000..3000 {
        left.emit(numbered("work.c", count)?).await?;
        let (member, number) = group.next(stage, "one member to receive the wave").await?;
        same("the wave", count, number)?;
        idle.remove(&member);
        if idle.is_empty() {
            return Ok(());
        }
    }
    holds("every member to get a wave", false, idle)
}

async fn a_group_shares_many_channels_while_others_come_and_go(stage: &Stage) -> Checked {
    const WAVES: u64 = 1000;
    let (here, there) = (&stage.here, &stage.there);
    let places = [here, here, there, there].map(|end| (end, "many.*"));
    let mut group = RunningGroup::new("many", &places).await?;
    let emitter = vibrator("emitter", here).await?;
    let (mut shares, mut _guest) = ([0; 4], None);
    let mut missing: BTreeSet<u64> = (0..WAVES).collect();
    for count in 0..WAVES {
        // In process, where only the router decides, they join and leave after each wave.
        if !stage.crosses() || count % 50 == 0 {
            let (end, pattern) =
                [(here, "many.*"), (there, "elsewhere"), (there, "many.>")][count as usize % 3];
            let guest = listener("guest", end, pattern).await?;
            // The previous one leaves.
            _guest = Some(guest);
        }
        // Commands are not batched.
        let wave = Wave::builder(format!("many.{count}")).kind(Kind::Command).text(count.to_string());
        emitter.emit(wave.build()?).await?;
    }
    while !missing.is_empty() {
        let (member, number) = group.next(stage, &format!("{} more waves", missing.len())).await?;
        holds("each wave at one member only", missing.remove(&number), number)?;
        shares[member] += 1;
    }
    // In process they take turns. A broker chooses at random; less than a fifth of the fair share has a chance of
    // 10^-60.
    let fair = WAVES / shares.len() as u64;
    let least = if stage.crosses() { fair / 5 } else { fair };
    holds("a fair share for each member", shares.iter().all(|share| *share >= least), shares)
}

async fn a_full_member_of_a_group_costs_the_others_nothing(stage: &Stage) -> Checked {
    const WAVES: u64 = 400;
    const ROOM: u64 = 8;
    let (report, mut seen) = mpsc::unbounded_channel();
    let options = InboxOptions::default().max_waves(ROOM as usize).when_full(WhenFull::Shed).on_shed(
        move |wave: &Wave, _| {
            let _ = report.send(number(wave));
        },
    );
    let stuck = Vibrator::builder("stuck").inbox(options).create(&stage.there).await?;
    stuck.resonate_in_group("full.*", "full").await?;
    let mut idle = member("idle", &stage.there, "full.*", "full").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    for count in 0..WAVES {
        let wave = Wave::builder("full.a").kind(Kind::Command).text(count.to_string());
        emitter.emit(wave.build()?).await?;
    }
    // Every wave, except those queued at the stuck member, is received or reported as shed.
    let mut missing: BTreeSet<u64> = (0..WAVES).collect();
    while missing.len() as u64 > ROOM {
        let what = format!("{} more waves to be received or shed", missing.len() as u64 - ROOM);
        let number = tokio::select! {
            wave = stage.next(&mut idle, &what) => number(&wave?)?,
            shed = seen.recv() => shed.ok_or_else(|| Failure::new(&what, "the end of the reports"))??,
        };
        holds("each wave once", missing.remove(&number), number)?;
    }
    let (stuck, idle) = (stuck.ledger(), idle.ledger());
    same("waves that the idle member lost", 0, idle.lost())?;
    same("waves that wait for the stuck member", ROOM, stuck.queued)?;
    same("waves that went to one member", WAVES, stuck.offered + idle.offered)?;
    // A broker does not know which member is full.
    holds("waves shed only over a network", stage.crosses() || stuck.lost() == 0, stuck)
}

async fn each_group_and_each_lone_listener_gets_every_wave(stage: &Stage) -> Checked {
    let (here, there) = (&stage.here, &stage.there);
    let mut groups = [
        ("the first group", RunningGroup::new("first", &[(here, "t.*"), (there, "t.*")]).await?),
        (
            "the second group",
            RunningGroup::new("second", &[(here, "t.*"), (here, "t.*"), (there, "t.*")]).await?,
        ),
        // A group is identified by its name, whatever its members' patterns.
        (
            "the mixed group",
            RunningGroup::new("mixed", &[(here, "t.*"), (there, "t.>"), (there, "t.a")]).await?,
        ),
    ];
    let mut alone = [listener("here", here, "t.>").await?, listener("there", there, "*.a").await?];
    let emitter = vibrator("emitter", here).await?;
    // The second round would reveal duplicates of the first.
    for numbers in [0..300, 300..600] {
        for count in numbers.clone() {
            emitter.emit(numbered("t.a", count)?).await?;
        }
        for (name, group) in &mut groups {
            group.hear_each(stage, name, numbers.clone()).await?;
        }
        for ear in &mut alone {
            for count in numbers.clone() {
                let what = format!("number {count} at a lone listener");
                same("the wave", count, number(&stage.next(ear, what).await?)?)?;
            }
        }
    }
    Ok(())
}

async fn a_group_continues_without_a_member_that_leaves(stage: &Stage) -> Checked {
    let leaves = member("leaves", &stage.there, "shift.*", "shift").await?;
    let detunes = member("detunes", &stage.here, "shift.*", "shift").await?;
    let mut stays = member("stays", &stage.there, "shift.*", "shift").await?;
    let emitter = vibrator("emitter", &stage.here).await?;
    drop(leaves);
    detunes.detune("shift.*")?;
    // A medium processes a leave in order with everything else.
    stage.flush(&stage.here).await?;
    stage.flush(&stage.there).await?;
    for count in 0..200 {
        emitter.emit(numbered("shift.a", count)?).await?;
    }
    // Waves for a member that has left are handed over, and may be overtaken.
    let mut missing: BTreeSet<u64> = (0..200).collect();
    while let Some(first) = missing.first() {
        let expected = format!("the last member to receive number {first} and {} more", missing.len() - 1);
        let number = number(&stage.next(&mut stays, expected).await?)?;
        holds("each wave once", missing.remove(&number), number)?;
    }
    same("waves that reached one that has left", 0, reached(&detunes))
}
