//! What every event carries, whatever brings it: who sent it, as which of his events, and when.

/// Bytes that the fields take; a payload is at least so long.
pub const PAYLOAD_BYTES_MIN: usize = 24;

/// The fields at the beginning of a payload, little endian; the rest is filler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher, from 0.
    pub publisher: u32,
    /// The run: whatever comes of another one does not count.
    pub run: u32,
    /// The event's number at its publisher, from 0.
    pub sequence: u64,
    /// When it was meant to be sent (at a rate) or was sent (unpaced), by [`now_ns`](super::now_ns).
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes the fields.
    ///
    /// # Panics
    /// The payload is shorter than [`PAYLOAD_BYTES_MIN`].
    pub fn write(&self, payload: &mut [u8]) {
        payload[0..4].copy_from_slice(&self.publisher.to_le_bytes());
        payload[4..8].copy_from_slice(&self.run.to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
    }

    /// Reads the fields; `None` when the payload is too short.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            publisher: u32::from_le_bytes(*publisher),
            run: u32::from_le_bytes(*run),
            sequence: u64::from_le_bytes(*sequence),
            sent_ns: u64::from_le_bytes(*sent_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp { publisher: 3, run: 0xdead_beef, sequence: u64::MAX - 1, sent_ns: 1 << 60 };
        let mut payload = [7_u8; 64];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..PAYLOAD_BYTES_MIN]), Some(stamp));
        assert_eq!(Stamp::read(&payload[..PAYLOAD_BYTES_MIN - 1]), None);
        assert!(payload[PAYLOAD_BYTES_MIN..].iter().all(|byte| *byte == 7));
    }
}
