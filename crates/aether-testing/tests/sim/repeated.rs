//! A seed gives the same run each time, in each scenario.

use std::thread;

use aether_testing::sim::Sim;

use crate::{accounts, asking, echoes, field, floors, orders, participants, pressure, roster};

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let seeds = std::env::var("AETHER_TEST_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    let scenarios: Vec<fn(&mut Sim)> = [
        &orders::SCENARIOS[..],
        &asking::SCENARIOS,
        &echoes::SCENARIOS,
        &pressure::SCENARIOS,
        &field::SCENARIOS,
        &participants::SCENARIOS,
        &roster::SCENARIOS,
        &floors::SCENARIOS,
        &accounts::SCENARIOS,
    ]
    .concat();
    for (number, scenario) in scenarios.into_iter().enumerate() {
        for seed in 0..seeds {
            let run = move || {
                let mut sim = Sim::with_seed(seed);
                scenario(&mut sim);
                sim.finish();
                sim.digest()
            };
            let digests = [(); 2].map(|()| thread::spawn(run)).map(|run| run.join().unwrap());
            assert_eq!(digests[0], digests[1], "scenario {number}, seed {seed}");
        }
    }
}
