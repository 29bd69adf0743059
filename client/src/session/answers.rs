//! What an answer of the broker changes.

use zonecast_protocol::Refusal;

use super::{Effect, Operation, OperationError, Renewal, Session, SessionError};

/// How the broker says that a request was carried out.
pub(super) enum Done {
    /// With the epoch.
    Applied(u64),
    /// With the milliseconds that the token has left.
    Renewed(u64),
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
        match self.pending.pop_front() {
            Some(pending) if self.renewing.is_empty() && pending.request_id == Some(request_id) => {
                self.on_done(pending.operation, pending.token, result)
            }
            unanswered => {
                if let Some(pending) = unanswered {
                    self.pending.push_front(pending);
                }
                Err(SessionError::Violation("an answer is not to the oldest request"))
            }
        }
    }

    fn on_done(
        &mut self,
        operation: Operation,
        token: Option<T>,
        result: Result<Done, Refusal>,
    ) -> Result<(), SessionError> {
        let is_token = matches!(operation, Operation::ShowToken(_));
        let result = match result {
            Ok(Done::Renewed(expires_in_ms)) if is_token => Ok(expires_in_ms),
            Ok(Done::Applied(epoch)) if !is_token => Ok(epoch),
            Ok(_) => return Err(SessionError::Violation(OTHER_ANSWER)),
            Err(refusal) => Err(refusal),
        };
        if is_token {
            self.effects.push_back(Effect::TokenShown(result));
            return Ok(());
        }
        if result.is_ok() {
            self.apply(operation);
        }
        self.answer(token, result.map_err(OperationError::Refused));
        Ok(())
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
