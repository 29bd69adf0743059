//! A way to a broker that can be cut, and led to another broker: for the client, one that was killed and came back.

use std::net::SocketAddr;

use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

/// Forwards the packets of one client, both ways.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (front, back) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
        let address = front.local_addr().unwrap();
        let (target, wanted) = watch::channel(Some(broker));
        let task = tokio::spawn(async move {
            let (mut there, mut here) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            let mut client = None;
            loop {
                let target = *wanted.borrow();
                tokio::select! {
                    received = front.recv_from(&mut there) => {
                        let (length, from) = received.unwrap();
                        client = Some(from);
                        if let Some(target) = target {
                            back.send_to(&there[..length], target).await.unwrap();
                        }
                    }
                    received = back.recv_from(&mut here) => {
                        // What a broker still says that the client shall take for dead.
                        if let (Ok((length, from)), Some(client)) = (received, client)
                            && Some(from) == *wanted.borrow()
                        {
                            front.send_to(&here[..length], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { address, target, task }
    }

    /// Leads to another broker from now on, or nowhere.
    pub(crate) fn lead_to(&self, broker: Option<SocketAddr>) {
        self.target.send_replace(broker);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
