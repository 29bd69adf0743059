//! A hash of all packets, and the choice of a worker by a packet's sender. Both must never change by themselves, so
//! neither uses the standard library's hasher.

use std::{net::SocketAddr, time::Duration};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a over the numbers that are added.
#[derive(Debug, Clone)]
pub(super) struct PacketHash(u64);

impl Default for PacketHash {
    fn default() -> Self {
        Self(FNV_OFFSET)
    }
}

impl PacketHash {
    pub(super) fn add(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, length: usize) {
        self.number(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        self.number(address_number(from));
        self.number(address_number(to));
        self.number(length as u64);
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

/// Which of several sockets on an address gets the packets of a sender.
pub(super) fn steer(from: SocketAddr, sockets: usize) -> usize {
    let mut hash = PacketHash::default();
    hash.number(address_number(from));
    // The low bits of FNV alone are poorly mixed.
    usize::try_from((hash.value() >> 20) % sockets.max(1) as u64).unwrap_or(0)
}

fn address_number(address: SocketAddr) -> u64 {
    let ip = match address {
        SocketAddr::V4(v4) => u64::from(v4.ip().to_bits()),
        SocketAddr::V6(v6) => v6.ip().to_bits() as u64,
    };
    ip << 16 ^ u64::from(address.port())
}
