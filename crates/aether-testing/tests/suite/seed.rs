//! A failing test prints the seed of its faults, and the environment variable sets it.

use std::process::Command;

use aether_testing::{Fault, Faults, SEED_VARIABLE, TestBus};

/// Runs the ignored test below in a process of its own; returns what it printed.
fn run(seed: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "seed::fails_on_purpose", "--nocapture"]).env_remove(SEED_VARIABLE);
    if let Some(seed) = seed {
        command.env(SEED_VARIABLE, seed);
    }
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(!output.status.success(), "{printed}");
    printed
}

/// The seed and the numbers that arrived.
fn found(printed: &str) -> (String, String) {
    let after = |text: &str| {
        let rest =
            &printed[printed.find(text).unwrap_or_else(|| panic!("no {text:?} in {printed}")) + text.len()..];
        rest.lines().next().unwrap().to_owned()
    };
    let seed = after("the faults had the seed ").split_once(';').unwrap().0.to_owned();
    (seed, after("arrived: "))
}

#[test]
fn a_failing_test_prints_its_seed_with_which_it_can_be_run_again() {
    let (seed, arrived) = found(&run(None));
    assert_eq!(found(&run(Some(&seed))), (seed, arrived.clone()));
    assert_ne!(found(&run(Some("17"))).1, arrived);
    let refused = run(Some("seventeen"));
    assert!(refused.contains(r#"AETHER_TEST_SEED="seventeen" is not a number"#), "{refused}");
}

#[tokio::test(start_paused = true)]
#[ignore = "fails on purpose; the test above runs it"]
async fn fails_on_purpose() {
    let faults = Faults::new();
    faults.add(Fault::lose(0.5));
    let bus = TestBus::builder().faults(&faults).start().await;
    let mut probe = bus.probe("*").await;
    let shop = bus.vibrator("shop").await;
    for number in 0..100 {
        shop.emit_wave("a", &number).await.unwrap();
    }
    let arrived: Vec<u32> = probe.rest().iter().map(|wave| wave.json().unwrap()).collect();
    println!("arrived: {arrived:?}");
    probe.waves(100, "a").await;
}
