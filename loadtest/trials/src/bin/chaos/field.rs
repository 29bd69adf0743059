//! The network between brokers and peers: loopback, or links between network namespaces on which packets get lost.

mod faults;
mod namespaces;

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    faults::{Fault, Faults},
    namespaces::{lay, remove, remove_stale},
};

/// Links between the brokers and the peers: each peer process is at the end of one.
pub(crate) const LINKS: usize = 8;

/// Where processes run and how they reach each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Field {
    /// All on the loopback interface. Nothing can be done to packets.
    Loopback,
    /// Brokers in one network namespace, in which the stage itself runs; peers in others, each behind a link.
    Namespaces {
        /// With which the names of the namespaces begin.
        prefix: String,
    },
}

impl Field {
    /// The address that brokers serve on.
    pub(crate) fn broker_address(&self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces { .. } => namespaces::BROKERS.into(),
        }
    }

    /// What stands before a peer's command line, so that it runs at the end of its link.
    pub(crate) fn at_link(&self, link: usize) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces { prefix } => {
                ["ip", "netns", "exec", &namespaces::of_link(prefix, link % LINKS)].map(str::to_owned).to_vec()
            }
        }
    }

    /// What stands before the stage's command line, so that it runs among the brokers.
    pub(crate) fn at_brokers(&self) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces { prefix } => {
                ["ip", "netns", "exec", &namespaces::of_brokers(prefix)].map(str::to_owned).to_vec()
            }
        }
    }

    pub(crate) fn can_lose_packets(&self) -> bool {
        matches!(self, Self::Namespaces { .. })
    }
}
