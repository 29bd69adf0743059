//! The flags of every command that connects to a broker.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;
use thiserror::Error;

/// Where the broker is, and what to show and to trust.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// A broker's host and port; repeatable, or several joined by commas. Default: 127.0.0.1:4433.
    #[arg(long, value_name = "ADDR", env = "ZONECAST_CONNECT", value_delimiter = ',')]
    pub(crate) connect: Vec<Address>,
    /// The authorities, PEM, that may have signed the broker's certificate.
    #[arg(long, value_name = "FILE", env = "ZONECAST_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show to the broker, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of --cert, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The access token to show, where the broker looks at tokens.
    #[arg(long, value_name = "TOKEN", env = "ZONECAST_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with the access token, which counts before --token; read again at each connect, and before the token
    /// expires.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The name that the broker's certificate must bear. Default: the host of --connect.
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

impl ConnectArgs {
    /// The brokers that were named, or the default one.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        if self.connect.is_empty() {
            vec![Address { host: "127.0.0.1".to_owned(), port: 4433 }]
        } else {
            self.connect.clone()
        }
    }
}

/// A host (a name or an IP address, without brackets) and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The host.
    pub(crate) host: String,
    /// The UDP port.
    pub(crate) port: u16,
}

/// A text that is no address.
#[derive(Debug, Error)]
#[error("expected HOST:PORT, such as 127.0.0.1:4433, [::1]:4433 or broker.internal:4433")]
pub(crate) struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(AddressError)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            // `:4433` is short for this machine.
            None if host.is_empty() => "localhost",
            None if host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) => host,
            _ => return Err(AddressError),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (text, host, shown) in [
            ("127.0.0.1:4433", "127.0.0.1", "127.0.0.1:4433"),
            ("[::1]:4433", "::1", "[::1]:4433"),
            ("broker.internal:4433", "broker.internal", "broker.internal:4433"),
            (":4433", "localhost", "localhost:4433"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.to_string().as_str()), (host, shown));
        }
        for bad in ["", "host", "host:", "host:0", "host:65536", "::1:4433", "[host]:1", "a b:1", "http://host:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
