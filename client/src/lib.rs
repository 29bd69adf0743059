//! The zonecast client: hear what happens in your zones, and tell others what happens in yours.
//!
//! A game server subscribes with the rectangles of the world that it simulates, its *zones*. An event with a position
//! and a radius reaches every server one of whose zones it touches. Beside space there are *topics*, for services.
//!
//! Start at [`Client::connect`].
//!
//! ```no_run
//! use zonecast_client::{Circle, Client, ClientConfig, Publish, TlsConfig, Zone, ZoneItem, ZoneSpec};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = TlsConfig::from_files(Some("ca.pem".as_ref()), None)?;
//! let config = ClientConfig::new("zone-server-7").address("127.0.0.1:4433").server_name("localhost").tls(tls);
//! let client = Client::connect(config).await?;
//!
//! let zone = ZoneSpec::new(1, "earth", Zone::new(0.0, -10.0, 100.0, 50.0)?).kinds(["quake"]);
//! let mut zones = client.subscribe_zones([zone]).await?;
//!
//! let quake = Publish::at("earth", Circle::new(103.0, 54.0, 5.0)?).kind("quake").payload(b"M5");
//! let receipt = client.publish_acked(quake).await?;
//! println!("{} servers will feel it", receipt.matched);
//!
//! while let Some(item) = zones.next().await {
//!     match item {
//!         ZoneItem::Event(event) => println!("{}: {}", event.kind(), event.payload().escape_ascii()),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! **What it does.** It keeps the connection: when it is lost it is made again, to the same broker first and then to
//! the others of the list ([`Client::states`] shows how it fares). When the broker has kept the session, everything
//! goes on behind the last item, and nothing is lost but transient events, which show as a gap. Otherwise all
//! subscriptions are renewed, and told so ([`ZoneItem::Interrupted`]). It checks what is published before it is sent,
//! numbers it on its lane, and holds it back when the broker asks for that. It hands each event to the subscriptions
//! that it is for, checked once, and says where something is missing ([`ZoneItem::Gap`]).
//!
//! # What is promised
//!
//! The publisher chooses, event by event:
//!
//! | published by | as | what the answer says, and what can be lost |
//! |---|---|---|
//! | [`Client::publish`] | class transient | No answer. At most once; what is dropped on the way to a receiver is shown to it as a gap. |
//! | [`Client::publish`] | class state | The latest value of a key reaches every receiver; older ones may be left out, and none comes behind a newer one. |
//! | [`Client::publish`], [`Client::publish_acked`] | class reliable | In order on each lane, to everyone whom it concerns, also over lost connections. The receipt says that it is routed, and to how many. What is routed is in the broker's memory only, and is lost if its process dies. |
//! | [`Client::publish_processed`] | class reliable | The receipt says that everyone whom it concerns has processed it; it is never wrong, whichever process dies. Otherwise an error says what is known. |
//!
//! Whatever asks for an answer is kept until the answer comes. After a lost connection it is sent again: at once what
//! the broker says that it has not got; or, when that is not known, everything, after
//! [`resend_hold_off`](ClientConfig::resend_hold_off). It is never more than 8,192 events of a lane, nor more than
//! [`lane_queue_bytes_max`](ClientConfig::lane_queue_bytes_max); then publishing waits.
//!
//! **Nothing is handed on twice.** Of every lane of every publisher, the latest 16,384 numbers are told apart exactly,
//! for at least the 8,192 lanes heard last. What comes again is dropped and counted ([`ClientStats::duplicates`]). An
//! event that was sent again and had not arrived may come behind later ones of its lane; then [`Event::is_late`] is
//! true. Of class state, a value that comes behind a newer one of the same publisher, lane and key is dropped and counted
//! ([`ClientStats::outdated`]): the last value that a subscription yields is the newest that arrived. This is known of the
//! 65,536 keys heard last.
//!
//! **When is an event processed?** When the application asks the same subscription for its next item, or when it says
//! so ([`Event::done`]). With [`ZoneSubscription::explicit`] only the latter counts, which suits applications that work
//! on several events at once, or read ahead, as stream combinators may. An event that is dropped before is rejected,
//! and its publisher told; so is what a dropped subscription had not read. Call [`Event::done`] for the last event
//! before you stop reading. For events whose publishers do not wait none of this matters.
//!
//! **A new run of a client** is sent what the run before had not received, or not processed. It is handed to the first
//! subscription that it is for; subscribe within 10 s of connecting, or it is given up.
//!
//! **What it deliberately does not.** It keeps nothing on disk: with its process go the publishes that have no answer
//! yet, and the memory of what it has received, so the next run of a client may be sent what this one has processed. It
//! buffers nothing without a bound: a slow application is felt by the broker, and by its publishers.
//!
//! It never panics on what a broker sends; frames that break the protocol end the connection, and it connects anew.

mod backoff;
mod client;
mod config;
mod connection;
mod datagrams;
mod error;
mod event;
mod feed;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod intake;
mod item;
mod lanes;
mod latest;
mod mailbox;
mod publish;
mod publisher;
mod request;
mod routes;
mod seen;
mod session;
mod state;
mod sync;
mod tls;
mod token;
mod topics;
mod zones;

pub use client::{Client, ClientStats};
pub use config::{ClientConfig, TransportOptions};
pub use error::{CloseError, ConnectError, LinkError, PublishError, RequestError, SubscribeError, ZoneError};
pub use event::{Event, EventId};
pub use item::{GapReason, TopicItem, ZoneItem, ZoneSpec};
pub use publish::{Payload, Publish};
pub use publisher::{PendingReceipt, Receipt, RefusalItem, Refusals, RefusedPublish};
pub use state::{ClosedReason, ConnectionState, ConnectionStates};
pub use tls::{TlsConfig, TlsError};
pub use topics::TopicSubscription;
pub use zonecast_protocol::{
    Circle, DeliveryClass, ErrorCode, GeometryError, Limits, NameError, Refusal, Zone, code_label,
};
pub use zones::{ZoneControl, ZoneSubscription};
