//! What a wave passes on to the waves that follow from it: its identity as their cause, the root of the request, and the
//! baggage; and the trace that they are part of.
//!
//! Emitters keep an [`Origin`] and give it to what they emit; answers and replayed dead letters take theirs from the wave
//! itself. The root of a request is its first wave. It is stored only where the cause is another wave, so neither the
//! first wave nor those that it caused directly take more memory or bytes.

use std::sync::Arc;

use super::trace_context::{TRACEPARENT, TRACESTATE};
use super::{Baggage, Request, TraceContext, Wave};
use crate::source::WaveId;

/// What the waves that follow from something inherit: their cause, the root of the request, the baggage, and the trace
/// context. Made from a [`Wave`] or an [`Echo`](crate::Echo); see [`Emitter::following`](crate::Emitter::following).
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

    /// Where the wave stands in a distributed trace: the span that emitted it, as in W3C Trace Context. A foreign publisher
    /// gives it in the headers `traceparent` and `tracestate`, which are metadata here.
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

    /// Sets where the wave stands in a distributed trace. For tracers and implementors of media; authors use
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
