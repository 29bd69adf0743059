//! Publishing a batch of changes: by a client of the broker, or by whatever a test puts in its place.

use std::time::Duration;

use futures_core::future::BoxFuture;
use prost::Message;
use tokio::time::timeout;
use zonecast_client::{Client, ConnectionState, ErrorCode, Publish, PublishError};

use super::Committed;

/// How long receivers have to process a change.
const PROCESSED_WITHIN: Duration = Duration::from_secs(10);
/// How long a batch may wait for room on its lane.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Published, and processed by everyone who listens.
    Confirmed,
    /// It went out, and somebody who listens did not process it.
    Unconfirmed(String),
    /// The broker is away, or takes nothing now: trying again later is all that there is.
    Unpublished(String),
    /// The broker takes everything but this one, however often it is tried.
    Refused(String),
}

/// What becomes of a change; it ends within a time of the announcer's own.
pub type Answer = BoxFuture<'static, Outcome>;

/// Whoever publishes changes.
pub trait Announcer: Send + Sync + 'static {
    /// Publishes them in this order, and gives of each in turn what will say what became of it.
    fn announce(&self, batch: &[Committed]) -> impl Future<Output = Vec<Answer>> + Send;
}

/// The broker's client, and the lane for the changes of one store.
impl Announcer for (Client, u8) {
    async fn announce(&self, batch: &[Committed]) -> Vec<Answer> {
        let (client, lane) = self;
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        let mut has_no_room = false;
        for committed in batch {
            let publish = Publish::to_topic(committed.topic.as_str())
                .payload(committed.change.encode_to_vec())
                .lane(*lane)
                .expires_in(PROCESSED_WITHIN);
            let full = || Outcome::Unpublished("the broker takes nothing".to_owned());
            // Where there was no room for one there is none for those behind it, which must not overtake it either.
            let sent = match has_no_room {
                true => Err(full()),
                false => match timeout(ROOM_WITHIN, client.publish_with_processed_ack(publish)).await {
                    Ok(Ok(receipt)) => Ok(receipt),
                    Ok(Err(error)) => Err(outcome(&error, true)),
                    Err(_) => Err(full()),
                },
            };
            has_no_room = matches!(sent, Err(Outcome::Unpublished(_)));
            let client = client.clone();
            answers.push(Box::pin(async move {
                let error = match sent {
                    Ok(receipt) => match receipt.await {
                        Ok(_) => return Outcome::Confirmed,
                        Err(error) => error,
                    },
                    Err(outcome) => return outcome,
                };
                outcome(&error, matches!(client.states().current(), ConnectionState::Connected { .. }))
            }));
        }
        answers
    }
}

fn outcome(error: &PublishError, connected: bool) -> Outcome {
    let said = error.to_string();
    match error {
        PublishError::Invalid(_) => Outcome::Refused(said),
        PublishError::Refused(refusal) => match refusal.code {
            ErrorCode::InvalidName
            | ErrorCode::InvalidArgument
            | ErrorCode::PayloadTooLarge
            | ErrorCode::FrameTooLarge
            | ErrorCode::PermissionDenied => Outcome::Refused(said),
            // So many may not listen for ever.
            ErrorCode::FanOutTooLarge => Outcome::Unconfirmed(said),
            _ => Outcome::Unpublished(said),
        },
        PublishError::Unprocessed(_) => Outcome::Unconfirmed(said),
        // Also what no broker has answered expires.
        PublishError::Expired if connected => Outcome::Unconfirmed(said),
        _ => Outcome::Unpublished(said),
    }
}

#[cfg(test)]
mod tests {
    use zonecast_client::Refusal;

    use super::*;

    #[test]
    fn what_the_broker_will_never_take_is_told_from_what_it_does_not_take_now() {
        let refused = |code| PublishError::Refused(Refusal { code, message: String::new() });
        let code = |error: &PublishError, connected| match outcome(error, connected) {
            Outcome::Confirmed => 'c',
            Outcome::Unconfirmed(_) => 'u',
            Outcome::Unpublished(_) => 'a',
            Outcome::Refused(_) => 'r',
        };
        for (error, expected) in [
            (PublishError::Invalid(Refusal { code: ErrorCode::PayloadTooLarge, message: String::new() }), 'r'),
            (refused(ErrorCode::PayloadTooLarge), 'r'),
            (refused(ErrorCode::InvalidName), 'r'),
            (refused(ErrorCode::PermissionDenied), 'r'),
            (refused(ErrorCode::FanOutTooLarge), 'u'),
            (refused(ErrorCode::TooManyUnprocessed), 'a'),
            (refused(ErrorCode::ShuttingDown), 'a'),
            (PublishError::Unprocessed(Refusal { code: ErrorCode::Poison, message: String::new() }), 'u'),
            (PublishError::Expired, 'u'),
            (PublishError::Closed, 'a'),
        ] {
            assert_eq!(code(&error, true), expected, "{error}");
        }
        assert_eq!(code(&PublishError::Expired, false), 'a');
    }
}
