//! Why a request is refused, and what all ways to write refuse: keys and values beyond their bounds.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::counts::Refused;
use super::json;
use super::limits::SecurityLimits;

/// A request is refused.
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The same write may be taken after this time.
    pub(super) retry_after: Option<Duration>,
}

/// Whether a key has the size of a key.
pub(super) fn check_key(key: &str, limits: &SecurityLimits) -> Result<(), Refusal> {
    let allowed = limits.max_key_bytes;
    match key.len() {
        0 => Err(Refusal::new(Refused::Key, "key-size", "a key has at least one byte")),
        bytes if bytes > allowed => {
            let message = format!("the key has {bytes} bytes; {allowed} are allowed");
            Err(Refusal::new(Refused::Key, "key-size", message))
        }
        _ => Ok(()),
    }
}

/// A value in its compact form.
pub(super) fn value_of(value: &RawValue, limits: &SecurityLimits) -> Result<Bytes, Refusal> {
    let value = json::compact(value).map_err(|json::NotJson| {
        let message =
            "the value has half of a surrogate pair, a number out of range, or more than 127 levels";
        Refusal::json(message)
    })?;
    if value == "null" {
        return Err(Refusal::new(Refused::Json, "null", "a field holds no null; delete the key instead"));
    }
    let (bytes, allowed) = (value.len(), limits.max_value_bytes);
    if bytes > allowed {
        let message = format!("the value has {bytes} bytes; {allowed} are allowed");
        return Err(Refusal::new(Refused::Value, "value-size", message));
    }
    Ok(value.into())
}

impl Refusal {
    pub(super) fn new(refused: Refused, code: &'static str, message: impl Into<String>) -> Self {
        Self { refused, code, message: message.into(), retry_after: None }
    }

    /// The request is not of the protocol.
    pub(super) fn json(message: impl Into<String>) -> Self {
        Self::new(Refused::Json, "json", message)
    }
}
