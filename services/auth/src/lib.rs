//! The auth service: who somebody is, and how that is shown.
//!
//! Players have passwords or identities of other providers, and logins; game servers and backend services have
//! credentials. Both get access tokens, which everybody verifies offline ([`zonecast_access`]); what ended before its tokens
//! did is on a list that is published beside the keys, and told on the topic `auth.revoked`.
//!
//! [`AuthConfig`] is what the service is told, and [`Auth`] the trait that tonic generates. The users service is called for
//! names ([`zonecast_host::Ground::peers`]); what is kept here of a user goes with it.
//!
//! Deliberately absent: names and profiles (the users service's), e-mail, password recovery, and what a token permits: that
//! is asked where it is used.
//!
//! Start at [`definition`], by which a host runs it.

mod config;
mod deleted;
mod external;
mod hashing;
mod issuer;
mod password;
mod secrets;
mod service;
mod store;
mod throttle;
mod upkeep;
mod users;
mod well_known;

use std::sync::Arc;

use tonic::service::Routes;
use zonecast_api::auth::v1::auth_service_server::{AuthServiceServer, SERVICE_NAME};
use zonecast_host::{Definition, Ground, MountError, mount};
use zonecast_store::{Migrations, migrations};

pub use config::{AuthConfig, Clock, HashingConfig, Lives, ThrottleConfig};
pub use external::{Algorithm, Provider, ProviderError, ProviderKind};
pub use secrets::sha256;
pub use service::{ADMIN_SCOPES, Auth, CredentialError, NewCredential};

use deleted::UserDeletions;

/// The name of the service and of its store.
pub const NAME: &str = "auth";

/// The users service's store, whose deletions are followed.
const USERS: &str = "users";

/// Its tables.
pub const MIGRATIONS: Migrations = migrations!("auth", 1 "0001_auth", 2 "0002_auth_certificates");

/// The service, for the list of all services.
#[must_use]
pub fn definition(config: AuthConfig) -> Definition {
    let config = Arc::new(config);
    let mount = mount(move |ground: Ground, routes| {
        let config = Arc::clone(&config);
        async move { put(&config, &ground, routes).await }
    });
    Definition { name: NAME, services: &[SERVICE_NAME], scopes: service::SCOPES, migrations: MIGRATIONS, mount }
}

async fn put(config: &AuthConfig, ground: &Ground, routes: Routes) -> Result<Routes, MountError> {
    let auth = Auth::start(config, ground).await?;
    auth.keep_up(&ground.tasks);
    let deletions = UserDeletions::new(auth.clone());
    ground.follow(NAME, USERS, deletions);
    let routes = well_known::add(routes, &auth);
    let server = AuthServiceServer::new(auth)
        .max_decoding_message_size(ground.message_bytes_max)
        .max_encoding_message_size(ground.message_bytes_max);
    Ok(routes.add_service(server))
}
