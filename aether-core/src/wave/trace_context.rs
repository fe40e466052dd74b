//! Trace context: the place of a wave in a distributed trace. Ordinary term: W3C Trace Context.
//!
//! The tracer of a process sets it on what is emitted ([`EmitTracer`](crate::vibrator::EmitTracer)); without one, emitters
//! pass on what they received. This file holds the value and its text form. It knows neither waves nor tracers.
//!
//! Source: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;
use std::sync::Arc;

/// The metadata entry, and the header of other systems, with the ids.
pub const TRACEPARENT: &str = "traceparent";
/// The metadata entry, and the header of other systems, with the state.
pub const TRACESTATE: &str = "tracestate";
/// The maximum length of a `tracestate`, in bytes. W3C asks for at least this many to be passed on.
pub const MAX_TRACESTATE_BYTES: usize = 512;
/// The bit of the flags that marks the trace as recorded.
const SAMPLED: u8 = 1;

/// The ids of a trace and of the span in it that a wave follows from, as in W3C Trace Context. Cloning it bumps at most one
/// reference count.
///
/// ```
/// use aether_core::wave::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = text.parse()?;
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// # Ok::<(), aether_core::wave::TraceContextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// In bytes, because the alignment of the number would make each wave with headers larger.
    trace_id: [u8; 16],
    span_id: NonZeroU64,
    flags: u8,
    state: Option<Arc<str>>,
}

/// Text or ids that are not a trace context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceContextError {
    /// An id of zeros.
    #[error("the trace id and the span id of a trace context must not be zero")]
    Zero,
    /// A `traceparent` that is not in its form.
    #[error(
        "{text:?} is not a traceparent: use 00, 32, 16 and 2 digits of lower-case hexadecimal, joined by -"
    )]
    Form {
        /// The first bytes of the text, up to 64.
        text: String,
    },
    /// A `tracestate` that is too long or has other characters.
    #[error(
        "a tracestate has 1 to {MAX_TRACESTATE_BYTES} bytes of printable ASCII; this one has {bytes} bytes"
    )]
    State {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl TraceContext {
    /// A context without state. Bit 0 of the flags marks the trace as sampled.
    ///
    /// # Errors
    /// [`TraceContextError::Zero`] if an id is zero.
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Result<Self, TraceContextError> {
        let trace_id = NonZeroU128::new(trace_id).ok_or(TraceContextError::Zero)?;
        let span_id = NonZeroU64::new(span_id).ok_or(TraceContextError::Zero)?;
        Ok(Self { trace_id: trace_id.get().to_be_bytes(), span_id, flags, state: None })
    }

    /// The same with the `tracestate` of the tracers that took part.
    ///
    /// # Errors
    /// [`TraceContextError::State`] if it is empty, longer than [`MAX_TRACESTATE_BYTES`], or has characters beyond printable
    /// ASCII.
    pub fn with_state(mut self, state: &str) -> Result<Self, TraceContextError> {
        let is_printable = state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if state.is_empty() || state.len() > MAX_TRACESTATE_BYTES || !is_printable {
            return Err(TraceContextError::State { bytes: state.len() });
        }
        self.state = Some(state.into());
        Ok(self)
    }

    /// The context in two headers. A `tracestate` that is not valid is left out, as W3C Trace Context demands; one that is
    /// too long, too. `None` if the `traceparent` is not valid.
    pub(crate) fn of_headers(parent: &str, state: Option<&str>) -> Option<Self> {
        let context: Self = parent.parse().ok()?;
        match state {
            Some(state) => Some(context.clone().with_state(state.trim()).unwrap_or(context)),
            None => Some(context),
        }
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        u128::from_be_bytes(self.trace_id)
    }

    /// The id of the span.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span_id.get()
    }

    /// The trace flags. Bit 0 marks the trace as sampled.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Approximate memory used beside the value itself, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.state().map_or(0, str::len)
    }
}

/// The form of `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id(), self.span_id, self.flags)
    }
}

/// Reads a `traceparent`. Of a version after 00 the first four parts are read, as W3C Trace Context demands.
impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let form = || {
            let end = text.floor_char_boundary(64);
            TraceContextError::Form { text: text[..end].to_owned() }
        };
        let text = text.trim();
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let is_hexadecimal = |part: &&str| {
                part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            parts.next().filter(is_hexadecimal).ok_or_else(form)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_over = parts.next().is_none();
        if version == "ff" || version == "00" && !is_over {
            return Err(form());
        }
        let trace_id = u128::from_str_radix(trace_id, 16).map_err(|_| form())?;
        let span_id = u64::from_str_radix(span_id, 16).map_err(|_| form())?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| form())?;
        // Only the bits of version 00 are known.
        Self::new(trace_id, span_id, if version == "00" { flags } else { flags & SAMPLED })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_and_other_text_is_refused() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert_eq!(context.trace_id(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((context.span_id(), context.flags()), (0xb7ad_6b71_6920_3331, 1));
        assert_eq!(context.to_string(), PARENT);
        assert!(!PARENT.replace("-01", "-00").parse::<TraceContext>().unwrap().is_sampled());
        let later = format!("{}-more", PARENT.replacen("00", "01", 1));
        assert!(later.parse::<TraceContext>().unwrap().is_sampled());
        let bad = [
            "",
            "00",
            &PARENT.to_uppercase(),
            &format!("{PARENT}-more"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("b7ad6b7169203331", "b7ad6b716920333"),
            &PARENT.replace("b7ad6b7169203331", "+7ad6b7169203331"),
            &"ü".repeat(100),
        ];
        for bad in bad {
            assert!(matches!(bad.parse::<TraceContext>(), Err(TraceContextError::Form { .. })), "{bad}");
        }
        let zeros = PARENT.replace("b7ad6b7169203331", "0000000000000000");
        assert_eq!(zeros.parse::<TraceContext>(), Err(TraceContextError::Zero));
    }

    #[test]
    fn a_state_has_bounds_and_a_bad_one_leaves_the_parent() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert_eq!(context.clone().with_state("a=1,b=2").unwrap().state(), Some("a=1,b=2"));
        for bad in ["", "a=\nb", "a=ü", &"a".repeat(MAX_TRACESTATE_BYTES + 1)] {
            assert_eq!(
                context.clone().with_state(bad),
                Err(TraceContextError::State { bytes: bad.len() }),
                "{bad}"
            );
            assert_eq!(TraceContext::of_headers(PARENT, Some(bad)).as_ref(), Some(&context), "{bad}");
        }
        assert_eq!(TraceContext::of_headers("nonsense", Some("a=1")), None);
    }
}
