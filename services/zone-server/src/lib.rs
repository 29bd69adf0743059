//! What a game server does at the directory and at the broker, as one step.
//!
//! A game server owns zones in the directory, so that players and others find it, and subscribes to the same zones at the
//! broker, so that it hears what happens there. Done in the wrong order there is a moment in which somebody is sent to a
//! server that does not hear. Here it is done in the right one:
//!
//! | step | order |
//! |---|---|
//! | claim | subscribe, then claim; who is refused unsubscribes |
//! | release | un-claim, then unsubscribe after a grace, for what is still on its way |
//! | hand over | the broker's hand-over, which leaves no gap, then the directory's; who is refused there subscribes again |
//! | receive | what the directory says is ours is subscribed to, if the broker has not handed it over already |
//!
//! All of it goes over the one connection to the broker. Heartbeats are sent in the background; [`ZoneServer::lease`] tells
//! when the lease is in doubt or lost. Whoever stops waiting for a step leaves nothing behind that is not mended: what is
//! held is compared with what the directory says. [`ZoneServer::admit`] checks players' tickets without asking anybody.
//!
//! ```no_run
//! use zonecast_client::{Client, Zone};
//! use zonecast_zone_server::{ZoneServer, ZoneServerConfig};
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! // The client's id is the server's name.
//! let (server, mut zones) = ZoneServer::join(client, ZoneServerConfig::new("zone-7.example.org:7000")).await?;
//! server.claim([("earth".to_owned(), Zone::new(0.0, 0.0, 100.0, 100.0)?)]).await?;
//! while let Some(item) = zones.next().await {
//!     println!("{item:?}");
//! }
//! # Ok(()) }
//! ```
//!
//! Deliberately absent: the simulation, the players' connections, and what to do when a lease is lost: the zones may be
//! somebody else's by then, and whether to give up or to [`rejoin`](ZoneServer::rejoin) is the game's to say.
//!
//! Start at [`ZoneServer::join`].

mod admission;
mod book;
mod calls;
mod config;
mod error;
mod pulse;
mod server;
mod shared;

pub use config::ZoneServerConfig;
pub use error::{AdmitError, ZoneServerError};
pub use pulse::Lease;
pub use server::{ZoneServer, Zones};
pub use zonecast_access::Ticket;
pub use zonecast_protocol::directory::v1::Zone as OwnedZone;
