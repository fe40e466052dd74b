//! Subjects that the server refused. A server tells a client of a missing permission beside the request, which then never
//! gets an answer.

use std::collections::VecDeque;

use tokio::sync::watch;

/// The number of refusals that are remembered. Each belongs to a request that waits at this moment.
const REMEMBERED: usize = 64;

#[derive(Debug, Default)]
struct Refused {
    total: u64,
    /// The latest subjects.
    subjects: VecDeque<String>,
}

/// The refusals of a connection.
#[derive(Debug)]
pub(super) struct Refusals(watch::Sender<Refused>);

impl Default for Refusals {
    fn default() -> Self {
        Self(watch::Sender::new(Refused::default()))
    }
}

impl Refusals {
    /// Notes an error of the server, such as `Permissions Violation for Publish to "orders"`.
    pub(super) fn note(&self, error: &str) {
        let is_about = error.to_ascii_lowercase().starts_with("permissions violation");
        let Some(subject) = error.split('"').nth(1).filter(|_| is_about) else { return };
        self.0.send_modify(|refused| {
            refused.total += 1;
            refused.subjects.truncate(REMEMBERED - 1);
            refused.subjects.push_front(subject.to_owned());
        });
    }

    /// Waits until this subject is refused, from now on.
    pub(super) fn of(&self, subject: &str) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.0.subscribe();
        let before = changes.borrow_and_update().total;
        let subject = subject.to_owned();
        async move {
            let is_refused = |refused: &Refused| {
                let since = usize::try_from(refused.total - before).unwrap_or(usize::MAX);
                refused.subjects.iter().take(since).any(|refused| *refused == subject)
            };
            if changes.wait_for(is_refused).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn only_a_later_refusal_of_the_same_subject_counts() {
        let refusals = Refusals::default();
        refusals.note("Permissions Violation for Publish to \"a\"");
        let (a, b) = (refusals.of("a"), refusals.of("b"));
        tokio::pin!(a, b);
        assert!(a.as_mut().now_or_never().is_none(), "it was refused before");
        refusals.note("Permissions Violation for Publish to \"a\"");
        refusals.note("maximum connections exceeded \"b\"");
        assert!(a.now_or_never().is_some());
        assert!(b.now_or_never().is_none());
    }
}
