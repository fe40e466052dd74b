//! The waves of a request as a tree of causes. Pure: it neither listens nor prints.
//!
//! The data of strangers is bounded here: the number of waves, their texts, and the depth that is drawn. Causes may
//! form a circle, or name waves that were never seen.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use aether_core::{Kind, Source, Wave, WaveId};
use serde_json::{Value, json};

use crate::record::printable;

/// The maximum number of waves of one tree, at less than a kilobyte each.
const MOST_WAVES: usize = 10_000;
/// The maximum number of roots that are followed.
const MOST_ROOTS: usize = 1024;
/// The deepest level that is drawn as such.
const DEEPEST: usize = 24;
/// The maximum number of characters of a failure's details.
const HINT: usize = 200;

/// The waves to follow.
#[derive(Debug)]
pub(crate) struct Followed {
    wave: Option<WaveId>,
    source: Option<Source>,
    roots: HashSet<WaveId>,
}

impl Followed {
    /// The request of one wave, which may be any of its waves.
    pub(crate) fn wave(id: WaveId) -> Self {
        Self { roots: HashSet::from([id.clone()]), wave: Some(id), source: None }
    }

    /// All requests that a source begins.
    pub(crate) fn source(source: &Source) -> Self {
        Self { wave: None, source: Some(source.clone()), roots: HashSet::new() }
    }

    /// Whether a wave with this root belongs to them.
    fn has(&mut self, id: &WaveId, root: &WaveId) -> bool {
        if self.wave.as_ref() == Some(id) && self.roots.len() < MOST_ROOTS {
            // Now the root of that wave is known.
            self.roots.insert(root.clone());
        }
        self.roots.contains(root) || self.source.as_ref() == Some(&root.source)
    }
}

/// The waves seen so far.
#[derive(Debug)]
pub(crate) struct Tree {
    followed: Followed,
    waves: Vec<Seen>,
    places: HashMap<WaveId, usize>,
    left_out: u64,
}

/// What is kept of a wave.
#[derive(Debug)]
struct Seen {
    id: WaveId,
    root: WaveId,
    cause: Option<WaveId>,
    channel: String,
    kind: Kind,
    amplitude: String,
    baggage: String,
    failure: Option<String>,
    emitted: Instant,
}

/// A wave in its place.
struct Placed<'a> {
    seen: &'a Seen,
    depth: usize,
    /// Whether it is the last child, on each level.
    last: Vec<bool>,
    after: Duration,
    outcome: Option<String>,
}

impl Tree {
    pub(crate) fn new(followed: Followed) -> Self {
        Self { followed, waves: Vec::new(), places: HashMap::new(), left_out: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waves.is_empty()
    }

    /// The number of waves for which there was no room.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Keeps a wave if it belongs to the request: by its root, or by its cause if a sender does not know roots.
    pub(crate) fn take(&mut self, wave: &Wave) {
        let (id, root) = (wave.id(), wave.root());
        let follows = |cause: &WaveId| self.places.contains_key(cause);
        if !self.followed.has(&id, &root) && !wave.cause().is_some_and(follows)
            || self.places.contains_key(&id)
        {
            return;
        }
        if self.waves.len() == MOST_WAVES {
            self.left_out += 1;
            return;
        }
        self.places.insert(id.clone(), self.waves.len());
        let now = Instant::now();
        self.waves.push(Seen {
            id,
            root,
            cause: wave.cause().cloned(),
            channel: wave.channel().to_string(),
            kind: wave.kind(),
            amplitude: wave.amplitude().to_string(),
            baggage: wave.baggage().to_string(),
            failure: wave.failure().map(|failure| printable(&failure.to_string(), HINT)),
            emitted: now.checked_sub(wave.age_when(now)).unwrap_or(now),
        });
    }

    /// The tree for people: a heading, and a line for each wave.
    pub(crate) fn to_lines(&self) -> Vec<String> {
        let placed = self.placed();
        let sources: HashSet<_> = self.waves.iter().map(|wave| &wave.id.source).collect();
        let took = placed.iter().map(|wave| wave.after).max().unwrap_or_default();
        let mut lines =
            vec![format!("{} waves of {} sources in {}", placed.len(), sources.len(), milliseconds(took))];
        lines.extend(placed.iter().map(Placed::line));
        lines
    }

    /// The tree for programs: an object for each wave, parents before their children.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        self.placed().iter().map(Placed::json).collect()
    }

