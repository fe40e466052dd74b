//! An outbox in which some waves are held: what can be taken past them, and how patient emitters are.

use super::*;

/// Takes at most `most` waves that are not weak. Returns their numbers.
fn take(inbox: &Inbox, most: usize, seen: &mut u64) -> Vec<u64> {
    let mut taken = Vec::new();
    let is_weak = |wave: &Wave| wave.signal().level() >= numbered(0, 0.1).signal().level();
    inbox.take_unheld((most, usize::MAX), seen, is_weak, &mut taken);
    taken.iter().map(number).collect()
}

#[test]
fn what_is_not_held_is_taken_past_what_is_and_nothing_is_looked_at_twice() {
    let inbox = Inbox::new(patient(100)).unwrap();
    let mut seen = 0;
    for (number, amplitude) in (0..).zip([0.1, 0.5, 0.1, 1.0, 0.5, 0.5]) {
        inbox.offer(numbered(number, amplitude), Offer::Now).unwrap();
    }
    assert_eq!(take(&inbox, 2, &mut seen), [3, 1]);
    assert_eq!(seen, 0, "there may be more");
    assert_eq!(take(&inbox, 9, &mut seen), [4, 5]);
    assert_eq!(seen, inbox.mark());
    assert_eq!(take(&inbox, 9, &mut seen), [0; 0]);
    inbox.offer(numbered(6, 0.5), Offer::Now).unwrap();
    assert_eq!(take(&inbox, 9, &mut seen), [6]);
    assert_eq!(inbox.ledger(), Ledger { offered: 7, delivered: 5, queued: 2, ..Ledger::default() });
    // Held no longer.
    assert_eq!([receive(&inbox), receive(&inbox)], [0, 2]);
}

#[tokio::test]
async fn an_outbox_of_held_waves_is_filled_by_the_next_wave_only() {
    let inbox = Inbox::new(patient(100)).unwrap();
    inbox.offer(numbered(0, 0.1), Offer::Now).unwrap();
    let mut seen = 0;
    assert_eq!(take(&inbox, 9, &mut seen), [0; 0]);
    {
        let mut filled = std::pin::pin!(inbox.filled_after(seen));
        assert!(futures::poll!(filled.as_mut()).is_pending());
        inbox.offer(numbered(1, 0.1), Offer::Now).unwrap();
        assert!(filled.await);
    }
    inbox.close();
    assert!(inbox.filled_after(inbox.mark()).await, "it is to be emptied");
}

#[tokio::test(start_paused = true)]
async fn emitters_stay_patient_while_waves_are_held_and_no_longer() {
    let inbox = Inbox::new(patient(4)).unwrap();
    inbox.let_run_ahead(2);
    let started = clock::now();
    inbox.hold_until(Some(started + 10 * PATIENCE));
    fill(&inbox, 0..4);
    assert_eq!(inbox.ledger().lost(), 0, "they may run ahead as far as there is room");
    inbox.offer_patiently(&numbered(4, 0.5)).await;
    assert_eq!(clock::since(started), 11 * PATIENCE, "all of it counts from the end of the hold on");
    assert_eq!(inbox.ledger().lost(), 1);
}

/// Takes a batch of one wave whenever not quite all of the patience has passed, until the emitter is admitted.
async fn leave_slowly(inbox: &Inbox, mut emitter: std::pin::Pin<&mut impl Future<Output = ()>>) {
    loop {
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        if futures::poll!(emitter.as_mut()).is_ready() {
            return;
        }
        inbox.take_many(1, usize::MAX, &mut Vec::new());
    }
}

#[tokio::test(start_paused = true)]
async fn emitters_stay_patient_while_what_was_held_is_leaving() {
    let inbox = Inbox::new(patient(100)).unwrap();
    inbox.let_run_ahead(2);
    inbox.hold_until(Some(clock::now() + PATIENCE));
    fill(&inbox, 0..20);
    inbox.hold_until(None);
    waits!(emitter, inbox, numbered(20, 0.5));
    leave_slowly(&inbox, emitter.as_mut()).await;
    assert_eq!(inbox.ledger(), Ledger { offered: 21, delivered: 19, queued: 2, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn emitters_stay_patient_while_waves_like_theirs_leave_and_lose_it_when_nothing_does() {
    let inbox = Inbox::new(patient(20)).unwrap();
    fill(&inbox, 0..20);
    inbox.let_run_ahead(2);
    {
        waits!(emitter, inbox, numbered(20, 0.5));
        leave_slowly(&inbox, emitter.as_mut()).await;
    }
    assert_eq!(inbox.ledger(), Ledger { offered: 21, delivered: 19, queued: 2, ..Ledger::default() });
    let mut number = 21;
    inbox.let_run_ahead(usize::MAX);
    while inbox.offer(numbered(number, 0.5), Offer::IfRoom).is_ok() {
        number += 1;
    }
    let started = Moment::now();
    inbox.offer_patiently(&numbered(number, 0.5)).await;
    assert!(started.elapsed() <= 2 * PATIENCE, "{:?}", started.elapsed());
    assert_eq!(inbox.ledger().lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_emitter_past_which_only_stronger_waves_leave_loses_its_patience() {
    let inbox = Inbox::new(patient(8)).unwrap();
    let mut strong = numbered(0, 0.9);
    for number in 0..6 {
        inbox.offer(numbered(number, 0.6), Offer::Now).unwrap();
    }
    inbox.offer(strong.clone(), Offer::Now).unwrap();
    inbox.offer(strong.clone(), Offer::Now).unwrap();
    waits!(weak, inbox, numbered(6, 0.6));
    for number in 0..9 {
        inbox.take_many(1, usize::MAX, &mut Vec::new());
        strong = numbered(number, 0.9);
        inbox.offer(strong.clone(), Offer::IfRoom).unwrap();
        tokio::time::advance(PATIENCE / 8).await;
        if futures::poll!(weak.as_mut()).is_ready() {
            assert_eq!(inbox.ledger().lost(), 1);
            return;
        }
    }
    panic!("it waits on");
}
