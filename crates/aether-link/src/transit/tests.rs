//! Tests with senders whose clocks are wrong, adjusted or suspended, and with forged frames.

use super::*;

const OFFSET: u64 = 3_600_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// One receiver of one sender. All times are in microseconds since both began.
struct Line {
    transit: Transit,
    start: Instant,
}

impl Line {
    fn new() -> Self {
        Self { transit: Transit::default(), start: aether_core::clock::test_now() }
    }

    /// The delay of a frame sent and received at these times of the receiver's clock. The sender's clock has an offset.
    fn frame(&self, sent: u64, received: u64) -> u64 {
        let (sent, now) = (sent.wrapping_add(OFFSET), self.start + Duration::from_micros(received));
        self.transit.delay(1.into(), sent, received, now).as_micros() as u64
    }

    /// A frame with a false time that arrives now.
    fn forged(&self, ahead: i64, received: u64) -> u64 {
        self.frame(received.wrapping_add_signed(ahead), received)
    }
}

const SEC: u64 = 1_000_000;

#[test]
fn an_offset_of_an_hour_cancels() {
    let line = Line::new();
    assert_eq!(line.frame(SEC, SEC + 500), 0);
    assert_eq!(line.frame(2 * SEC, 2 * SEC + 800), 300);
    assert_eq!(line.frame(3 * SEC, 3 * SEC + 200), 0);
    assert_eq!(line.frame(4 * SEC, 4 * SEC + 500), 300);
}

#[test]
fn a_clock_that_jumps_back_a_little_is_forgotten_after_ten_minutes() {
    let line = Line::new();
    let minute = 60 * SEC;
    assert_eq!(line.frame(0, 500), 0);
    for minutes in 1..10 {
        assert_eq!(line.frame(minutes * minute - SEC, minutes * minute + 500), SEC);
    }
    assert_eq!(line.frame(10 * minute - SEC, 10 * minute + 500), 0);
}

#[test]
fn one_wrong_time_ages_nothing_that_comes_later() {
    for wrong in [0, 1 << 40, u64::MAX / 2, u64::MAX - OFFSET] {
        let line = Line::new();
        let forged = |received| line.frame(wrong, received);
        assert_eq!(line.frame(SEC, SEC + 500), 0);
        if wrong > 0 {
            assert_eq!(forged(2 * SEC), 0);
        }
        for sent in 3..10 {
            assert_eq!(line.frame(sent * SEC, sent * SEC + 700), 200);
        }
        // The first frame of a sender may be the wrong one.
        let line = Line::new();
        line.frame(wrong, 2 * SEC);
        assert_eq!((3..20).map(|sent| line.frame(sent * SEC, sent * SEC + 500)).max(), Some(0));
        assert_eq!(line.frame(20 * SEC, 20 * SEC + 700), 200);
    }
}

#[test]
fn frames_that_agree_with_each_other_and_not_with_the_sender_age_nothing() {
    // Sooner than possible, by a large amount or by as much as is trusted at once, or later.
    for ahead in [590 * SEC as i64, 300 * SEC as i64, 999_999, -(590 * SEC as i64)] {
        let line = Line::new();
        let (mut worst, mut now) = (0, 0);
        for frame in 0..3000_u64 {
            now = frame * SEC / 10;
            worst = worst.max(line.frame(now, now + 500));
            if frame.is_multiple_of(3) {
                for more in 0..5 {
                    // Each frame goes a bit further than the one before.
                    line.forged(ahead + (frame * more) as i64, now + 600 + more);
                }
            }
        }
        // One second for each minute that it lasts, if each frame is just within what is trusted at once.
        assert!(worst <= 1_100_000, "{ahead}: {worst}");
        if ahead.abs() > SEC as i64 {
            assert!(worst <= 1000 && line.transit.implausible() >= 4000, "{ahead}: {worst}");
        }
        let later = now + 700 * SEC;
        assert!(line.frame(later, later + 500) <= 1_100_000);
    }
}

#[test]
fn a_clock_that_is_set_is_believed_after_ten_seconds_and_ages_nothing_until_then() {
    for jump in [-3600, -5, 5, 3600] {
        let line = Line::new();
        let sent = |at: u64, took: u64| line.frame(at.wrapping_add_signed(jump * SEC as i64), at + took);
        for second in 0..100 {
            assert!(line.frame(second * SEC, second * SEC + 500) <= 100);
        }
        for tenths in 1000..1100 {
            assert_eq!(sent(tenths * SEC / 10, 400), 0, "{jump} at {tenths}");
        }
        assert_eq!((sent(110 * SEC, 400), sent(111 * SEC, 500)), (0, 100), "{jump}");
        assert_eq!(line.transit.implausible(), 0, "an adjusted clock is not a forgery");
    }
}

#[test]
fn what_an_outage_or_a_suspended_process_held_up_is_as_old_as_it_is() {
    for outage in [20, 300] {
        let line = Line::new();
        for tenths in 0..100 {
            line.frame(tenths * SEC / 10, tenths * SEC / 10 + 500);
        }
        // All frames arrive at once at the end, in order.
        let end = (10 + outage) * SEC;
        for second in 0..outage {
            let sent = (10 + second) * SEC;
            assert_eq!(line.frame(sent, end + 500 + second), end + second - sent, "{second} of {outage}");
        }
        assert_eq!(line.frame(end + SEC, end + SEC + 500), 0);
        assert_eq!(line.transit.implausible(), 0);
    }
}

#[test]
fn a_sender_that_was_first_heard_late_is_estimated_again_ten_seconds_after() {
    let line = Line::new();
    for second in 0..20 {
        line.frame(second * SEC, 20 * SEC + second);
    }
    assert_eq!((20..=32).map(|at| line.frame(at * SEC, at * SEC + 500)).max(), Some(0));
    assert_eq!(line.frame(33 * SEC, 33 * SEC + 900), 400);
    assert_eq!(line.transit.implausible(), 0);
}

#[test]
fn senders_without_end_do_not_grow_the_table_and_are_given_back() {
    let (transit, now) = (Transit::default(), aether_core::clock::test_now());
    let from = |node: u64, at| transit.delay(node.into(), 0, 0, at);
    for node in 0..5000 {
        from(node, now + Duration::from_micros(node));
    }
    assert_eq!(transit.senders.lock().len(), MAX_SENDERS);
    from(1 << 40, now + KEPT + SECOND);
    assert_eq!(transit.senders.lock().len(), 1);
}
