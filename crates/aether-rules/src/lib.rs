//! Boundary rules: who may emit and who may listen where, how strong, how large and how often; below which prefix and
//! with which amplitude it leaves; and, with the feature `schema`, what payloads must look like.
//!
//! Physics calls it refraction: what changes where a wave passes a border. Rules name identities, which are the names of
//! vibrators, emitters and durable consumers, and grant them channels, by the names that others know: a rewrite comes
//! first. A process checks its own waves when they are emitted, for a clear error, and what arrives over a network, for
//! safety. A name proves nothing by itself: whoever may publish can use any. With keys names come from those that have
//! the key; permissions of the server keep names apart, and a list of signers proves them.
//!
//! Without a [`Border`] everything is allowed and nothing is checked.
//!
//! ```
//! use aether_rules::{Action, Border, Rule, Rules};
//! use aether_core::{Aether, Channel, EmitError};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let billing = Rule::new("billing").emit(["invoices.>"]).listen(["orders.>"]).max_amplitude(0.8);
//! let rules = Rules::new([billing])?;
//! assert!(rules.verdict("billing", Action::Listen, &Channel::new("orders.created")?).is_ok());
//!
//! let aether = aether_core::AetherBuilder::new().guard(Border::new(rules)).connect().await?;
//! let refused = aether.emitter("billing")?.emit_bytes("orders.created", "1").await;
//! assert!(matches!(refused, Err(EmitError::NotAllowed { .. })));
//! # Ok(()) }
//! ```

mod action;
mod border;
mod bucket;
mod compiled;
mod depth;
mod error;
mod limits;
mod medium;
mod refusal;
mod refusal_log;
mod rewriting;
mod rule;
#[cfg(feature = "schema")]
mod schema;
mod set;
mod text;

pub use action::Action;
pub use border::{Border, BorderCounts};
pub use error::RulesError;
pub use limits::Limits;
pub use refusal::Refusal;
pub use rule::{Rewrite, Rule};
#[cfg(feature = "schema")]
pub use schema::{SchemaError, Schemas};
pub use set::Rules;
pub use text::RuleTextError;

#[cfg(test)]
mod tests;
