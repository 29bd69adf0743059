//! From the connection flags to a client.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use zonecast_broker::client_named_by;
use zonecast_client::{Client, ClientConfig, ConnectionState, TlsConfig};
use zonecast_protocol::ClientId;

use crate::cli::{Address, ConnectArgs};

/// What the connection flags say, with their files read.
pub(crate) struct Connector {
    addresses: Vec<Address>,
    tls: TlsConfig,
    server_name: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    /// The client that the certificate to be shown names.
    named: Option<ClientId>,
}

impl Connector {
    /// Reads the files that the flags name.
    ///
    /// # Errors
    /// One cannot be read, or is not what it should be, or no authority is named.
    pub(crate) fn new(args: &ConnectArgs) -> anyhow::Result<Self> {
        if args.ca.is_none() {
            anyhow::bail!(
                "no authority to trust: give --ca FILE or set ZONECAST_CA; `zonecast cert` and `zonecast dev` make one"
            );
        }
        let identity = args.cert.as_deref().zip(args.key.as_deref());
        let tls = TlsConfig::from_files(args.ca.as_deref(), identity)?;
        let certificate = args.cert.as_deref().map(CertificateDer::from_pem_file).transpose()?;
        let named = certificate.as_ref().and_then(client_named_by);
        Ok(Self {
            addresses: args.addresses(),
            tls,
            server_name: args.server_name.clone(),
            token: args.token.clone(),
            token_file: args.token_file.clone(),
            named,
        })
    }

    /// What a client calls itself: as it is told to, else as its certificate says, else by a name for this run alone.
    pub(crate) fn id(&self, told: Option<&ClientId>, command: &str) -> String {
        told.or(self.named.as_ref()).map_or_else(|| made_up_id(command), ToString::to_string)
    }

    /// A client of the broker that the flags name.
    pub(crate) fn client(&self, id: String) -> ClientConfig {
        let mut config = ClientConfig::new(id).tls(self.tls.clone());
        for address in &self.addresses {
            config = config.address(address.to_string());
        }
        if let Some(name) = &self.server_name {
            config = config.server_name(name);
        }
        match (self.token_file.clone(), &self.token) {
            (Some(path), _) => config.token_file(path),
            (None, Some(token)) => config.token(token),
            (None, None) => config,
        }
    }
}

/// A name for a client that was given none: who runs it, and when.
fn made_up_id(command: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{command}-{}-{:x}", std::process::id(), now.as_micros())
}

/// Tells people something. That nobody reads standard error is no reason to end.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Tells on standard error how the connection fares, until it is closed.
pub(crate) async fn tell_states(client: Client) {
    let mut states = client.states();
    drop(client);
    let mut state = Some(states.current());
    while let Some(now) = state {
        match now {
            ConnectionState::Connected { address, .. } => tell(&format!("connected to {address}")),
            ConnectionState::Disconnected { reason, retry_in } => {
                tell(&format!("not connected: {reason}; trying again in {} ms", retry_in.as_millis()));
            }
            ConnectionState::Closed { reason } => {
                tell(&reason.to_string());
                break;
            }
            _ => {}
        }
        state = states.next().await;
    }
}
