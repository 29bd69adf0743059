//! How a client's run is named on the wire, and what its address counts as.

// Of core, which has addresses and no sockets.
use core::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::ClientId;

/// The number that a run of a client writes in `Event.source`.
///
/// The first 8 bytes, big-endian, of SHA-256(client id, one zero byte, incarnation as 8 bytes big-endian), and 1 in
/// place of 0. Every broker computes the same, so an event keeps its name when its publisher fails over.
#[must_use]
pub fn source_of(client_id: &ClientId, incarnation: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(client_id.as_str());
    hash.update([0]);
    hash.update(incarnation.to_be_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).max(1)
}

/// What peers are counted by that nobody knows yet: the address, and of IPv6 its network of /64, which is what one subscriber
/// is given (RFC 6177), so that whoever has one address of it has all.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6").to_string(), "2001:db8:1:2::");
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:10.0.0.7").to_string(), "10.0.0.7");
        assert_ne!(network("10.0.0.7"), network("10.0.0.8"));
    }

    #[test]
    fn pinned_so_that_other_languages_can_check_theirs() {
        let id = ClientId::new("zone-server-7").unwrap();
        assert_eq!(source_of(&id, 1), 0x5ac7_09bc_334f_371d);
        assert_ne!(source_of(&id, 2), source_of(&id, 1));
    }
}
