//! Who calls, and what that one may do.

use std::{fmt, net::IpAddr, sync::Arc};

use http::request::Parts;
use rustls::pki_types::CertificateDer;
use tonic::{Request, Status};
use zonecast_access::{Claims, Subject};
use zonecast_protocol::{Refusal, Rights};

use crate::connections::link;

/// Who calls, as the [`Gatekeeper`] found. Every request that reaches a service carries one.
#[derive(Clone)]
pub struct Caller {
    identity: Identity,
    origin: Origin,
    certificate: Option<Arc<CertificateDer<'static>>>,
}

#[derive(Clone)]
enum Identity {
    /// Whoever is on this machine, where no identities are configured: may do everything.
    Local,
    /// Somebody who shows no token: may do what is open to all.
    Anonymous,
    /// The bearer of a token.
    Known(Box<Claims>),
}

/// From where a call came, to tell callers apart that have not said who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// By gRPC from this address.
    Address(IpAddr),
    /// By the broker, from the client with this source (`Welcome.source`).
    Client(u64),
    /// From within this process.
    #[default]
    Within,
}

impl Caller {
    fn new(identity: Identity) -> Self {
        Self { identity, origin: Origin::Within, certificate: None }
    }

    /// Whoever is on this machine, where no identities are configured: may do everything.
    #[must_use]
    pub fn local() -> Self {
        Self::new(Identity::Local)
    }

    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Identity::Anonymous)
    }

    /// The bearer of a token that was admitted.
    #[must_use]
    pub fn known(claims: Claims) -> Self {
        Self::new(Identity::Known(Box::new(claims)))
    }

    /// The same, from there.
    #[must_use]
    pub fn from_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// The same, who has shown a certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<Arc<CertificateDer<'static>>>) -> Self {
        self.certificate = certificate;
        self
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// UNAUTHENTICATED where nobody was let in: a service that is reached past the entrance serves nobody.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Status::unauthenticated("no caller is known"))
    }

    /// From where the call came.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The TLS certificate that was shown by door one, where one was: one of the door's authorities signed it, and it counted
    /// when the connection was made. It says nothing of what the caller may do.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_deref()
    }

    /// Whether it is somebody on this machine, where no identities are configured.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.identity, Identity::Local)
    }

    /// What the caller's token says; none of local and anonymous callers.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        match &self.identity {
            Identity::Known(claims) => Some(claims),
            Identity::Local | Identity::Anonymous => None,
        }
    }

    /// The player who calls, by the users service's id; none of all others.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match &self.claims()?.subject {
            Subject::User(id) => Some(id),
            Subject::Server(_) | Subject::Service(_) => None,
        }
    }

    /// The game server or service that calls, by its name; none of all others.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match &self.claims()?.subject {
            Subject::Server(name) | Subject::Service(name) => Some(name.as_str()),
            Subject::User(_) => None,
        }
    }

    /// Refuses a caller without a scope, such as `users.write`.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a token; PERMISSION_DENIED, naming the scope.
    pub fn require(&self, scope: &str) -> Result<(), Status> {
        match &self.identity {
            Identity::Local => Ok(()),
            Identity::Anonymous => Err(no_token()),
            Identity::Known(claims) if claims.scopes.contains(scope) => Ok(()),
            Identity::Known(_) => Err(Status::permission_denied(format!("the scope {scope} is missing"))),
        }
    }

    /// As [`require`](Self::require), but for what belongs to the player who calls no scope is needed.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a token; PERMISSION_DENIED, naming the scope.
    pub fn require_own_or(&self, owner: &str, scope: &str) -> Result<(), Status> {
        if self.user() == Some(owner) { Ok(()) } else { self.require(scope) }
    }

    /// Checks what the caller may do in the world: `caller.require_right(|rights| rights.check_world("earth"))`.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a token; PERMISSION_DENIED, naming the right.
    pub fn require_right(&self, check: impl FnOnce(&Rights) -> Result<(), Refusal>) -> Result<(), Status> {
        match &self.identity {
            Identity::Local => Ok(()),
            Identity::Anonymous => Err(no_token()),
            Identity::Known(claims) => {
                check(&claims.rights).map_err(|refusal| Status::permission_denied(refusal.message))
            }
        }
    }
}

