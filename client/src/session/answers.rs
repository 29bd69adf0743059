//! What an answer of the broker changes.

use zonecast_protocol::Refusal;

use super::{Effect, Operation, OperationError, Pending, Renewal, Session, SessionError};

/// How the broker says that a request was carried out.
pub(super) enum Done {
    /// With the epoch.
    Applied(u64),
    /// With the milliseconds that the token has left.
    Renewed(u64),
}

impl Done {
    /// A token is renewed, and everything else is applied.
    fn answers(&self, operation: &Operation) -> bool {
        matches!(self, Self::Renewed(_)) == matches!(operation, Operation::ShowToken(_))
    }
}

const OTHER_ANSWER: &str = "an answer is to another kind of request";

impl<T> Session<T> {
    pub(super) fn on_answer(&mut self, request_id: u64, result: Result<Done, Refusal>) -> Result<(), SessionError> {
        if let Some(renewing) = self.renewing.pop_front_if(|renewing| renewing.request_id == request_id) {
            match result {
                Ok(Done::Applied(_epoch)) => {}
                Ok(Done::Renewed(_)) => return Err(SessionError::Violation(OTHER_ANSWER)),
                Err(refusal) => self.on_renewal_refused(renewing.what, refusal),
            }
            self.go_on_when_renewed();
            return Ok(());
        }
        // What is answered wrongly stays: whoever asked is answered by the next session.
        let is_it = |oldest: &Pending<T>| self.renewing.is_empty() && oldest.request_id == Some(request_id);
        if !self.pending.front().is_some_and(is_it) {
            return Err(SessionError::Violation("an answer is not to the oldest request"));
        }
        let is_kind = |oldest: &mut Pending<T>| result.as_ref().map_or(true, |done| done.answers(&oldest.operation));
        let Some(pending) = self.pending.pop_front_if(is_kind) else {
            return Err(SessionError::Violation(OTHER_ANSWER));
        };
        self.on_done(pending.operation, pending.token, result);
        Ok(())
    }

    fn on_done(&mut self, operation: Operation, token: Option<T>, result: Result<Done, Refusal>) {
        let result = result.map(|(Done::Applied(number) | Done::Renewed(number))| number);
        if matches!(operation, Operation::ShowToken(_)) {
            self.effects.push_back(Effect::TokenShown(result));
            return;
        }
        if result.is_ok() {
            self.apply(operation);
        }
        self.answer(token, result.map_err(OperationError::Refused));
    }

    /// Finds out what of it is refused, by asking for less at a time.
    fn on_renewal_refused(&mut self, what: Renewal, refusal: Refusal) {
        match what.split() {
            Ok((one_half, other_half)) => {
                self.renew(one_half);
                self.renew(other_half);
            }
            Err(single) => self.drop_refused(single, refusal),
        }
    }
}