    /// When each wave was emitted. The times are estimates, because clocks differ, but one source numbers its waves in
    /// the order of their emission.
    fn emitted(&self) -> Vec<Instant> {
        let mut emitted: Vec<_> = self.waves.iter().map(|wave| wave.emitted).collect();
        let mut order: Vec<_> = (0..emitted.len()).collect();
        order.sort_by_key(|place| self.waves[*place].id.sequence);
        let mut latest: HashMap<&Source, Instant> = HashMap::new();
        for place in order {
            let latest = latest.entry(&self.waves[place].id.source).or_insert(emitted[place]);
            *latest = emitted[place].max(*latest);
            emitted[place] = *latest;
        }
        emitted
    }

    /// All waves, each after its cause, siblings by the time of their emission.
    fn placed(&self) -> Vec<Placed<'_>> {
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        let emitted = self.emitted();
        let (mut tops, mut order) = (Vec::new(), (0..self.waves.len()).collect::<Vec<_>>());
        order.sort_by_key(|place| (emitted[*place], self.waves[*place].id.sequence));
        for &place in &order {
            match self.parent(place) {
                Some(parent) => children.entry(parent).or_default().push(place),
                None => tops.push(place),
            }
        }
        let start = order.first().map(|first| emitted[*first]);
        let (mut placed, mut visited) = (Vec::new(), HashSet::new());
        // Waves in a circle of causes have no top: each circle begins with its first wave.
        for top in tops.into_iter().chain(order) {
            let mut open = vec![(top, 0, Vec::new())];
            while let Some((place, depth, last)) = open.pop() {
                if !visited.insert(place) {
                    continue;
                }
                let seen = &self.waves[place];
                let below = children.get(&place).map_or(&[][..], Vec::as_slice);
                let outcome = self.outcome(seen, below);
                for (at, child) in below.iter().enumerate().rev() {
                    // Deeper levels are drawn on the deepest one.
                    let mut line: Vec<bool> = last.iter().copied().take(DEEPEST - 1).collect();
                    line.push(at + 1 == below.len());
                    open.push((*child, depth + 1, line));
                }
                let after =
                    start.map_or(Duration::ZERO, |start| emitted[place].saturating_duration_since(start));
                placed.push(Placed { seen, depth, last, after, outcome });
            }
        }
        placed
    }

    fn parent(&self, place: usize) -> Option<usize> {
        let Seen { cause, root, .. } = &self.waves[place];
        // An attempt to ask again names no cause, but the first attempt as its root.
        let above = cause.as_ref().and_then(|cause| self.places.get(cause)).or_else(|| self.places.get(root));
        above.copied().filter(|parent| *parent != place)
    }

    /// The outcome of a question, as far as the bus shows it.
    fn outcome(&self, seen: &Seen, below: &[usize]) -> Option<String> {
        let answers = below.iter().map(|place| &self.waves[*place]);
        let answer = answers.into_iter().find(|wave| {
            wave.kind == Kind::Response
                && wave.channel == seen.channel
                && wave.cause.as_ref() == Some(&seen.id)
        });
        match (answer, seen.kind) {
            (Some(answer), _) => {
                let by = printable(answer.id.source.name(), usize::MAX);
                let after = milliseconds(answer.emitted.saturating_duration_since(seen.emitted));
                Some(match &answer.failure {
                    Some(failure) => format!("failed at {by} after {after}: {failure}"),
                    None => format!("answered by {by} after {after}"),
                })
            }
            (None, Kind::Query) => Some("no answer seen".to_owned()),
            (None, _) => None,
        }
    }
}

