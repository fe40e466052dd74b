//! Tests that `aether physics --as-test` made of the recordings of `aether-bench`, as it wrote them: a test of the command
//! compares them.

#[rustfmt::skip]
mod all_silent;
#[rustfmt::skip]
mod alpha_killed;
#[rustfmt::skip]
mod beside_beta_killed;
#[rustfmt::skip]
mod beta_ended;
#[rustfmt::skip]
mod beta_frozen;
#[rustfmt::skip]
mod beta_killed;
#[rustfmt::skip]
mod beta_restarted;
#[rustfmt::skip]
mod beta_silent_killed;
#[rustfmt::skip]
mod beta_slowed;
#[rustfmt::skip]
mod broker_killed;
#[rustfmt::skip]
mod broker_killed_again;
#[rustfmt::skip]
mod instances_stopped;
#[rustfmt::skip]
mod not_answering;
#[rustfmt::skip]
mod retry_storm;
#[rustfmt::skip]
mod stream_stopped;
