//! The contract of a durable log, by number. Each line runs on a log in a folder and on one in JetStream.

use crate::durable::promises;
use crate::durable::stage::Place;

/// A test for each line and each kind of log.
macro_rules! lines {
    ($($name:ident,)*) => {
        mod folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::promises::$name(&super::Place::folder()).await;
            })*
        }
        mod jetstream {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::promises::$name(&super::Place::jetstream().await).await;
            })*
        }
    };
}

lines! {
    d1_a_receipt_names_the_level_and_a_position_that_grows,
    d2_a_wave_is_stored_before_live_receivers_hear_it_and_others_are_not_stored,
    d3_a_cancelled_emit_is_stored_and_carried_or_neither,
    d4_what_the_log_does_not_take_is_handed_back,
    d5_a_consumer_gets_each_wave_of_its_pattern_and_no_other,
    d6_an_acknowledged_wave_does_not_come_again_and_others_do_also_after_a_restart,
    d7_a_new_consumer_begins_where_it_is_told_to,
    d8_consumers_of_one_name_share_the_waves,
    d9_the_strongest_within_the_window_comes_first,
    d10_a_failed_wave_comes_again_after_growing_pauses,
    d11_a_wave_that_is_given_up_is_a_letter_that_survives_until_it_is_replayed,
    d12_the_account_adds_up_and_each_number_is_right,
    d13_a_name_belongs_to_one_pattern,
    d14_a_cancelled_receive_takes_no_wave,
    d15_handle_acknowledges_what_returns_ok_and_retries_the_rest,
    d16_each_key_is_in_order_and_a_failed_wave_holds_its_key_only,
    d17_a_wave_that_goes_back_or_is_given_up_lets_its_key_go_on,
}
