//! The sums of all processes: each wave that was offered is heard, or counted as lost.
//!
//! The simulation sees what each connection is given ([`Offering`](super::offering::Offering)), what its outbox sheds, and
//! what arrives ([`Watch`](super::watch::Watch)). It compares that with what the processes count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Channel, Pattern, Source, Wave};
use aether_lan::LanInside;

/// The waves that a problem names.
const NAMED: usize = 5;

/// The number of a connection, different in each life of a process.
pub(super) type ConnectionId = u64;

/// The waves of one source and channel, of one strength, on the same networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfferedStream {
    networks: Arc<[String]>,
    source: Source,
    channel: Channel,
    amplitude: u32,
}

impl OfferedStream {
    fn of(wave: &Wave, networks: &Arc<[String]>) -> Self {
        let (source, channel) = (wave.source().clone(), wave.channel().clone());
        Self {
            networks: Arc::clone(networks),
            source,
            channel,
            amplitude: wave.amplitude().as_f32().to_bits(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfferFate {
    /// It waits for room, or did so once.
    Waits,
    /// The outbox has taken it.
    Taken,
    Shed,
}

/// A wave that was given to a connection.
#[derive(Debug)]
struct Offer {
    sequence: u64,
    at: Duration,
    by: ConnectionId,
    /// Bridges may offer a wave several times.
    times: u64,
    fate: OfferFate,
}

/// All who hear a pattern by one connection, alone.
#[derive(Debug, Default)]
struct Hearers {
    subscriptions: BTreeSet<u64>,
    /// The waves that have arrived since somebody has heard the pattern, in order.
    arrived: HashMap<OfferedStream, Vec<u64>>,
    /// All that arrived before, when others heard it.
    arrived_before: u64,
}

#[derive(Debug)]
struct ConnectionSums {
    process: String,
    networks: Arc<[String]>,
    taken: u64,
    waited: u64,
    /// Its counts when it ended.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Killed(Counted),
    Closed(Counted),
}

/// The counts of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    sent: u64,
    arrived: u64,
    offered: u64,
    queued: u64,
    in_flight: u64,
    unconfirmed: u64,
    lost_upstream: u64,
    /// Some waves wait for full inboxes.
    is_crowded: bool,
    /// It has forgotten where some streams are.
    has_forgotten: bool,
}

impl Counted {
    pub(super) fn of(aether: &Aether) -> Self {
        let (status, inside) = (aether.status(), aether.details::<LanInside>());
        Self {
            sent: inside.iter().map(LanInside::sent).sum(),
            arrived: inside.iter().map(LanInside::arrived).sum(),
            offered: status.outbox.offered,
            queued: status.outbox.queued,
            in_flight: status.in_flight,
            unconfirmed: status.unconfirmed,
            lost_upstream: status.lost_upstream,
            is_crowded: inside.iter().any(|inside| inside.crowds() > 0),
            has_forgotten: status.forgotten_streams + status.implausible > 0,
        }
    }
}

/// The sums of all connections so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    connections: BTreeMap<ConnectionId, ConnectionSums>,
    streams: HashMap<OfferedStream, Vec<Offer>>,
    hearers: HashMap<(ConnectionId, Pattern), Hearers>,
}

/// The place of a number in order.
fn place_of(offers: &[Offer], sequence: u64) -> Result<usize, usize> {
    offers.binary_search_by_key(&sequence, |offer| offer.sequence)
}

impl Sums {
    pub(super) fn opens(&mut self, connection: ConnectionId, process: &str, networks: &[String]) {
        let (process, networks) = (process.to_owned(), networks.into());
        self.connections
            .insert(connection, ConnectionSums { process, networks, taken: 0, waited: 0, end: None });
    }

    pub(super) fn is_killed(&mut self, connection: ConnectionId, counted: Counted) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.end.get_or_insert(End::Killed(counted));
        }
    }

