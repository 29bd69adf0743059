//! `zonecast broker`: a broker from its settings to its graceful end.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use zonecast_broker::Broker;

use crate::{
    cli::{self, BrokerArgs},
    config_command,
    logging::{self, Destination},
    settings,
    signals::{self, Signals},
    tls_reload,
    trust::{self, TrustKeeper},
};

/// Serves until SIGTERM or SIGINT; takes new certificates at SIGHUP and when their files change.
///
/// # Errors
/// The settings are not valid, or the broker cannot start.
pub(crate) async fn run(args: BrokerArgs) -> anyhow::Result<()> {
    let settings = settings::load(&config_command::sources(args.settings))?;
    let log = logging::start(&settings.log, Destination::of_broker(settings.log.format))?;
    // Before the broker starts: from here on a signal must not end the process with sessions in it.
    let mut signals = Signals::new().context("signals cannot be watched")?;
    let hangup = signal(SignalKind::hangup()).context("signals cannot be watched")?;

    let mut config = settings.broker;
    let keeper = settings.tokens.map(TrustKeeper::new);
    if let Some(keeper) = &keeper {
        (config.trust, config.trust_upkeep) = (Some(keeper.trust()), keeper.upkeep());
    }
    tracing::info!(version = cli::VERSION, workers = config.workers, "broker is starting");
    if keeper.is_none() && !config.tls.demands_client_certificates() {
        tracing::warn!(
            "any client that can reach the broker may do everything: neither tokens nor client certificates are asked for"
        );
    }
    tls_reload::tell_broker("certificates are loaded", &config.tls);
    let grace = config.shutdown_grace;
    let broker = Broker::start(config).await.context("the broker cannot start")?;
    let admin = broker.admin_addr().map(tracing::field::display);
    tracing::info!(listen = %broker.local_addr(), admin, "broker is listening");

    // Ends with the process; tokens expire and are revoked all the same while the broker drains.
    let mut keeping = keeper.map(TrustKeeper::start);
    let cause = tokio::select! {
        name = signals.next() => Ok(name),
        () = broker.failed() => Err("a worker has failed"),
        () = trust::failed(&mut keeping) => Err(trust::FAILED),
        never = tls_reload::keep_fresh(settings.tls, hangup, |files| tls_reload::reload_broker(&broker, files)) => match never {},
    };
    signals::tell("broker is shutting down", cause, grace);
    tokio::select! {
        () = broker.shutdown() => cause.map(drop).map_err(anyhow::Error::msg),
        name = signals.next() => {
            tracing::warn!(signal = name, "broker ends at once; what still waited for sessions is lost");
            drop(log);
            // Not by returning: that would wait for the workers that the caller no longer wants to wait for.
            std::process::exit(1)
        }
    }
}