fn no_token() -> Status {
    Status::unauthenticated("this needs an access token: log in, and send `authorization: Bearer TOKEN`")
}

/// As logs may have it: the subject, nothing of the token.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Identity::Local => f.write_str("local"),
            Identity::Anonymous => f.write_str("anonymous"),
            Identity::Known(claims) => claims.subject.fmt(f),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({self}, {:?})", self.origin)
    }
}

/// From where a request came.
pub(crate) fn origin(request: &Parts) -> Origin {
    if let Some(origin) = request.extensions.get::<Origin>() {
        return *origin;
    }
    link(&request.extensions).map_or(Origin::Within, |link| Origin::Address(link.address))
}

/// Says who calls. One stands at the entrance behind both doors.
pub trait Gatekeeper: Send + Sync + 'static {
    /// The caller of a request with this path and these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED, where nobody is let in.
    fn admit(&self, request: &Parts) -> Result<Caller, Status>;

    /// Whether a caller who was admitted earlier would be still. Asked again and again while an answer lasts.
    ///
    /// # Errors
    /// UNAUTHENTICATED, where that is so no longer; the answer ends with it.
    fn still_admits(&self, caller: &Caller) -> Result<(), Status>;

    /// Whether it knows no identities, so that the doors may only be open to this machine.
    fn is_for_loopback_only(&self) -> bool {
        false
    }
}

/// Where no identities are configured: lets in whoever is on this machine, and has the doors closed to all others.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopbackOnly;

impl Gatekeeper for LoopbackOnly {
    fn admit(&self, _request: &Parts) -> Result<Caller, Status> {
        Ok(Caller::local())
    }

    fn still_admits(&self, _caller: &Caller) -> Result<(), Status> {
        Ok(())
    }

    fn is_for_loopback_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tonic::Code;

    use super::*;

    fn known(subject: &str, scope: &str) -> Caller {
        Caller::known(Claims {
            issuer: "i".into(),
            audience: BTreeSet::new(),
            subject: subject.parse().unwrap(),
            login: "l".into(),
            issued_at: 0,
            expires_at: 1,
            scopes: BTreeSet::from([scope.to_owned()]),
            rights: Rights::default(),
        })
    }

    #[test]
    fn a_request_that_nobody_let_in_is_refused() {
        assert_eq!(Caller::of(&Request::new(())).unwrap_err().code(), Code::Unauthenticated);
        let mut request = Request::new(());
        request.extensions_mut().insert(Caller::local());
        assert!(Caller::of(&request).unwrap().is_local());
    }

    #[test]
    fn a_missing_scope_is_named() {
        let caller = known("user:7", "users.read");
        caller.require("users.read").unwrap();
        let refused = caller.require("users.write").unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("users.write"), "{refused}");
        caller.require_own_or("7", "users.write").unwrap();
        assert!(caller.require_own_or("8", "users.write").is_err());
        Caller::local().require("anything").unwrap();
        assert_eq!(Caller::anonymous().require("users.read").unwrap_err().code(), Code::Unauthenticated);
    }

    #[test]
    fn a_server_of_a_users_id_is_not_the_user() {
        let server = known("server:7", "none");
        assert_eq!((server.user(), server.server()), (None, Some("7")));
        assert_eq!(server.require_own_or("7", "users.write").unwrap_err().code(), Code::PermissionDenied);
    }

    #[test]
    fn a_missing_right_is_named() {
        let check = |rights: &Rights| rights.check_world("earth");
        Caller::local().require_right(check).unwrap();
        assert_eq!(Caller::anonymous().require_right(check).unwrap_err().code(), Code::Unauthenticated);
        let refused = known("server:7", "none").require_right(check).unwrap_err();
        assert!(refused.code() == Code::PermissionDenied && refused.message().contains("worlds"), "{refused}");
    }
}
