use super::*;
use crate::account::record;
use crate::clock;
use crate::router::InboxReport;

const SECOND: Duration = Duration::from_secs(1);

/// An account with this many waves offered, of which some were lost and some are queued.
fn account(process: &Source, uptime: u64, (offered, lost, queued): (u64, u64, u64)) -> ProcessAccount {
    let ledger =
        Ledger { offered, delivered: offered - lost - queued, shed_full: lost, queued, ..Ledger::default() };
    let json =
        format!(r#"{{"process":"{process}","version":"1","uptime_ms":{},"every_ms":5000}}"#, uptime * 1000);
    let mut account = record::read(json.as_bytes()).unwrap();
    account.inboxes = vec![InboxReport { open: 1, ledger, ..InboxReport::none("stock") }];
    account
}

fn source(name: &str, instance: u64) -> Source {
    Source::with_instance(name, instance).unwrap()
}

fn only_program(table: &ProcessTable, now: Instant) -> ProgramAccount {
    let mut programs = table.programs(now);
    assert_eq!(programs.len(), 1);
    programs.remove(0)
}

#[test]
fn a_restarted_program_keeps_what_it_counted_before() {
    let (mut table, start) = (ProcessTable::default(), clock::now());
    let (old, new) = (source("shop", 1), source("shop", 2));
    table.take(UNPROVEN, account(&old, 10, (100, 7, 3)), start);
    let mut last = account(&old, 12, (110, 8, 3));
    last.is_last = true;
    table.take(UNPROVEN, last, start + SECOND);
    table.take(UNPROVEN, account(&new, 1, (5, 1, 1)), start + 2 * SECOND);
    let sum = only_program(&table, start + 2 * SECOND);
    assert_eq!((sum.present, sum.ended, sum.silent), (1, 1, 0));
    assert_eq!((sum.ledger.offered, sum.ledger.shed_full, sum.lost()), (115, 9, 9));
    assert_eq!((sum.ledger.queued, sum.unsettled), (1, 3), "what became of the three is unknown");
    let known = table.processes(&new, start + 2 * SECOND);
    assert_eq!(known[0].standing, Standing::Ended);
    assert!(known[1].is_own && known[1].standing == Standing::Present);
    // The old process is forgotten, and its counts are not.
    table.take(UNPROVEN, account(&new, 400, (5, 1, 1)), start + 400 * SECOND);
    let later = start + KEPT + 2 * SECOND;
    table.take(UNPROVEN, account(&new, 602, (5, 1, 1)), later);
    assert_eq!(table.processes(&new, later).len(), 1);
    let sum = only_program(&table, later);
    assert_eq!((sum.ledger.offered, sum.lost(), sum.ended), (115, 9, 0));
}

#[test]
fn rates_are_those_between_accounts_of_one_process() {
    let (mut table, start) = (ProcessTable::default(), clock::now());
    let shop = source("shop", 1);
    table.take(UNPROVEN, account(&shop, 100, (1000, 0, 0)), start);
    assert_eq!(table.processes(&shop, start)[0].rates, None);
    // The clocks of sender and reader need not agree: five minutes pass here, five seconds there.
    table.take(UNPROVEN, account(&shop, 105, (1500, 50, 0)), start + 300 * SECOND);
    let rates = table.processes(&shop, start)[0].rates.unwrap();
    assert_eq!((rates.offered, rates.lost, rates.delivered), (100.0, 10.0, 90.0));
    // Two accounts at once say nothing about rates.
    table.take(UNPROVEN, account(&shop, 105, (1600, 50, 0)), start + 300 * SECOND);
    assert_eq!(table.processes(&shop, start)[0].rates, Some(rates));
}

#[test]
fn a_process_that_misses_three_accounts_is_silent_until_it_tells_again() {
    let (mut table, start) = (ProcessTable::default(), clock::now());
    let shop = source("shop", 1);
    table.take(UNPROVEN, account(&shop, 1, (1, 0, 1)), start);
    let standing =
        |table: &ProcessTable, after: u32| table.processes(&shop, start + after * SECOND)[0].standing;
    assert_eq!((standing(&table, 16), standing(&table, 17)), (Standing::Present, Standing::Silent));
    assert_eq!(only_program(&table, start + 17 * SECOND).unsettled, 1);
    table.take(UNPROVEN, account(&shop, 30, (1, 0, 1)), start + 30 * SECOND);
    assert_eq!(standing(&table, 30), Standing::Present);
    // A claim to tell once a day is not believed.
    let mut rare = account(&shop, 31, (1, 0, 1));
    rare.every = Duration::from_secs(86_400);
    table.take(UNPROVEN, rare, start + 31 * SECOND);
    assert_eq!(standing(&table, 31 + 182), Standing::Silent);
}

#[test]
fn counts_that_fall_mark_the_process_and_never_lower_a_sum() {
    let (mut table, start) = (ProcessTable::default(), clock::now());
    let shop = source("shop", 1);
    table.take(UNPROVEN, account(&shop, 10, (100, 10, 0)), start);
    table.take(UNPROVEN, account(&shop, 15, (40, 10, 0)), start + 5 * SECOND);
    let known = &table.processes(&shop, start)[0];
    assert_eq!((known.suspicious, known.suspicion), (1, Some(AccountError::Contradicts)));
    assert_eq!(table.counts().of(AccountError::Contradicts), 1);
    let sum = only_program(&table, start + 5 * SECOND);
    assert_eq!((sum.ledger.offered, sum.lost(), sum.suspicious), (100, 10, 1));
    table.take(UNPROVEN, account(&shop, 20, (45, 10, 0)), start + 10 * SECOND);
    assert_eq!(only_program(&table, start + 10 * SECOND).ledger.offered, 105);
    assert_eq!(table.processes(&shop, start)[0].rates.unwrap().offered, 1.0);
}

#[test]
fn made_up_processes_neither_grow_the_table_nor_push_out_those_that_are_there() {
    let (mut table, start) = (ProcessTable::default(), clock::now());
    let shop = source("shop", 1);
    table.take(UNPROVEN, account(&shop, 1, (1, 1, 0)), start);
    let forged = |n: u64| account(&source(&format!("forged-{}", n % 600), n + 2), 1, (1 << 40, 0, 0));
    for n in 0..2 * MAX_PROCESSES as u64 {
        table.take(UNPROVEN, forged(n), start);
    }
    assert_eq!(table.processes.len(), MAX_PROCESSES);
    assert!(table.bytes() <= MAX_BYTES && table.programs.len() <= MAX_PROGRAMS + 1);
    assert_eq!(table.counts().of(AccountError::NoRoom), MAX_PROCESSES as u64 + 1);
    let line = |table: &ProcessTable, now, name: &str| {
        table.programs(now).into_iter().find(|it| it.program == name).map(|it| (it.ledger.offered, it.lost()))
    };
    assert_eq!(line(&table, start, "shop"), Some((1, 1)));
    // When they have gone silent, a newcomer finds room, with a line of its own.
    let later = start + 60 * SECOND;
    table.take(UNPROVEN, account(&shop, 61, (2, 1, 0)), later);
    table.take(UNPROVEN, account(&source("newcomer", 7), 1, (3, 0, 0)), later);
    assert_eq!((table.counts().of(AccountError::NoRoom), table.processes.len()), (4097, MAX_PROCESSES));
    // All is given back in the end.
    table.forget(later + 2 * KEPT);
    assert_eq!((table.bytes(), table.processes.len()), (0, 0));
    assert!(table.programs.values().all(|program| program.processes == 0));
    let offered = |table: &ProcessTable| {
        table.programs.values().fold(0_u128, |sum, it| sum + u128::from(it.counts.ledger.offered))
    };
    let before = offered(&table);
    table.take(UNPROVEN, account(&source("late", 9), 1, (4, 0, 0)), later + 2 * KEPT);
    assert_eq!(line(&table, later + 2 * KEPT, "late"), Some((4, 0)));
    assert_eq!(offered(&table), before + 4, "the line that made room went to the rest");
}

#[test]
fn a_principal_with_processes_without_end_takes_no_room_from_another() {
    let (mut table, start) = (ProcessTable::default(), crate::clock::now());
    let (shop, evil) = (1, 2);
    table.take(shop, account(&source("shop", 1), 1, (1, 1, 0)), start);
    for n in 0..MAX_PROCESSES as u64 + 100 {
        table.take(evil, account(&source("evil", n), 1, (1, 0, 0)), start);
    }
    assert_eq!(table.processes.len(), MAX_PROCESSES);
    let left_out = table.counts.of(AccountError::NoRoom);
    for n in 2..50 {
        table.take(shop, account(&source("shop", n), 1, (1, 1, 0)), start);
    }
    assert_eq!(table.counts.of(AccountError::NoRoom), left_out, "processes of the other principal make room");
    let known = |name: &str| table.processes.keys().filter(|source| source.name() == name).count();
    assert_eq!((known("shop"), known("evil")), (49, MAX_PROCESSES - 49));
    let (held, all) = (table.shares.of(shop) + table.shares.of(evil), table.processes.values());
    assert_eq!(held, all.map(|known| share(known.weight)).sum::<usize>());
}

#[test]
fn a_principal_with_programs_without_end_takes_no_line_from_another() {
    let (mut table, now) = (ProcessTable::default(), clock::now());
    let (evil, shop) = (7, 8);
    for invented in 0..2 * MAX_PROGRAMS as u64 {
        let process = source(&format!("sensor-{invented}"), invented + 1);
        table.take(evil, account(&process, 1, (10, 0, 0)), now);
    }
    for honest in 0..10 {
        let process = source(&format!("shop-{honest}"), 10_000 + honest);
        table.take(shop, account(&process, 1, (5, 1, 0)), now);
    }
    let programs = table.programs(now);
    assert_eq!(programs.len(), MAX_PROGRAMS + 1);
    let of_shop: Vec<_> = programs.iter().filter(|line| line.program.starts_with("shop-")).collect();
    assert_eq!(of_shop.len(), 10, "the largest gives way");
    assert!(of_shop.iter().all(|line| (line.present, line.ledger.offered, line.lost()) == (1, 5, 1)));
    // Nothing is lost from the sums, and each process is in one line.
    let sum = |of: fn(&ProgramAccount) -> u64| programs.iter().map(of).sum::<u64>();
    assert_eq!(sum(|line| line.ledger.offered), 2 * MAX_PROGRAMS as u64 * 10 + 50);
    assert_eq!(sum(|line| line.present), 2 * MAX_PROGRAMS as u64 + 10);
    // The evicted tell again, and stay in the rest.
    for invented in 0..2 * MAX_PROGRAMS as u64 {
        let process = source(&format!("sensor-{invented}"), invented + 1);
        table.take(evil, account(&process, 2, (20, 0, 0)), now + SECOND);
    }
    let again = table.programs(now + SECOND);
    assert_eq!(again.iter().filter(|line| line.program.starts_with("shop-")).count(), 10);
}
