//! How a client's run is named on the wire.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_so_that_other_languages_can_check_theirs() {
        let id = ClientId::new("zone-server-7").unwrap();
        assert_eq!(source_of(&id, 1), 0x5ac7_09bc_334f_371d);
        assert_ne!(source_of(&id, 2), source_of(&id, 1));
    }
}
