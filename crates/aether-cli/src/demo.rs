//! `aether demo`: pages that share one stored field, served on this machine.

use std::path::PathBuf;

use aether_core::Aether;
use aether_gateway::{FieldArgs, Gateway, GatewayError, GatewaySettings, ListenArgs, ServedField};
use aether_service::{CancellationToken, ConfigArgs, Configuration};

use crate::error::CommandError;
use crate::output::Output;

/// The field of the demos, as their pages name it.
const FIELD: &str = "demo";

/// Serve three demos of shared state: a map of who is here, a board, and a text that several people write
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether demo                             open the address in two tabs; Ctrl-C ends it
  aether demo --listen 127.0.0.1:0        at a free port
  aether demo --file /tmp/demo.field      kept in another file")]
pub(crate) struct DemoArgs {
    /// The file that keeps what is written, also after a restart
    #[arg(long, value_name = "FILE", default_value = "aether-demo.field")]
    file: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn demo(args: DemoArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let mut fields = FieldArgs::default();
    fields.fields = vec![ServedField::kept_in(FIELD, args.file)];
    fields.field_root = Some(FIELD.to_owned());
    let config = fields.layer(args.listen.layer(args.config.loader())).load()?;
    let connected = config.connect_until(&shutdown, "aether-demo").await?;
    let aether = connected.ok_or(CommandError::Interrupted { before: "the connection was up" })?;
    let done = serve(&config, &aether, shutdown).await;
    let sent = aether_service::close_with_account(&aether).await;
    done?;
    Ok(sent?)
}

async fn serve(
    config: &Configuration,
    aether: &Aether,
    shutdown: CancellationToken,
) -> Result<(), CommandError> {
    let settings = config.section::<GatewaySettings>();
    let (fields, joined) = settings.join_fields(aether).await.map_err(GatewayError::from)?;
    let options = settings.options(&config.settings()).map_err(GatewayError::from)?;
    let gateway = Gateway::start(aether, options.fields(fields).demos(true)).await?;
    let mut output = Output::stdout();
    output.line(gateway.announcement())?;
    output.line(format_args!("demos: {}demos/", gateway.url()))?;
    gateway.run(shutdown).await;
    Ok(joined.close().await.map_err(GatewayError::from)?)
}
