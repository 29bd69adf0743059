//! Connections as door one accepts them: bounded in number, and cut where somebody must.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::metrics::{OpenConnection, RpcMetrics};

/// The waits after an error of accepting: the first, and the longest. Where file descriptors run out, only time helps.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// By which a connection is cut from where its calls are answered.
#[derive(Debug, Clone)]
pub(crate) struct Cut(CancellationToken);

impl Cut {
    pub(crate) fn new() -> Self {
        Self(CancellationToken::new())
    }

    /// Ends the connection, and whatever is on its way by it.
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }

    #[cfg(test)]
    pub(crate) async fn done(&self) {
        self.0.cancelled().await;
    }
}

/// What the calls of a connection know of it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) tcp: TcpConnectInfo,
    pub(crate) cut: Cut,
}

/// The connection of a request by door one. With TLS, which that door always has, tonic keeps it inside its own.
pub(crate) fn link(extensions: &Extensions) -> Option<&Link> {
    extensions.get::<TlsConnectInfo<Link>>().map(TlsConnectInfo::get_ref)
}

/// A connection that has one of the places that there are.
pub(crate) struct Admitted {
    stream: TcpStream,
    cut: Cut,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

/// Accepts for as long as what comes of it is asked for.
pub(crate) fn accepted(
    listener: TcpListener,
    connections_max: usize,
    metrics: RpcMetrics,
) -> impl Stream<Item = io::Result<Admitted>> {
    let places = Arc::new(Semaphore::new(connections_max));
    let (admitted, incoming) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = accept(&listener, &places, &metrics, &admitted) => {}
            () = admitted.closed() => {}
        }
    });
    ReceiverStream::new(incoming)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    metrics: &RpcMetrics,
    admitted: &mpsc::Sender<io::Result<Admitted>>,
) {
    let mut failures = 0_u32;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Of one connection, which was gone before it was there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "no connections by gRPC can be accepted; it is tried again");
                }
                sleep((BACKOFF_BASE * 2_u32.pow(failures.min(10))).min(BACKOFF_MAX)).await;
                continue;
            }
        };
        failures = 0;
        // Closed at once, for a caller that waits has nobody else to ask.
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            metrics.connection_refused();
            continue;
        };
        // Answers are small, and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let cut = Cut::new();
        let is_cut = Box::pin(cut.0.clone().cancelled_owned());
        let open = metrics.connection_opened();
        if admitted.send(Ok(Admitted { stream, cut, is_cut, _place: place, _open: open })).await.is_err() {
            return;
        }
    }
}

impl Connected for Admitted {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        Link { tcp: self.stream.connect_info(), cut: self.cut.clone() }
    }
}

impl AsyncRead for Admitted {
    /// HTTP/2 reads at all times, so that this notices the cut.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.0.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.0.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };
    use tokio_stream::StreamExt;

    use super::*;

    const GUARD: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_a_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = RpcMetrics::default();
        let mut incoming = std::pin::pin!(accepted(listener, 1, metrics.clone()));
        let _first = TcpStream::connect(address).await.unwrap();
        let mut admitted = incoming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(timeout(GUARD, second.read(&mut [0])).await.unwrap().unwrap(), 0, "it is closed");
        assert_eq!(metrics.connections(), (1, 1));
        // Cut from elsewhere, it reads and writes no more.
        admitted.connect_info().cut.cut();
        assert!(timeout(GUARD, admitted.read(&mut [0])).await.unwrap().is_err());
        assert!(admitted.write(b"x").await.is_err());
        drop(admitted);
        let _third = TcpStream::connect(address).await.unwrap();
        timeout(GUARD, incoming.next()).await.unwrap().unwrap().unwrap();
    }
}
