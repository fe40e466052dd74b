//! The building blocks of the benchmarks: schedules fixed in advance, contestants, reports, tables, a picture.
//!
//! `aether bench` and the benchmarks in `benches` use them; services do not link them. They are a separate crate so
//! that `aether-core` contains no measuring code, and the command line and the benchmarks measure with the same code.
//!
//! ```text
//! Schedule ──▶ Pacer ──▶ Contestant ──▶ Handler (here, or in a receiving process) ──▶ Outcome ──▶ Report ──▶ Table, picture
//! ```

mod child;
pub mod clock;
mod contestant;
mod flood;
mod handler;
pub mod hopping;
mod losses;
mod marked;
mod median;
mod outcome;
mod overload;
mod pacer;
mod payload;
pub mod picture;
mod processors;
mod receiver;
mod recorded;
mod report;
mod run;
mod schedule;
mod stalls;
mod storm;
mod table;
pub mod tables;
mod throughput;
mod windows;
mod work;

/// The allocator of the benchmarks in `benches`: the system's, which users of a library have, or mimalloc with the
/// feature of that name.
pub const ALLOCATOR: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's" };

pub use child::{ChildError, ChildProgram};
pub use contestant::{Address, Contestant, ContestantError, Profile};
pub use flood::{FLOOD_CHANNEL, Flood, FloodError, Flow};
pub use losses::{Counts, Loss, Losses};
pub use marked::{MarkError, replaced};
pub use median::median;
pub use outcome::{Handled, Heard, Outcome};
pub use overload::{Comparison, Overload, OverloadError, Run, Step};
pub use pacer::{Paced, Pacer, Stop};
pub use payload::{DEFAULT_BYTES, LEAST_BYTES, payload};
pub use processors::leave_one_to_the_handler;
pub use receiver::{ReceiverError, receive};
pub use recorded::{Recorded, RecordedError, RecordedFault};
pub use report::{Account, Latencies, Report, ReportError};
pub use run::{Plan, RunError, run};
pub use schedule::{Arrival, Phase, Poisson, Schedule, ScheduleError, Strength};
pub use stalls::Stalls;
pub use storm::{Retries, Storm, StormError, StormReport, StormWindow, Storms};
pub use table::{Table, latency, percent};
pub use throughput::{Throughput, ThroughputPlan};
pub use windows::{Window, windows};
pub use work::Work;
