//! The habits of a stream over its life: the share of its beats that are lost, and its pauses.
//!
//! Used by [`Standing`](super::rhythm::Standing) for its patience. The latest 128 moments show the jitter well, but
//! they hold one lost beat in a hundred only sometimes and a rare pause hardly ever.

/// Beyond this many beats, old losses count less and less.
const BEATS: f32 = 4096.0;
/// A stream without a loss counts as one that loses a beat in this many, until it has shown more.
const PRIOR_BEATS: f32 = 64.0;
/// The longest pause is remembered for this many beats at least, and for twice as many at most.
const SPAN: u16 = 2048;
/// Pauses are a habit if there are two, and one in this many beats. Fewer are outages.
const HABITUAL: f32 = 200.0;
/// A gap this close to a whole number of periods has lost beats; others are pauses.
const WHOLE: f64 = 0.25;
/// A longer gap, in periods, is a pause even if it is whole.
const MOST_LOST: f64 = 6.0;

/// The losses and pauses of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct History {
    /// Beats that arrived, and beats that were lost. Both fade together.
    beats: f32,
    lost: f32,
    /// The pauses of this span and of the one before.
    spans: [Span; 2],
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Span {
    beats: u16,
    pauses: u16,
    /// The longest pause: the delay of a beat, in periods.
    longest: f32,
}

impl History {
    /// Learns from the observed gap before a beat, in periods. A gap longer than `late` is more than a late beat.
    pub(super) fn note(&mut self, turns: f64, late: f64) {
        self.beats += 1.0;
        if self.spans[0].beats >= SPAN {
            self.spans = [Span::default(), self.spans[0]];
        }
        let span = &mut self.spans[0];
        span.beats += 1;
        if turns > late {
            let whole = turns.round();
            if (2.0..=MOST_LOST).contains(&whole) && (turns - whole).abs() <= WHOLE {
                self.lost += (whole - 1.0) as f32;
            } else {
                span.pauses += 1;
                span.longest = span.longest.max((turns - 1.0) as f32);
            }
        }
        if self.beats > BEATS {
            (self.beats, self.lost) = (self.beats / 2.0, self.lost / 2.0);
        }
    }

    /// The same habits of a stream whose period is now this many times shorter.
    pub(super) fn at_another_period(mut self, times: f64) -> Self {
        self.spans.iter_mut().for_each(|span| span.longest *= times as f32);
        self
    }

    /// The probability that a beat is lost, by the rule of succession.
    pub(super) fn loss(&self) -> f64 {
        f64::from((self.lost + 1.0) / (self.beats + self.lost + PRIOR_BEATS))
    }

    /// The pauses if they are a habit: their share of the beats, their number, and the longest in periods.
    pub(super) fn pauses(&self) -> Option<(f64, f64, f64)> {
        let [now, before] = self.spans;
        let (pauses, beats) = (now.pauses + before.pauses, now.beats + before.beats);
        let habitual = pauses >= 2 && f32::from(pauses) * HABITUAL >= f32::from(beats);
        let share = f64::from(pauses) / f64::from(beats.max(1));
        habitual.then(|| (share, f64::from(pauses), f64::from(now.longest.max(before.longest))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(gaps: impl IntoIterator<Item = f64>) -> History {
        let mut history = History::default();
        gaps.into_iter().for_each(|gap| history.note(gap, 1.5));
        history
    }

    #[test]
    fn whole_gaps_are_losses_and_others_are_pauses() {
        let seen = history([1.0, 2.0, 1.1, 3.1, 1.0, 2.6, 3.5, 1.0]);
        assert_eq!((seen.beats, seen.lost), (8.0, 3.0));
        assert_eq!(seen.pauses(), Some((0.25, 2.0, 2.5)));
    }

    #[test]
    fn a_single_pause_or_a_rare_one_is_no_habit() {
        assert_eq!(history([1.0, 3.5, 1.0]).pauses(), None);
        let rare = (0..1000).map(|beat| if beat % 300 == 0 { 3.5 } else { 1.0 });
        assert_eq!(history(rare).pauses(), None);
    }

    #[test]
    fn losses_are_remembered_for_thousands_of_beats_and_forgotten_in_the_end() {
        let one_in_a_hundred = |beat: u32| if beat % 100 == 50 { 2.0 } else { 1.0 };
        let mut seen = history((0..10_000).map(one_in_a_hundred));
        assert!((seen.loss() - 0.01).abs() < 0.001, "{}", seen.loss());
        (0..40_000).for_each(|_| seen.note(1.0, 1.5));
        assert!(seen.loss() < 0.001, "{}", seen.loss());
    }
}
