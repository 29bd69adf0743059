//! Who calls, and what that one may do.

use std::{collections::BTreeSet, fmt};

use http::request::Parts;
use tonic::{Request, Status};

/// Who calls, as the [`Gatekeeper`] found. Every request that reaches a service carries one.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    subject: String,
    rights: Rights,
}

#[derive(Clone, PartialEq, Eq)]
enum Rights {
    All,
    These(BTreeSet<String>),
}

impl Caller {
    /// Whoever is on this machine, where no identities are configured: may do everything.
    #[must_use]
    pub fn local() -> Self {
        Self { subject: "local".to_owned(), rights: Rights::All }
    }

    /// Somebody with these rights and no others.
    #[must_use]
    pub fn new(subject: impl Into<String>, rights: impl IntoIterator<Item = String>) -> Self {
        Self { subject: subject.into(), rights: Rights::These(rights.into_iter().collect()) }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// UNAUTHENTICATED where nobody was let in: a service that is reached past the entrance serves nobody.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Status::unauthenticated("no caller is known"))
    }

    /// Who it is: a user's id, or a server's name.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Refuses a caller without a right, such as `users.write`.
    ///
    /// # Errors
    /// PERMISSION_DENIED, naming the right.
    pub fn require(&self, right: &str) -> Result<(), Status> {
        match &self.rights {
            Rights::All => Ok(()),
            Rights::These(rights) if rights.contains(right) => Ok(()),
            Rights::These(_) => Err(Status::permission_denied(format!("the right {right} is missing"))),
        }
    }

    /// As [`require`](Self::require), but for what belongs to the caller no right is needed.
    ///
    /// # Errors
    /// PERMISSION_DENIED, naming the right.
    pub fn require_own_or(&self, owner: &str, right: &str) -> Result<(), Status> {
        if self.subject == owner { Ok(()) } else { self.require(right) }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?})", self.subject)
    }
}

/// Says who calls. One stands at the entrance behind both doors.
pub trait Gatekeeper: Send + Sync + 'static {
    /// The caller of a request with this path and these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED, where nobody is let in.
    fn admit(&self, request: &Parts) -> Result<Caller, Status>;

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

    fn is_for_loopback_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_request_that_nobody_let_in_is_refused() {
        assert_eq!(Caller::of(&Request::new(())).unwrap_err().code(), Code::Unauthenticated);
        let mut request = Request::new(());
        request.extensions_mut().insert(Caller::local());
        assert_eq!(Caller::of(&request).unwrap().subject(), "local");
    }

    #[test]
    fn a_missing_right_is_named() {
        let caller = Caller::new("7", ["users.read".to_owned()]);
        caller.require("users.read").unwrap();
        let refused = caller.require("users.write").unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("users.write"), "{refused}");
        caller.require_own_or("7", "users.write").unwrap();
        assert!(caller.require_own_or("8", "users.write").is_err());
        Caller::local().require("anything").unwrap();
    }
}
