//! Tests of the stock, by example and for random sequences of calls.

use super::*;
use proptest::prelude::*;

const HOLD: Duration = Duration::from_secs(60);

fn order(number: u8) -> OrderId {
    OrderId::new(format!("order-{number}")).unwrap()
}

fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

fn units(quantity: u32) -> NonZeroU32 {
    NonZeroU32::new(quantity).unwrap()
}

fn lamps(count: u32) -> Stock {
    Stock::new([(sku("lamp"), count)], HOLD)
}

#[test]
fn reserved_units_are_sold_or_released() {
    let (mut stock, now) = (lamps(5), Instant::now());
    assert_eq!(stock.reserve(&order(1), &sku("lamp"), units(3), now), Ok(2));
    let refusal = Refusal::OutOfStock { sku: sku("lamp"), available: 2, wanted: units(3) };
    assert_eq!(stock.reserve(&order(2), &sku("lamp"), units(3), now), Err(refusal));
    assert_eq!(stock.reserve(&order(3), &sku("lamp"), units(2), now), Ok(0));
    assert!(stock.commit(&order(1)).unwrap().is_some());
    assert!(stock.release(&order(3)).unwrap().is_some());
    assert_eq!(stock.summary(), StockSummary { supplied: 5, available: 2, reserved: 0, sold: 3 });
}

#[test]
fn a_repetition_changes_nothing_and_gets_the_same_answer() {
    let (mut stock, now) = (lamps(2), Instant::now());
    stock.reserve(&order(1), &sku("lamp"), units(2), now).unwrap();
    assert_eq!(stock.reserve(&order(1), &sku("lamp"), units(2), now), Ok(0));
    assert_eq!(stock.reserve(&order(1), &sku("lamp"), units(1), now), Err(Refusal::Conflict));

    let refused = stock.reserve(&order(2), &sku("lamp"), units(1), now).unwrap_err();
    stock.restock(&sku("lamp"), units(9));
    assert_eq!(
        stock.reserve(&order(2), &sku("lamp"), units(1), now),
        Err(refused),
        "asked again after a restock"
    );

    assert!(stock.commit(&order(1)).unwrap().is_some() && stock.commit(&order(1)).unwrap().is_none());
    assert_eq!(stock.reserve(&order(1), &sku("lamp"), units(2), now), Ok(9), "asked again after the sale");
    assert_eq!(stock.release(&order(1)), Err(AlreadySold));
    assert_eq!(stock.summary(), StockSummary { supplied: 11, available: 9, reserved: 0, sold: 2 });
}

#[test]
fn a_reservation_that_arrives_after_its_release_holds_nothing() {
    let (mut stock, now) = (lamps(1), Instant::now());
    assert_eq!(stock.release(&order(1)), Ok(None));
    assert_eq!(stock.reserve(&order(1), &sku("lamp"), units(1), now), Err(Refusal::Released));
    assert_eq!(stock.commit(&order(1)), Err(NotReserved));
    assert_eq!(stock.available(&sku("lamp")), Some(1));
}

#[test]
fn an_article_that_does_not_exist_is_refused() {
    let mut stock = lamps(1);
    let refusal = stock.reserve(&order(1), &sku("moon"), units(1), Instant::now()).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownSku { sku: sku("moon") });
    assert_eq!(stock.restock(&sku("moon"), units(1)), None);
    assert_eq!(stock.of(&sku("moon")), None);
}

#[test]
fn an_abandoned_reservation_expires() {
    let (mut stock, now) = (lamps(2), Instant::now());
    stock.reserve(&order(1), &sku("lamp"), units(1), now).unwrap();
    stock.reserve(&order(2), &sku("lamp"), units(1), now + HOLD / 2).unwrap();
    assert!(stock.expire(now + HOLD - Duration::from_millis(1)).is_empty());
    let expired = stock.expire(now + HOLD);
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].0, order(1));
    assert_eq!(stock.commit(&order(1)), Err(NotReserved));
    assert_eq!(stock.summary(), StockSummary { supplied: 2, available: 1, reserved: 1, sold: 0 });
}

