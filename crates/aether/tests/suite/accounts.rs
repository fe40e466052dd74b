//! The accounts of processes over a real NATS server: what a reader learns of others, and what a stranger can do to it.

use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::account::{AccountError, Accounts, KnownProcess, ProgramAccount, Standing};
use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use futures::StreamExt;

use crate::settling::flushed;

/// A bound for what takes a fifth of a second on an idle machine. No test waits for it to elapse.
const PATIENCE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(100);
const SUBJECT: &str = "aether-ask._aether.accounts";

async fn connect(server: &NatsServer, program: &str, every: Option<Duration>) -> Aether {
    let builder = aether::builder().url(server.url()).program(program).account_every(every);
    builder.connect().await.expect("the server is up")
}

/// Waits until the known processes are as wanted, looking again after each account.
async fn until<T>(accounts: &mut Accounts, look: impl Fn(&Accounts) -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look(accounts) {
                return found;
            }
            accounts.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the accounts are as wanted")
}

fn process(accounts: &Accounts, program: &str) -> Option<KnownProcess> {
    accounts.processes().into_iter().find(|known| known.account.process.name() == program)
}

fn program(accounts: &Accounts, name: &str) -> Option<ProgramAccount> {
    accounts.programs().into_iter().find(|program| program.program == name)
}

