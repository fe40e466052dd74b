//! Sealed waves: whether the file with the keys can be used, which keys others use that this machine does not have, and
//! what other processes refuse.

use std::path::Path;

use aether_chassis::config::{Configuration, OrOff};
use aether_chassis::error_chain;
use aether_core::Aether;
use aether_core::account::Accounts;
use aether_core::seal::{KeyUse, SealKeys};

use super::finding::Finding;

const CHECK: &str = "sealing";

/// The keys of the configuration.
pub(super) fn keys(config: &Configuration) -> Vec<Finding> {
    match &config.settings().medium.keys {
        OrOff::Off => vec![Finding::ok(CHECK, "off: whoever reaches the server can read and send")],
        OrOff::On(path) => vec![file(path)],
    }
}

fn file(path: &Path) -> Finding {
    match SealKeys::from_file(path) {
        Ok(keys) => {
            let sealing = keys.ids().find(|(_, key_use)| *key_use == KeyUse::Seals);
            let sealing = sealing.map(|(id, _)| id.to_string()).unwrap_or_default();
            Finding::ok(CHECK, format!("{sealing} seals, {} keys open", keys.ids().count()))
        }
        Err(error) => Finding::fail(
            CHECK,
            error_chain(&error),
            "set medium.keys to a file from `aether keys new` that only this user can read",
        ),
    }
}

/// What this process has refused since it connected, and what others say that they refused.
pub(super) fn refused(aether: &Aether, accounts: &Accounts) -> Vec<Finding> {
    let status = aether.status();
    let mut findings: Vec<_> = aether
        .missing_keys()
        .into_iter()
        .map(|(id, messages)| {
            Finding::fail(
                CHECK,
                format!(
                    "{messages} messages are sealed with key {id}, which is not in the file of this machine"
                ),
                "hand the same file to all programs; after a rotation, to those that were left out",
            )
        })
        .collect();
    let own = [
        (status.refused_plain, "are not sealed", "give the same medium.keys to the programs that send them"),
        (
            status.refused_sealed,
            "are sealed, and this machine has no keys",
            "set medium.keys to the file of the others",
        ),
        (status.refused_tampered, "are forged or damaged", "find out who else may publish below the prefix"),
        (status.refused_replayed, "are repeated", "find out who else may publish below the prefix"),
        (
            status.refused_stale,
            "were sealed more than a minute before or after they arrived",
            "synchronise all machines by NTP (timedatectl set-ntp true); if they are, somebody repeats old messages",
        ),
    ];
    findings.extend(
        own.into_iter().filter(|(messages, ..)| *messages > 0).map(|(messages, what, remedy)| {
            Finding::warn(CHECK, format!("{messages} messages {what}"), remedy)
        }),
    );
    for known in accounts.processes().into_iter().filter(|known| !known.is_own) {
        let (process, medium) = (&known.account.process, &known.account.medium);
        let of_keys =
            medium.refusals().into_iter().filter(|(reason, _)| !["rules", "schema"].contains(reason));
        let of_keys = of_keys.filter(|(_, messages)| *messages > 0);
        let reasons: Vec<_> =
            of_keys.map(|(reason, messages)| format!("{messages} {}", reason.replace('_', " "))).collect();
        if !reasons.is_empty() {
            let text = format!("{process} has refused messages: {}", reasons.join(", "));
            findings.push(Finding::warn(
                CHECK,
                text,
                "compare its keys (aether keys show) and its clock with those of the others",
            ));
        }
        for (messages, what, remedy) in [
            (
                medium.refused_by_rules,
                "that its rules allow nobody to emit who sent them",
                "aether acl check NAME emit CHANNEL with its configuration says who may",
            ),
            (
                medium.refused_by_schema,
                "that do not fit the schema of their channel",
                "AETHER_LOG=aether_core=debug in that program logs the place in each payload",
            ),
        ] {
            if messages > 0 {
                findings.push(Finding::warn(
                    "border",
                    format!("{process} has refused {messages} waves {what}"),
                    remedy,
                ));
            }
        }
    }
    findings
}
