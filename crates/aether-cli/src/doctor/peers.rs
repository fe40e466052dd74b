//! The services on the medium: whether they answer, and whether their clocks agree with this one.
//!
//! Services that describe themselves tell the time; NATS servers do not.

use std::time::Duration;

use aether_service::config::{Configuration, OrOff};
use aether_service::description::{Described, Directory};
use aether_service::error_chain;

use super::finding::Finding;
use super::{fields, sealing};

/// How long services have to announce themselves. They do so together, once a second.
const ROLL_CALL: Duration = Duration::from_millis(1500);
/// Processes report their refusals every five seconds by default.
const ACCOUNTS: Duration = Duration::from_millis(5500);
/// The guard of a hopping channel is a tenth of its slot, which is a second by default; ages stay right with any offset.
const TOLERABLE_MICROS: u64 = 100_000;
/// Far beyond what a clock without NTP drifts in a day.
const WRONG_MICROS: u64 = 5_000_000;

pub(super) async fn check(config: &Configuration, roll_call: Option<Duration>) -> Vec<Finding> {
    const CHECK: &str = "services";
    let failed = |error: &dyn std::error::Error| {
        vec![Finding::fail(CHECK, error_chain(error), "repair what is above, and try again")]
    };
    let aether = match config.builder("aether-doctor").connect().await {
        Ok(aether) => aether,
        Err(error) => return failed(&error),
    };
    let findings = async {
        let emitter = aether.emitter("aether-doctor").map_err(|error| failed(&error))?;
        let directory = Directory::open(&aether, emitter).await.map_err(|error| failed(&error))?;
        let accounts = aether.accounts().await.map_err(|error| failed(&error))?;
        // How many will announce themselves is unknown.
        let is_sealed = !matches!(config.settings().medium.keys, OrOff::Off);
        let time = roll_call.unwrap_or(if is_sealed { ACCOUNTS } else { ROLL_CALL });
        let ((), of_fields) = tokio::join!(tokio::time::sleep(time), fields::check(&aether, time));
        let listing = directory.read().await;
        let refused = listing.refused;
        let vain = refused.invalid + refused.too_large + refused.silent + refused.left_out;
        let mut findings = Vec::new();
        if vain > 0 {
            let text =
                format!("{vain} services did not answer a question for their description, or with nonsense");
            findings.push(Finding::warn(
                CHECK,
                text,
                "look at their logs; `aether describe` counts them by reason",
            ));
        } else {
            findings.push(Finding::ok(CHECK, format!("{} describe themselves", listing.services.len())));
        }
        findings.extend(clocks(&listing.services));
        findings.extend(of_fields);
        findings.extend(sealing::refused(&aether, &accounts));
        Ok(findings)
    };
    let findings = findings.await.unwrap_or_else(|failed| failed);
    // Nothing was emitted that could be lost.
    let _ = aether.close().await;
    findings
}

const CLOCKS: &str = "clocks";

/// Compares the clocks.
fn clocks(services: &[Described]) -> Vec<Finding> {
    const CHECK: &str = CLOCKS;
    if services.is_empty() {
        return vec![Finding::ok(CHECK, "not compared: no service describes itself")];
    }
    let differs = |service: &Described| {
        clock(&service.description.service, service.clock_offset_micros, service.round_trip_micros)
    };
    let mut findings: Vec<_> = services.iter().filter_map(differs).collect();
    if findings.is_empty() {
        let most = services.iter().map(|service| service.round_trip_micros).max().unwrap_or_default();
        let text = format!(
            "{} services agree with this clock, to within the transit of {:.1} ms",
            services.len(),
            most as f64 / 1000.0
        );
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}

/// The difference between the clock of a service and the clock of this machine, if it is too large. Half the round trip
/// is unknown, so it counts for the service.
pub(super) fn clock(service: &str, offset_micros: i64, round_trip_micros: u64) -> Option<Finding> {
    let off = offset_micros.unsigned_abs().saturating_sub(round_trip_micros / 2);
    if off <= TOLERABLE_MICROS {
        return None;
    }
    let side = if offset_micros > 0 { "ahead of" } else { "behind" };
    let off_time = humantime::format_duration(Duration::from_millis(off / 1000));
    let text = format!("the clock of {service} is {off_time} {side} this machine's");
    let remedy = "synchronise both machines by NTP (timedatectl set-ntp true)";
    Some(match off {
        off if off > WRONG_MICROS => Finding::fail(CLOCKS, text, remedy),
        _ => Finding::warn(CLOCKS, text, remedy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn a_clock_that_is_off_by_an_hour_fails_and_names_the_service_and_the_side() {
        const HOUR: i64 = 3_600_000_000;
        let finding = clock("stock", HOUR, 0).unwrap();
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.text, "the clock of stock is 1h ahead of this machine's");
        assert!(finding.remedy.unwrap().contains("NTP"));
        assert!(clock("stock", -HOUR, 0).unwrap().text.contains("1h behind"));
    }

    #[test]
    fn small_differences_warn_and_those_within_the_round_trip_are_none() {
        assert_eq!(clock("stock", 1_000_000, 0).map(|finding| finding.status), Some(Status::Warn));
        assert_eq!(clock("stock", 99_000, 0), None);
        assert_eq!(clock("stock", -1_000_000, 2_000_000), None);
    }
}
