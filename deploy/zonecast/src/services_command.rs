//! `zonecast services` and `zonecast migrate`: the companion services from their settings to their graceful end.

use anyhow::Context;
use zonecast_host::{Definition, Host};

use crate::{
    cli::{self, MigrateArgs, ServicesArgs},
    config_command,
    logging::{self, Destination},
    settings,
    signals::Signals,
};

/// The names of all services there are, for the command line. A new one is one more here and in [`definitions`].
pub(crate) const NAMES: [&str; 3] = [zonecast_users::NAME, zonecast_characters::NAME, zonecast_directory::NAME];

/// All services there are.
pub(crate) fn definitions() -> Vec<Definition> {
    vec![
        zonecast_users::definition(),
        zonecast_characters::definition(zonecast_characters::Config::default()),
        zonecast_directory::definition(zonecast_directory::Config::default()),
    ]
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The settings are not valid, or the services cannot start.
pub(crate) async fn run(args: ServicesArgs) -> anyhow::Result<()> {
    let settings = settings::load_services(&config_command::sources(args.settings))?;
    let log = logging::start(&settings.log, Destination::of_broker(settings.log.format))?;
    // Before they start: from here on a signal must not end the process with calls under way.
    let mut signals = Signals::new().context("signals cannot be watched")?;

    let services = named(&args.names);
    let names = shown(&services);
    let database = settings.host.database.url.to_string();
    tracing::info!(version = cli::VERSION, services = names, database, "services are starting");
    let grace = settings.host.shutdown_grace;
    let calls_by_broker = settings.host.broker.calls.is_some();
    match settings.keeper {
        // Ends with the process.
        Some(keeper) => drop(tokio::spawn(keeper.keep())),
        None => tracing::warn!(
            "no identities are configured: whoever is on this machine may call everything, and nobody else"
        ),
    }
    let host = Host::start(settings.host, &services).await.context("the services cannot start")?;
    let admin = host.admin_address().map(tracing::field::display);
    tracing::info!(listen = %host.grpc_address(), admin, calls_by_broker, "services are listening");

    let name = signals.next().await;
    tracing::info!(
        signal = name,
        grace_ms = grace.as_millis(),
        "services are shutting down; a second signal ends them at once"
    );
    tokio::select! {
        () = host.shutdown() => Ok(()),
        name = signals.next() => {
            tracing::warn!(signal = name, "services end at once; what waits in the outbox is published at the next start");
            drop(log);
            std::process::exit(1)
        }
    }
}

/// Takes the steps that the tables lack.
///
/// # Errors
/// The settings are not valid, the database does not answer, or a step fails.
pub(crate) async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let (database, log) = settings::load_database(&config_command::sources(args.settings))?;
    let _log = logging::start(&log, Destination::of_broker(log.format))?;
    let services = named(&args.names);
    zonecast_host::migrate(&database, &services).await.context("the tables are not up to date")?;
    let (database, names) = (database.url.to_string(), shown(&services));
    tracing::info!(database, services = names, "the tables are up to date");
    Ok(())
}

/// The services of these names, in the order of the list; all where there are none.
fn named(names: &[String]) -> Vec<Definition> {
    let wanted = |service: &Definition| names.is_empty() || names.iter().any(|name| name == service.name);
    definitions().into_iter().filter(wanted).collect()
}

fn shown(services: &[Definition]) -> String {
    services.iter().map(|service| service.name).collect::<Vec<_>>().join(" ")
}
