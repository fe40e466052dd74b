use super::*;
use proptest::prelude::*;

fn hears(pattern: &str, channel: &str) -> bool {
    Pattern::new(pattern).unwrap().matches(&Channel::with_reserved(channel).unwrap())
}

#[test]
fn wildcards_follow_the_nats_rules() {
    assert!(hears("orders.created", "orders.created"));
    assert!(hears("orders.*", "orders.created"));
    assert!(!hears("orders.*", "orders"));
    assert!(!hears("orders.*", "orders.a.b"));
    assert!(hears("*.created", "orders.created"));
    assert!(hears("orders.>", "orders.a.b"));
    assert!(!hears("orders.>", "orders"));
    assert!(hears("*", "orders.a.b"));
    assert!(hears("*.*", "orders.a") && !hears("*.*", "orders"));
}

#[test]
fn leading_wildcards_do_not_match_reserved_channels() {
    assert!(!hears(">", "_aether.floor") && !hears("*.floor", "_aether.floor") && !hears("*", "_aether"));
    assert!(hears("_aether.>", "_aether.floor"));
    assert!(hears(">", "_aetherial.floor"));
}

#[test]
fn patterns_overlap_if_one_channel_matches_both() {
    let overlap = |a: &str, b: &str| {
        let (a, b) = (Pattern::new(a).unwrap(), Pattern::new(b).unwrap());
        assert_eq!(a.overlaps(&b), b.overlaps(&a));
        a.overlaps(&b)
    };
    for (a, b) in [("a", "a"), ("a.*", "*.b"), ("a.>", "*.b.c"), (">", "a"), ("a.*.c", "a.b.*"), (">", ">")] {
        assert!(overlap(a, b), "{a} {b}");
    }
    for (a, b) in [("a", "b"), ("a.>", "a"), ("a.*", "a.b.c"), ("a.*.c", "a.b.d"), ("a.>", "b.>")] {
        assert!(!overlap(a, b), "{a} {b}");
    }
    // A leading wildcard matches no reserved channel.
    for a in [">", "*", "*.x", "*.>"] {
        for b in ["_aether.x", "_aether.*", "_aether.>", "_aether"] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }
    assert!(overlap("_aether.*", "_aether.x") && overlap("*.x", "_aetherial.x") && overlap("*.x", ">"));
}

#[test]
fn a_pattern_covers_another_if_it_matches_all_of_its_channels() {
    let covers = |a: &str, b: &str| Pattern::new(a).unwrap().covers(&Pattern::new(b).unwrap());
    for (a, b) in [
        ("a", "a"),
        ("a.*", "a.b"),
        ("a.*", "a.*"),
        ("a.>", "a.*"),
        ("a.>", "a.b.>"),
        (">", "*.b"),
        (">", "a"),
    ] {
        assert!(covers(a, b), "{a} {b}");
    }
    for (a, b) in
        [("a", "b"), ("a.b", "a.*"), ("a.*", "a.>"), ("a.*", "a.b.c"), ("a.>", "a"), (">", "_aether.x")]
    {
        assert!(!covers(a, b), "{a} {b}");
    }
}

#[test]
fn refusals_name_the_character_and_the_place() {
    let refused = |name: &str| Channel::new(name).unwrap_err();
    assert_eq!(refused(""), ChannelError::Empty);
    assert_eq!(refused("a..b"), ChannelError::EmptyToken { name: "a..b".into(), position: 2 });
    assert_eq!(refused(".a"), ChannelError::EmptyToken { name: ".a".into(), position: 0 });
    assert_eq!(refused("a."), ChannelError::EmptyToken { name: "a.".into(), position: 2 });
    assert!(matches!(refused("a.é"), ChannelError::Character { character: 'é', position: 2, .. }));
    assert!(matches!(refused("a\u{0}"), ChannelError::Character { position: 1, .. }));
    assert!(matches!(refused("a.*"), ChannelError::Wildcard { position: 2, in_pattern: false, .. }));
    assert_eq!(refused(&"a".repeat(256)), ChannelError::TooLong { bytes: 256 });
    assert!(matches!(refused(&["a"; 17].join(".")), ChannelError::TooManyTokens { tokens: 17, .. }));
    for reserved in ["_aether.floor", "_aether", "_INBOX.x", "$SYS.x"] {
        assert!(matches!(refused(reserved), ChannelError::Reserved { .. }), "{reserved}");
    }
    assert!(Channel::new("a".repeat(255)).is_ok() && Channel::new(["a"; 16].join(".")).is_ok());
}

#[test]
fn misplaced_wildcards_are_refused_in_patterns() {
    for (bad, at) in [("a*", 1), ("a.>.b", 2), (">.a", 0), ("a.b>", 3), ("**", 0)] {
        match Pattern::new(bad).unwrap_err() {
            ChannelError::Wildcard { position, in_pattern: true, .. } => {
                assert_eq!(position, at, "{bad}")
            }
            other => panic!("{bad}: {other}"),
        }
    }
}

fn any_name(wild: bool) -> impl Strategy<Value = String> {
    let tokens = if wild { vec!["a", "*", "_aether"] } else { vec!["a", "b", "_aether"] };
    (prop::collection::vec(prop::sample::select(tokens), 1..4), any::<bool>())
        .prop_map(move |(tokens, rest)| tokens.join(".") + if wild && rest { ".>" } else { "" })
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused_without_panic(text in ".{0,300}") {
        if let Ok(channel) = Channel::new(&text) {
            prop_assert_eq!(channel.as_str(), &text);
            prop_assert!(Pattern::from(&channel).matches(&channel));
            prop_assert!(Pattern::everything().matches(&channel));
        }
        let _ = Pattern::new(&text);
    }

    #[test]
    fn patterns_that_hear_one_channel_overlap(
        a in any_name(true), b in any_name(true), channel in any_name(false),
    ) {
        let (first, second) = (Pattern::new(&a).unwrap(), Pattern::new(&b).unwrap());
        let channel = Channel::with_reserved(&channel).unwrap();
        let is_heard_by_both = first.matches(&channel) && second.matches(&channel);
        prop_assert!(!is_heard_by_both || first.overlaps(&second), "{a} {b} {channel}");
    }
}

#[test]
fn a_kept_name_is_not_parsed_again_and_a_refused_one_is() {
    thread_local! { static PARSED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) }; }
    let parse = |name: &str| {
        PARSED.set(PARSED.get() + 1);
        Channel::parse(name)
    };
    for _ in 0..3 {
        assert_eq!(recent::channel("kept.name", |_| true, parse).unwrap().as_str(), "kept.name");
    }
    assert_eq!(PARSED.get(), 1);
    for _ in 0..3 {
        assert!(recent::channel("not a name", |_| true, parse).is_err());
    }
    assert_eq!(PARSED.get(), 4);
}

#[test]
fn names_that_share_a_place_are_told_apart() {
    let names: Vec<String> = (0..500).map(|number| format!("a.long.channel.{number:03}.of.many")).collect();
    for _ in 0..2 {
        for name in names.iter().map(String::as_str).chain(["a", "aa", "a.a", "_aether.a", "$a"]) {
            assert_eq!(Channel::with_reserved(name).unwrap().as_str(), name);
            assert_eq!(Channel::with_reserved(name).unwrap(), Channel::parse(name).unwrap());
        }
    }
    // A kept channel that is reserved is still refused to users.
    assert!(Channel::with_reserved("_aether.a").unwrap().is_reserved() && Channel::new("_aether.a").is_err());
    assert!(!Channel::with_reserved("$a").unwrap().is_reserved() && Channel::new("$a").is_err());
}
