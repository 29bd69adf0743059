//! At the door: what is sent before there is a session, and what may come of it.

use std::net::SocketAddr;

use zonecast_protocol::{
    ALPN,
    wire::{client_frame, server_frame},
};

use crate::raw::{Peer, World, client_tls, connect, hello};

/// The first packet of a client that then says nothing more.
pub(crate) async fn first_packet(world: &World) -> Vec<u8> {
    let trap = tokio::net::UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let connecting = connect(trap.local_addr().unwrap(), client_tls(ALPN, world.authority.roots(), None));
    let mut packet = vec![0; 2048];
    let receiving = trap.recv(&mut packet);
    let length = tokio::select! {
        _ = connecting => panic!("nobody answers there"),
        length = receiving => length.unwrap(),
    };
    packet.truncate(length);
    packet
}

/// What comes of a hello: a welcome, or the end of the connection.
pub(crate) async fn introduced(connection: quinn::Connection, client: &str) -> Result<Peer, quinn::ConnectionError> {
    // From here to the answer nothing is waited for, so that nothing else runs.
    if let Some(error) = connection.close_reason() {
        return Err(error);
    }
    let mut peer = Peer::open(connection.clone()).await;
    peer.send(client_frame::Frame::Hello(hello(client, 1))).await;
    tokio::select! {
        // An answer that does not come because the connection has ended is no failure of the test.
        biased;
        error = connection.closed() => return Err(error),
        answer = peer.next() => match answer {
            server_frame::Frame::Welcome(welcome) => peer.source = welcome.source,
            other => panic!("{other:?} instead of a welcome"),
        }
    }
    Ok(peer)
}
