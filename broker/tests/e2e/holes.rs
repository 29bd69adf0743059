//! A client whose streams have a hole: quinn sends what it should, but on the way into the packet every offset beyond a
//! stream's beginning grows by one. The byte in between never comes.

use std::{any::Any, sync::Arc};

use bytes::BytesMut;
use quinn::crypto::{
    self, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
    rustls::QuicClientConfig,
};
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, transport_parameters::TransportParameters};

/// Makes a hole into every lane stream; the control stream stays whole.
pub(crate) struct Dishonest(pub(crate) Arc<QuicClientConfig>);

impl crypto::ClientConfig for Dishonest {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = Arc::clone(&self.0).start_session(version, server_name, params)?;
        Ok(Box::new(DishonestSession { session, has_handshake_keys: false }))
    }
}

struct DishonestSession {
    session: Box<dyn Session>,
    has_handshake_keys: bool,
}

fn dishonest(mut pair: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
    pair.local = Box::new(DishonestKey(pair.local));
    pair
}

impl Session for DishonestSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.session.write_handshake(buf)?;
        if !std::mem::replace(&mut self.has_handshake_keys, true) {
            return Some(keys);
        }
        Some(Keys { packet: dishonest(keys.packet), ..keys })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys().map(dishonest)
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

struct DishonestKey(Box<dyn PacketKey>);

impl PacketKey for DishonestKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.0.tag_len();
        shift_offsets(&mut buf[header_len..end]);
        self.0.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// Makes the hole. Frames that a client of ours does not send end the walk.
fn shift_offsets(payload: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = payload.get(at) {
        at += 1;
        let plain = match kind {
            // PADDING, PING, IMMEDIATE_ACK
            0x00 | 0x01 | 0x1f => 0,
            // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID
            0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => 1,
            // STOP_SENDING, MAX_STREAM_DATA, STREAM_DATA_BLOCKED
            0x05 | 0x11 | 0x15 => 2,
            // RESET_STREAM
            0x04 => 3,
            // ACK: largest, delay, ranges, first range, then two for each range
            0x02 | 0x03 => {
                let Some([_, _, ranges]) = numbers(payload, &mut at) else { return };
                1 + 2 * ranges + if kind == 0x03 { 3 } else { 0 }
            }
            0x08..=0x0f => {
                let Some([stream]) = numbers(payload, &mut at) else { return };
                let offset_at = at;
                let offset = if kind & 4 != 0 { numbers(payload, &mut at).map_or(0, |[offset]| offset) } else { 0 };
                let is_lane = stream & 3 == 2;
                if is_lane && offset >= 64 && !(offset + 1).is_power_of_two() {
                    // The same length as before: only powers of two change it.
                    add_one(&mut payload[offset_at..at]);
                }
                if kind & 2 == 0 {
                    return;
                }
                let Some([length]) = numbers(payload, &mut at) else { return };
                at += usize::try_from(length).unwrap();
                0
            }
            _ => return,
        };
        for _ in 0..plain {
            if numbers::<1>(payload, &mut at).is_none() {
                return;
            }
        }
    }
}

/// Reads QUIC's numbers of variable length.
fn numbers<const COUNT: usize>(payload: &[u8], at: &mut usize) -> Option<[u64; COUNT]> {
    let mut found = [0; COUNT];
    for number in &mut found {
        let first = *payload.get(*at)?;
        let length = 1 << (first >> 6);
        let bytes = payload.get(*at..*at + length)?;
        *number = bytes[1..].iter().fold(u64::from(first & 0x3f), |sum, byte| sum << 8 | u64::from(*byte));
        *at += length;
    }
    Some(found)
}

fn add_one(number: &mut [u8]) {
    for byte in number.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return;
        }
    }
}
