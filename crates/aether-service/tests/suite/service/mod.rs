//! Services made of handlers, through the public API.

mod asking;
mod batches;
mod causes;
mod circuit;
mod describing;
mod durable;
mod durable_killing;
mod echoes;
mod following;
mod fringes;
mod handling;
mod in_place;
mod job_queries;
mod letter_queries;
mod letters;
mod limits;
mod logs;
mod overload;
#[path = "../../../../aether/tests/suite/proxy/mod.rs"]
mod proxy;
mod refused;
mod retrying;
mod sets;
mod shutting_down;
mod stage;
