//! Processes that are killed, stopped, or killed by what they handle. `cargo xtask faults` runs them for longer.

mod killing;
#[cfg(target_os = "linux")]
mod long;
mod poison;
mod stopping;
mod timers;

/// How many rounds: few in the test command, as many as `cargo xtask faults` asks for there.
pub(crate) fn rounds(few: u64) -> u64 {
    std::env::var("AETHER_FAULTS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}
