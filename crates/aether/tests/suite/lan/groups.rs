//! A group whose members are processes, one of which dies.

use std::collections::HashMap;
use std::time::Duration;

use aether::lan::LanView;
use aether_conformance::{Cable, End};
use aether_core::{Aether, Vibrator};

use crate::lan::machine::{Process, say, told};
use crate::settling::flushed;

/// Of the newcomer, at least.
const SHARE: usize = 50;
const PAUSE: Duration = Duration::from_millis(5);

#[test]
fn a_group_loses_a_member_and_gets_another_and_no_wave_is_handled_twice() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let member = |end| {
        let member = Process::start(&cable, end, "member");
        member.says("ready");
        member
    };
    let (mut doomed, survivor) = (member(End::Left), member(End::Right));
    let mut boss = Process::start(&cable, End::Left, "boss");
    boss.says("emits");
    // Each has a share. Their lines are kept.
    let mut handled: Vec<Vec<u64>> = [&doomed, &survivor].map(|member| vec![next(member)]).into();
    doomed.kill();
    // Nothing tells the end of a process that is killed: it has gone when it was silent for long enough.
    let [all_from] = boss.counts("at")[..] else { panic!("no number") };
    let newcomer = member(End::Right);
    handled.push((0..SHARE).map(|_| next(&newcomer)).collect());
    boss.tell();
    let [emitted] = boss.counts("emitted")[..] else { panic!("no number") };

    for (mut member, handled) in [doomed, survivor, newcomer].into_iter().zip(&mut handled) {
        member.tell_if_alive();
        handled.extend(member.all("did", "done").iter().map(|said| said.parse::<u64>().unwrap()));
    }
    let mut times = HashMap::<u64, usize>::new();
    handled.iter().flatten().for_each(|number| *times.entry(*number).or_default() += 1);
    let repeated: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    let lost: Vec<u64> = (0..emitted).filter(|number| !times.contains_key(number)).collect();
    let shares: Vec<_> = handled.iter().map(Vec::len).collect();
    println!("{emitted} emitted, handled {shares:?}, lost {}; all from {all_from} on", lost.len());
    assert!(repeated.is_empty(), "{repeated:?}");
    assert!(lost.iter().all(|number| *number < all_from), "{lost:?}");
}

/// The next wave that a member handles.
fn next(member: &Process) -> u64 {
    member.says("did").parse().unwrap()
}

/// In the role of the boss: emits all the time once both members are there, and prints its number when one of
/// them has gone, and at the end, when the test asks for it.
pub(crate) async fn emit(aether: &Aether, view: &LanView) {
    let mut changes = view.changes().unwrap();
    while view.peers().len() < 2 {
        changes.changed().await.unwrap();
    }
    let emitter = aether.emitter("boss").unwrap();
    let mut pauses = tokio::time::interval(PAUSE);
    let (mut number, mut was_left, end) = (0_u64, false, tokio::spawn(told()));
    say("emits");
    while !end.is_finished() {
        pauses.tick().await;
        emitter.emit_wave("work.some", &number).await.unwrap();
        number += 1;
        if !was_left && view.peers().len() < 2 {
            was_left = true;
            // All that was sent to it was emitted before.
            say(format_args!("at {number}"));
        }
    }
    end.await.unwrap();
    flushed(aether).await;
    say(format_args!("emitted {number}"));
    aether.close().await.unwrap();
}

/// In the role of a member: prints what it does.
pub(crate) async fn work(aether: &Aether) {
    let mut member = Vibrator::builder("member").create(aether).await.unwrap();
    member.resonate_in_group("work.*", "crew").await.unwrap();
    say("ready");
    let mut stop = tokio::spawn(told());
    loop {
        tokio::select! {
            wave = member.receive() => say(format_args!("did {}", wave.unwrap().json::<u64>().unwrap())),
            _ = &mut stop => break,
        }
    }
    while let Ok(wave) = member.try_receive() {
        say(format_args!("did {}", wave.json::<u64>().unwrap()));
    }
    say("done");
}
