//! The contract of a durable log, by number. Each line runs on a log in a folder and on one in JetStream.

use crate::durable::stage::Place;
use crate::durable::{later, promises};

/// A test for each line and each kind of log.
macro_rules! lines {
    ($($list:ident { $($name:ident,)* })*) => {
        mod folder {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$list::$name(&super::Place::folder()).await;
            })*)*
        }
        mod jetstream {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$list::$name(&super::Place::jetstream().await).await;
            })*)*
        }
    };
}

lines! {
    promises {
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
        d18_a_unique_wave_is_stored_and_heard_once,
        d19_each_tenant_gets_its_part_whatever_the_others_emit,
        d20_no_tenant_gets_more_than_its_limit_and_holds_up_no_other,
    }
    later {
        l1_a_wave_for_later_comes_when_it_is_due_and_only_to_consumers,
        l2_no_wave_is_kept_for_later_where_no_log_keeps_its_channel,
        l3_a_batch_may_have_waves_for_later,
        l4_timers_outlast_the_process_and_those_that_were_missed_come,
        l5_a_schedule_is_replaced_listed_and_cancelled_by_its_key,
        l6_a_regular_wave_comes_each_time_under_an_identity_of_its_own,
        l7_however_many_processes_share_a_log_one_wave_comes,
    }
}
