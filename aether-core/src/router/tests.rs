#[cfg(aether_loom)]
mod loom;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::inbox::{InboxOptions, WhenFull};
use crate::source::{Sequencer, Source};

/// This many inboxes subscribe alone, and as many in a group only.
const INBOXES: usize = 3;

#[derive(Debug, Clone)]
enum RoutingStep {
    /// The inbox, the pattern, and whether it is a member of a group.
    Join(usize, String, Option<bool>),
    Leave(prop::sample::Index),
    Mute(prop::sample::Index, bool),
    Emit(String),
}

fn any_name(wild: bool) -> impl Strategy<Value = String> {
    let tokens = if wild { vec!["a", "b", "*"] } else { vec!["a", "b"] };
    (prop::collection::vec(prop::sample::select(tokens), 1..3), any::<bool>())
        .prop_map(move |(tokens, rest)| tokens.join(".") + if wild && rest { ".>" } else { "" })
}

fn any_step() -> impl Strategy<Value = RoutingStep> {
    prop_oneof![
        3 => (0..INBOXES, any_name(true), any::<Option<bool>>()).prop_map(|(inbox, name, group)| RoutingStep::Join(inbox, name, group)),
        1 => any::<prop::sample::Index>().prop_map(RoutingStep::Leave),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, muted)| RoutingStep::Mute(which, muted)),
        6 => any_name(false).prop_map(RoutingStep::Emit),
    ]
}

fn inbox() -> Arc<Inbox> {
    Arc::new(Inbox::new(InboxOptions::default()).unwrap())
}

fn listen(router: &Router, pattern: &str, group: Option<&str>, inbox: &Arc<Inbox>) -> Arc<Subscription> {
    let sequencer = Arc::new(Sequencer::new(Source::framework()));
    let listener = Listener { sequencer, hears_own: true, observes: false, relabel: None };
    router.subscribe(Pattern::new(pattern).unwrap(), group.map(Into::into), Arc::clone(inbox), listener)
}

fn offered(inboxes: &[Arc<Inbox>]) -> Vec<u64> {
    inboxes.iter().map(|inbox| inbox.ledger().offered).collect()
}

proptest! {
    /// Independent of cached routes and of the patterns by which an inbox matches.
    #[test]
    fn each_inbox_gets_each_wave_once_and_each_group_once(steps in prop::collection::vec(any_step(), 1..60)) {
        let router = Router::new();
        let alone: Vec<_> = (0..INBOXES).map(|_| inbox()).collect();
        let members: Vec<_> = (0..INBOXES).map(|_| inbox()).collect();
        let mut joined: Vec<(usize, Arc<Subscription>)> = Vec::new();
        for step in steps {
            match step {
                RoutingStep::Join(inbox, name, group) => {
                    let place = if group.is_some() { &members } else { &alone };
                    let group = group.map(|first| if first { "first" } else { "second" });
                    joined.push((inbox, listen(&router, &name, group, &place[inbox])));
                }
                RoutingStep::Leave(which) if !joined.is_empty() => {
                    let (_, left) = joined.swap_remove(which.index(joined.len()));
                    router.unsubscribe(&left);
                }
                RoutingStep::Mute(which, muted) if !joined.is_empty() => {
                    let (_, subscription) = &joined[which.index(joined.len())];
                    // Only subscriptions of inboxes that match by another one as well are ever muted.
                    let others = joined.iter().filter(|(_, other)| Arc::ptr_eq(&other.inbox, &subscription.inbox));
                    if subscription.group.is_none() && others.count() > 1 {
                        router.mute(subscription, muted);
                    }
                }
                RoutingStep::Emit(name) => {
                    let channel = Channel::new(&name).unwrap();
                    let matches = |s: &Subscription| s.pattern.matches(&channel);
                    let mut expected = offered(&alone);
                    for (inbox, offered) in expected.iter_mut().enumerate() {
                        let mut of = joined.iter().filter(|(of, s)| *of == inbox && s.group.is_none() && matches(s));
                        *offered += u64::from(of.any(|(_, s)| !s.is_muted()));
                    }
                    let groups = ["first", "second"].into_iter();
                    let groups = groups.filter(|name| joined.iter().any(|(_, s)| s.group() == Some(name) && matches(s)));
                    let shared = offered(&members).iter().sum::<u64>() + groups.count() as u64;
                    let carried = router.carry(Wave::from_bytes(&channel, "x").unwrap());
                    prop_assert!(matches!(carried, Carried::Done(_)));
                    prop_assert_eq!(offered(&alone), expected, "{} {:?}", name, joined);
                    prop_assert_eq!(offered(&members).iter().sum::<u64>(), shared, "{} {:?}", name, joined);
                }
                RoutingStep::Leave(_) | RoutingStep::Mute(..) => {}
            }
        }
        for (_, subscription) in joined {
            router.unsubscribe(&subscription);
        }
        prop_assert!(router.table.read().is_empty());
    }
}

