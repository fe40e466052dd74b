//! `aether log tail --follow`, while the test writes the log and drops parts of it.

use aether_core::{Durability, Wave};
use aether_log::Log;
use aether_log::store::{Retention, StoreOptions};
use nix::sys::signal::Signal;

use crate::log::Writing;
use crate::process::{PATIENCE, Running};

fn number(line: &str) -> u64 {
    let (_, number) = line.rsplit_once("number ").unwrap_or_else(|| panic!("{line:?}"));
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wave_is_printed_once_and_in_order_while_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let writing = Writing::open(folder.path()).await;
    writing.emit(0..20).await;
    let path = folder.path().to_str().unwrap();
    let mut follow = Running::start(&["log", "tail", "--follow", "-n", "5", path]);
    follow.tells("following ");
    writing.emit(20..500).await;
    let segments = writing.log.extent().segments;
    assert!(segments > 5, "{segments}");
    for expected in 15..500 {
        assert_eq!(number(&follow.line()), expected, "each once, across segments");
    }
    // It waits for more, and so does the writer: one wave at a time.
    for expected in 500..510 {
        writing.emit(expected..expected + 1).await;
        assert_eq!(number(&follow.line()), expected);
    }
    follow.signal(Signal::SIGINT);
    let (ended, took) = follow.end();
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{ended:?}");
    assert!(took < PATIENCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_meanwhile_is_neither_repeated_nor_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let writing = Writing::open(folder.path()).await;
    let path = folder.path().to_str().unwrap();
    let mut follow = Running::start(&["log", "tail", "--follow", path]);
    follow.tells("following ");
    for round in 0..5 {
        writing.emit(round * 100..round * 100 + 100).await;
        for expected in round * 100..round * 100 + 100 {
            assert_eq!(number(&follow.line()), expected);
        }
        // Everything before has new files, and was printed already.
        let before = std::time::SystemTime::now();
        writing.log.expire(&"orders.>".try_into().unwrap(), before).unwrap();
    }
    follow.signal(Signal::SIGINT);
    let (ended, _) = follow.end();
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_drops_before_it_is_printed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = Retention::default();
    rules.max_records = Some(50);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let log = log.open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let emit = async |number: u64| {
        let wave = Wave::builder("orders.created").text(format!("number {number}"));
        shop.emit(wave.build().unwrap()).await.unwrap();
    };
    emit(0).await;
    let mut follow = Running::start(&["log", "tail", "--follow", folder.path().to_str().unwrap()]);
    follow.tells("following ");
    assert_eq!(number(&follow.line()), 0);
    follow.signal(Signal::SIGSTOP);
    for number in 1..1000 {
        emit(number).await;
    }
    follow.signal(Signal::SIGCONT);
    follow.tells("the log has dropped the positions 2 to ");
    let first = number(&follow.line());
    assert!(first > 500, "{first}");
    for expected in first + 1..1000 {
        assert_eq!(number(&follow.line()), expected);
    }
}
