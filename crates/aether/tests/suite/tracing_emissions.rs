//! A tracer sees what emitters emit, and the trace context follows from wave to wave.
//!
//! A process has one tracer, so all tests of this file share it.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use aether_core::vibrator::{Emission, EmitSpan, EmitTracer, set_emit_tracer};
use aether_core::wave::TraceContext;
use aether_core::{Aether, AskError, Kind, Vibrator, Wave};

/// The fate of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    channel: String,
    parent: Option<u64>,
    span: u64,
    emission: Emission,
    failed: Option<String>,
    ended: bool,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1000);

fn seen() -> MutexGuard<'static, Vec<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of(channel: &str) -> Vec<Seen> {
    seen().iter().filter(|span| span.channel == channel).cloned().collect()
}

struct Tracer;

struct Span(u64);

impl EmitTracer for Tracer {
    fn begin(
        &self,
        wave: &mut Wave,
        parent: Option<TraceContext>,
        emission: Emission,
    ) -> Option<Box<dyn EmitSpan>> {
        let span = NEXT.fetch_add(1, Ordering::Relaxed);
        let trace_id = parent.as_ref().map_or(u128::from(span), TraceContext::trace_id);
        wave.set_trace_context(TraceContext::new(trace_id, span, 1).unwrap());
        let channel = wave.channel().as_str().to_owned();
        let parent = parent.as_ref().map(TraceContext::span_id);
        seen().push(Seen { channel, parent, span, emission, failed: None, ended: false });
        Some(Box::new(Span(span)))
    }
}

impl Span {
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(seen().iter_mut().find(|seen| seen.span == self.0).unwrap());
    }
}

impl EmitSpan for Span {
    fn failed(&mut self, error: &dyn Error) {
        self.change(|seen| seen.failed = Some(error.to_string()));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.change(|seen| seen.ended = true);
    }
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| set_emit_tracer(Box::new(Tracer)).unwrap());
}

async fn heard(channel: &str) -> (Vibrator, Vibrator) {
    install();
    let aether = Aether::local();
    let ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on(channel).await.unwrap();
    (Vibrator::create("mouth", &aether).await.unwrap(), ear)
}

#[tokio::test]
async fn each_emission_is_a_child_of_what_it_follows_from() {
    let (mouth, mut ear) = heard("chain").await;
    mouth.emit_bytes("chain", "1").await.unwrap();
    let first = ear.receive().await.unwrap();
    mouth.following(&first).emit_bytes("chain", "2").await.unwrap();
    let second = ear.receive().await.unwrap();
    let spans = of("chain");
    assert_eq!(spans.iter().map(|seen| seen.parent).collect::<Vec<_>>(), [None, Some(spans[0].span)]);
    assert!(spans.iter().all(|seen| seen.ended && seen.failed.is_none() && seen.emission == Emission::Emit));
    let [first, second] = [first, second].map(|wave| wave.trace_context().unwrap());
    assert_eq!((first.trace_id(), first.span_id()), (second.trace_id(), spans[0].span));
    assert_eq!(second.span_id(), spans[1].span);
}

#[tokio::test]
async fn every_way_of_emitting_has_its_span() {
    let (mouth, mut ear) = heard("ways").await;
    mouth.emit_bytes("ways", "1").await.unwrap();
    mouth.try_emit(Wave::from_bytes("ways", "2").unwrap()).unwrap();
    mouth.emit_confirmed(Wave::from_bytes("ways", "3").unwrap()).await.unwrap();
    mouth.emit_all([Wave::from_bytes("ways", "4").unwrap()]).await.unwrap();
    for span in of("ways") {
        let wave = ear.receive().await.unwrap();
        assert_eq!(wave.trace_context().unwrap().span_id(), span.span);
        assert!(span.ended);
    }
    let answering = tokio::spawn(async move {
        let question = ear.receive().await.unwrap();
        let is_open = !of("ways").last().unwrap().ended;
        question.reply(&is_open).await.unwrap();
        question.trace_context()
    });
    let answer = mouth.ask_wave("ways", &5).await.unwrap();
    assert!(answer.json::<bool>().unwrap(), "the span of a question lasts until there is an answer");
    assert_eq!(answer.trace_context(), answering.await.unwrap());
    let emissions: Vec<_> = of("ways").iter().map(|seen| (seen.emission, seen.ended)).collect();
    let [emit, create, ask] = [Emission::Emit, Emission::Create, Emission::Ask].map(|way| (way, true));
    assert_eq!(emissions, [emit, emit, emit, create, ask]);
}

#[tokio::test]
async fn an_unsampled_trace_is_passed_on_without_a_span() {
    let (mouth, mut ear) = heard("unsampled").await;
    let parent = TraceContext::new(7, 8, 0).unwrap();
    let given = Wave::builder("unsampled").trace_context(parent.clone()).build().unwrap();
    mouth.emit(given).await.unwrap();
    let wave = ear.receive().await.unwrap();
    mouth.following(&wave).with_baggage("a", "b").unwrap().emit_bytes("unsampled", "2").await.unwrap();
    let next = ear.receive().await.unwrap();
    mouth.following(&next).caused_by(next.id()).emit_bytes("unsampled", "3").await.unwrap();
    let last = ear.receive().await.unwrap();
    for wave in [&wave, &next, &last] {
        assert_eq!(wave.trace_context().as_ref(), Some(&parent));
    }
    assert_eq!(of("unsampled"), []);
}

#[tokio::test]
async fn the_trace_of_the_emitter_replaces_that_of_a_wave_and_headers_count_as_one() {
    let (mouth, mut ear) = heard("given").await;
    let text = "00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-01";
    let wave = Wave::builder("given").metadata("traceparent", text).metadata("tracestate", "a=1").build();
    mouth.emit(wave.unwrap()).await.unwrap();
    let received = ear.receive().await.unwrap();
    let emitter = mouth.within_trace(TraceContext::new(1, 2, 1).unwrap());
    emitter.emit(received).await.unwrap();
    let parents: Vec<_> = of("given").iter().map(|seen| seen.parent).collect();
    assert_eq!(parents, [Some(0xff), Some(2)]);
}

#[tokio::test]
async fn a_failed_emission_says_so_in_its_span() {
    let (mouth, _ear) = heard("other").await;
    let asked = mouth.ask(Wave::builder("unheard").kind(Kind::Query).build().unwrap()).await;
    assert!(matches!(asked, Err(AskError::NoResonator { .. })));
    let [span] = &of("unheard")[..] else { panic!("one span") };
    assert!(span.ended && span.failed.is_some(), "{span:?}");
}