#[test]
fn a_list_that_grows_and_shrinks_holds_each_subscriber_once() {
    let router = Router::new();
    let inboxes: Vec<_> = (0..500).map(|_| inbox()).collect();
    let mut joined: Vec<_> = inboxes.iter().map(|inbox| listen(&router, "a", None, inbox)).collect();
    let carry = || match router.carry(Wave::from_bytes("a", "x").unwrap()) {
        Carried::Done(offered) => offered.inboxes(),
        Carried::Waiting(_) => None,
    };
    assert_eq!(carry(), Some(500));
    // Every other one first, which leaves many short pieces.
    while !joined.is_empty() {
        let mut keep = false;
        let gone: Vec<_> = joined
            .extract_if(.., |_| {
                keep = !keep;
                keep
            })
            .collect();
        for subscription in gone {
            router.unsubscribe(&subscription);
        }
        assert_eq!(carry(), Some(joined.len()));
    }
    assert!(router.table.read().is_empty());
}

#[test]
fn inboxes_of_closed_subscriptions_are_freed() {
    let router = Router::new();
    let gone: Vec<_> = (0..1000)
        .map(|number| {
            let (name, inbox) = (format!("a.{number}"), inbox());
            let subscription = listen(&router, &name, None, &inbox);
            let _ = router.carry(Wave::from_bytes(name.as_str(), "x").unwrap());
            router.unsubscribe(&subscription);
            Arc::downgrade(&inbox)
        })
        .collect();
    let kept = gone.iter().filter(|inbox| inbox.strong_count() > 0).count();
    // The pages of the cache are swept in turn, and each thread remembers a few routes.
    assert!(kept < 400, "{kept} inboxes are kept");
}

/// A group on one channel, whose members have room for one wave each.
fn group(router: &Router, members: usize, when_full: WhenFull) -> Vec<Arc<Inbox>> {
    let options = InboxOptions::default().max_waves(1).when_full(when_full);
    let inboxes: Vec<_> = (0..members).map(|_| Arc::new(Inbox::new(options.clone()).unwrap())).collect();
    for inbox in &inboxes {
        listen(router, "a", Some("group"), inbox);
    }
    inboxes
}

#[test]
fn the_members_of_a_group_take_turns_whether_they_have_room_or_not() {
    let patience = Duration::from_secs(1);
    for members in 2..=6 {
        for when_full in [WhenFull::Shed, WhenFull::Wait { patience }] {
            let router = Router::new();
            let inboxes = group(&router, members, when_full);
            for _ in 0..members * 10 {
                // Where emitters wait, this is an emit that is cancelled.
                let _ = router.carry(Wave::from_bytes("a", "x").unwrap());
            }
            assert_eq!(offered(&inboxes), vec![10; members], "{members} {when_full:?}");
            for _ in 0..members * 10 {
                router.notify(&Wave::from_bytes("a", "x").unwrap());
            }
            assert_eq!(offered(&inboxes), vec![20; members], "notices: {members} {when_full:?}");
        }
    }
}