impl Placed<'_> {
    fn line(&self) -> String {
        let Seen { id, cause, root, channel, kind, .. } = self.seen;
        let mut drawn = String::new();
        if let Some((own, above)) = self.last.split_last() {
            above.iter().for_each(|last| drawn.push_str(if *last { "   " } else { "│  " }));
            drawn.push_str(if *own { "└─ " } else { "├─ " });
        }
        let source = printable(id.source.name(), usize::MAX);
        let outcome = self.outcome.as_ref().map(|outcome| format!(": {outcome}")).unwrap_or_default();
        let unseen = match cause {
            Some(cause) if self.depth == 0 => format!(", caused by {cause}, which was not seen"),
            None if self.depth == 0 && root != id => format!(", of the request {root}, which was not seen"),
            _ => String::new(),
        };
        let after = milliseconds(self.after);
        let text = format!("{after:>10}  {drawn}{channel}  {kind} by {source}{outcome}{unseen}  {id}");
        printable(&text, usize::MAX)
    }

    fn json(&self) -> Value {
        let Seen { id, root, cause, channel, kind, amplitude, baggage, failure, .. } = self.seen;
        json!({
            "id": id.to_string(),
            "root": root.to_string(),
            "cause": cause.as_ref().map(ToString::to_string),
            "depth": self.depth,
            "after_ms": (self.after.as_secs_f64() * 1e6).round() / 1e3,
            "channel": channel,
            "kind": kind.as_str(),
            "amplitude": amplitude.parse::<f64>().ok(),
            "source": id.source.name(),
            "baggage": baggage,
            "outcome": self.outcome,
            "failure": failure,
        })
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Channel;
    use aether_core::clock::test_now;
    use aether_core::wave::Received;

    fn id(text: &str) -> WaveId {
        text.parse().unwrap()
    }

    /// A wave that was emitted some milliseconds after the first one.
    fn wave(at: Instant, after: u64, own: &str, channel: &str, change: impl FnOnce(&mut Received)) -> Wave {
        // All are received at one moment, a second after the first was emitted.
        let mut received = Received::new(id(own), Channel::new(channel).unwrap(), "", at);
        received.age = Duration::from_millis(1000 - after);
        change(&mut received);
        received.into_wave()
    }

    fn caused(by: &str, root: &str, kind: Kind) -> impl FnOnce(&mut Received) {
        let (cause, root) = (id(by), id(root));
        move |wave| (wave.cause, wave.root, wave.kind) = (Some(cause), Some(root), kind)
    }

    /// The lines without the times, which depend on when each wave was taken in.
    fn drawn(tree: &Tree) -> Vec<String> {
        let lines = tree.to_lines();
        lines
            .iter()
            .map(|line| line.split_once("ms  ").map_or(&**line, |(_, rest)| rest).to_owned())
            .collect()
    }

    #[test]
    fn a_request_is_drawn_by_cause_with_the_outcome_of_its_questions() {
        let at = test_now();
        let (order, ask, answer) = ("shop@a/1", "shop@a/2", "stock@b/2");
        let mut tree = Tree::new(Followed::wave(id(order)));
        let failed = |wave: &mut Received| {
            caused("shop@a/3", order, Kind::Response)(wave);
            wave.metadata.push(aether_core::wave::FAILURE, "rejected").unwrap();
            wave.payload = "no \u{1b} card".into();
        };
        for wave in [
            wave(at, 0, order, "orders.created", |_| {}),
            wave(at, 0, "other@c/1", "orders.created", |_| {}),
            wave(at, 9, "shop@a/3", "pay", caused(answer, order, Kind::Query)),
            wave(at, 1, ask, "reserve", caused(order, order, Kind::Query)),
            wave(at, 5, answer, "reserve", caused(ask, order, Kind::Response)),
            wave(at, 4, "stock@b/1", "reserved", caused(ask, order, Kind::Event)),
            wave(at, 12, "bank@d/1", "pay", failed),
            wave(at, 20, "shop@a/4", "price", caused(order, order, Kind::Query)),
            wave(at, 21, "shop@a/4", "price", caused(order, order, Kind::Query)),
        ] {
            tree.take(&wave);
        }
        let lines = drawn(&tree);
        assert!(lines[0].starts_with("7 waves of 3 sources in "), "{lines:?}");
        let expected = [
            "orders.created  event by shop  shop@a/1",
            "├─ reserve  query by shop: answered by stock after 4.0ms  shop@a/2",
            "│  ├─ reserved  event by stock  stock@b/1",
            "│  └─ reserve  response by stock  stock@b/2",
            "│     └─ pay  query by shop: failed at bank after 3.0ms: rejected: no \\u{1b} card  shop@a/3",
            "│        └─ pay  response by bank  bank@d/1",
            "└─ price  query by shop: no answer seen  shop@a/4",
        ];
        for (line, expected) in lines[1..].iter().zip(expected) {
            assert_eq!(line, expected);
        }
        let json = tree.to_json();
        assert_eq!((json.len(), &json[3]["id"], &json[3]["depth"]), (7, &json!(answer), &json!(2)));
    }

    #[test]
    fn the_waves_of_one_source_are_in_the_order_of_its_numbers_whatever_their_estimated_times() {
        let at = test_now();
        let mut tree = Tree::new(Followed::wave(id("a@1/1")));
        for (after, own) in [(0, "a@1/1"), (5, "b@2/1"), (4, "b@2/2"), (1, "c@3/1")] {
            tree.take(&wave(at, after, own, "x", caused("a@1/1", "a@1/1", Kind::Event)));
        }
        let ids: Vec<_> = tree.to_json().iter().map(|wave| wave["id"].clone()).collect();
        assert_eq!(ids, ["a@1/1", "c@3/1", "b@2/1", "b@2/2"]);
    }

    #[test]
    fn a_wave_in_the_middle_leads_to_its_request_and_attempts_without_a_cause_belong_to_it() {
        let at = test_now();
        let mut tree = Tree::new(Followed::wave(id("b@2/1")));
        tree.take(&wave(at, 1, "b@2/1", "middle", caused("a@1/5", "a@1/1", Kind::Event)));
        // By its root alone, as the repetition of a question; and by its cause alone, as a sender of an older version.
        tree.take(&wave(at, 2, "a@1/2", "again", |wave| wave.root = Some(id("a@1/1"))));
        tree.take(&wave(at, 3, "c@3/1", "old", |wave| wave.cause = Some(id("b@2/1"))));
        let lines = drawn(&tree);
        assert_eq!(
            lines[1..],
            [
                "middle  event by b, caused by a@1/5, which was not seen  b@2/1",
                "└─ old  event by c  c@3/1",
                "again  event by a, of the request a@1/1, which was not seen  a@1/2",
            ]
        );
        let mut all = Tree::new(Followed::source(&id("a@1/1").source));
        for own in ["a@1/1", "a@1/9", "b@1/1"] {
            all.take(&wave(at, 1, own, "x", |_| {}));
        }
        assert_eq!(all.to_json().len(), 2);
    }

    #[test]
    fn circles_long_chains_and_crowds_of_forged_waves_are_bounded() {
        let at = test_now();
        let mut circle = Tree::new(Followed::wave(id("a@1/1")));
        circle.take(&wave(at, 1, "a@1/1", "x", caused("a@1/2", "a@1/1", Kind::Event)));
        circle.take(&wave(at, 2, "a@1/2", "x", caused("a@1/1", "a@1/1", Kind::Event)));
        assert_eq!(circle.to_json().len(), 2, "each is shown once");
        let mut chain = Tree::new(Followed::wave(id("a@1/1")));
        for number in 1..=MOST_WAVES + 5 {
            let cause = format!("a@1/{}", number.saturating_sub(1));
            chain.take(&wave(at, 1, &format!("a@1/{number}"), "x", caused(&cause, "a@1/1", Kind::Event)));
        }
        assert_eq!((chain.left_out(), chain.to_json().len()), (5, MOST_WAVES));
        let longest = chain.to_lines().iter().map(|line| line.chars().count()).max().unwrap();
        assert!(longest < 200, "{longest}");
    }
}
