//! Publishing a batch of changes: by a client of the broker, or by whatever a test puts in its place.

use std::time::Duration;

use prost::Message;
use tokio::time::timeout;
use zonecast_client::{Client, ConnectionState, Publish, PublishError};
use zonecast_protocol::changes::v1::Change;

/// How long receivers have to process a change.
const PROCESSED_WITHIN: Duration = Duration::from_secs(10);
/// How long a batch may wait for room on its lane.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// A change on its way to its topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// Its number in its store.
    pub sequence: i64,
    /// Where it goes.
    pub topic: String,
    /// What is said.
    pub change: Change,
}

/// Why a batch was not published to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setback {
    /// The broker is away, or refuses it: trying again later is all that there is.
    Unpublished(String),
    /// It went out, and somebody who listens did not process it.
    Unconfirmed(String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How many, counted from the first, are published and processed.
    pub confirmed: usize,
    /// What became of the next one; none where there is no next one.
    pub setback: Option<Setback>,
}

/// Whoever publishes changes.
pub trait Announcer: Send + Sync + 'static {
    /// Publishes them in this order. Of those behind a setback, some may have gone out too.
    fn announce(&self, batch: &[Announcement]) -> impl Future<Output = Published> + Send;
}

/// The broker's client, and the lane for the changes of one store.
impl Announcer for (Client, u8) {
    async fn announce(&self, batch: &[Announcement]) -> Published {
        let (client, lane) = self;
        let mut receipts = Vec::with_capacity(batch.len());
        let mut setback = None;
        for announcement in batch {
            let publish = Publish::to_topic(announcement.topic.as_str())
                .payload(announcement.change.encode_to_vec())
                .lane(*lane)
                .expires_in(PROCESSED_WITHIN);
            match timeout(ROOM_WITHIN, client.publish_with_processed_ack(publish)).await {
                Ok(Ok(receipt)) => receipts.push(receipt),
                Ok(Err(error)) => setback = Some(Setback::Unpublished(error.to_string())),
                Err(_) => setback = Some(Setback::Unpublished("the broker takes nothing".to_owned())),
            }
            if setback.is_some() {
                break;
            }
        }
        let mut confirmed = 0;
        for receipt in receipts {
            if let Err(error) = receipt.await {
                return Published { confirmed, setback: Some(setback_of(client, &error)) };
            }
            confirmed += 1;
        }
        Published { confirmed, setback }
    }
}

fn setback_of(client: &Client, error: &PublishError) -> Setback {
    let connected = matches!(client.states().current(), ConnectionState::Connected { .. });
    match error {
        PublishError::Unprocessed(_) => Setback::Unconfirmed(error.to_string()),
        // Also what no broker has answered expires.
        PublishError::Expired if connected => Setback::Unconfirmed(error.to_string()),
        _ => Setback::Unpublished(error.to_string()),
    }
}
