//! `aether up`: the order system in one process, with a live view.
//!
//! Runs the gateway, the inventory service and the order service on one medium. They stop in the order of the flow, so
//! that every wave is received before its receiver stops and the final sums are complete.

use aether_core::Aether;
use aether_gateway::{FieldArgs, Gateway, GatewayError, GatewaySettings, ListenArgs};
use aether_service::{CancellationToken, ConfigArgs, Configuration};
use aether_service_alpha::{Alpha, AlphaError, OrderArgs, OrderSettings};
use aether_service_beta::{Beta, BetaError, StockArgs, StockSettings};

use crate::error::CommandError;
#[cfg(feature = "bench")]
use crate::overload_view::{OverloadView, times};
use crate::view::View;

/// Run the order system in one process and watch it: gateway, inventory service, order service
#[derive(Debug, clap::Args)]
#[command(after_help = concat!("\
Examples:
  aether up                                   runs until Ctrl-C
  aether up --orders 50                       ends by itself
  aether up --rate 200 --listen 127.0.0.1:0   faster, with the page at a free port
  aether up --metrics 127.0.0.1:9464          and the handlers of all three for Prometheus
", if_bench!("  aether up --overload                        and a handler with ten times its capacity
  aether up --overload 50                     with fifty times its capacity
"), "  aether up --medium nats://127.0.0.1:4222    visible to `aether listen '>'`"))]
pub(crate) struct UpArgs {
    /// Also overload a handler beside the order system, with this multiple of its capacity; 5 % of the waves are
    /// important [default: 10]
    #[cfg(feature = "bench")]
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "10", value_parser = times, allow_negative_numbers = true)]
    overload: Option<f64>,
    #[command(flatten)]
    orders: OrderArgs,
    #[command(flatten)]
    stock: StockArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    fields: FieldArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn up(args: UpArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let gateway = args.fields.layer(args.listen.layer(args.config.loader()));
    let config = args.orders.layer(args.stock.layer(gateway)).load()?;
    let connected = config.connect_until(&shutdown, "aether-up").await?;
    let aether = connected.ok_or(CommandError::Interrupted { before: "the connection was up" })?;
    let done = run(&args, &config, &aether, shutdown).await;
    let sent = aether_service::close_with_account(&aether).await;
    done?;
    // An overload loses waves on purpose.
    #[cfg(feature = "bench")]
    if args.overload.is_some() {
        return Ok(());
    }
    Ok(sent?)
}

async fn run(
    #[cfg_attr(not(feature = "bench"), allow(unused_variables, reason = "for the overload"))] args: &UpArgs,
    config: &Configuration,
    aether: &Aether,
    shutdown: CancellationToken,
) -> Result<(), CommandError> {
    let view = View::of_stdout(aether);
    let settings = config.section::<GatewaySettings>();
    let (fields, joined) = settings.join_fields(aether).await.map_err(GatewayError::from)?;
    let options = settings.options(&config.settings()).map_err(GatewayError::from)?.fields(fields);
    let gateway = Gateway::start(aether, options.on_wave(view.noting())).await?;
    // Printed first, so that the user can open the page.
    let mut view = view.begin(&gateway)?;
    let beta =
        Beta::start(aether, config.section::<StockSettings>().open(config).map_err(BetaError::from)?).await?;
    let alpha = Alpha::start(aether, config.section::<OrderSettings>().options(config)).await?;
    let metrics = alpha.add_metrics(beta.add_metrics(gateway.metrics()));
    let _metrics = metrics.serve_configured(config).await.map_err(AlphaError::from)?;
    let counters = alpha.counters();
    #[cfg(feature = "bench")]
    let overload = match args.overload {
        None => None,
        Some(times) => Some(OverloadView::start(aether, times).await?),
    };

    // Each service stops after the services that depend on it.
    let stop_alpha = shutdown.child_token();
    let (stop_beta, stop_gateway) = (CancellationToken::new(), CancellationToken::new());
    // Cancelled when any of the services has ended.
    let one_is_done = CancellationToken::new();
    let gateway = tokio::spawn(gateway.run(stop_gateway.clone()));
    let beta = tokio::spawn({
        let (done, stop) = (one_is_done.clone().drop_guard(), stop_beta.clone());
        async move {
            let _done = done;
            beta.run(stop).await
        }
    });
    let alpha = tokio::spawn({
        let (done, stop) = (one_is_done.clone().drop_guard(), stop_alpha.clone());
        async move {
            let _done = done;
            alpha.run(stop).await
        }
    });

    // A closed stdout ends the system like Ctrl-C.
    #[cfg(feature = "bench")]
    let (watched, overload) = match overload {
        None => (view.watch(&counters, &one_is_done).await, None),
        Some(mut overload) => {
            let watched = view.watch_overload(&mut overload, &counters, &one_is_done).await;
            (watched, Some(overload.end().await?.to_string()))
        }
    };
    #[cfg(not(feature = "bench"))]
    let (watched, overload) = (view.watch(&counters, &one_is_done).await, None);
    stop_alpha.cancel();
    let orders = alpha.await?;
    stop_beta.cancel();
    let stock = beta.await?;
    stop_gateway.cancel();
    gateway.await?;
    joined.close().await.map_err(GatewayError::from)?;
    // The final account lists unconfirmed waves.
    let _ = aether.flush().await;
    aether_service::close(aether).await;
    watched?;
    Ok(view.end(orders?, stock?, overload)?)
}