/// A vibrator that keeps two waves and sheds the rest, and an emitter that sends five.
async fn lose_three(aether: &Aether) -> Vibrator {
    let inbox = InboxOptions::overload().max_waves(2).when_full(WhenFull::Shed).sojourn_cap(None);
    let stock = Vibrator::builder("stock").inbox(inbox).create(aether).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    let shop = Vibrator::create("shop", aether).await.unwrap();
    for _ in 0..5 {
        shop.emit(Wave::builder("orders.created").never_decays().build().unwrap()).await.unwrap();
    }
    flushed(aether).await;
    stock
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_learns_what_another_process_lost_and_a_restart_loses_nothing() {
    let server = NatsServer::start().await.unwrap();
    let gateway = connect(&server, "gateway", None).await;
    let mut accounts = gateway.accounts().await.unwrap();
    let first = connect(&server, "store", Some(EVERY)).await;
    let _stock = lose_three(&first).await;
    let shown = until(&mut accounts, |accounts| {
        // One whose accounts are late counts as silent until the next one comes.
        let present = process(accounts, "store").filter(|known| known.standing == Standing::Present);
        present.filter(|known| known.account.ledger().shed_full == 3)
    })
    .await;
    let ledger = shown.account.ledger();
    assert_eq!((ledger.offered, ledger.queued, shown.standing), (5, 2, Standing::Present));
    let stock = shown.account.inboxes.iter().find(|inbox| inbox.vibrator == "stock").unwrap();
    assert_eq!((stock.open, stock.ledger.shed_full), (1, 3));
    assert!(stock.effective_floor > aether_core::Floor::OPEN, "it shed because it was full");
    assert_eq!((shown.account.medium.outbox.offered, shown.account.every), (5, EVERY));
    assert!(!shown.is_own && process(&accounts, "gateway").unwrap().is_own);

    first.close().await.unwrap();
    until(&mut accounts, |accounts| {
        process(accounts, "store").filter(|known| known.standing == Standing::Ended)
    })
    .await;
    let second = connect(&server, "store", Some(EVERY)).await;
    let _other_stock = lose_three(&second).await;
    let sum = until(&mut accounts, |accounts| {
        program(accounts, "store").filter(|program| program.ledger.shed_full == 6 && program.present == 1)
    })
    .await;
    assert_eq!((sum.present, sum.ended, sum.ledger.offered, sum.outbox.offered), (1, 1, 10, 10));
    let rates = until(&mut accounts, |accounts| {
        let present = accounts.processes().into_iter().filter(|known| known.standing == Standing::Present);
        present.filter(|known| !known.is_own).find_map(|known| known.rates)
    });
    assert!(rates.await.offered.is_finite());
    let counts = accounts.counts();
    assert!(counts.by_reason().iter().all(|(_, number)| *number == 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_shortened_for_a_server_that_takes_small_messages_only() {
    let small = ServerOptions::default().setting("max_payload", 4096);
    let server = NatsServer::start_with(small).await.unwrap();
    let gateway = connect(&server, "gateway", None).await;
    let mut accounts = gateway.accounts().await.unwrap();
    let crowd = connect(&server, "crowd", Some(EVERY)).await;
    let mut vibrators = Vec::new();
    for number in 0..200 {
        vibrators.push(Vibrator::create(&format!("one-of-many-{number}"), &crowd).await.unwrap());
        vibrators[number].resonate_on(&*format!("orders.{number}")).await.unwrap();
    }
    let shown = until(&mut accounts, |accounts| {
        let open = |known: &KnownProcess| {
            known.account.inboxes.iter().map(|inbox| inbox.open).sum::<usize>() + known.account.left_out.open
        };
        process(accounts, "crowd").filter(|known| open(known) == 200)
    })
    .await;
    let (named, left_out) = (shown.account.inboxes.len() as u64, shown.account.left_out_names);
    assert!(named + left_out == 200 && named > 0 && left_out > 100, "{named} + {left_out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_make_a_reader_believe_what_does_not_add_up_and_is_counted() {
    let server = NatsServer::start().await.unwrap();
    let gateway = connect(&server, "gateway", None).await;
    let mut accounts = gateway.accounts().await.unwrap();
    let honest = connect(&server, "store", Some(EVERY)).await;
    let known = until(&mut accounts, |accounts| process(accounts, "store")).await;
    let name = &known.account.process;
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let account = |process: &str, uptime: u64, offered: u64, delivered: u64| {
        format!(
            r#"{{"process":"{process}","version":"x","uptime_ms":{uptime},"every_ms":5000,"outbox":{{"offered":{offered},"delivered":{delivered}}}}}"#
        )
    };
    let texts = [
        account(&name.to_string(), 1 << 40, 5, 4),
        "{".to_owned(),
        format!("{}{}", account("a@1", 1, 0, 0), " ".repeat(40 << 10)),
        account("a@2", 1, 1 << 53, 1 << 53),
        account("made-up@3", 1, 7, 7),
        // It speaks in the name of a process that is there, whose next account contradicts it.
        account(&name.to_string(), 1 << 40, 1000, 1000),
    ];
    for text in texts {
        stranger.publish(SUBJECT, text.into()).await.unwrap();
    }
    stranger.flush().await.unwrap();
    let counts = until(&mut accounts, |accounts| {
        Some(accounts.counts()).filter(|counts| counts.of(AccountError::Contradicts) > 0)
    })
    .await;
    assert_eq!(counts.of(AccountError::DoesNotAddUp), 1);
    assert_eq!((counts.of(AccountError::TooLarge), counts.of(AccountError::Unreadable)), (1, 2));
    let suspicious = process(&accounts, "store").unwrap();
    assert_eq!((suspicious.suspicious, suspicious.suspicion), (2, Some(AccountError::Contradicts)));
    assert_eq!(suspicious.account.medium.outbox.offered, 0, "its own account is the latest");
    assert_eq!(process(&accounts, "made-up").unwrap().account.medium.outbox.offered, 7);
    assert!(process(&accounts, "a").is_none());
    drop(honest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_tells_nothing_if_it_is_told_not_to() {
    let server = NatsServer::start().await.unwrap();
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let mut told = stranger.subscribe(SUBJECT).await.unwrap();
    stranger.flush().await.unwrap();
    let silent = connect(&server, "silent", None).await;
    let vibrator = Vibrator::create("silent", &silent).await.unwrap();
    vibrator.resonate_on("a").await.unwrap();
    silent.close().await.unwrap();
    let telling = connect(&server, "telling", Some(Duration::from_secs(60))).await;
    telling.close().await.unwrap();
    // The messages of both arrive in the order of their connections' ends, and only one has sent any.
    let first = tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&first.payload).into_owned();
    assert!(text.contains("\"process\":\"telling@") && text.contains("\"last\":true"), "{text}");
}

#[tokio::test]
async fn in_process_the_reader_reads_its_own_account_and_nothing_is_sent() {
    let aether = Aether::local();
    let stock = lose_three(&aether).await;
    let watcher = Vibrator::create("watcher", &aether).await.unwrap();
    watcher.resonate_on("_aether.accounts").await.unwrap();
    let accounts = aether.accounts().await.unwrap();
    let processes = accounts.processes();
    assert_eq!(processes.len(), 1);
    assert_eq!((processes[0].account.ledger().shed_full, processes[0].is_own), (3, true));
    aether.close().await.unwrap();
    assert_eq!(watcher.ledger().offered, 0);
    drop(stock);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_given_back_with_the_last_handle() {
    let server = NatsServer::start().await.unwrap();
    let gateway = connect(&server, "gateway", None).await;
    let mut accounts = gateway.accounts().await.unwrap();
    let store = connect(&server, "store", Some(EVERY)).await;
    until(&mut accounts, |accounts| process(accounts, "store")).await;
    assert!(accounts.weight() > 0);
    let late = accounts.clone();
    drop(accounts);
    assert!(process(&late, "store").is_some());
    drop(late);
    // Nobody tells anything until the new reader was looked at.
    store.close().await.unwrap();
    // A new reader starts from nothing, and hears the next account.
    let mut accounts = gateway.accounts().await.unwrap();
    assert_eq!(accounts.counts().taken, 0);
    let _store = connect(&server, "store", Some(EVERY)).await;
    until(&mut accounts, |accounts| process(accounts, "store")).await;
}
