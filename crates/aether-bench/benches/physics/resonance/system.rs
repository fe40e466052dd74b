//! Synthetic systems of services whose edges are known.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::{Channel, Pattern};

/// The number of heartbeats. They have the same period, so each follows the others at a fixed lag.
pub(super) const HEARTBEATS: usize = 4;
/// The number of streams without a cause that follow the shared load.
pub(super) const DECOYS: usize = 4;
/// The number of channels that each service is tuned to without emitting in response.
const DISTRACTIONS: usize = 2;

/// A wave of `from` causes a wave of `to`.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The probability that it does.
    pub(super) chance: f64,
    /// The median lag in seconds, and its scatter: the standard deviation of its logarithm.
    pub(super) lag: f64,
    pub(super) scatter: f64,
}

#[derive(Debug)]
pub(super) struct System {
    /// The number of channels with edges. Heartbeats and decoys follow them.
    pub(super) size: usize,
    /// The channels with external waves, and their rates per second.
    pub(super) roots: Vec<(usize, f64)>,
    pub(super) edges: Vec<Edge>,
    pub(super) channels: Vec<Channel>,
}

impl System {
    /// A shop of 16 channels and 18 edges, modelled on the "online boutique" sample of microservices.
    pub(super) fn shop() -> Self {
        const NAMES: [&str; 16] = [
            "web.home",
            "web.product",
            "web.cart",
            "web.checkout",
            "catalog.get",
            "recs.list",
            "ads.get",
            "currency.conv",
            "cart.get",
            "cart.empty",
            "checkout.place",
            "shipping.quote",
            "shipping.ship",
            "payment.charge",
            "email.send",
            "order.done",
        ];
        const EDGES: [(&str, &str, f64, f64); 18] = [
            ("web.home", "catalog.get", 1.0, 0.004),
            ("web.home", "currency.conv", 1.0, 0.003),
            ("web.home", "cart.get", 1.0, 0.005),
            ("web.home", "ads.get", 0.8, 0.01),
            ("web.product", "catalog.get", 1.0, 0.004),
            ("web.product", "recs.list", 1.0, 0.012),
            ("web.product", "currency.conv", 1.0, 0.003),
            ("web.product", "ads.get", 0.8, 0.01),
            ("web.cart", "cart.get", 1.0, 0.005),
            ("web.cart", "recs.list", 0.7, 0.015),
            ("web.cart", "shipping.quote", 1.0, 0.02),
            ("web.checkout", "checkout.place", 1.0, 0.006),
            ("checkout.place", "cart.get", 1.0, 0.006),
            ("checkout.place", "payment.charge", 1.0, 0.05),
            ("payment.charge", "shipping.ship", 0.97, 0.08),
            ("shipping.ship", "email.send", 1.0, 0.12),
            ("shipping.ship", "cart.empty", 1.0, 0.01),
            ("email.send", "order.done", 1.0, 0.15),
        ];
        let index =
            |name: &str| NAMES.iter().position(|known| *known == name).expect("a channel of the shop");
        let edges = EDGES.map(|(from, to, chance, lag)| Edge {
            from: index(from),
            to: index(to),
            chance,
            lag,
            scatter: 0.4,
        });
        Self::new(
            NAMES.map(str::to_owned).to_vec(),
            vec![(0, 6.0), (1, 4.0), (2, 2.0), (3, 1.0)],
            edges.to_vec(),
        )
    }

