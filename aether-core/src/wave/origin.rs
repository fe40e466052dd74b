//! The data that a wave passes on to the waves that follow from it: its identity as their cause, the root of the
//! request, the baggage, and the trace that they are part of.
//!
//! Emitters keep an [`Origin`] and give it to what they emit; answers and replayed dead letters take theirs from the wave
//! itself. The root of a request is its first wave. It is stored only where the cause is another wave, so neither the
//! first wave nor those that it caused directly take more memory or bytes.
//!
//! A wave that is relayed from one medium to another stays the same wave, one hop further from its source.

use std::sync::Arc;

use super::metadata::MetadataError;
use super::trace_context::{TRACEPARENT, TRACESTATE};
use super::{Baggage, Body, MAX_HOPS, ReplyError, Request, TraceContext, Wave};
use crate::clock::Moment;
use crate::source::WaveId;

/// The data that waves inherit: their cause, the root of the request, the baggage, and the trace context. Made from a
/// [`Wave`] or an [`Echo`](crate::Echo); see [`Emitter::following`](crate::Emitter::following).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    cause: Option<WaveId>,
    request: Option<Arc<Request>>,
    trace: Option<TraceContext>,
}

impl Origin {
    pub(crate) fn new(cause: WaveId, root: WaveId, baggage: Baggage) -> Self {
        let request = Request::of(Some(root).filter(|root| *root != cause), baggage);
        Self { cause: Some(cause), request, trace: None }
    }

    /// The same in this trace.
    pub(crate) fn with_trace(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }

    pub(crate) const fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// The same with other baggage.
    pub(crate) fn with_baggage(&self, baggage: Baggage) -> Self {
        let root = self.request.as_ref().and_then(|request| request.root.clone());
        let request = Request::of(root, baggage);
        Self { cause: self.cause.clone(), request, trace: self.trace.clone() }
    }

    pub(crate) fn cause(&self) -> Option<&WaveId> {
        self.cause.as_ref()
    }

    pub(crate) fn root(&self) -> Option<&WaveId> {
        self.request.as_ref().and_then(|request| request.root.as_ref()).or(self.cause.as_ref())
    }

    pub(crate) fn baggage(&self) -> &Baggage {
        baggage_of(self.request.as_deref())
    }
}

impl From<&Wave> for Origin {
    fn from(wave: &Wave) -> Self {
        Self::new(wave.id(), wave.root(), wave.baggage().clone()).with_trace(wave.trace_context())
    }
}

impl Wave {
    /// The root: the first wave of the request that this wave belongs to. All waves that follow from each other have the
    /// same, so it finds them in logs and on the bus.
    ///
    /// It is the root that the wave was [given](crate::WaveBuilder::root) or inherited; otherwise its cause; and its own
    /// id if nothing caused it.
    #[must_use]
    pub fn root(&self) -> WaveId {
        self.stored_root().or(self.cause()).cloned().unwrap_or_else(|| self.id())
    }

    /// The root, if it is neither the cause nor the wave itself.
    pub fn stored_root(&self) -> Option<&WaveId> {
        self.request()?.root.as_ref()
    }

    /// The author's own names and values that follow the request.
    #[must_use]
    pub fn baggage(&self) -> &Baggage {
        baggage_of(self.request())
    }

