//! Whose a connection is: its client certificate's, where there is one, else the client id's.

use quinn::Connection;
use rustls::pki_types::CertificateDer;
use zonecast_protocol::{ClientId, Refusal};

use crate::{ClientIdentity, admission::Place, tls, worker::Worker};

/// Checks that the connection may speak for the client, and counts it as its identity's.
pub(super) fn check(
    worker: &Worker,
    connection: &Connection,
    client: &ClientId,
    place: &mut Place,
) -> Result<(), Refusal> {
    let config = &worker.shared.config;
    let mut identity = client.to_string();
    if let Some(certificate) = certificate(connection) {
        if config.client_identity == ClientIdentity::San {
            tls::check_names_client(&certificate, client)?;
        }
        if let Some(name) = tls::names(&certificate).into_iter().next() {
            identity = name;
        }
    }
    place.identify(identity, &config.connections)
}

/// The certificate that the client showed; the handshake has verified it.
fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}
