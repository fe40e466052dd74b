use super::*;
use proptest::prelude::*;

const DOCUMENTED: &str = r#"{"process":"shop@1f9a3c5b7d2e4f60","version":"0.1.0","uptime_ms":61500,"every_ms":5000,"inboxes":[{"vibrator":"shop","open":1,"floor":0.25,"ledger":{"offered":120,"delivered":100,"shed_full":17,"queued":3}}],"left_out":{"names":2,"open":1,"ledger":{"offered":4,"delivered":4}},"medium":{"connects":1,"in_flight":2},"outbox":{"offered":50,"delivered":50},"echoes":{"reflected":17,"echoed":17},"letters":{},"handlers":[{"service":"shop","counts":{"received":100,"succeeded":98,"failed":1,"in_flight":1,"breakers":1,"breakers_open":1,"breaker_openings":4}}]}"#;

#[test]
fn the_payload_is_encoded_as_documented() {
    assert!(
        include_str!("../../../../docs/protocol/README.md").contains(DOCUMENTED),
        "docs/protocol/README.md shows it"
    );
    let account = read(DOCUMENTED.as_bytes()).unwrap();
    assert_eq!(account.process.to_string(), "shop@1f9a3c5b7d2e4f60");
    assert_eq!((account.uptime, account.every), (Duration::from_millis(61_500), Duration::from_secs(5)));
    assert_eq!((account.ledger().offered, account.ledger().lost(), account.left_out_names), (124, 17, 2));
    assert_eq!(account.effective_floor(), Floor::new(0.25).unwrap());
    assert_eq!((account.medium.outbox.delivered, account.medium.in_flight), (50, 2));
    let handlers = account.all_handlers();
    assert_eq!((handlers.breakers_open, handlers.breaker_openings, handlers.failed), (1, 4, 1));
    assert_eq!(String::from_utf8(write(&account)).unwrap(), DOCUMENTED);
}

#[test]
fn a_later_version_may_add_names_and_an_earlier_one_may_lack_some() {
    let added = DOCUMENTED.replacen('{', "{\"new\":[1],", 1);
    assert_eq!(read(added.as_bytes()).unwrap(), read(DOCUMENTED.as_bytes()).unwrap());
    let least = r#"{"process":"a@1","version":"0","uptime_ms":0,"every_ms":1}"#;
    let account = read(least.as_bytes()).unwrap();
    assert_eq!((account.ledger(), account.inboxes.len(), account.is_last), (Ledger::default(), 0, false));
    let unnamed = read(DOCUMENTED.replace("\"names\":2", "\"names\":0").as_bytes()).unwrap();
    assert_eq!((unnamed.left_out_names, unnamed.left_out.ledger.offered), (0, 4));
    assert_eq!(read(&write(&unnamed)), Ok(unnamed), "its sums are written as well");
}

#[test]
fn an_account_that_does_not_add_up_is_refused_with_its_process() {
    for (from, to) in [
        ("\"delivered\":100", "\"delivered\":99"),
        ("\"queued\":3", "\"queued\":4"),
        ("\"offered\":4,", "\"offered\":5,"),
        ("\"offered\":50", "\"offered\":49"),
        ("\"reflected\":17", "\"reflected\":16"),
        ("\"letters\":{}", "\"letters\":{\"buried\":1}"),
        ("\"failed\":1", "\"failed\":2"),
        ("\"breakers\":1", "\"breakers\":0"),
    ] {
        assert!(DOCUMENTED.contains(from), "{from}");
        let (reason, process) = read(DOCUMENTED.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(reason, AccountError::DoesNotAddUp, "{to}");
        assert_eq!(process.unwrap().name(), "shop");
    }
}

#[test]
fn what_cannot_be_an_account_is_refused() {
    for (from, to) in [
        ("shop@1f9a3c5b7d2e4f60", "shop"),
        ("shop@1f9a3c5b7d2e4f60", "@1"),
        ("0.1.0", ""),
        ("0.25", "2"),
        ("0.25", "-1"),
        ("0.25", "null"),
        ("\"vibrator\":\"shop\"", "\"vibrator\":\"\""),
        ("\"vibrator\":\"shop\"", "\"vibrator\":\"a\\n\""),
        (":120", ":-1"),
        (":120", ":9007199254740992"),
        (":120", ":1.5"),
        ("61500", "\"soon\""),
        ("}],\"left_out\"", "},{\"vibrator\":\"shop\",\"ledger\":{}}],\"left_out\""),
    ] {
        assert!(DOCUMENTED.contains(from), "{from}");
        let (reason, _) = read(DOCUMENTED.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(reason, AccountError::Unreadable, "{to}");
    }
    for text in ["", "[]", "{}", "null"] {
        assert_eq!(read(text.as_bytes()).unwrap_err(), (AccountError::Unreadable, None), "{text}");
    }
    let large = format!("{DOCUMENTED}{}", " ".repeat(MAX_ACCOUNT_BYTES));
    assert_eq!(read(large.as_bytes()).unwrap_err(), (AccountError::TooLarge, None));
}

fn inbox(name: String, lost: u64) -> InboxReport {
    let ledger = Ledger { offered: lost, shed_full: lost, ..Ledger::default() };
    InboxReport { open: 1, ledger, ..InboxReport::none(&name) }
}

#[test]
fn ten_thousand_vibrators_and_services_fit_into_one_bounded_account() {
    let mut account = read(DOCUMENTED.as_bytes()).unwrap();
    // The longest names, of characters that JSON escapes.
    let name = |n: u64| format!("{n:0>8}{}", "\"".repeat(120));
    account.inboxes = (0..10_000).map(|n| inbox(name(n), n)).collect();
    account.handlers = (0..10_000)
        .map(|n| HandlersAccount { name: name(n), received: n, succeeded: n, ..HandlersAccount::default() })
        .collect();
    (account.left_out_names, account.left_out) = (0, InboxReport::none(OTHER));
    bound(&mut account);
    let payload = write(&account);
    assert!(payload.len() <= MAX_ACCOUNT_BYTES, "{}", payload.len());
    assert_eq!(account.inboxes.len() as u64 + account.left_out_names, 10_000);
    assert!(account.inboxes.len() > 40, "{}", account.inboxes.len());
    assert_eq!(account.inboxes[0].ledger.lost(), 9_999, "those that lost most come first");
    let back = read(&payload).unwrap();
    assert_eq!(back, account);
    assert_eq!((back.ledger().lost(), back.all_handlers().received), (9_999 * 5_000, 9_999 * 5_000));
    // Nothing is missing in the sums of what a server with small messages takes.
    for max_bytes in [16 << 10, 4 << 10, 2 << 10] {
        let payload = write_within(account.clone(), max_bytes);
        assert!(payload.len() <= max_bytes, "{} of {max_bytes}", payload.len());
        let back = read(&payload).unwrap();
        assert_eq!(back.inboxes.len() as u64 + back.left_out_names, 10_000);
        assert_eq!((back.ledger().lost(), back.all_handlers().received), (9_999 * 5_000, 9_999 * 5_000));
    }
    assert!(write_within(account, 0).len() < 2 << 10, "what remains is small");
}

proptest! {
    #[test]
    fn arbitrary_payloads_are_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&payload);
    }

    #[test]
    fn changed_payloads_are_read_or_refused(at in 0..DOCUMENTED.len(), byte in any::<u8>()) {
        let mut payload = DOCUMENTED.as_bytes().to_vec();
        payload[at] = byte;
        if let Ok(account) = read(&payload) {
            prop_assert!(account.adds_up());
            prop_assert_eq!(read(&write(&account)), Ok(account));
        }
    }
}
