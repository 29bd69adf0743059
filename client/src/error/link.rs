//! Why there is no connection.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use zonecast_protocol::{ErrorCode, code_label, codec::FrameError};

/// Why a connection to a broker could not be made, or ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The host's name has no address.
    #[error("cannot resolve {host}: {source}; check the address and the name server")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// This machine cannot even try.
    #[error("cannot connect: {0}")]
    Dial(#[from] quinn::ConnectError),
    /// No answer in time.
    #[error("no answer within {} s; is a broker listening there, and UDP let through?", waited.as_secs_f64())]
    NoAnswer {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The TLS handshake failed: the broker is not trusted, or does not trust this client.
    #[error("TLS: {reason}; {remedy}")]
    Tls {
        /// The TLS library's words.
        reason: String,
        /// What to check.
        remedy: &'static str,
    },
    /// The broker ended the connection or refused it, saying why.
    #[error("the broker ended the connection: {}: {message}", code_name(*code))]
    Ended {
        /// The [`ErrorCode`]'s number; 0 for an orderly end.
        code: u32,
        /// The same for people.
        message: String,
    },
    /// There is no access token to show.
    #[error("there is no access token to show: {reason}")]
    Token {
        /// What whoever was asked for it says.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(quinn::ConnectionError),
    /// The broker sent what is no frame, or a frame where it does not belong.
    #[error("the broker broke the protocol: {0}; are its version and this library's compatible?")]
    Framing(#[from] FrameError),
    /// The broker sent a frame whose contents cannot be.
    #[error("the broker broke the protocol: {what}; are its version and this library's compatible?")]
    Violation {
        /// What is wrong.
        what: &'static str,
    },
}

fn code_name(code: u32) -> String {
    match i32::try_from(code).ok().and_then(|code| ErrorCode::try_from(code).ok()) {
        Some(known) => code_label(known).to_owned(),
        None => format!("code {code}"),
    }
}

impl LinkError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Dial(_) => "dial",
            Self::NoAnswer { .. } => "no_answer",
            Self::Tls { .. } => "tls",
            Self::Ended { .. } => "ended",
            Self::Token { .. } => "token",
            Self::Lost(_) => "lost",
            Self::Framing(error) => error.label(),
            Self::Violation { .. } => "violation",
        }
    }

    /// Whether the protocol forbids to connect again by itself (`WIRE.md`, section 7).
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Ended { code: 1..=4 | 6 | 7 | 20 | 21 | 25, .. })
    }

    /// Whether the broker does not admit this client, which another token may change.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Ended { code: 25, .. })
    }

    /// Whether the broker made nothing of the Hello.
    pub(crate) fn is_invalid_hello(&self) -> bool {
        matches!(self, Self::Ended { code: 6, .. })
    }

    /// Whether a second attempt at the same broker would fail alike: a reason not to let a first connect wait.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.is_fatal() || matches!(self, Self::Tls { .. } | Self::Dial(_))
    }

    /// From QUIC's account of how a connection ended.
    pub(crate) fn from_quic(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::Ended {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            quinn::ConnectionError::TransportError(ours) if is_tls(u64::from(ours.code)) => {
                Self::Tls { remedy: tls_remedy(u64::from(ours.code)), reason: ours.reason }
            }
            quinn::ConnectionError::ConnectionClosed(theirs) if is_tls(u64::from(theirs.error_code)) => {
                let reason = String::from_utf8_lossy(&theirs.reason).into_owned();
                Self::Tls { remedy: tls_remedy(u64::from(theirs.error_code)), reason }
            }
            other => Self::Lost(other),
        }
    }
}

/// RFC 9001, section 4.8: TLS alerts are QUIC error codes from 0x100 on.
fn is_tls(code: u64) -> bool {
    (0x100..0x200).contains(&code)
}

fn tls_remedy(code: u64) -> &'static str {
    match code - 0x100 {
        116 => "the broker demands a client certificate; give one with TlsConfig",
        120 => "the broker does not speak zonecast/1; check address and port",
        42..=46 | 48 | 51 => "check the CA file, the server name, and that the certificates have not expired",
        _ => "check certificates and names on both sides",
    }
}
