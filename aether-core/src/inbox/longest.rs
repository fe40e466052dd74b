//! Which of many queues uses most, found without a look at each of them.

/// The number of queues that have one bound together.
const BLOCK: usize = 32;

/// What each queue uses, and for each [`BLOCK`] of them a number that none of them exceeds: a queue that shrinks leaves it as it
/// is, and the search for the longest corrects it.
#[derive(Debug, Default)]
pub(super) struct Longest {
    used: Vec<usize>,
    bounds: Vec<usize>,
}

impl Longest {
    /// Notes what a queue uses now.
    pub(super) fn set(&mut self, queue: usize, used: usize) {
        if queue >= self.used.len() {
            self.used.resize(queue + 1, 0);
            self.bounds.resize(queue / BLOCK + 1, 0);
        }
        self.used[queue] = used;
        let bound = &mut self.bounds[queue / BLOCK];
        *bound = used.max(*bound);
    }

    /// A queue that uses as much as any other; none if all are empty.
    pub(super) fn longest(&mut self) -> Option<usize> {
        loop {
            let (block, bound) = greatest(&self.bounds)?;
            let begin = block * BLOCK;
            let queues = &self.used[begin..self.used.len().min(begin + BLOCK)];
            let (queue, used) = greatest(queues)?;
            if bound == 0 {
                return None;
            }
            if used == bound {
                return Some(begin + queue);
            }
            self.bounds[block] = used;
        }
    }

    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.bounds.clear();
    }
}

/// The first of the greatest numbers, and its place.
fn greatest(numbers: &[usize]) -> Option<(usize, usize)> {
    let greatest = *numbers.iter().max()?;
    Some((numbers.iter().position(|number| *number == greatest)?, greatest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_look_at_each_queue_finds(steps in prop::collection::vec((0..200usize, 0..20usize), 0..300)) {
            let (mut longest, mut plain) = (Longest::default(), [0; 200]);
            for (queue, used) in steps {
                longest.set(queue, used);
                plain[queue] = used;
                let most = *plain.iter().max().unwrap();
                prop_assert_eq!(longest.longest().map(|queue| plain[queue]), (most > 0).then_some(most));
            }
            longest.clear();
            prop_assert_eq!(longest.longest(), None);
        }
    }
}
