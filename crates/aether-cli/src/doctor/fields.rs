//! The fields on the medium: whether the clocks of their replicas let them take each other's writes.

use std::time::Duration;

use aether_core::Aether;
use aether_field::core::Limits;
use aether_field::{ReplicaClock, replica_clocks};

use super::finding::Finding;

const CHECK: &str = "fields";
/// Beyond this, a write that was made later may win, and clients wait with theirs when they move to another gateway.
const TOLERABLE: Duration = Duration::from_secs(1);

/// Listens for a while.
pub(super) async fn check(aether: &Aether, time: Duration) -> Vec<Finding> {
    match replica_clocks(aether, time).await {
        Ok(clocks) => findings(&clocks),
        Err(error) => {
            let remedy = "allow this program to listen to field.>, or ignore this where there are no fields";
            vec![Finding::warn(CHECK, aether_service::error_chain(&error), remedy)]
        }
    }
}

/// Nothing where there is no field.
fn findings(clocks: &[ReplicaClock]) -> Vec<Finding> {
    let mut findings: Vec<_> = clocks.iter().flat_map(of_replica).collect();
    if findings.is_empty() && !clocks.is_empty() {
        let text = format!("the clocks of {} replicas agree with this one", clocks.len());
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}

fn of_replica(replica: &ReplicaClock) -> impl Iterator<Item = Finding> {
    let ReplicaClock { field, replica, clock, ahead, .. } = replica;
    let allowed = Limits::default().max_drift;
    let is_off = (clock.by() > TOLERABLE).then(|| {
        let text = format!("the clock of the replica {replica:?} of the field {field:?} is {clock} this one");
        let remedy = "synchronise both machines by NTP (timedatectl set-ntp true)";
        match clock.by() > allowed {
            true => Finding::fail(
                CHECK,
                format!("{text}: one of the two refuses the writes of the other"),
                remedy,
            ),
            false => Finding::warn(CHECK, text, remedy),
        }
    });
    let is_mute = (*ahead > allowed).then(|| {
        let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
        let text = format!(
            "the newest stamp of the replica {replica:?} of the field {field:?} is {ahead} ahead of its clock, so the others refuse \
             its writes until then"
        );
        let remedy = "set its clock; if it is right and was ahead, stop the replica and use `aether field restamp FILE --write`";
        Finding::fail(CHECK, text, remedy)
    });
    is_off.into_iter().chain(is_mute)
}
