//! Rules as text.

use proptest::prelude::*;

use crate::{Rewrite, Rule};

#[test]
fn a_rule_is_read_from_a_line_and_written_as_it_is_read() {
    let text = "billing: emit invoices.>, news; listen orders.>; deny emit invoices.secret; rewrite a -> b.c, d -> e; max_amplitude 0.8; clamp_amplitude 0.5; max_rate 10; max_depth 3";
    let rule: Rule = text.parse().unwrap();
    let expected = Rule::new("billing").emit(["invoices.>", "news"]).listen(["orders.>"]);
    let expected = expected.deny_emit(["invoices.secret"]).rewrite("a", "b.c").rewrite("d", "e");
    assert_eq!(rule, expected.max_amplitude(0.8).clamp_amplitude(0.5).max_rate(10).max_depth(3));
    assert_eq!(rule.to_string(), text);
    for (text, at) in [
        ("billing", "billing"),
        ("billing: sing songs.>", "sing songs.>"),
        ("billing: emit a; max_rate many", "max_rate many"),
        ("billing: max_rate 1; max_rate 2", "max_rate 2"),
        ("billing: rewrite a > b", "rewrite a > b"),
        ("billing: max_depth -1", "max_depth -1"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        assert_eq!(error.at, at);
        assert!(error.to_string().contains("IDENTITY: emit PATTERN"), "{error}");
    }
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z*>.]{1,8}", 0..3)
}

prop_compose! {
    fn rule()(
        identity in "[a-z0-9*-]{1,8}",
        [emit, listen, deny_emit, deny_listen] in [words(), words(), words(), words()],
        rewrites in prop::collection::vec(("[a-z.]{1,8}", "[a-z.]{1,8}"), 0..3),
        amplitudes in [prop::option::of(0.001..=1.0_f32), prop::option::of(0.001..=1.0_f32)],
        sizes in [prop::option::of(any::<usize>()), prop::option::of(any::<usize>())],
        max_rate in prop::option::of(any::<u32>()),
    ) -> Rule {
        let rewrite = rewrites.into_iter().map(|(from, to)| Rewrite { from, to }).collect();
        let ([max_amplitude, clamp_amplitude], [max_payload, max_depth]) = (amplitudes, sizes);
        Rule {
            identity, emit, listen, deny_emit, deny_listen, rewrite,
            max_amplitude, clamp_amplitude, max_payload, max_rate, max_depth,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(rule in rule()) {
        prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
    }

    #[test]
    fn any_text_is_a_rule_or_an_error_that_quotes_it(text in ".{0,64}", parts in prop::collection::vec(
        prop::sample::select(vec![
            "a", ":", ";", ",", "->", " ", "emit ", "listen ", "deny ", "rewrite ", "max_rate ", "clamp_amplitude ", "1", "-1", ".5", ">", "*",
        ]), 0..16),
    ) {
        for text in [text, parts.concat()] {
            match text.parse::<Rule>() {
                Ok(rule) => prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule),
                Err(error) => prop_assert!(error.text == text && text.contains(&error.at)),
            }
        }
    }
}
