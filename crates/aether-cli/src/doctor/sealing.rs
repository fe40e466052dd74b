//! Sealed waves: whether the files with the keys and the list of signers can be used, which keys and signers others use that
//! this machine does not know, and what other processes refuse.

use std::path::{Path, PathBuf};

use aether::seal::{KeyUse, SealKeys, Signers, SigningError, SigningKey};
use aether_core::Aether;
use aether_core::account::Accounts;
use aether_service::config::{Configuration, OrOff};
use aether_service::error_chain;

use super::finding::Finding;

const CHECK: &str = "sealing";

/// The keys of the configuration.
pub(super) fn keys(config: &Configuration) -> Vec<Finding> {
    let medium = &config.settings().medium;
    let mut findings = match &medium.keys {
        OrOff::Off => vec![Finding::ok(CHECK, "off: whoever reaches the server can read and send")],
        OrOff::On(path) => vec![file(path)],
    };
    if let (OrOff::Off, OrOff::Off) = (&medium.signing_key, &medium.signers) {
        return findings;
    }
    findings.push(match signing(&medium.signing_key, &medium.signers) {
        Ok(_) if matches!(medium.keys, OrOff::Off) => Finding::fail(
            CHECK,
            "medium.signing_key and medium.signers need medium.keys: only sealed messages are signed",
            "set medium.keys to a file from `aether keys new`",
        ),
        Ok(text) => Finding::ok(CHECK, text),
        Err(error) => Finding::fail(
            CHECK,
            error_chain(&error),
            "set medium.signing_key to a file from `aether keys new --signing`, and medium.signers to a list with its public key",
        ),
    });
    findings
}

fn signing(key: &OrOff<PathBuf>, signers: &OrOff<PathBuf>) -> Result<String, SigningError> {
    let key = match key {
        OrOff::On(path) => Some(SigningKey::from_file(path)?.id()),
        OrOff::Off => None,
    };
    let signers = match signers {
        OrOff::On(path) => Some(Signers::from_file(path)?),
        OrOff::Off => None,
    };
    match (key, signers) {
        (None, Some(_)) => Err(SigningError::NoOwnKey),
        (Some(signer), Some(signers)) if !signers.knows(signer) => Err(SigningError::NotListed { signer }),
        (Some(signer), Some(signers)) => {
            Ok(format!("{signer} signs, {} names are listed", signers.entries().count()))
        }
        (Some(signer), None) => {
            Ok(format!("{signer} signs, and nobody's signature is checked: medium.signers is off"))
        }
        (None, None) => Ok(String::new()),
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

/// The refusals of this process since it connected, and the refusals that others report.
pub(super) fn refused(aether: &Aether, accounts: &Accounts) -> Vec<Finding> {
    let mut findings = refused_here(aether);
    findings.extend(refused_elsewhere(accounts));
    findings
}

/// The refusals of this process since it connected.
pub(super) fn refused_here(aether: &Aether) -> Vec<Finding> {
    let status = aether.status();
    let mut findings: Vec<_> = aether::seal::missing_keys(aether)
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
    findings.extend(aether::seal::unknown_signers(aether).into_iter().map(|(id, messages)| {
        Finding::fail(
            CHECK,
            format!("{messages} messages are signed with key {id}, which is not on the list of signers of this machine"),
            "if a program of yours has this key (aether keys show), add its line to medium.signers; otherwise somebody with your keys poses as one",
        )
    }));
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
        (
            status.refused_unsigned,
            "are not signed",
            "give the programs that send them a medium.signing_key whose public key is on the list of signers",
        ),
        (
            status.refused_forged,
            "have a wrong signature",
            "somebody with your keys forges messages: find out who, and rotate the keys",
        ),
        (
            status.refused_misnamed,
            "use a name that their signer may not use",
            "AETHER_LOG=aether_core=debug logs the name and the signer; if it is right, add the line to medium.signers",
        ),
    ];
    findings.extend(
        own.into_iter().filter(|(messages, ..)| *messages > 0).map(|(messages, what, remedy)| {
            Finding::warn(CHECK, format!("{messages} messages {what}"), remedy)
        }),
    );
    findings
}

/// An operation that the server refused another process, because its user lacks a permission. The permissions of this
/// process are tried one by one.
fn not_permitted(process: &str, refused: u64) -> Option<Finding> {
    let text = format!("the server has refused {refused} messages and subscriptions of {process}");
    let remedy = "its log names the subjects: allow them in the permissions of its user (aether acl nats prints what rules need)";
    (refused > 0).then(|| Finding::warn("permissions", text, remedy))
}

fn refused_elsewhere(accounts: &Accounts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for known in accounts.processes().into_iter().filter(|known| !known.is_own) {
        let (process, medium) = (&known.account.process, &known.account.medium);
        let of_keys = medium
            .refusals()
            .into_iter()
            .filter(|(reason, _)| !["rules", "schema", "server"].contains(reason));
        let of_keys = of_keys.filter(|(_, messages)| *messages > 0);
        let reasons: Vec<_> =
            of_keys.map(|(reason, messages)| format!("{messages} {}", reason.replace('_', " "))).collect();
        if !reasons.is_empty() {
            let text = format!("{process} has refused messages: {}", reasons.join(", "));
            findings.push(Finding::warn(
                CHECK,
                text,
                "compare its keys and its list of signers (aether keys show) and its clock with the others'",
            ));
        }
        findings.extend(not_permitted(&process.to_string(), medium.refused_by_server));
        for (messages, what, remedy) in [
            (
                medium.refused_by_rules,
                "that its rules allow nobody to emit who sent them",
                "aether acl check NAME emit CHANNEL with its configuration shows who may",
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