/// As after a cancelled join, whose medium has not been told yet.
#[test]
fn waves_for_a_member_that_has_left_go_to_another_one_or_are_counted() {
    let router = Router::new();
    let (left, other) = (inbox(), inbox());
    let gone = listen(&router, "work", Some("group"), &left);
    let stays = listen(&router, "work", Some("group"), &other);
    assert!(gone.end());
    router.unsubscribe(&gone);
    let waves = || (0..2).map(|_| Wave::builder("work").build().unwrap()).collect();
    drop(router.arrive_for_if_room(&gone, waves()));
    assert_eq!((left.ledger().offered, other.ledger().offered), (0, 2));
    router.unsubscribe(&stays);
    drop(router.arrive_for_if_room(&gone, waves()));
    let ledger = left.ledger();
    assert_eq!((ledger.offered, ledger.shed_closed, other.ledger().offered), (2, 2, 2));
}

/// All patterns of this many tokens that match this channel by `a` or `*`.
fn matching_patterns(tokens: u32) -> (String, Vec<String>) {
    let pattern = |number: u32| {
        let token = |bit| if number >> bit & 1 == 0 { "a" } else { "*" };
        (0..tokens).map(token).collect::<Vec<_>>().join(".")
    };
    (pattern(0), (0..1 << tokens).map(pattern).collect())
}

#[test]
fn a_route_holds_each_inbox_once_however_many_of_its_patterns_match() {
    let router = Router::new();
    let (channel, patterns) = matching_patterns(8);
    let inboxes: Vec<_> = (0..8).map(|_| inbox()).collect();
    let mut joined = Vec::new();
    for (number, inbox) in inboxes.iter().enumerate() {
        // Each inbox begins with another pattern, so that another one delivers.
        let (first, rest) = (&patterns[number..=number], patterns.iter());
        joined.extend(
            first.iter().chain(rest).map(|pattern| listen(&router, pattern, None, inbox)).collect::<Vec<_>>(),
        );
    }
    let carry = || {
        let _ = router.carry(Wave::from_bytes(channel.as_str(), "x").unwrap());
        router.route(&Channel::new(&channel).unwrap()).parts.len()
    };
    assert_eq!(carry(), 8);
    assert_eq!(offered(&inboxes), [1; 8]);
    // The next one delivers for the rest.
    for first in joined.iter().step_by(patterns.len() + 1) {
        router.unsubscribe(first);
    }
    assert_eq!(carry(), 1);
    assert_eq!(offered(&inboxes), [2; 8]);
    let members: Vec<_> = (0..200).map(|_| inbox()).collect();
    for (number, member) in members.iter().enumerate() {
        listen(&router, &patterns[number], Some("group"), member);
    }
    (0..members.len()).for_each(|_| assert_eq!(carry(), 1));
    assert_eq!(offered(&members), [1; 200]);
}

#[test]
fn a_join_that_does_not_concern_a_channel_looks_at_none_of_the_patterns_that_match_it() {
    let router = Router::new();
    let (many, other) = (inbox(), inbox());
    let (channel, patterns) = matching_patterns(10);
    patterns.iter().for_each(|pattern| drop(listen(&router, pattern, None, &many)));
    let carry = || {
        let before = trie::VISITED.get();
        let _ = router.carry(Wave::from_bytes(channel.as_str(), "x").unwrap());
        trie::VISITED.get() - before
    };
    assert!(carry() > 1 << 10);
    for _ in 0..100 {
        let subscription = listen(&router, "b.*", None, &other);
        assert_eq!(carry(), 0);
        router.unsubscribe(&subscription);
        assert_eq!(carry(), 0);
    }
    // One that concerns it is seen.
    listen(&router, "a.>", None, &other);
    assert!(carry() > 0);
    assert_eq!(offered(&[many, other]), vec![202, 1]);
}
