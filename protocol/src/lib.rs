//! The contract of zonecast: what client and broker say to each other, and what the words mean.
//!
//! Here live the message types generated from `proto/zonecast/v1/*.proto` ([`wire`]) and from the companion services'
//! files beside them ([`users`], [`auth`], [`characters`], [`directory`], [`changes`], [`rpc`]), the geometry that
//! decides which zone an event touches ([`Zone`], [`Circle`]), the grammar of names and topics, the framing of streams ([`codec`]),
//! the limits and the error codes. `WIRE.md` beside this crate says the same for implementers in other languages.
//!
//! Deliberately absent: any runtime, socket, clock or file. Everything here is a function of its arguments.
//!
//! Start at [`Zone::touches`], the only definition of a match, then [`EventView`], the broker's view of an event.

pub mod codec;
mod event;
mod geometry;
mod identity;
mod limits;
mod names;
mod publish_view;
mod refusal;
mod rights;

/// The generated message types; `proto/zonecast/v1/*.proto` documents every field with unit and range.
#[allow(missing_docs, clippy::doc_markdown, clippy::too_many_lines)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/zonecast.v1.rs"));
}

/// The generated messages of one package of `proto/zonecast`, in a module named as the package is.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            #[allow(missing_docs, clippy::doc_markdown, clippy::too_many_lines)]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/zonecast.", stringify!($name), ".v1.rs"));
            }
        }
    };
}

package!(
    /// The auth service.
    auth
);
package!(
    /// What the services publish on topics when something has changed.
    changes
);
package!(
    /// The characters service.
    characters
);
package!(
    /// The directory service.
    directory
);
package!(
    /// gRPC calls over topics.
    rpc
);
package!(
    /// The users service.
    users
);

pub use event::{EventView, Target};
pub use geometry::{Circle, GeometryError, Zone};
pub use identity::{network_of, source_of};
pub use limits::Limits;
pub use names::{ClientId, Kind, NameError, QueueGroup, Topic, TopicPattern, WorldName, check_state_key};
pub use publish_view::PublishView;
pub use refusal::{Refusal, code_label};
pub use rights::{Area, Permitted, PublishRights, Rights};
pub use wire::{AckLevel, DeliveryClass, ErrorCode};

/// The version of the protocol that this crate speaks, as in `Hello.protocol_version`.
pub const PROTOCOL_VERSION: u32 = 1;

/// The ALPN identifier of the protocol on QUIC.
pub const ALPN: &[u8] = b"zonecast/1";

/// Zone ids from here up are given by the broker to zones that a hand-over brought; clients number below.
pub const HANDED_OVER_ZONE_ID_MIN: u32 = 1 << 31;
