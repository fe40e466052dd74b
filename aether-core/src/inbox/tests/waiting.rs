//! Emitters that find no room: how long they wait, and when they are admitted.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_emitter_waits_and_is_admitted_when_there_is_room() {
    let inbox = Inbox::new(patient(4)).unwrap();
    fill(&inbox, 0..4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.5), Offer::IfRoom).unwrap_err()), 4);
    waits!(emitter, inbox, numbered(4, 0.5));
    assert_eq!(inbox.ledger().offered, 4, "a waiting wave is not offered yet");
    // Emitters are woken for half of the inbox. For a single place they are woken only after a millisecond.
    assert_eq!(receive(&inbox), 0);
    assert!(futures::poll!(emitter.as_mut()).is_pending());
    assert_eq!(receive(&inbox), 1);
    emitter.await;
    assert_eq!([2, 3, 4].map(|_| receive(&inbox)), [2, 3, 4]);
    assert!(poll(&inbox).is_pending());
    assert_eq!(inbox.ledger(), Ledger { offered: 5, delivered: 5, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_waited_long_is_admitted_for_any_room() {
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
async fn an_emitter_waiting_for_bytes_is_admitted_as_they_become_free() {
    let weight = numbered(10, 0.5).weight();
    let inbox = Inbox::new(patient(1000).max_bytes(40 * weight)).unwrap();
    fill(&inbox, 10..50);
    waits!(emitter, inbox, numbered(50, 0.5));
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_pending(), "one free place is not worth a wake-up yet");
    tokio::time::advance(LONG_WAIT).await;
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_ready());
    assert_eq!(inbox.ledger().queued, 39);

    // The same with a prefetch at the receiver.
    receive(&inbox);
    fill(&inbox, 51..53);
    waits!(emitter, inbox, numbered(53, 0.5));
    tokio::time::advance(LONG_WAIT).await;
    receive(&inbox);
    assert!(futures::poll!(emitter.as_mut()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn emitters_that_wait_for_bytes_are_called_in_turn_and_no_more_than_fit() {
    let sources = [1, 2].map(|instance| Sequencer::new(Source::with_instance("one", instance).unwrap()));
    let wave = |source: usize| {
        let mut wave = Wave::builder("a").amplitude(0.5).bytes(vec![0; 1000]).build().unwrap();
        wave.stamp(&sources[source], Moment::now());
        wave
    };
    let inbox = Inbox::new(patient(1000).max_bytes(8 * wave(0).weight())).unwrap();
    (0..8).for_each(|_| inbox.offer(wave(0), Offer::IfRoom).unwrap());
    // Forty emits of a source that floods, then ten of another, which it makes one after the other.
    let waiting = |source| {
        let (inbox, wave) = (&inbox, wave(source));
        let mut emit = Box::pin(async move { inbox.offer_patiently(&wave).await });
        (source, tokio_test_task(move |cx| emit.as_mut().poll(cx)))
    };
    let mut emitters: Vec<_> = (0..40).map(|_| waiting(0)).collect();
    emitters.push(waiting(1));
    for (_, emitter) in &mut emitters {
        assert!(emitter.poll().is_pending());
    }
    let mut admitted = [0; 2];
    for _ in 0..40 {
        tokio::time::advance(LONG_WAIT).await;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(inbox.poll_receive(&mut cx).is_ready());
        let called: Vec<_> = (0..emitters.len()).filter(|place| emitters[*place].1.is_woken()).collect();
        assert_eq!(called.len(), 1, "there is room for one");
        let (source, mut emitter) = emitters.swap_remove(called[0]);
        assert!(emitter.poll().is_ready(), "and it is for that one");
        admitted[source] += 1;
        if source == 1 {
            let mut next = waiting(1);
            assert!(next.1.poll().is_pending());
            emitters.push(next);
        }
    }
    assert_eq!(admitted, [20, 20]);
}

#[tokio::test(start_paused = true)]
async fn after_one_timeout_no_emitter_waits_until_the_inbox_is_half_empty() {
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
        assert_eq!(started.elapsed(), PATIENCE, "the emitter waiting beside it is admitted with it");
    }
    for number in 10..20 {
        inbox.offer_patiently(&numbered(number, 0.5)).await;
    }
    assert_eq!(started.elapsed(), PATIENCE, "no emitter waited again");
    assert_eq!(inbox.ledger(), Ledger { offered: 20, shed_full: 12, queued: 8, ..Ledger::default() });

    // Five are left, more than half.
    assert_eq!([12, 13, 14].map(|_| receive(&inbox)), [12, 13, 14]);
    fill(&inbox, 20..23);
    inbox.offer(numbered(23, 0.5), Offer::IfRoom).unwrap();
    assert_eq!(inbox.ledger().shed_full, 13);
    // Four are left, so emitters wait again.
    assert_eq!([16, 17, 18, 19].map(|_| receive(&inbox)), [16, 17, 18, 19]);
    fill(&inbox, 24..28);
    assert!(inbox.offer(numbered(28, 0.5), Offer::IfRoom).is_err());
    assert_eq!(inbox.ledger().shed_full, 13);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_emitter_has_offered_nothing() {
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
async fn a_shedding_inbox_makes_no_emitter_wait() {
    let inbox = Inbox::new(shedding(2)).unwrap();
    for number in 0..5 {
        inbox.offer(numbered(number, 0.5), Offer::IfRoom).unwrap();
        inbox.offer_patiently(&numbered(number, 0.9)).await;
    }
    assert_eq!(inbox.ledger(), Ledger { offered: 10, shed_full: 8, queued: 2, ..Ledger::default() });
    assert_eq!([receive(&inbox), receive(&inbox)], [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_is_refused_anyway_does_not_wait() {
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

/// An inbox with room for a hundred waves, whose emitters may run ahead by a few and have done so.
fn run_ahead_by(waves: u64) -> Inbox {
    let inbox = Inbox::new(patient(100)).unwrap();
    inbox.let_run_ahead(waves as usize);
    fill(&inbox, 0..waves);
    inbox
}

#[tokio::test(start_paused = true)]
async fn emitters_run_ahead_only_so_far_and_strong_waves_overtake_weak_ones() {
    let inbox = run_ahead_by(4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.5), Offer::IfRoom).unwrap_err()), 4);
    assert_eq!(number(&inbox.offer(numbered(4, 0.1), Offer::IfRoom).unwrap_err()), 4);
    // None of these waits, because there is room for a hundred.
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
async fn emitters_are_admitted_when_they_may_run_further_ahead_or_waited_long() {
    let inbox = run_ahead_by(2);
    {
        waits!(emitter, inbox, numbered(2, 0.5));
        inbox.let_run_ahead(usize::MAX);
        emitter.await;
    }
    fill(&inbox, 3..100);
    assert!(inbox.offer(numbered(100, 0.5), Offer::IfRoom).is_err(), "the capacity is the limit");

    let inbox = run_ahead_by(2);
    {
        waits!(emitter, inbox, numbered(2, 0.5));
        // The emitter times out. Its wave is then taken, and nothing is shed for it.
        emitter.await;
    }
    fill(&inbox, 3..100);
    assert_eq!(inbox.ledger(), Ledger { offered: 100, queued: 100, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn an_emitter_admitted_at_its_last_moment_has_not_timed_out() {
    // The order in which it sees the two is random.
    for _ in 0..64 {
        let inbox = Inbox::new(patient(8)).unwrap();
        fill(&inbox, 0..8);
        waits!(emitter, inbox, numbered(8, 0.5));
        tokio::time::advance(PATIENCE).await;
        assert_eq!((0..8).map(|_| receive(&inbox)).last(), Some(7));
        emitter.await;
        fill(&inbox, 9..16);
        assert!(inbox.offer(numbered(16, 0.5), Offer::IfRoom).is_err(), "a new emitter waits as well");
    }
}

#[tokio::test(start_paused = true)]
async fn the_strongest_waiting_emitter_is_admitted_first_and_equal_ones_in_turn() {
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
        // All are polled, and only the one whose turn it is gets in.
        emitters.retain_mut(|emitter| {
            emitter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        });
    }
    assert_eq!(order, [0, 3, 5, 2, 6, 1, 4]);
    assert_eq!(inbox.ledger(), Ledger { offered: 7, delivered: 7, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn a_later_emitter_does_not_overtake_an_equally_strong_one() {
    let inbox = Inbox::new(patient(8)).unwrap();
    fill(&inbox, 0..8);
    waits!(emitter, inbox, numbered(8, 0.5));
    receive(&inbox);
    assert!(!inbox.has_room_for(&numbered(9, 0.5)));
    assert!(inbox.has_room_for(&numbered(9, 0.9)), "a stronger wave does pass");
    inbox.offer(numbered(9, 0.9), Offer::IfRoom).unwrap();
    assert_eq!([(); 4].map(|()| receive(&inbox)), [9, 1, 2, 3]);
    emitter.await;
}

#[tokio::test(start_paused = true)]
async fn an_emitter_stronger_than_what_is_queued_is_admitted_for_any_room() {
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
async fn normal_waves_fill_an_inbox_and_stronger_ones_wait_for_room_before_them() {
    for bytes in [false, true] {
        let weight = numbered(100, 0.5).weight();
        let options = patient(if bytes { 1000 } else { 80 });
        let inbox = Inbox::new(if bytes { options.max_bytes(80 * weight) } else { options }).unwrap();
        fill(&inbox, 100..180);
        assert!(inbox.offer(numbered(180, 0.5), Offer::IfRoom).is_err());
        assert!(!inbox.has_room_for(&numbered(180, 0.9)));
        waits!(normal, inbox, numbered(180, 0.5));
        waits!(strong, inbox, numbered(181, 0.9));
        assert_eq!(receive(&inbox), 100);
        assert!(futures::poll!(strong.as_mut()).is_ready());
        assert!(futures::poll!(normal.as_mut()).is_pending());
        assert_eq!(receive(&inbox), 181);
        assert_eq!(inbox.ledger().lost(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_called_emitter_that_is_dropped_leaves_its_place_to_the_next() {
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
async fn a_weak_emitter_overtaken_by_strong_ones_times_out_alone_and_leaves_the_last_eighth() {
    let inbox = Inbox::new(patient(8)).unwrap();
    inbox.offer(numbered(0, 0.9), Offer::IfRoom).unwrap();
    for number in 1..7 {
        inbox.offer(numbered(number, 0.1), Offer::IfRoom).unwrap();
    }
    assert!(inbox.offer(numbered(7, 0.1), Offer::IfRoom).is_err());
    waits!(weak, inbox, numbered(7, 0.1));
    for number in 8..18 {
        tokio::time::advance(PATIENCE / 10).await;
        inbox.offer(numbered(number, 0.9), Offer::IfRoom).unwrap();
        receive(&inbox);
    }
    weak.await;
    assert_eq!(
        inbox.ledger(),
        Ledger { offered: 18, delivered: 10, shed_full: 1, queued: 7, ..Ledger::default() }
    );
    assert!(inbox.offer(numbered(18, 0.1), Offer::IfRoom).is_err(), "the others still wait");
    inbox.offer(numbered(18, 0.9), Offer::IfRoom).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_weak_emitter_that_gives_up_where_strong_ones_have_used_what_is_kept_sheds_one_wave() {
    for bytes in [false, true] {
        let weight = numbered(100, 0.1).weight();
        let options = patient(if bytes { 1000 } else { 16 });
        let inbox = Inbox::new(if bytes { options.max_bytes(16 * weight) } else { options }).unwrap();
        for number in 100..114 {
            inbox.offer(numbered(number, 0.1), Offer::IfRoom).unwrap();
        }
        waits!(weak, inbox, numbered(114, 0.1));
        for number in 200..202 {
            inbox.offer(numbered(number, 0.9), Offer::IfRoom).unwrap();
        }
        weak.await;
        assert_eq!(inbox.ledger(), Ledger { offered: 17, shed_full: 1, queued: 16, ..Ledger::default() });
        let all: Vec<_> = (0..16).map(|_| receive(&inbox)).collect();
        assert_eq!(all, (200..202).chain(101..115).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn weak_waves_leave_room_whether_they_are_patient_impatient_or_stop_waiting() {
    let inbox = Inbox::new(patient(16)).unwrap();
    for number in 0..14 {
        inbox.offer(numbered(number, 0.1), Offer::IfRoom).unwrap();
    }
    assert!(inbox.offer(numbered(14, 0.1), Offer::IfRoom).is_err());
    {
        waits!(weak, inbox, numbered(14, 0.1));
        weak.await;
    }
    // Now nobody waits until it is half empty.
    inbox.offer(numbered(15, 0.1), Offer::IfRoom).unwrap();
    inbox.offer(numbered(16, 0.1), Offer::Unwaited).unwrap();
    assert_eq!(inbox.ledger(), Ledger { offered: 17, shed_full: 3, queued: 14, ..Ledger::default() });
    inbox.offer(numbered(17, 0.5), Offer::IfRoom).unwrap();
    inbox.offer(numbered(18, 0.5), Offer::IfRoom).unwrap();
    assert_eq!(inbox.ledger().queued, 16);
    inbox.offer(numbered(19, 0.1), Offer::IfRoom).unwrap();
    assert_eq!(inbox.ledger(), Ledger { offered: 20, shed_full: 4, queued: 16, ..Ledger::default() });
    // A network does not wait, so what it brings may use all and is shed for what is stronger.
    let inbox = Inbox::new(patient(16)).unwrap();
    inbox.offer_all((0..17).map(|number| numbered(number, 0.1)));
    assert_eq!(inbox.ledger(), Ledger { offered: 17, shed_full: 1, queued: 16, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn a_weak_wave_that_is_larger_than_its_share_is_taken_where_nothing_else_is() {
    let large = || emitted(Wave::builder("a").amplitude(0.1).bytes(vec![b' '; 1000]));
    let weight = large().weight();
    let inbox = Inbox::new(patient(16).max_bytes(weight)).unwrap();
    inbox.offer(large(), Offer::IfRoom).unwrap();
    assert!(inbox.offer(numbered(1, 0.1), Offer::IfRoom).is_err());
    assert_eq!(inbox.ledger().lost(), 0);
}

/// Sixty weak emitters that always have another wave, twenty strong ones that take two fifths of what the receiver can.
#[tokio::test(start_paused = true)]
async fn strong_emitters_wait_briefly_and_lose_nothing_however_many_weak_ones_wait() {
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
            // Time advances even if the emitter does not have to wait.
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