#[test]
fn filling_up_restores_the_initial_units() {
    let mut stock = Stock::new([(sku("lamp"), 4), (sku("desk"), 2)], HOLD);
    stock.reserve(&order(1), &sku("lamp"), units(3), Instant::now()).unwrap();
    assert_eq!(stock.fill_up(), [(sku("lamp"), units(3))]);
    assert_eq!(stock.fill_up(), []);
    assert_eq!(stock.summary(), StockSummary { supplied: 9, available: 6, reserved: 3, sold: 0 });
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { order: u8, article: usize, quantity: u32 },
    Release { order: u8 },
    Commit { order: u8 },
    Restock { article: usize, quantity: u32 },
    FillUp,
    Wait { seconds: u64 },
}

const ARTICLES: [&str; 3] = ["lamp", "desk", "moon"];

fn step() -> impl Strategy<Value = Step> {
    let order = 0..12_u8;
    let article = 0..ARTICLES.len();
    prop_oneof![
        6 => (order.clone(), article.clone(), 1..5_u32)
            .prop_map(|(order, article, quantity)| Step::Reserve { order, article, quantity }),
        3 => order.clone().prop_map(|order| Step::Release { order }),
        3 => order.prop_map(|order| Step::Commit { order }),
        1 => (article, 1..5_u32).prop_map(|(article, quantity)| Step::Restock { article, quantity }),
        1 => Just(Step::FillUp),
        1 => (0..90_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    /// A second count, kept from the answers alone, agrees with the stock after every step.
    #[test]
    fn nothing_is_oversold_and_nothing_vanishes(steps in prop::collection::vec(step(), 0..200)) {
        let mut stock = Stock::new([(sku("lamp"), 6), (sku("desk"), 3)], HOLD);
        let mut now = Instant::now();
        let mut supplied = 9_u64;
        let mut held: HashMap<u8, u64> = HashMap::new();
        let mut sold: HashMap<u8, u64> = HashMap::new();

        for step in steps {
            let free_before = stock.summary().available;
            match step {
                Step::Reserve { order: number, article, quantity } => {
                    let article = sku(ARTICLES[article]);
                    let (room, known) = (stock.available(&article), stock.knows(&order(number)));
                    let answer = stock.reserve(&order(number), &article, units(quantity), now);
                    if answer.is_ok() && !known {
                        prop_assert!(room >= Some(u64::from(quantity)), "oversold {}", article);
                        prop_assert!(!sold.contains_key(&number));
                        prop_assert_eq!(held.insert(number, u64::from(quantity)), None);
                    } else {
                        prop_assert_eq!(stock.summary().available, free_before);
                    }
                    prop_assert_eq!(stock.reserve(&order(number), &article, units(quantity), now).is_ok(), answer.is_ok());
                }
                Step::Release { order: number } => match stock.release(&order(number)) {
                    Ok(freed) => prop_assert_eq!(freed.map(|r| u64::from(r.quantity.get())), held.remove(&number)),
                    Err(AlreadySold) => prop_assert!(sold.contains_key(&number)),
                },
                Step::Commit { order: number } => match stock.commit(&order(number)) {
                    Ok(Some(reservation)) => {
                        prop_assert_eq!(held.remove(&number), Some(u64::from(reservation.quantity.get())));
                        prop_assert_eq!(sold.insert(number, u64::from(reservation.quantity.get())), None);
                    }
                    Ok(None) => prop_assert!(sold.contains_key(&number)),
                    Err(NotReserved) => prop_assert!(!held.contains_key(&number) && !sold.contains_key(&number)),
                },
                Step::Restock { article, quantity } => {
                    if stock.restock(&sku(ARTICLES[article]), units(quantity)).is_some() {
                        supplied += u64::from(quantity);
                    }
                }
                Step::FillUp => supplied += stock.fill_up().iter().map(|(_, added)| u64::from(added.get())).sum::<u64>(),
                Step::Wait { seconds } => {
                    now += Duration::from_secs(seconds);
                    for (expired, reservation) in stock.expire(now) {
                        let number = expired.as_str().trim_start_matches("order-").parse().unwrap();
                        prop_assert_eq!(held.remove(&number), Some(u64::from(reservation.quantity.get())));
                    }
                }
            }
            let summary = stock.summary();
            prop_assert!(summary.adds_up(), "{}", summary);
            prop_assert_eq!(summary.supplied, supplied);
            prop_assert_eq!(summary.reserved, held.values().sum::<u64>());
            prop_assert_eq!(summary.sold, sold.values().sum::<u64>());
            for article in ARTICLES {
                prop_assert!(stock.of(&sku(article)).is_none_or(|summary| summary.adds_up()));
            }
        }
    }
}
