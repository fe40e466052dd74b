//! The arguments of a program that serves fields. Each is one of the settings in `[service.gateway]`.

use std::path::PathBuf;

use aether_service::config::{List, Loader};

use super::settings::{AllowedOrigin, LimitSetting, ServedField};

/// Which fields are served over WebSocket and to whom, to be flattened into other arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Fields over WebSocket")]
#[non_exhaustive]
pub struct FieldArgs {
    /// Serve this field at /field/NAME/ws, with a file also after a restart of all replicas; may be repeated
    #[arg(long = "field", value_name = "NAME[=FILE]")]
    pub fields: Vec<ServedField>,

    /// Serve this field at / as well, where the published pages of the sync engine look for it
    #[arg(long, value_name = "NAME")]
    pub field_root: Option<String>,

    /// The rights to read, write, hear and emit: a JSON array of {"token" or "certificate", "field", "read", "write",
    /// "hear", "emit"}. The environment variable AETHER_FIELD_TOKEN is a token for everything in the fields,
    /// AETHER_WAVES_TOKEN one for all waves. Without any token and certificate, programs of this machine read and write
    /// the fields, with
    /// --insecure all who can connect
    #[arg(long, value_name = "FILE")]
    pub field_tokens: Option<PathBuf>,

    /// Let pages of this origin use the fields, such as https://shop.example; * means all; may be repeated
    #[allow(rustdoc::bare_urls, reason = "the help of the argument")]
    #[arg(long, value_name = "ORIGIN")]
    pub field_origin: Vec<AllowedOrigin>,

    /// Set a limit, such as max_connections_per_source=1000; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub field_limit: Vec<LimitSetting>,
}

impl FieldArgs {
    /// Adds what was given to a configuration that has the section of the gateway.
    pub fn layer(&self, loader: Loader) -> Loader {
        loader
            .given("service.gateway.fields", "--field", List(self.fields.clone()).as_argument())
            .given("service.gateway.field_root", "--field-root", self.field_root.as_ref())
            .given(
                "service.gateway.field_tokens",
                "--field-tokens",
                self.field_tokens.as_ref().map(|path| path.display()),
            )
            .given(
                "service.gateway.field_origins",
                "--field-origin",
                List(self.field_origin.clone()).as_argument(),
            )
            .given(
                "service.gateway.field_limits",
                "--field-limit",
                List(self.field_limit.clone()).as_argument(),
            )
    }
}
