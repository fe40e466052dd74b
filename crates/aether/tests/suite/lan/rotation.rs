//! Keys that are rotated while the network works.

use super::*;

/// Hears its own number only.
async fn with_keys(number: usize, port: u16, others: &[u16], keys: &SealKeys) -> (Aether, Vibrator) {
    let view = LanView::default();
    let options = patient().keys(keys.clone()).view(&view);
    let aether = aether::builder().url(address(port, others)).options(options).connect().await.unwrap();
    met(&aether, &view, others.len()).await;
    let ear = vibrator("ear", &aether).await;
    ear.resonate_on(format!("to.{number}")).await.unwrap();
    (aether, ear)
}

/// A wave each way.
async fn talk(ends: &mut [(Aether, Vibrator); 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let emitter = ends[from].0.emitter("speaker").unwrap();
        emitter.emit_wave(format!("to.{to}"), &from).await.unwrap();
        let heard = timeout(LONG, ends[to].1.receive()).await.expect("the other is heard");
        assert_eq!(heard.unwrap().json::<usize>().unwrap(), from);
        flushed(&ends[from].0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_in_one_process_after_the_other_and_both_hear_each_other_all_the_time() {
    let mut keys = SealKeys::generate().unwrap();
    let steps: [fn(&mut SealKeys); 3] = [
        |keys| {
            keys.add().unwrap();
        },
        |keys| {
            keys.seal_with_newest();
        },
        |keys| drop(keys.drop_others()),
    ];
    let mut ports = [free_port(), free_port()];
    let first = with_keys(0, ports[0], &[], &keys).await;
    let mut ends = [first, with_keys(1, ports[1], &ports[..1], &keys).await];
    talk(&mut ends).await;
    for (number, step) in steps.into_iter().enumerate() {
        step(&mut keys);
        for end in [0, 1] {
            ends[end].0.close().await.unwrap();
            ports[end] = free_port();
            ends[end] = with_keys(end, ports[end], &[ports[1 - end]], &keys).await;
            println!("step {number}: process {end} was started again");
            talk(&mut ends).await;
        }
    }
    for (aether, _) in ends {
        assert_eq!(aether.status().refused(), 0);
        aether.close().await.unwrap();
    }
}
