//! Channels and patterns: a text is taken exactly if the rules say so, and a naive matcher agrees. The
//! input is a pattern and a channel, separated by a line break.

#![no_main]

use aether_core::{Channel, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let (pattern, channel) = data.split_once('\n').unwrap_or((data, data));
    let parsed = (Pattern::new(pattern), Channel::new(channel));
    assert_eq!(parsed.0.is_ok(), is_pattern(pattern), "pattern {pattern:?}");
    assert_eq!(parsed.1.is_ok(), is_channel(channel), "channel {channel:?}");
    // A refusal is shown.
    assert!(parsed.0.as_ref().err().is_none_or(|error| !error.to_string().is_empty()));
    assert!(parsed.1.as_ref().err().is_none_or(|error| !error.to_string().is_empty()));
    if let Ok(pattern) = &parsed.0 {
        // A bare `*` is shown as what it means.
        assert_eq!(Pattern::new(pattern.as_str()).as_ref(), Ok(pattern));
    }
    if let Ok(channel) = &parsed.1 {
        assert_eq!(channel.as_str().split('.').collect::<Vec<_>>(), channel.tokens().collect::<Vec<_>>());
        assert!(Pattern::from(channel).matches(channel));
        assert!(Pattern::everything().matches(channel));
    }
    if let (Ok(parsed_pattern), Ok(parsed_channel)) = &parsed {
        let pattern: Vec<_> = pattern.split('.').collect();
        let channel: Vec<_> = channel.split('.').collect();
        let expected = pattern == ["*"] || matches(&pattern, &channel);
        assert_eq!(parsed_pattern.matches(parsed_channel), expected, "{pattern:?} {channel:?}");
    }
});

/// The definition: token by token, `*` for one, a last `>` for one or more.
fn matches(pattern: &[&str], channel: &[&str]) -> bool {
    match (pattern, channel) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([wanted, pattern @ ..], [token, channel @ ..]) => {
            (*wanted == "*" || wanted == token) && matches(pattern, channel)
        }
        _ => false,
    }
}

fn is_name(name: &str, is_token: impl Fn(usize, &str) -> bool) -> bool {
    let tokens: Vec<_> = name.split('.').collect();
    (1..=255).contains(&name.len())
        && tokens.len() <= 16
        && name.bytes().all(|byte| (0x21..=0x7E).contains(&byte))
        && tokens
            .iter()
            .enumerate()
            .all(|(index, token)| !token.is_empty() && is_token(tokens.len() - index, token))
}

fn is_channel(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    is_name(name, |_, token| !token.contains(['*', '>']))
        && first != "_aether"
        && first != "_INBOX"
        && !first.starts_with('$')
}

fn is_pattern(name: &str) -> bool {
    is_name(name, |from_the_end, token| {
        !token.contains(['*', '>']) || token == "*" || (token == ">" && from_the_end == 1)
    })
}