    /// The place of the wave in a distributed trace: the span that emitted it, as in W3C Trace Context. A foreign
    /// publisher gives it in the headers `traceparent` and `tracestate`, which are metadata here.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        let extras = self.body.extras.as_ref()?;
        match &extras.trace {
            Some(trace) => Some(trace.clone()),
            None if extras.metadata.is_empty() => None,
            None => {
                let parent = extras.metadata.value(TRACEPARENT)?;
                TraceContext::of_headers(parent, extras.metadata.value(TRACESTATE))
            }
        }
    }

    /// The trace context, if it is not in the metadata.
    pub fn stored_trace(&self) -> Option<&TraceContext> {
        self.body.extras.as_ref()?.trace.as_ref()
    }

    /// Sets the place of the wave in a distributed trace. For tracers and implementors of media; authors use
    /// [`WaveBuilder::trace_context`](crate::WaveBuilder::trace_context).
    pub fn set_trace_context(&mut self, context: TraceContext) {
        self.body.make_mut().extras.get_or_insert_default().trace = Some(context);
    }

    fn request(&self) -> Option<&Request> {
        self.body.extras.as_ref()?.request.as_deref()
    }

    /// Makes this wave one of the request. A cause and a root that its author set stay. Its own baggage, which it has if it
    /// was received before, stays if the origin has none.
    pub(crate) fn inherit(&mut self, origin: &Origin) {
        let extras = self.body.make_mut().extras.get_or_insert_default();
        if origin.trace.is_some() {
            extras.trace.clone_from(&origin.trace);
        }
        let (stored, has_cause) = (extras.request.as_deref(), extras.cause.is_some());
        if stored.is_none() && !has_cause {
            (extras.cause, extras.request) = (origin.cause.clone(), origin.request.clone());
            return;
        }
        // Its author gave it a part of this, or it was received before.
        let mut root = stored.and_then(|request| request.root.clone());
        if root.is_none() && has_cause {
            root = origin.root().filter(|root| extras.cause.as_ref() != Some(root)).cloned();
        } else if root.is_none() {
            root = origin.request.as_ref().and_then(|request| request.root.clone());
        }
        let given = origin.baggage();
        let baggage = if given.is_empty() { baggage_of(stored) } else { given }.clone();
        extras.request = Request::of(root, baggage);
        if !has_cause {
            extras.cause.clone_from(&origin.cause);
        }
    }

    /// Makes an answer one of the request of its question, if its responder does not know requests: a foreign client, or an
    /// Aether of an older version, which names the cause only.
    pub fn answers(&mut self, question: &Self) {
        let may_be_inherited = question.request().is_some() || question.cause().is_some();
        if self.cause().is_none() || self.request().is_none() && may_be_inherited {
            self.inherit(&Origin::from(question));
        }
    }

    /// The same wave as a part of the request with this root, unless it is part of one already. An `Asker` gives the
    /// repetitions of a question the root of the first attempt.
    #[must_use]
    pub fn in_request(mut self, root: &WaveId) -> Self {
        let extras = self.body.make_mut().extras.get_or_insert_default();
        let stored = extras.request.as_deref();
        if extras.cause.is_none() && stored.is_none_or(|request| request.root.is_none()) {
            extras.request = Request::of(Some(root.clone()), baggage_of(stored).clone());
        }
        self
    }
}

fn baggage_of(request: Option<&Request>) -> &Baggage {
    static NONE: Baggage = Baggage::NONE;
    request.map_or(&NONE, |request| &request.baggage)
}

impl Wave {
    /// The wave as relayed to another medium: one more hop, the age so far kept, everything else unchanged. `None` if
    /// it was already relayed [`MAX_HOPS`] times.
    pub fn relayed(&self, now: Moment) -> Option<Self> {
        if self.body.signal.hops >= MAX_HOPS {
            return None;
        }
        let mut body = Body::clone(&self.body);
        body.age = self.age_at(now);
        body.since = Some(now);
        body.signal.hops += 1;
        if let Some(extras) = &mut body.extras {
            (extras.reply_path, extras.heard_by) = (None, None);
        }
        Some(Self::from_body(body))
    }

    /// Adds hops for a way that is not the first choice; at most as many as a wave may have.
    pub fn detour(&mut self, hops: u8) {
        let signal = &mut self.body.make_mut().signal;
        signal.hops = signal.hops.saturating_add(hops).min(MAX_HOPS);
    }

    /// The same wave with one entry of this name in its metadata, in place of those that it had.
    pub fn with_entry(mut self, name: &str, value: &str) -> Result<Self, MetadataError> {
        let metadata = self.metadata().replaced(name, value)?;
        self.body.make_mut().extras.get_or_insert_default().metadata = metadata;
        Ok(self)
    }

    /// Answers a question with the answer that it got on another medium, which keeps its identity and its age.
    ///
    /// Cancel safety: as [`Wave::reply`].
    pub async fn reply_relayed(&self, answer: &Self) -> Result<(), ReplyError> {
        let Some(path) = self.reply_path() else { return Err(ReplyError::NotAsked) };
        // An answer takes the way of its question back and ends there, so its hops need no bound of their own.
        let mut answer = answer.relayed(Moment::now()).unwrap_or_else(|| answer.clone());
        if answer.channel() != self.channel() {
            answer.move_to(self.channel());
        }
        Arc::clone(path).carry(answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_the_place_of_all_of_its_name() {
        let wave =
            Wave::builder("a").metadata("m", "1").metadata("k", "v").metadata("m", "2").build().unwrap();
        let marked = wave.clone().with_entry("m", "3").unwrap();
        assert_eq!(marked.metadata().iter().collect::<Vec<_>>(), [("k", "v"), ("m", "3")]);
        assert_eq!(wave.metadata().len(), 3, "other handles keep theirs");
        let full = (0..32).fold(Wave::builder("a"), |wave, _| wave.metadata("n", "v")).build().unwrap();
        assert!(full.clone().with_entry("m", "3").is_err() && full.with_entry("n", "v").is_ok());
    }
}