    pub(super) fn is_closed(&mut self, connection: ConnectionId, counted: Counted) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.end.get_or_insert(End::Closed(counted));
        }
    }

    fn stream(&self, connection: ConnectionId, wave: &Wave) -> Option<OfferedStream> {
        Some(OfferedStream::of(wave, &self.connections.get(&connection)?.networks))
    }

    fn offer(&mut self, connection: ConnectionId, wave: &Wave) -> Option<(&mut ConnectionSums, &mut Offer)> {
        let offers = self.streams.get_mut(&self.stream(connection, wave)?)?;
        let place = place_of(offers, wave.sequence()).ok()?;
        Some((self.connections.get_mut(&connection)?, &mut offers[place]))
    }

    /// A wave is given to a connection.
    pub(super) fn offers(&mut self, connection: ConnectionId, wave: &Wave, at: Duration) {
        let Some(stream) = self.stream(connection, wave) else { return };
        let offers = self.streams.entry(stream).or_default();
        let new = Offer { sequence: wave.sequence(), at, by: connection, times: 1, fate: OfferFate::Waits };
        match place_of(offers, wave.sequence()) {
            Ok(place) if offers[place].times > 0 => offers[place].times += 1,
            // A number that was handed back with its wave.
            Ok(place) => offers[place] = new,
            Err(place) => offers.insert(place, new),
        }
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.waited += 1;
        }
    }

    /// It is taken.
    pub(super) fn takes(&mut self, connection: ConnectionId, wave: &Wave) {
        if let Some((connection, offer)) = self.offer(connection, wave) {
            (connection.taken, connection.waited) = (connection.taken + 1, connection.waited - 1);
            // One that was offered twice may have been refused once.
            if offer.fate == OfferFate::Waits && offer.times == 1 {
                offer.fate = OfferFate::Taken;
            }
        }
    }

    /// It is handed back.
    pub(super) fn refuses(&mut self, connection: ConnectionId, wave: &Wave) {
        if let Some((connection, offer)) = self.offer(connection, wave) {
            connection.waited -= 1;
            offer.times -= 1;
            if offer.times == 0 {
                offer.fate = OfferFate::Shed;
            }
        }
    }

    /// The outbox has shed it.
    pub(super) fn sheds(&mut self, connection: ConnectionId, wave: &Wave) {
        if let Some((_, offer)) = self.offer(connection, wave)
            && offer.times == 1
        {
            offer.fate = OfferFate::Shed;
        }
    }

    pub(super) fn joins(&mut self, connection: ConnectionId, pattern: &Pattern, subscription: u64) {
        self.hearers.entry((connection, pattern.clone())).or_default().subscriptions.insert(subscription);
    }

    pub(super) fn leaves(&mut self, connection: ConnectionId, pattern: &Pattern, subscription: u64) {
        let Some(hearers) = self.hearers.get_mut(&(connection, pattern.clone())) else { return };
        hearers.subscriptions.remove(&subscription);
        if hearers.subscriptions.is_empty() {
            let arrived = std::mem::take(&mut hearers.arrived);
            hearers.arrived_before += arrived.values().map(|waves| waves.len() as u64).sum::<u64>();
        }
    }

    /// A wave has arrived for all who hear a pattern. Questions and copies of them were not offered.
    pub(super) fn arrives(&mut self, connection: ConnectionId, pattern: &Pattern, wave: &Wave) {
        let Some(stream) = self.stream(connection, wave) else { return };
        let is_offered = |offers: &Vec<Offer>| place_of(offers, wave.sequence()).is_ok();
        if wave.is_question() || !self.streams.get(&stream).is_some_and(is_offered) {
            return;
        }
        if let Some(hearers) = self.hearers.get_mut(&(connection, pattern.clone())) {
            let arrived = hearers.arrived.entry(stream).or_default();
            if let Err(place) = arrived.binary_search(&wave.sequence()) {
                arrived.insert(place, wave.sequence());
            }
        }
    }

    /// The waves that were offered until a time, and neither arrived where they are heard nor are counted, and those that
    /// are counted and were not lost. `counted` has the connections that are open and connected.
    pub(super) fn problems(
        &self,
        (until, is_disturbed): (Duration, bool),
        counted: &BTreeMap<ConnectionId, Counted>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, counted_here) in counted {
            let Some(connection) = self.connections.get(id) else { continue };
            let mut missing = BTreeMap::<ConnectionId, Vec<String>>::new();
            let mut may_be_lost = 0;
            for ((_, pattern), hearers) in self.hearers.iter().filter(|((of, _), _)| of == id) {
                let mut arrived_here = hearers.arrived_before;
                for (stream, offers) in &self.streams {
                    let shares_one = stream.networks.iter().any(|one| connection.networks.contains(one));
                    if !shares_one || !pattern.matches(&stream.channel) {
                        continue;
                    }
                    let arrived = hearers.arrived.get(stream).map_or(&[][..], Vec::as_slice);
                    let not_shed = offers.iter().filter(|offer| offer.fate != OfferFate::Shed);
                    may_be_lost += not_shed.map(|offer| offer.times).sum::<u64>();
                    arrived_here += arrived.len() as u64;
                    // Whether those before the first one were sent to it is not known.
                    let Some(first) = arrived.first() else { continue };
                    let sure = offers.iter().filter(|offer| {
                        offer.sequence > *first && offer.at <= until && offer.fate == OfferFate::Taken
                    });
                    for offer in sure.filter(|offer| arrived.binary_search(&offer.sequence).is_err()) {
                        let OfferedStream { source, channel, .. } = stream;
                        let text = format!("{}/{} on {channel} for {pattern}", source.name(), offer.sequence);
                        missing.entry(offer.by).or_default().push(text);
                    }
                }
                may_be_lost = may_be_lost.saturating_sub(arrived_here);
            }
            let Counted { lost_upstream, is_crowded, has_forgotten, .. } = *counted_here;
            let name = &connection.process;
            if lost_upstream > may_be_lost {
                problems.push(format!(
                    "{name} counts {lost_upstream} waves as lost on the way, of which at most {may_be_lost} were sent and did \
                     not arrive"
                ));
            }
            if is_crowded || has_forgotten {
                continue;
            }
            let mut lost = 0;
            let mut named = Vec::new();
            for (by, waves) in missing {
                let excused = match self.connections.get(&by).and_then(|connection| connection.end) {
                    // Nobody knows what it had sent.
                    Some(End::Killed(_)) => continue,
                    // Those who were not connected then hear nothing more of it.
                    Some(End::Closed(_)) if is_disturbed => continue,
                    Some(End::Closed(counted)) => counted.unconfirmed + counted.in_flight,
                    None => match counted.get(&by) {
                        Some(counted) => counted.queued + counted.in_flight,
                        None => continue,
                    },
                };
                let more = (waves.len() as u64).saturating_sub(excused);
                if more > 0 {
                    lost += more;
                    named.extend(waves);
                }
            }
            if lost > lost_upstream {
                named.sort_unstable();
                named.truncate(NAMED);
                problems.push(format!(
                    "{name} has not heard {lost} waves, and counts {lost_upstream} as lost on the way: {named:?}"
                ));
            }
        }
        problems.sort_unstable();
        problems
    }

    /// The sums that do not agree once all connections have ended.
    pub(super) fn problems_at_end(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (mut sent, mut arrived, mut lost) = (0, 0, 0);
        for connection in self.connections.values() {
            let (Some(End::Killed(counted)) | Some(End::Closed(counted))) = connection.end else { continue };
            sent += counted.sent;
            arrived += counted.arrived;
            lost += counted.unconfirmed + counted.in_flight;
            let ConnectionSums { process, taken, waited, .. } = connection;
            if !(*taken..=taken + waited).contains(&counted.offered) {
                let offered = counted.offered;
                problems.push(format!(
                    "{process} has {offered} waves in its account, and was given {taken}, and {waited} that had to wait"
                ));
            }
            if counted.queued > 0 && matches!(connection.end, Some(End::Closed(_))) {
                problems.push(format!("{process} ended with {} waves in its outbox", counted.queued));
            }
        }
        if arrived > sent || sent > arrived + lost {
            problems.push(format!(
                "{sent} waves were sent to others, {arrived} have arrived, and the senders count {lost} as lost"
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::WaveId;

    const SENDER: ConnectionId = 1;
    const HEARER: ConnectionId = 2;
    const NOW: Duration = Duration::from_secs(1);

    fn wave(source: &Source, sequence: u64) -> Wave {
        let id = WaveId { source: source.clone(), sequence };
        Wave::builder("orders.created").build().unwrap().identified(id, None)
    }

    /// Five waves were taken, of which these have arrived.
    fn with_arrived(arrived: &[u64]) -> (Sums, Source) {
        let (mut sums, source) = (Sums::default(), Source::new("shop").unwrap());
        let pattern = Pattern::new("orders.*").unwrap();
        sums.opens(SENDER, "shop", &["lan".to_owned()]);
        sums.opens(HEARER, "stock", &["lan".to_owned()]);
        sums.joins(HEARER, &pattern, 7);
        for sequence in 1..=5 {
            let wave = wave(&source, sequence);
            sums.offers(SENDER, &wave, NOW);
            sums.takes(SENDER, &wave);
        }
        arrived.iter().for_each(|sequence| sums.arrives(HEARER, &pattern, &wave(&source, *sequence)));
        (sums, source)
    }

    fn problems(sums: &Sums, (queued, lost_upstream): (u64, u64)) -> Vec<String> {
        let of_sender = Counted { queued, ..Counted::default() };
        let of_hearer = Counted { lost_upstream, ..Counted::default() };
        sums.problems((NOW, true), &BTreeMap::from([(SENDER, of_sender), (HEARER, of_hearer)]))
    }

    #[test]
    fn each_wave_behind_the_first_one_is_heard_or_lost_or_waits() {
        let (mut sums, source) = with_arrived(&[2, 4]);
        let lacks_two = problems(&sums, (0, 0));
        assert!(
            lacks_two[0].starts_with("stock has not heard 2 waves, and counts 0 as lost"),
            "{lacks_two:?}"
        );
        assert!(lacks_two[0].contains("shop/3 on orders.created for orders.*"), "{lacks_two:?}");
        for excuse in [(0, 2), (0, 3), (1, 1), (2, 0)] {
            assert_eq!(problems(&sums, excuse), [""; 0], "{excuse:?}");
        }
        let too_many = problems(&sums, (0, 4));
        assert!(too_many[0].contains("of which at most 3 were sent"), "{too_many:?}");
        sums.sheds(SENDER, &wave(&source, 3));
        assert_eq!(problems(&sums, (0, 1)), [""; 0]);
        assert_eq!(problems(&sums, (0, 0)).len(), 1);
        assert_eq!(problems(&sums, (0, 3)).len(), 1);
        sums.is_killed(SENDER, Counted::default());
        assert_eq!(problems(&sums, (0, 0)), [""; 0], "nobody knows what it had sent");
    }

    #[test]
    fn a_pattern_that_is_heard_again_begins_again() {
        let (mut sums, _) = with_arrived(&[1, 3]);
        let pattern = Pattern::new("orders.*").unwrap();
        sums.leaves(HEARER, &pattern, 7);
        sums.joins(HEARER, &pattern, 8);
        assert_eq!(problems(&sums, (0, 0)), [""; 0]);
        assert_eq!(problems(&sums, (0, 3)), [""; 0]);
        assert_eq!(problems(&sums, (0, 4)).len(), 1);
    }

    #[test]
    fn what_was_sent_arrives_or_is_counted() {
        let at_end = |taken: Counted, heard: Counted| {
            let (mut sums, _) = with_arrived(&[]);
            sums.is_closed(SENDER, taken);
            sums.is_closed(HEARER, heard);
            sums.problems_at_end()
        };
        let heard = Counted { arrived: 4, ..Counted::default() };
        let sent = Counted { sent: 5, offered: 5, ..Counted::default() };
        assert_eq!(at_end(Counted { unconfirmed: 1, ..sent }, heard), [""; 0]);
        assert_eq!(at_end(Counted { in_flight: 2, ..sent }, heard), [""; 0]);
        assert_eq!(at_end(sent, heard).len(), 1);
        assert_eq!(at_end(sent, Counted { arrived: 6, ..heard }).len(), 1);
        assert_eq!(at_end(Counted { sent: 4, queued: 1, ..sent }, heard).len(), 1);
        assert_eq!(at_end(Counted { sent: 4, offered: 6, ..sent }, heard).len(), 1);
    }
}
