//! The answers to the questions of one stream, and whether they change.

/// Of a longer payload, only the first and last bytes and the length are compared.
const COMPARED: usize = 2048;

/// The latest answer, and the number of equal ones in a row.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The number of the last answered question.
    question: u64,
    content: Option<u64>,
    unchanged: u32,
    reported: bool,
}

impl Answers {
    /// Records an answer. Returns whether to report. Only the first answer to a question counts, as for the asker, so a
    /// repeated one is ignored.
    pub(super) fn note(&mut self, question: u64, content: u64, enough: u32) -> bool {
        if question <= self.question {
            return false;
        }
        self.question = question;
        if self.content == Some(content) {
            self.unchanged = self.unchanged.saturating_add(1);
        } else {
            (self.content, self.unchanged, self.reported) = (Some(content), 1, false);
        }
        self.unchanged >= enough && !self.reported
    }

    /// The number of equal answers; returned once, when there are enough.
    pub(super) fn report(&mut self, enough: u32) -> Option<u32> {
        let reports = self.unchanged >= enough && !self.reported;
        self.reported |= reports;
        reports.then_some(self.unchanged)
    }
}

/// The part of a payload that is compared.
pub(super) fn sample(payload: &[u8]) -> (usize, &[u8], &[u8]) {
    let first = payload.len().min(COMPARED);
    let last = payload.len().saturating_sub(COMPARED).max(first);
    (payload.len(), &payload[..first], &payload[last..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_stay_the_same_are_reported_once_until_they_change() {
        let mut answers = Answers::default();
        let due: Vec<bool> = (1..=4).map(|question| answers.note(question, 7, 3)).collect();
        assert_eq!(due, [false, false, true, true]);
        assert_eq!((answers.report(3), answers.report(3)), (Some(4), None));
        assert!(!answers.note(4, 8, 3), "the same question twice");
        assert!(!answers.note(5, 8, 3) && !answers.note(6, 8, 3) && answers.note(7, 8, 3));
        assert_eq!(answers.report(3), Some(3));
    }

    #[test]
    fn payloads_are_compared_at_both_ends() {
        assert_eq!(sample(b""), (0, &b""[..], &b""[..]));
        let payload: Vec<u8> = (0..5000).map(|byte| byte as u8).collect();
        let (bytes, first, last) = sample(&payload);
        assert_eq!((bytes, first, last), (5000, &payload[..2048], &payload[2952..]));
        assert_eq!(sample(&payload[..3000]).2.len(), 952);
    }
}
