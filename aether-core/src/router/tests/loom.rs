//! The routes that threads remember, in each order that the memory model allows.

use ::loom::thread;

use super::*;
use crate::sync::in_each_order;

fn emit(router: &Router) {
    let carried = router.carry(Wave::builder("a").text("x").build().unwrap());
    assert!(matches!(carried, Carried::Done(_)));
}

#[test]
fn a_wave_takes_no_route_of_before_a_change_that_has_ended() {
    in_each_order(3, || {
        let router = Arc::new(Router::new());
        let inboxes = [inbox(), inbox()];
        let leaves = listen(&router, "a", None, &inboxes[0]);
        emit(&router);
        let (changed, joins) = (Arc::clone(&router), Arc::clone(&inboxes[1]));
        let change = thread::spawn(move || {
            let _stays = listen(&changed, "a", None, &joins);
            changed.unsubscribe(&leaves);
        });
        let other = Arc::clone(&router);
        let other = thread::spawn(move || emit(&other));
        emit(&router);
        change.join().unwrap();
        let before = offered(&inboxes);
        emit(&router);
        let [left, joined] = offered(&inboxes)[..] else { unreachable!() };
        other.join().unwrap();
        assert!(left == before[0] || left == before[0] + 1, "{left} after {before:?}");
        assert!(joined > before[1], "{joined} after {before:?}");
        let before = offered(&inboxes);
        emit(&router);
        assert_eq!(offered(&inboxes), [before[0], before[1] + 1]);
    });
}
