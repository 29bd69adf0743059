//! What the companion services are to gRPC: for each the trait that it implements and the client that calls it, and the
//! descriptors of all of them for reflection.
//!
//! Everything is generated from `protocol/proto`. The messages are those of `zonecast-protocol`, so that the contract
//! stays free of tonic. To add a service, name its file in `build.rs` and its package below.
//!
//! Deliberately absent: anything written by hand for one method.

/// The service of one package, in a module named as the package is.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            #[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
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
    /// What has changed, for those who were away.
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
    /// The users service.
    users
);

/// The encoded `google.protobuf.FileDescriptorSet` of all services and what they use.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
