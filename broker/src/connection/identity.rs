//! Whose a connection is: its client certificate's, where there is one, else the token's subject's, else the client id's.

use quinn::Connection;
use rustls::pki_types::CertificateDer;
use zonecast_access::certificate_names;
use zonecast_protocol::{ClientId, Refusal, wire::ErrorCode};

use crate::{ClientIdentity, admission::Place, grant::Grant, tls, worker::Worker};

/// Checks that the connection may speak for the client, by its certificate and by its token, and counts it as its
/// identity's. What the token grants.
pub(super) fn check(
    worker: &Worker,
    connection: &Connection,
    client: &ClientId,
    token: &str,
    place: &mut Place,
) -> Result<Grant, Refusal> {
    let config = &worker.shared.config;
    let grant = worker.grant(token, client, ErrorCode::Unauthenticated)?;
    let mut identity = grant.subject().map_or_else(|| client.to_string(), ToString::to_string);
    if let Some(certificate) = certificate(connection) {
        if config.client_identity == ClientIdentity::San {
            tls::check_names_client(&certificate, client)?;
        }
        if let Some(name) = certificate_names(&certificate).into_iter().next() {
            identity = name;
        }
    }
    place.identify(identity, &config.connections)?;
    Ok(grant)
}

/// The certificate that the client showed; the handshake has verified it.
fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}
