//! Durable logs: the contract by number on each kind of log, and what is particular to JetStream.

mod bordering;
mod cluster;
mod fair;
mod keyed;
mod keyed_processes;
mod killing;
mod killing_later;
mod large;
mod later;
mod limits;
mod lines;
mod poison;
mod promises;
mod refusing;
mod sealing;
mod stage;
mod steering;
mod unique;
mod unreadable;
mod viewing;
