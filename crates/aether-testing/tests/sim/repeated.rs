//! A seed gives the same run each time, in each scenario.

use std::thread;

use aether_testing::sim::Sim;

use crate::{
    accounts, asking, bridges, durable, echoes, field, floors, later, orders, outbox, participants, paths,
    pressure, roster, stored_field, tables,
};

/// Runs each scenario twice with one seed, or with each of the seeds that `AETHER_TEST_SEEDS` counts.
fn run_twice(scenarios: &[fn(&mut Sim)]) {
    let seeds = std::env::var("AETHER_TEST_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    for (number, scenario) in scenarios.iter().copied().enumerate() {
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

#[test]
fn orders_run_the_same_way_again() {
    run_twice(&orders::SCENARIOS);
}

#[test]
fn asking_run_the_same_way_again() {
    run_twice(&asking::SCENARIOS);
}

#[test]
fn echoes_run_the_same_way_again() {
    run_twice(&echoes::SCENARIOS);
}

#[test]
fn pressure_run_the_same_way_again() {
    run_twice(&pressure::SCENARIOS);
}

#[test]
fn field_run_the_same_way_again() {
    run_twice(&field::SCENARIOS);
}

#[test]
fn a_long_absence_runs_the_same_way_again() {
    run_twice(&[field::long_absence]);
}

#[test]
fn participants_run_the_same_way_again() {
    run_twice(&participants::SCENARIOS);
}

#[test]
fn roster_run_the_same_way_again() {
    run_twice(&roster::SCENARIOS);
}

#[test]
fn floors_run_the_same_way_again() {
    run_twice(&floors::SCENARIOS);
}

#[test]
fn accounts_run_the_same_way_again() {
    run_twice(&accounts::SCENARIOS);
}

#[test]
fn tables_run_the_same_way_again() {
    run_twice(&tables::SCENARIOS);
}

#[test]
fn bridges_run_the_same_way_again() {
    run_twice(&bridges::SCENARIOS);
}

#[test]
fn paths_run_the_same_way_again() {
    run_twice(&paths::SCENARIOS);
}

#[test]
fn durable_run_the_same_way_again() {
    run_twice(&durable::SCENARIOS);
}

#[test]
fn outbox_run_the_same_way_again() {
    run_twice(&outbox::SCENARIOS);
}

#[test]
fn stored_field_run_the_same_way_again() {
    run_twice(&stored_field::SCENARIOS);
}

#[test]
fn later_runs_the_same_way_again() {
    run_twice(&later::SCENARIOS);
}
