//! A wire between a service and its database that a test can cut or hold.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    Held,
    Cut,
}

/// A TCP port before the Unix socket of a PostgreSQL server.
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _connections: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// Starts one before the server's socket.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = watch::Sender::new(Wire::Whole);
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (states, inside) = (wire.subscribe(), Arc::downgrade(&connections));
        let accepting = async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, socket) = (states.clone(), socket.clone());
                let Some(connections) = inside.upgrade() else { break };
                connections.lock().unwrap_or_else(PoisonError::into_inner).spawn(carry(client, socket, state));
            }
        };
        tokio::spawn(accepting);
        Self { address, wire, _connections: connections }
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; new ones are broken at once.
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Lets nothing through, and breaks nothing: as a server that was stopped.
    pub fn hold(&self) {
        self.wire.send_replace(Wire::Held);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

async fn carry(mut client: tokio::net::TcpStream, socket: PathBuf, mut state: watch::Receiver<Wire>) {
    if *state.borrow() == Wire::Cut {
        return;
    }
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    loop {
        let now = *state.borrow_and_update();
        let changed = match now {
            Wire::Cut => return,
            Wire::Held => state.changed().await,
            Wire::Whole => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                changed = state.changed() => changed,
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
