//! Tells the service manager that the program is ready, that it stops, and what is wrong.
//!
//! Ordinary term: `sd_notify`. A program under systemd with `Type=notify` is given a socket (`NOTIFY_SOCKET`); elsewhere
//! nothing happens. Services call it by themselves.

#[cfg(unix)]
use sd_notify::NotifyState;

/// The program handles what it is sent. [`Service::run_until`](crate::Service::run_until) and
/// [`MediumArgs::announce`](crate::MediumArgs::announce) call it; a program with neither calls it once.
pub fn ready() {
    #[cfg(unix)]
    notify(&[NotifyState::Ready]);
}

/// The program has been asked to end.
pub(crate) fn stopping() {
    #[cfg(unix)]
    notify(&[NotifyState::Stopping]);
}

/// One line that `systemctl status` shows.
pub(crate) fn status(line: &str) {
    #[cfg(unix)]
    notify(&[NotifyState::Status(&line.replace('\n', " "))]);
    #[cfg(not(unix))]
    let _ = line;
}

#[cfg(unix)]
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = crate::error_chain(&error), "the service manager was not told");
    }
}
