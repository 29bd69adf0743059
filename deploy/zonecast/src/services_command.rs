//! `zonecast services` and `zonecast migrate`: the companion services from their settings to their graceful end.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use zonecast_auth::{Auth, AuthConfig};
use zonecast_doors::Bearers;
use zonecast_host::{Definition, Host};
use zonecast_protocol::auth::v1::CreateCredentialRequest;
use zonecast_store::Database;

use crate::{
    cli::{self, CredentialArgs, MigrateArgs, ServicesArgs},
    config_command,
    credentials::Credential,
    logging::{self, Destination},
    settings,
    signals::{self, Signals},
    tls_reload::{self, TlsFiles},
    trust::{self, TrustKeeper, now_s},
};

/// The names of all services there are, for the command line. A new one is one more here and in [`definitions`].
pub(crate) const NAMES: [&str; 4] =
    [zonecast_users::NAME, zonecast_auth::NAME, zonecast_characters::NAME, zonecast_directory::NAME];

/// What each service is told that has settings of its own.
pub(crate) struct ServiceConfigs {
    pub(crate) auth: AuthConfig,
    pub(crate) directory: zonecast_directory::Config,
}

/// All services there are.
pub(crate) fn definitions(ServiceConfigs { auth, directory }: ServiceConfigs) -> Vec<Definition> {
    vec![
        zonecast_users::definition(),
        zonecast_auth::definition(auth),
        zonecast_characters::definition(zonecast_characters::Config::default()),
        zonecast_directory::definition(directory),
    ]
}

/// Serves until SIGTERM or SIGINT; takes new certificates at SIGHUP and when their files change.
///
/// # Errors
/// The settings are not valid, or the services cannot start.
pub(crate) async fn run(args: ServicesArgs) -> anyhow::Result<()> {
    let mut settings = settings::load_services(&config_command::sources(args.settings))?;
    let log = logging::start(&settings.log, Destination::of_broker(settings.log.format))?;
    // Before they start: from here on a signal must not end the process with calls under way.
    let mut signals = Signals::new().context("signals cannot be watched")?;
    let hangup = signal(SignalKind::hangup()).context("signals cannot be watched")?;

    let (trust, freshness) = (settings.services.auth.trust.subscribe(), Arc::clone(&settings.services.auth.freshness));
    let services = named(settings.services, &args.names);
    let names = shown(&services);
    let gives_tokens = services.iter().any(|service| service.name == zonecast_auth::NAME);
    if gives_tokens {
        settings.host.gatekeeper = Arc::new(Bearers::new(trust, now_s));
        settings.host.freshness = freshness;
    }
    let database = settings.host.database.url.to_string();
    tracing::info!(version = cli::VERSION, services = names, database, "services are starting");
    tls_reload::tell_services("certificates are loaded", &settings.host.grpc.tls);
    let grace = settings.host.shutdown_grace;
    let calls_by_broker = settings.host.broker.calls.is_some();
    // Ends with the process.
    let mut keeping = settings.keeper.filter(|_| !gives_tokens).map(TrustKeeper::start);
    if keeping.is_none() && !gives_tokens {
        tracing::warn!("no identities are configured: whoever is on this machine may call everything, and nobody else");
    }
    let host = Host::start(settings.host, &services).await.context("the services cannot start")?;
    let admin = host.admin_address().map(tracing::field::display);
    tracing::info!(listen = %host.grpc_address(), admin, calls_by_broker, "services are listening");

    let required = settings.client_certificate_required;
    let reload = |files: &TlsFiles| tls_reload::reload_services(&host, files, required);
    let cause = tokio::select! {
        name = signals.next() => Ok(name),
        () = host.failed() => Err("work of the services has failed"),
        () = trust::failed(&mut keeping) => Err(trust::FAILED),
        never = tls_reload::keep_fresh(settings.tls, hangup, reload) => match never {},
    };
    signals::tell("services are shutting down", cause, grace);
    tokio::select! {
        () = host.shutdown() => cause.map(drop).map_err(anyhow::Error::msg),
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
    // Tables are the same whatever the service is told.
    let configs = ServiceConfigs { auth: AuthConfig::new("", ""), directory: zonecast_directory::Config::default() };
    let services = named(configs, &args.names);
    zonecast_host::migrate(&database, &services).await.context("the tables are not up to date")?;
    let (database, names) = (database.url.to_string(), shown(&services));
    tracing::info!(database, services = names, "the tables are up to date");
    Ok(())
}

/// Makes a credential, and prints it with its secret.
///
/// # Errors
/// The settings are not valid, the database does not answer, or what is asked for breaks a rule.
pub(crate) async fn credential(args: CredentialArgs) -> anyhow::Result<()> {
    let (options, log) = settings::load_database(&config_command::sources(args.settings))?;
    let _log = logging::start(&log, Destination::Stderr)?;
    let database = Database::open(&options).await.with_context(|| options.url.to_string())?;
    zonecast_auth::MIGRATIONS.check(&database).await?;
    let CredentialArgs { subject, scopes, rights, certificate_name, settings: _ } = args;
    let certificate_name = certificate_name.unwrap_or_default();
    let request = CreateCredentialRequest { subject, scopes, rights, certificate_name };
    let made = Auth::bootstrap(&database, &request).await;
    database.close().await;
    writeln!(io::stdout().lock(), "{}", Credential::json(&made?))?;
    Ok(())
}

/// The services of these names, in the order of the list; all where there are none.
fn named(configs: ServiceConfigs, names: &[String]) -> Vec<Definition> {
    let wanted = |service: &Definition| names.is_empty() || names.iter().any(|name| name == service.name);
    definitions(configs).into_iter().filter(wanted).collect()
}

fn shown(services: &[Definition]) -> String {
    services.iter().map(|service| service.name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_has_every_scope_that_a_service_asks_for() {
        let configs =
            ServiceConfigs { auth: AuthConfig::new("", ""), directory: zonecast_directory::Config::default() };
        let asked = definitions(configs).into_iter().flat_map(|service| service.scopes).copied();
        let mut asked: Vec<_> = asked.chain([zonecast_host::CHANGES_SCOPE]).collect();
        asked.sort_unstable();
        assert_eq!(asked, zonecast_auth::ADMIN_SCOPES);
    }
}
