//! The network's sockets, as QUIC uses them.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::Network;

/// A UDP socket on a [`Network`]. It can always send; what is too much is lost at the receiver.
pub struct Socket {
    network: Network,
    place: usize,
    address: SocketAddr,
}

impl Socket {
    pub(super) fn new(network: Network, place: usize, address: SocketAddr) -> Self {
        Self { network, place, address }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(self.place, transmit.destination, transmit.ecn, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.network.state();
        let inbox = &mut state.inboxes[self.place];
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = inbox.arrived.pop_front() else { break };
            inbox.arrived_bytes -= packet.bytes.len();
            let length = packet.bytes.len().min(buf.len());
            buf[..length].copy_from_slice(&packet.bytes[..length]);
            *meta = RecvMeta { addr: packet.from, len: length, stride: length, ecn: packet.ecn, dst_ip: None };
            count += 1;
        }
        if count == 0 {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Packets beyond the link's length are lost, so that QUIC finds it out by trying.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
