//! The paths whose costs are counted.

mod bus;
mod channels;
mod handlers;
mod nats;

use tokio::runtime::{Builder, Runtime};

use crate::Error;

pub(crate) type Outcome = Result<(), Error>;

/// A path of waves through the framework, or of messages through what it is compared with.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// What is counted for one wave.
    pub(crate) wave: &'static str,
    /// Sets up, then passes a number of waves to [`counted_waves`].
    pub(crate) run: fn(u64) -> Outcome,
}

/// All paths, in the order of the table.
pub(crate) const PATHS: &[Path] = &[
    Path {
        name: "turns/mpsc/fresh",
        wave: "tokio mpsc: send, then receive, 128 bytes allocated each time",
        run: channels::turns_fresh,
    },
    Path { name: "turns/mpsc/shared", wave: "the same, a clone of one payload", run: channels::turns_shared },
    Path { name: "turns/bus/fresh", wave: "emit, then receive", run: bus::turns_fresh },
    Path { name: "turns/bus/shared", wave: "the same, a clone of one payload", run: bus::turns_shared },
    Path {
        name: "turns/border/shared",
        wave: "the same behind a border without rules, as programs with a configuration have it",
        run: bus::border_shared,
    },
    Path {
        name: "turns/rules/shared",
        wave: "the same behind a border with one rule",
        run: bus::rules_shared,
    },
    Path {
        name: "tasks/mpsc/fresh",
        wave: "tokio mpsc of 1024: a task that sends, a task that receives",
        run: channels::tasks_fresh,
    },
    Path { name: "tasks/mpsc/shared", wave: "the same, a clone of one payload", run: channels::tasks_shared },
    Path {
        name: "tasks/bus/fresh",
        wave: "a task that emits, a task that receives, inbox of 1024",
        run: bus::tasks_fresh,
    },
    Path { name: "tasks/bus/shared", wave: "the same, a clone of one payload", run: bus::tasks_shared },
    Path {
        name: "many/mpsc/fresh",
        wave: "tokio mpsc: 64 sent, then taken with recv_many",
        run: channels::many_fresh,
    },
    Path { name: "many/mpsc/shared", wave: "the same, a clone of one payload", run: channels::many_shared },
    Path { name: "many/bus/fresh", wave: "emit_all of 64, then receive_many", run: bus::many_fresh },
    Path { name: "many/bus/shared", wave: "the same, a clone of one payload", run: bus::many_shared },
    Path { name: "fanout/bus/fresh", wave: "emit to 8 receivers, each receives", run: bus::fanout_fresh },
    Path { name: "ask", wave: "ask, and a reply by hand in another task", run: bus::ask },
    Path {
        name: "handler/fresh",
        wave: "emit, then an empty handler of a service takes the wave",
        run: handlers::raw_fresh,
    },
    Path { name: "handler/shared", wave: "the same, a clone of one payload", run: handlers::raw_shared },
    Path {
        name: "handler/json",
        wave: "emit 100 bytes of JSON, a handler reads it: two texts and two numbers",
        run: handlers::read_json,
    },
    Path { name: "handler/emitter", wave: "the handler takes an emitter", run: handlers::takes_an_emitter },
    Path { name: "handler/others", wave: "one handler of five, by a pattern", run: handlers::among_others },
    Path { name: "handler/pending", wave: "the handler is pending once", run: handlers::is_pending },
    Path {
        name: "handler/metered",
        wave: "as handler/shared, while histograms of its waves are recorded",
        run: handlers::metered,
    },
    Path {
        name: "handler/unsampled",
        wave: "the same, with telemetry on, in a trace that is not sampled",
        run: handlers::unsampled,
    },
    Path { name: "handler/ask", wave: "ask in JSON, a handler answers in JSON", run: handlers::asked },
    Path { name: "channel/constant", wave: "Channel::new of one constant name", run: bus::channel_constant },
    Path {
        name: "nats/raw/sender",
        wave: "async-nats: publish and flush, the sending process",
        run: nats::raw_sender,
    },
    Path { name: "nats/sender", wave: "over NATS: emit and flush, the sending process", run: nats::sender },
    Path {
        name: "nats/raw/receiver",
        wave: "async-nats: what has arrived is taken, the receiving process",
        run: nats::raw_receiver,
    },
    Path {
        name: "nats/receiver",
        wave: "over NATS: what has arrived is received, the receiving process",
        run: nats::receiver,
    },
    Path { name: "nats/raw/ask", wave: "async-nats: request and reply, both processes", run: nats::raw_ask },
    Path { name: "nats/ask", wave: "over NATS: ask and reply, both processes", run: nats::ask },
    Path { name: "emit/name", wave: "emit_bytes by a constant name, then receive", run: bus::emit_by_name },
];

/// Part of the name of the function inside of which instructions are counted.
pub(crate) const COUNTED: &str = "counted_waves";

/// The number of waves before those that are counted, so that queues have grown and clocks are calibrated.
const WARM_UP: u64 = 4_096;

/// Calls `work` with a number of waves: first to warm up, then counted.
fn counted(waves: u64, mut work: impl FnMut(u64) -> Outcome) -> Outcome {
    work(WARM_UP)?;
    let mut outcome = Ok(());
    counted_waves(&mut || outcome = work(waves));
    outcome
}

/// Not inlined, as valgrind finds it by its name.
#[inline(never)]
fn counted_waves(work: &mut dyn FnMut()) {
    work();
}

/// One thread, so that the counts do not depend on who is faster.
fn runtime() -> Result<Runtime, Error> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
