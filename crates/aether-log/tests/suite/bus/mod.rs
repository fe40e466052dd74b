//! A bus with a log: receipts, consumers, dead letters, failures, and processes that are killed.

mod backing_up;
mod beginning;
mod consuming;
mod corpus;
mod corpus_in_use;
mod dead;
mod emitting;
mod failing;
mod faults;
mod keeping_for;
mod large;
mod recovering;
mod replaying;
mod retaining;
mod scheduling;
mod sealed;
mod stage;
mod standing;
