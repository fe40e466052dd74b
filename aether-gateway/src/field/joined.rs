//! Joining the fields that a gateway serves, and leaving them.

use std::path::Path;

use aether_core::Aether;
use aether_field::{Field, FieldError, JoinFieldError};
use aether_service::error_chain;
use aether_service::health::{self, ReadyCheck};

use super::limits::{LimitError, SecurityLimits};
use super::served::FieldOptions;
use super::settings::{AllowedOrigin, LimitSetting, ServedField};
use crate::access::{Access, AccessError};

/// The environment variable with a token that may read and write all fields.
const TOKEN: &str = "AETHER_FIELD_TOKEN";
/// The environment variable with a token that may hear and emit all waves.
const WAVES_TOKEN: &str = "AETHER_WAVES_TOKEN";

/// Why the fields cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeFieldsError {
    /// A field cannot be joined.
    #[error("the field {name:?} cannot be served")]
    Join {
        /// Its name.
        name: String,
        /// Why not.
        source: JoinFieldError,
    },
    /// A field is named twice.
    #[error("the field {name:?} is named twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// The tokens cannot be used.
    #[error("the tokens of the fields cannot be used")]
    Access(#[from] AccessError),
    /// A limit cannot be set.
    #[error("a limit of the fields cannot be set")]
    Limit(#[from] LimitError),
    /// The field at the root is not served.
    #[error(
        "the field {name:?} cannot be served at /, as it is not among the fields: add it (--field {name})"
    )]
    Root {
        /// Its name.
        name: String,
    },
    /// A field without a file cannot wait for the disk.
    #[error("durable_echo needs a file for the field {name:?}: --field {name}=FILE")]
    NoFile {
        /// Its name.
        name: String,
    },
    /// Tokens were set, but no field.
    #[error(
        "there are tokens, but none is for waves and there is no field: set fields in [service.gateway] (--field NAME), or \
         give a token \"hear\" and \"emit\""
    )]
    NoFields,
    /// A field could not be stored when it was closed.
    #[error("the field {name:?} could not be closed")]
    Close {
        /// Its name.
        name: String,
        /// Why not.
        source: FieldError,
    },
}

/// The replicas that a program has joined for its gateway.
#[derive(Debug, Default)]
#[must_use]
pub struct JoinedFields {
    fields: Vec<(String, Field)>,
    /// While a store has failed, or a clock is off, the program is not ready.
    checks: Vec<ReadyCheck>,
}

/// Joins fields. Returns what the gateway needs, and the replicas, which are to be closed after it.
pub(crate) async fn join(
    (fields, root): (&[ServedField], Option<&str>),
    tokens: Option<&Path>,
    origins: &[AllowedOrigin],
    limits: &[LimitSetting],
    aether: &Aether,
) -> Result<(FieldOptions, JoinedFields), ServeFieldsError> {
    let mut access = match tokens {
        Some(path) => Access::load(path)?,
        None => Access::default(),
    };
    // Somebody who made tokens expects that something is behind them.
    if fields.is_empty() && tokens.is_some() && !access.has_wave_rights() {
        return Err(ServeFieldsError::NoFields);
    }
    if let Some(token) = std::env::var(WAVES_TOKEN).ok().filter(|token| !token.is_empty()) {
        access = access.waves_token(&token)?;
    }
    // An empty variable means no token, as in the sync engine.
    if let Some(token) = std::env::var(TOKEN).ok().filter(|token| !token.is_empty() && !fields.is_empty()) {
        access = access.token(&token)?;
    }
    if !fields.is_empty() && !access.is_open() && !access.has_field_rights() {
        tracing::warn!(
            "no token gives a right in the fields, so nobody can use them; set {TOKEN}, or \"read\" and \"write\""
        );
    }
    let mut bounds = SecurityLimits::default();
    for limit in limits {
        bounds.set(limit.as_str())?;
    }
    if let Some(name) = root
        && !fields.iter().any(|field| field.name == name)
    {
        return Err(ServeFieldsError::Root { name: name.to_owned() });
    }
    if let Some(field) = fields.iter().find(|field| bounds.durable_echo && field.store.is_none()) {
        return Err(ServeFieldsError::NoFile { name: field.name.clone() });
    }
    let mut options = FieldOptions::default().access(access).limits(bounds);
    for origin in origins {
        options = options.origin(origin.as_str());
    }
    if let Some(name) = root {
        options = options.root(name);
    }
    let mut joined = JoinedFields::default();
    for ServedField { name, store } in fields {
        if joined.fields.iter().any(|(other, _)| other == name) {
            return Err(ServeFieldsError::Twice { name: name.clone() });
        }
        let mut builder = Field::builder(name).replica("gateway");
        if let Some(store) = store {
            builder = builder.store(store);
        }
        let field = builder
            .join(aether)
            .await
            .map_err(|source| ServeFieldsError::Join { name: name.clone(), source })?;
        options = options.field(name, field.clone());
        joined.checks.push(health::check(aether, "field_clock_off", {
            let (name, field) = (name.clone(), field.clone());
            move || field.clock_trouble().map(|trouble| format!("the field {name}: {trouble}"))
        }));
        if store.is_some() {
            let (name, field) = (name.clone(), field.clone());
            joined.checks.push(health::check(aether, "field_store_failed", move || {
                let failure = field.store_failure()?;
                Some(format!("the store of the field {name} has failed: {}", error_chain(&*failure)))
            }));
        }
        joined.fields.push((name.clone(), field));
    }
    Ok((options, joined))
}

impl JoinedFields {
    /// Leaves the fields, and waits until everything is stored.
    ///
    /// # Errors
    /// [`ServeFieldsError::Close`] with the first field that could not be stored; the others are closed all the same.
    pub async fn close(self) -> Result<(), ServeFieldsError> {
        drop(self.checks);
        let mut first = Ok(());
        for (name, field) in self.fields {
            let closed = field.close().await.map_err(|source| ServeFieldsError::Close { name, source });
            first = first.and(closed);
        }
        first
    }
}