    /// A tree of calls: few roots, heavy-tailed fan-out, and some shared callees.
    pub(super) fn tree(size: usize, random: &mut fastrand::Rng) -> Self {
        let roots = (size / 15).max(2);
        let mut edges: Vec<Edge> = Vec::new();
        let mut children = vec![0.0_f64; size];
        for to in roots..size {
            let weight = |from: usize| (1.0 + children[from]) * if from < roots { 1.0 } else { 0.6 };
            let mut left = random.f64() * (0..to).map(weight).sum::<f64>();
            let from = (0..to)
                .find(|from| {
                    left -= weight(*from);
                    left < 0.0
                })
                .unwrap_or(to - 1);
            children[from] += 1.0;
            edges.push(Edge {
                from,
                to,
                chance: [1.0, 0.9, 0.5, 0.2][random.usize(..4)],
                lag: log_uniform(0.001, 0.15, random),
                scatter: 0.2 + 0.4 * random.f64(),
            });
        }
        for _ in 0..size / 6 {
            let (x, y) = (random.usize(..size), random.usize(..size));
            let (from, to) = (x.min(y), x.max(y));
            if from != to && to >= roots && !edges.iter().any(|edge| (edge.from, edge.to) == (from, to)) {
                let chance = [1.0, 0.5][random.usize(..2)];
                edges.push(Edge { from, to, chance, lag: log_uniform(0.001, 0.15, random), scatter: 0.4 });
            }
        }
        let names = (0..size).map(|channel| format!("tree.c{channel}")).collect();
        Self::new(names, (0..roots).map(|root| (root, log_uniform(1.0, 12.0, random))).collect(), edges)
    }

    fn new(mut names: Vec<String>, roots: Vec<(usize, f64)>, edges: Vec<Edge>) -> Self {
        let size = names.len();
        names.extend((0..HEARTBEATS).map(|beat| format!("heart.beat{beat}")));
        names.extend((0..DECOYS).map(|decoy| format!("decoy.d{decoy}")));
        let channels = names.iter().map(|name| Channel::new(name).expect("a valid name")).collect();
        Self { size, roots, edges, channels }
    }

    /// Assigns the channels to services and determines what each service is tuned to: the channels that make it emit,
    /// and some that do not. Returns the name of the service that emits each channel.
    pub(super) fn emitters(
        &self,
        random: &mut fastrand::Rng,
    ) -> (Vec<String>, BTreeMap<String, Vec<Pattern>>) {
        let mut emitters: Vec<String> =
            self.channels.iter().map(|channel| format!("{channel}-service")).collect();
        let mut tuned: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut order: Vec<usize> =
            (0..self.size).filter(|channel| self.roots.iter().all(|(root, _)| root != channel)).collect();
        random.shuffle(&mut order);
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (ours, others) = rest.split_at((1 + poisson(1.5, random)).min(rest.len()));
            let service = format!("service-{}", others.len());
            let hears = tuned.entry(service.clone()).or_default();
            for channel in ours {
                emitters[*channel].clone_from(&service);
                hears.extend(self.edges.iter().filter(|edge| edge.to == *channel).map(|edge| edge.from));
            }
            hears.extend(random.choose_multiple(0..self.channels.len(), DISTRACTIONS));
            rest = others;
        }
        for unrelated in &emitters[self.size..] {
            tuned.insert(unrelated.clone(), random.choose_multiple(0..self.size, 3).into_iter().collect());
        }
        let patterns = |channels: BTreeSet<usize>| {
            channels.into_iter().map(|channel| Pattern::from(&self.channels[channel])).collect()
        };
        (emitters, tuned.into_iter().map(|(service, hears)| (service, patterns(hears))).collect())
    }

    pub(super) fn index(&self, channel: &Channel) -> Option<usize> {
        self.channels.iter().position(|known| known == channel)
    }

    /// The pairs that share a cause, or in which one is a cause of the other at any distance.
    pub(super) fn related(&self) -> BTreeSet<(usize, usize)> {
        let mut related = BTreeSet::new();
        for start in 0..self.size {
            let mut reached = BTreeSet::from([start]);
            let mut open = vec![start];
            while let Some(from) = open.pop() {
                for edge in self.edges.iter().filter(|edge| edge.from == from) {
                    if reached.insert(edge.to) {
                        open.push(edge.to);
                    }
                }
            }
            related.extend(reached.iter().flat_map(|a| reached.iter().map(move |b| (*a, *b))));
        }
        related
    }
}

fn log_uniform(from: f64, to: f64, random: &mut fastrand::Rng) -> f64 {
    (from.ln() + random.f64() * (to / from).ln()).exp()
}

/// Knuth's method, for small means.
fn poisson(mean: f64, random: &mut fastrand::Rng) -> usize {
    let mut product = random.f64();
    let mut count = 0;
    while product > (-mean).exp() {
        product *= random.f64();
        count += 1;
    }
    count
}
