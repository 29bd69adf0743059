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
//!         ZoneItem::Event(event) => println!("{}: {:?}", event.kind(), event.payload()),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! **What it does.** It keeps the connection: it connects again by itself and renews all subscriptions
//! ([`Client::states`] shows how it fares). It checks what is published before it is sent, numbers it on its lane, and
//! holds it back when the broker asks for that. It hands each event to the subscriptions that it is for, decoded once
//! and not copied, and says where something is missing ([`ZoneItem::Gap`], [`ZoneItem::Interrupted`]).
//!
//! **What it deliberately does not.** It sends nothing twice: a publish whose answer was lost with the connection fails
//! with [`PublishError::ConnectionLost`], and the application decides. It keeps nothing on disk. It buffers nothing
//! without a bound: a slow application is felt by the broker, and by its publishers.
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
mod handle;
mod intake;
mod item;
mod lanes;
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
