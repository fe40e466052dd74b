//! A frame of the view: as many waves as a person can read.
//!
//! The gateway adds each wave, the view takes the frame periodically. If there are too many waves, it keeps the
//! strongest in their order of arrival and counts the others.

use aether_core::Wave;

use crate::record::Line;

/// The waves of one frame.
#[derive(Debug)]
pub(crate) struct Frame {
    most_lines: usize,
    most_characters: usize,
    lines: Vec<Line>,
    more: u64,
}

/// A finished frame.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) lines: Vec<Line>,
    /// The number of waves not shown.
    pub(crate) more: u64,
}

impl Frame {
    pub(crate) fn new(most_lines: usize, most_characters: usize) -> Self {
        Self { most_lines, most_characters, lines: Vec::new(), more: 0 }
    }

    pub(crate) fn note(&mut self, wave: &Wave) {
        if self.lines.len() == self.most_lines {
            self.more += 1;
            let weakest =
                self.lines.iter().enumerate().rev().min_by(|a, b| a.1.amplitude.total_cmp(&b.1.amplitude));
            match weakest {
                Some((at, line)) if line.amplitude < wave.amplitude().as_f32() => {
                    self.lines.remove(at);
                }
                _ => return,
            }
        }
        self.lines.push(Line::of(wave, self.most_characters));
    }

    /// Takes the frame and starts the next one.
    pub(crate) fn take(&mut self) -> Taken {
        Taken { lines: std::mem::take(&mut self.lines), more: std::mem::take(&mut self.more) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(amplitude: f32, text: &str) -> Wave {
        Wave::builder("a").amplitude(amplitude).text(text).build().unwrap()
    }

    #[test]
    fn the_strongest_are_kept_in_order_of_arrival_and_the_rest_is_counted() {
        let mut frame = Frame::new(3, 10);
        for (amplitude, text) in
            [(0.5, "a"), (0.9, "b"), (0.5, "c"), (0.5, "d"), (0.7, "e"), (0.1, "f"), (0.7, "g")]
        {
            frame.note(&wave(amplitude, text));
        }
        let taken = frame.take();
        let shown: Vec<_> = taken.lines.iter().map(|l| l.to_string().chars().last().unwrap()).collect();
        assert_eq!((shown, taken.more), (vec!['b', 'e', 'g'], 4));
        assert_eq!((frame.take().lines.len(), frame.take().more), (0, 0));
    }

    #[test]
    fn a_frame_with_few_waves_is_complete() {
        let mut frame = Frame::new(3, 3);
        frame.note(&wave(0.5, "long text"));
        let taken = frame.take();
        assert_eq!((taken.lines.len(), taken.more), (1, 0));
        assert!(taken.lines[0].to_string().ends_with("lon…"), "{}", taken.lines[0]);
    }
}
