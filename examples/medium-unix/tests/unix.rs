//! Tests of the Unix socket medium: the conformance suite run from outside `aether-core`, and the counting of losses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_conformance::{self, Harness, Site, SiteError};
use aether_core::{Aether, InboxOptions, Vibrator};
use aether_medium_unix::Hub;
use futures_util::future::{BoxFuture, ready};

/// Tests of what the medium does not promise or the site cannot do: groups, detection of unheard channels, a
/// breakable link, and clients without Aether.
const SKIPPED: [&str; 36] = [
    "an_emitter_without_room_waits_and_blocks_no_thread",
    "try_emit_hands_back_a_wave_without_room",
    "a_refused_wave_leaves_no_gap_in_the_numbers",
    "weak_waves_are_refused_before_strong_ones",
    "the_strongest_waiting_emitter_is_admitted_first",
    "each_wave_reaches_one_member_of_a_group_and_all_members_get_some",
    "a_group_shares_many_channels_while_others_come_and_go",
    "each_group_and_each_lone_listener_gets_every_wave",
    "a_group_continues_without_a_member_that_leaves",
    "a_full_member_of_a_group_costs_the_others_nothing",
    "joining_twice_changes_nothing",
    "a_question_to_a_group_reaches_one_member",
    "a_question_without_a_receiver_fails_at_once",
    "a_plain_loop_loses_nothing_at_a_slower_receiver",
    "a_member_of_a_group_makes_emitters_wait",
    "strong_waves_pass_those_that_wait",
    "a_stuck_receiver_delays_its_emitters_once",
    "other_channels_are_not_held",
    "a_receiver_that_goes_while_emitters_wait_holds_nobody",
    "subscriptions_are_restored_after_an_outage",
    "waves_emitted_while_away_arrive",
    "losses_on_the_way_are_counted",
    "a_full_outbox_sheds_the_weakest_and_counts_them",
    "a_join_begun_while_away_is_in_force_when_it_returns",
    "a_member_that_leaves_while_away_is_gone_afterwards",
    "closing_while_away_ends_and_counts_what_was_lost",
    "a_wave_emitted_while_away_is_not_confirmed_and_still_arrives",
    "an_emit_cancelled_while_waiting_is_accounted_for",
    "a_foreign_message_arrives_as_a_wave_with_default_values",
    "foreign_headers_become_metadata",
    "a_foreign_requester_gets_a_plain_answer",
    "malformed_messages_are_counted_and_end_nothing",
    "a_notice_reports_whether_it_has_a_receiver",
    "a_failed_wave_without_its_source_becomes_a_dead_letter_that_can_be_replayed",
    "waves_shed_by_the_outbox_while_away_are_reflected_at_once",
    "failures_while_away_are_reflected_afterwards",
];

struct OverUnix;

/// A site with its own hub.
struct UnixSite {
    _hub: Hub,
    path: PathBuf,
}

impl Drop for UnixSite {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl UnixSite {
    fn new(behind: usize) -> std::io::Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aether-{}-{number}", std::process::id()));
        // An earlier process with this id may have been killed.
        let _ = std::fs::remove_file(&path);
        Ok(Self { _hub: Hub::bind_with(&path, behind)?, path })
    }

    async fn connect(&self, outbox: InboxOptions) -> Result<Aether, aether_core::ConnectError> {
        let builder =
            aether_core::AetherBuilder::new().scheme("unix", aether_medium_unix::connect).options(outbox);
        builder.url(format!("unix:{}", self.path.display())).connect().await
    }
}

impl Harness for OverUnix {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        let site = UnixSite::new(Hub::BEHIND).map_err(|error| SiteError::new("bind", error));
        Box::pin(ready(site.map(|site| Box::new(site) as Box<dyn Site>)))
    }
}

impl Site for UnixSite {
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(async { self.connect(outbox).await.map_err(|error| SiteError::new("connect", error)) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_medium_of_another_crate_conforms_but_for_what_it_does_not_promise() {
    let report = aether_conformance::run(&OverUnix).await;
    assert!(report.passed(), "\n{report}");
    assert_eq!(report.skipped(), SKIPPED, "\n{report}");
}

/// The hub runs on the same thread and holds few messages for each client, so a burst overruns it.
#[tokio::test(flavor = "current_thread")]
async fn what_the_hub_loses_is_counted_at_the_receiver() {
    const BURST: u64 = 20_000;
    const WAVES: u64 = BURST + 4;
    let site = UnixSite::new(8).unwrap();
    let (here, there) = (
        site.connect(InboxOptions::interactive()).await.unwrap(),
        site.connect(InboxOptions::interactive()).await.unwrap(),
    );
    let options = InboxOptions::interactive().max_waves(2 * WAVES as usize);
    let ear = Vibrator::builder("ear").inbox(options).create(&there).await.unwrap();
    ear.resonate_on("burst.*").await.unwrap();
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    // A receiver that has just joined cannot tell whether it missed the start of a stream, so both streams start
    // before the burst.
    for channel in ["burst.even", "burst.odd"] {
        emitter.emit_bytes(channel, "first").await.unwrap();
        here.flush().await.unwrap();
        there.flush().await.unwrap();
    }
    for count in 0..BURST {
        // Alternate between two channels so that each wave travels in its own frame.
        let channel = if count % 2 == 0 { "burst.even" } else { "burst.odd" };
        emitter.emit_bytes(channel, count.to_string()).await.unwrap();
    }
    // Whatever happened to the burst and its marker, nothing is in transit now. A final wave on each channel reveals
    // its gap.
    let _ = here.flush().await;
    for channel in ["burst.even", "burst.odd"] {
        emitter.emit_bytes(channel, "last").await.unwrap();
        let _ = here.flush().await;
    }
    let everything = async {
        while ear.ledger().offered < WAVES {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), everything).await.unwrap();
    let ledger = ear.ledger();
    assert!(ledger.adds_up() && ledger.offered == WAVES && ledger.lost_upstream > 0, "{ledger:?}");
    assert_eq!(there.status().lost_upstream, ledger.lost_upstream);
}
