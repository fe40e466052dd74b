//! A process with some of the clients: connects them, reads until it gets the order to end, and prints its
//! observations.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::LocalSet;

use crate::client::{Client, micros_now};

/// One in this number of reading clients looks at every wave.
const LOOKS: usize = 10;

/// The observations of a process's clients since it counts.
struct Seen {
    counts: Cell<bool>,
    messages: Cell<u64>,
    missed: Cell<u64>,
    micros: RefCell<Histogram<u64>>,
}

/// `ADDRESS CLIENTS SILENT`.
pub(crate) async fn read(args: &[String]) {
    let [address, clients, silent] = args else { panic!("{args:?}") };
    let (clients, silent): (usize, usize) = (clients.parse().unwrap(), silent.parse().unwrap());
    let seen = Rc::new(Seen {
        counts: Cell::new(false),
        messages: Cell::new(0),
        missed: Cell::new(0),
        micros: RefCell::new(Histogram::new(3).unwrap()),
    });
    let (local, mut waiting, mut looking) = (LocalSet::new(), Vec::new(), 0);
    let run = async {
        for number in 0..clients {
            let client = Client::subscribed(address).await;
            if number < silent {
                waiting.push(client);
                continue;
            }
            let looks = (number - silent) % LOOKS == 0;
            looking += usize::from(looks);
            tokio::task::spawn_local(follow(client, Rc::clone(&seen), looks));
        }
        println!("ready {looking}");
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            match line.as_str() {
                "count" => seen.counts.set(true),
                _ => break,
            }
        }
        seen.counts.set(false);
    };
    local.run_until(run).await;
    println!("messages {}", seen.messages.get());
    println!("missed {}", seen.missed.get());
    for value in seen.micros.borrow().iter_recorded() {
        println!("micros {} {}", value.value_iterated_to(), value.count_at_value());
    }
    println!("end");
    drop(waiting);
}

async fn follow(mut client: Client, seen: Rc<Seen>, looks: bool) {
    loop {
        client.more().await;
        let now = micros_now();
        client.frames(|payload| {
            if !seen.counts.get() || !payload.starts_with(br#"{"op":"waves""#) {
                return;
            }
            seen.messages.set(seen.messages.get() + 1);
            if looks {
                look(payload, now, &seen);
            }
        });
    }
}

/// Finds the waves of a message by the time in their payload, and how many were missed before them.
fn look(payload: &[u8], now: u64, seen: &Seen) {
    let text = std::str::from_utf8(payload).unwrap();
    let missed = text.split_once(r#""missed":"#).and_then(|(_, rest)| rest.split_once(',')).unwrap().0;
    seen.missed.set(seen.missed.get() + missed.parse::<u64>().unwrap());
    let mut micros = seen.micros.borrow_mut();
    for part in text.split("at=").skip(1) {
        let at: u64 = part.split_once(';').unwrap().0.parse().unwrap();
        micros.record(now.saturating_sub(at).max(1)).unwrap();
    }
}
