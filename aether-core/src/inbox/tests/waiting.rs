//! Emitters that find no room: how long they wait, and what lets them in.

use super::super::admission::LEVELS_WINDOW;
use super::*;

#[tokio::test(start_paused = true)]
async fn an_emitter_waits_and_is_let_in_when_there_is_room() {
    let inbox = Inbox::new(patient(4)).unwrap();
    fill(&inbox, 0..4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.5), Offer::IfRoom).unwrap_err()), 4);
    waits!(emitter, inbox, numbered(4, 0.5));
    assert_eq!(inbox.ledger().offered, 4, "a wave that waits is not offered yet");
    // Half of the inbox is room that is worth waking for; one place is not, before a millisecond has passed.
    assert_eq!(receive(&inbox), 0);
    assert!(futures::poll!(emitter.as_mut()).is_pending());
    assert_eq!(receive(&inbox), 1);
    emitter.await;
    assert_eq!([2, 3, 4].map(|_| receive(&inbox)), [2, 3, 4]);
    assert!(poll(&inbox).is_pending());
    assert_eq!(inbox.ledger(), Ledger { offered: 5, delivered: 5, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_has_waited_long_is_let_in_for_any_room() {
    let inbox = Inbox::new(patient(100)).unwrap();
    fill(&inbox, 0..100);
    waits!(emitter, inbox, numbered(100, 0.5));
    tokio::time::advance(LONG_WAIT).await;
    receive(&inbox);
    emitter.await;
    assert_eq!(inbox.ledger().queued, 100);
    assert_eq!(inbox.ledger().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_waits_for_bytes_is_let_in_as_they_become_free() {
    let weight = numbered(10, 0.5).weight();
    let inbox = Inbox::new(patient(1000).max_bytes(40 * weight)).unwrap();
    fill(&inbox, 10..50);
    waits!(emitter, inbox, numbered(50, 0.5));
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_pending(), "one wave in no time is not worth it");
    tokio::time::advance(LONG_WAIT).await;
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_ready());
    assert_eq!(inbox.ledger().queued, 39);

    // The same when the receiver has a prefetch already.
    receive(&inbox);
    fill(&inbox, 51..53);
    waits!(emitter, inbox, numbered(53, 0.5));
    tokio::time::advance(LONG_WAIT).await;
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn after_one_exhausted_patience_nobody_waits_until_the_inbox_is_half_empty() {
    let inbox = Inbox::new(patient(8)).unwrap();
    fill(&inbox, 0..8);
    let started = Moment::now();
    {
        waits!(first, inbox, numbered(8, 0.5));
        tokio::time::advance(PATIENCE / 2).await;
        waits!(second, inbox, numbered(9, 0.5));
        first.await;
        assert_eq!(started.elapsed(), PATIENCE);
        second.await;
        assert_eq!(started.elapsed(), PATIENCE, "who waits beside it is let in with it");
    }
    for number in 10..20 {
        inbox.offer_patiently(&numbered(number, 0.5)).await;
    }
    assert_eq!(started.elapsed(), PATIENCE, "nobody waited again");
    assert_eq!(inbox.ledger(), Ledger { offered: 20, shed_full: 12, queued: 8, ..Ledger::default() });

    // Five left are more than half.
    assert_eq!([12, 13, 14].map(|_| receive(&inbox)), [12, 13, 14]);
    fill(&inbox, 20..23);
    inbox.offer(numbered(23, 0.5), Offer::IfRoom).unwrap();
    assert_eq!(inbox.ledger().shed_full, 13);
    // Four are not: patience is back.
    assert_eq!([16, 17, 18, 19].map(|_| receive(&inbox)), [16, 17, 18, 19]);
    fill(&inbox, 24..28);
    assert!(inbox.offer(numbered(28, 0.5), Offer::IfRoom).is_err());
    assert_eq!(inbox.ledger().shed_full, 13);
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_stops_waiting_has_offered_nothing() {
    let inbox = Inbox::new(patient(1)).unwrap();
    fill(&inbox, 0..1);
    {
        waits!(_emitter, inbox, numbered(1, 0.5));
    }
    assert_eq!(inbox.ledger(), Ledger { offered: 1, queued: 1, ..Ledger::default() });
    assert_eq!(receive(&inbox), 0);
    assert!(poll(&inbox).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_shedding_inbox_lets_nobody_wait() {
    let inbox = Inbox::new(shedding(2)).unwrap();
    for number in 0..5 {
        inbox.offer(numbered(number, 0.5), Offer::IfRoom).unwrap();
        inbox.offer_patiently(&numbered(number, 0.9)).await;
    }
    assert_eq!(inbox.ledger(), Ledger { offered: 10, shed_full: 8, queued: 2, ..Ledger::default() });
    assert_eq!([receive(&inbox), receive(&inbox)], [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_anyway_waits_for_nothing() {
    let floor = Floor::new(0.3).unwrap();
    let weight = numbered(0, 0.5).weight();
    let inbox = Inbox::new(patient(1).floor(floor).max_bytes(2 * weight)).unwrap();
    fill(&inbox, 0..1);
    let weak = numbered(1, 0.1);
    let huge = emitted(Wave::builder("a").bytes(vec![0; 2 * weight]));
    for wave in [&weak, &huge] {
        assert!(inbox.has_room_for(wave), "{wave:?}");
        inbox.offer(wave.clone(), Offer::IfRoom).unwrap();
    }
    assert!(!inbox.has_room_for(&numbered(2, 0.5)));
    let ledger = Ledger { offered: 3, shed_below_floor: 1, shed_full: 1, queued: 1, ..Ledger::default() };
    assert_eq!(inbox.ledger(), ledger);
}

/// An inbox for a hundred waves that emitters may run ahead of by a few, and have.
fn run_ahead_by(waves: u64) -> Inbox {
    let inbox = Inbox::new(patient(100)).unwrap();
    inbox.let_run_ahead(waves as usize);
    fill(&inbox, 0..waves);
    inbox
}

#[tokio::test(start_paused = true)]
async fn emitters_that_wait_run_ahead_only_so_far_and_strong_waves_pass_weak_ones() {
    let inbox = run_ahead_by(4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.5), Offer::IfRoom).unwrap_err()), 4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.1), Offer::IfRoom).unwrap_err()), 4);
    // None of these waits: there is room for a hundred.
    inbox.offer(numbered(4, 1.0), Offer::IfRoom).unwrap();
    inbox.offer(numbered(5, 0.5), Offer::IfFits).unwrap();
    inbox.offer(numbered(6, 0.5), Offer::Now).unwrap();
    waits!(emitter, inbox, numbered(7, 0.5));
    assert_eq!([4, 0, 1, 2, 3].map(|_| receive(&inbox)), [4, 0, 1, 2, 3]);
    emitter.await;
    assert_eq!([5, 6, 7].map(|_| receive(&inbox)), [5, 6, 7]);
    assert_eq!(inbox.ledger().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn emitters_are_let_in_when_they_may_run_further_ahead_or_have_waited_long() {
    let inbox = run_ahead_by(2);
    {
        waits!(emitter, inbox, numbered(2, 0.5));
        inbox.let_run_ahead(usize::MAX);
        emitter.await;
    }
    fill(&inbox, 3..100);
    assert!(inbox.offer(numbered(100, 0.5), Offer::IfRoom).is_err(), "it holds no more than its options say");

    let inbox = run_ahead_by(2);
    {
        waits!(emitter, inbox, numbered(2, 0.5));
        // Until its patience is exhausted; then it is taken, and nothing is shed for it.
        emitter.await;
    }
    fill(&inbox, 3..100);
    assert_eq!(inbox.ledger(), Ledger { offered: 100, queued: 100, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_is_let_in_at_its_last_moment_has_not_lost_its_patience() {
    // Which of the two it sees first is left to chance.
    for _ in 0..64 {
        let inbox = Inbox::new(patient(8)).unwrap();
        fill(&inbox, 0..8);
        waits!(emitter, inbox, numbered(8, 0.5));
        tokio::time::advance(PATIENCE).await;
        assert_eq!((0..8).map(|_| receive(&inbox)).last(), Some(7));
        emitter.await;
        fill(&inbox, 9..16);
        assert!(inbox.offer(numbered(16, 0.5), Offer::IfRoom).is_err(), "who comes now waits as well");
    }
}

#[tokio::test(start_paused = true)]
async fn the_strongest_emitter_that_waits_is_let_in_first_and_equal_ones_in_turn() {
    let inbox = Inbox::new(patient(1)).unwrap();
    fill(&inbox, 0..1);
    let amplitudes = [0.1, 0.5, 0.9, 0.1, 0.9, 0.5];
    let waves: Vec<_> = (1..).zip(amplitudes).map(|(n, amplitude)| numbered(n, amplitude)).collect();
    let mut emitters: Vec<_> = waves.iter().map(|wave| Box::pin(inbox.offer_patiently(wave))).collect();
    for emitter in &mut emitters {
        assert!(futures::poll!(emitter).is_pending());
    }
    let mut order = Vec::new();
    for _ in 0..=amplitudes.len() {
        order.push(receive(&inbox));
        // All of them look, and only the one whose turn it is gets in.
        emitters.retain_mut(|emitter| {
            emitter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        });
    }
    assert_eq!(order, [0, 3, 5, 2, 6, 1, 4]);
    assert_eq!(inbox.ledger(), Ledger { offered: 7, delivered: 7, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_does_not_pass_an_emitter_that_is_as_strong() {
    let inbox = Inbox::new(patient(8)).unwrap();
    fill(&inbox, 0..8);
    waits!(emitter, inbox, numbered(8, 0.5));
    receive(&inbox);
    assert!(!inbox.has_room_for(&numbered(9, 0.5)));
    assert!(inbox.has_room_for(&numbered(9, 0.9)), "who is stronger does");
    inbox.offer(numbered(9, 0.9), Offer::IfRoom).unwrap();
    assert_eq!([(); 4].map(|()| receive(&inbox)), [9, 1, 2, 3]);
    emitter.await;
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_is_stronger_than_what_is_queued_is_let_in_for_any_room() {
    let inbox = Inbox::new(patient(1000)).unwrap();
    fill(&inbox, 0..1000);
    waits!(weak, inbox, numbered(1000, 0.5));
    waits!(strong, inbox, numbered(1001, 0.9));
    assert_eq!(receive(&inbox), 0);
    assert!(futures::poll!(strong.as_mut()).is_ready());
    assert!(futures::poll!(weak.as_mut()).is_pending());
    assert_eq!(receive(&inbox), 1001);
}

#[tokio::test(start_paused = true)]
async fn waves_of_one_amplitude_use_all_of_an_inbox_and_leave_the_last_quarter_to_stronger_ones() {
    for bytes in [false, true] {
        let weight = numbered(100, 0.5).weight();
        let options = patient(if bytes { 1000 } else { 80 });
        let inbox = Inbox::new(if bytes { options.max_bytes(80 * weight) } else { options }).unwrap();
        fill(&inbox, 100..180);
        assert!(inbox.offer(numbered(180, 0.5), Offer::IfRoom).is_err());
        // The inbox is full; from now on it knows that there are stronger ones.
        assert!(!inbox.has_room_for(&numbered(180, 0.9)));
        for number in 100..120 {
            assert_eq!(receive(&inbox), number);
            assert!(!inbox.has_room_for(&numbered(180, 0.5)));
            assert!(inbox.has_room_for(&numbered(180, 0.9)));
        }
        receive(&inbox);
        inbox.offer(numbered(180, 0.5), Offer::IfRoom).unwrap();
        assert!(inbox.offer(numbered(181, 0.5), Offer::IfRoom).is_err());
        for number in 200..220 {
            inbox.offer(numbered(number, 0.9), Offer::IfRoom).unwrap();
        }
        assert!(inbox.offer(numbered(220, 0.9), Offer::IfRoom).is_err());
        assert_eq!(inbox.ledger().lost(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_the_strong_is_open_again_when_they_have_stayed_away() {
    let inbox = Inbox::new(patient(8)).unwrap();
    inbox.offer(numbered(0, 0.9), Offer::IfRoom).unwrap();
    assert_eq!(receive(&inbox), 0);
    fill(&inbox, 0..6);
    assert!(!inbox.has_room_for(&numbered(6, 0.5)));
    for _ in 0..2 {
        tokio::time::advance(LEVELS_WINDOW).await;
        inbox.has_room_for(&numbered(6, 0.5));
    }
    fill(&inbox, 6..8);
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_is_called_and_does_not_come_leaves_its_place_to_the_next() {
    let inbox = Inbox::new(patient(1)).unwrap();
    fill(&inbox, 0..1);
    let next = numbered(2, 0.5);
    let mut second = tokio_test_task({
        let mut emitter = Box::pin(inbox.offer_patiently(&next));
        move |cx| emitter.as_mut().poll(cx)
    });
    {
        waits!(_first, inbox, numbered(1, 0.5));
        assert!(second.poll().is_pending());
        receive(&inbox);
        assert!(!second.is_woken());
    }
    assert!(second.is_woken());
    assert!(second.poll().is_ready());
    assert_eq!(receive(&inbox), 2);
}

#[tokio::test(start_paused = true)]
async fn a_weak_emitter_that_strong_ones_pass_gives_up_alone_and_takes_nothing_that_is_kept() {
    let inbox = Inbox::new(patient(8)).unwrap();
    inbox.offer(numbered(0, 0.9), Offer::IfRoom).unwrap();
    for number in 1..7 {
        let _ = inbox.offer(numbered(number, 0.1), Offer::IfRoom);
    }
    assert_eq!(inbox.ledger().queued, 6);
    waits!(weak, inbox, numbered(7, 0.1));
    for number in 8..18 {
        tokio::time::advance(PATIENCE / 10).await;
        inbox.offer(numbered(number, 0.9), Offer::IfRoom).unwrap();
        receive(&inbox);
    }
    weak.await;
    assert_eq!(
        inbox.ledger(),
        Ledger { offered: 17, delivered: 10, shed_full: 1, queued: 6, ..Ledger::default() }
    );
    assert!(inbox.offer(numbered(18, 0.1), Offer::IfRoom).is_err(), "the others are patient still");
    inbox.offer(numbered(18, 0.9), Offer::IfRoom).unwrap();
}

/// Sixty weak emitters that always have another wave, twenty strong ones that take two fifths of what the receiver can.
#[tokio::test(start_paused = true)]
async fn strong_emitters_wait_for_a_moment_and_lose_nothing_however_many_weak_ones_wait() {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&lost);
    let options = patient(64).on_shed(move |wave: &Wave, _| report.lock().push(wave.amplitude()));
    let inbox = Inbox::new(options).unwrap();
    let emit = async |amplitude: f32| {
        let wave = numbered(0, amplitude);
        let started = Moment::now();
        if let Err(wave) = inbox.offer(wave, Offer::IfRoom) {
            inbox.offer_patiently(&wave).await;
        }
        started.elapsed()
    };
    let strong = futures::future::join_all((0..20).map(async |emitter| {
        tokio::time::sleep(Duration::from_millis(50 + 2 * emitter)).await;
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            longest = longest.max(emit(0.9).await);
        }
        longest
    }));
    let weak = futures::future::join_all((0..60).map(async |emitter| {
        loop {
            emit([0.5, 0.1][emitter % 2]).await;
            // Also where it does not have to wait, time goes on.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }));
    let receive = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = poll(&inbox);
        }
    };
    let longest = tokio::select! {
        longest = strong => longest,
        _ = weak => unreachable!(),
        () = receive => unreachable!(),
    };
    let longest = longest.into_iter().max().unwrap();
    assert!(longest <= Duration::from_millis(10), "{longest:?}");
    let strong_lost = lost.lock().iter().filter(|amplitude| **amplitude > Amplitude::NORMAL).count();
    assert_eq!(strong_lost, 0);
    assert!(inbox.ledger().adds_up(), "{inbox:?}");
}
