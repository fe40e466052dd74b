//! This machine: the permissions of the files, open files, memory and processors.

use aether_gateway::GatewaySettings;
use aether_service::cgroup::CgroupLimits;
use aether_service::config::Configuration;

use super::finding::Finding;

/// Fewer open files than this are too few for a gateway under load: it holds up to 384 connections.
const LEAST_FILES: u64 = 512;
/// With this many nothing here runs out of them.
const ENOUGH_FILES: u64 = 4096;

/// The access to the files of the configuration.
#[cfg(unix)]
pub(super) fn files(config: &Configuration) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    const CHECK: &str = "files";
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode());
    let mut findings = Vec::new();
    for path in config.files() {
        let Some(mode) = mode(&path) else { continue };
        let shown = path.display();
        if mode & 0o002 != 0 {
            let text = format!("every user may write {shown}, and so decide where the waves go");
            findings.push(Finding::fail(CHECK, text, format!("chmod o-w {shown}")));
        } else if mode & 0o004 != 0 && has_password(&path) {
            let text = format!("every user may read {shown}, which has a password in an address");
            findings.push(Finding::warn(
                CHECK,
                text,
                format!("chmod o-r {shown}, or set the address in the environment"),
            ));
        }
    }
    if let Some(key) = config.section::<GatewaySettings>().tls_key.on() {
        let shown = key.display();
        match mode(&key) {
            None => findings.push(Finding::fail(
                CHECK,
                format!("the private key {shown} cannot be read"),
                "set service.gateway.tls_key to a file that this user can read",
            )),
            Some(mode) if mode & 0o004 != 0 => {
                let text = format!("every user may read the private key {shown}");
                findings.push(Finding::fail(CHECK, text, format!("chmod o-r {shown}")));
            }
            Some(_) => {}
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} files, none of which every user may write", config.files().len()),
        ));
    }
    findings
}

#[cfg(not(unix))]
pub(super) fn files(_: &Configuration) -> Vec<Finding> {
    vec![Finding::warn(
        "files",
        "permissions are checked on Unix only",
        "check by hand who may write the files",
    )]
}

/// Whether an address of the file has a user and a password.
#[cfg(unix)]
fn has_password(path: &std::path::Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.any(|line| {
        line.split_once("://")
            .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    })
}

/// The limits that the system sets for this process.
pub(super) fn limits(config: Option<&Configuration>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(open_files());
    let limits = CgroupLimits::read();
    findings.push(match limits.memory_bytes {
        None => Finding::ok("memory", "no limit by a container or a service manager"),
        Some(limit) => memory(limit, config),
    });
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    findings.push(match limits.cpus {
        Some(cpus) if cpus < 0.5 => Finding::warn(
            "processors",
            format!("a limit of {cpus:.2} processors: handlers stand still for most of each period"),
            "allow at least half a processor",
        ),
        Some(cpus) => Finding::ok("processors", format!("a limit of {cpus:.2}, so {workers} worker threads")),
        None => Finding::ok("processors", format!("{workers} worker threads")),
    });
    findings
}

/// The outbox and one inbox must leave room for the rest.
fn memory(limit: u64, config: Option<&Configuration>) -> Finding {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let Some(config) = config else { return Finding::ok("memory", format!("a limit of {}", mib(limit))) };
    let settings = config.settings();
    let bounds = settings.inbox.max_bytes.bytes() as u64 + settings.outbox.max_bytes.bytes() as u64;
    let text = format!("a limit of {}; one inbox and the outbox may fill {}", mib(limit), mib(bounds));
    if bounds > limit / 2 {
        let remedy = "lower inbox.max_bytes and outbox.max_bytes, or remove them from the files: their defaults follow the limit";
        Finding::warn("memory", text, remedy)
    } else {
        Finding::ok("memory", text)
    }
}

#[cfg(unix)]
fn open_files() -> Option<Finding> {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok()?;
    let text = format!("{soft} may be open, {hard} if the program asks");
    let remedy = "ulimit -n 4096 in the shell, or LimitNOFILE=4096 in the systemd unit";
    Some(match soft {
        soft if soft < LEAST_FILES => Finding::fail("open files", text, remedy),
        soft if soft < ENOUGH_FILES.min(hard) && soft < 1024 => Finding::warn("open files", text, remedy),
        _ => Finding::ok("open files", text),
    })
}

#[cfg(not(unix))]
const fn open_files() -> Option<Finding> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn inboxes_that_do_not_fit_the_memory_limit_are_warned_of() {
        let config = Configuration::default();
        assert_eq!(memory(1 << 30, Some(&config)).status, Status::Ok);
        let tight = memory(128 << 20, Some(&config));
        assert_eq!(tight.status, Status::Warn);
        assert!(tight.text.contains("128 MiB"), "{}", tight.text);
    }
}
