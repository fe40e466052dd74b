//! The settings of the account that a process tells about itself: the section `[account]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::{OrOff, QuantityError, Time};

/// The account that the process reports about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AccountSettings {
    /// How often it tells its account over a network.
    pub every: OrOff<AccountInterval>,
}

/// How often a process tells its account, from 100 ms to 60 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Time", into = "Time")]
pub struct AccountInterval(pub Duration);

impl TryFrom<Time> for AccountInterval {
    type Error = QuantityError;
    fn try_from(time: Time) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "a time from 100ms to 60s";
        let is_allowed = time.0 >= Duration::from_millis(100) && time.0 <= Duration::from_secs(60);
        if is_allowed { Ok(Self(time.0)) } else { Err(QuantityError::new(time, ALLOWED)) }
    }
}

impl From<AccountInterval> for Time {
    fn from(interval: AccountInterval) -> Self {
        Self(interval.0)
    }
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self { every: OrOff::On(AccountInterval(Duration::from_secs(5))) }
    }
}

impl AccountSettings {
    /// How often the process tells its account; `None` for never.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.every.on().map(|AccountInterval(interval)| interval)
    }
}
