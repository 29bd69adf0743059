//! Connections as door one accepts them: bounded in number, and cut where somebody must.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Extensions;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{
    metrics::RpcMetrics,
    places::{Place, Places},
};

/// The waits after an error of accepting: the first, and the longest. Where file descriptors run out, only time helps.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long somebody may be silent after the handshake; whoever asks for something begins at once, and HTTP's own deadlines
/// begin with the first byte.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// By which a connection is cut from where its calls are answered.
#[derive(Debug, Clone)]
pub(crate) struct Cut(CancellationToken);

impl Cut {
    #[cfg(test)]
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
    pub(crate) address: IpAddr,
    /// What the caller has shown, verified.
    pub(crate) certificate: Option<Arc<CertificateDer<'static>>>,
    pub(crate) cut: Cut,
}

/// The connection of a request by door one.
pub(crate) fn link(extensions: &Extensions) -> Option<&Link> {
    extensions.get()
}

/// Where connections come from.
pub(crate) trait Listens: Send + 'static {
    /// The next one.
    fn next(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Listens for TcpListener {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

/// A connection that has one of the places that there are, behind its handshake.
pub(crate) struct Admitted {
    stream: TlsStream<TcpStream>,
    link: Link,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the first byte has come.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

/// How connections are met.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) places: Places,
    /// Time in which the TLS handshake must be done.
    pub(crate) handshake_timeout: Duration,
    /// The configuration of the moment.
    pub(crate) tls: watch::Receiver<Arc<ServerConfig>>,
    pub(crate) metrics: RpcMetrics,
    /// Cuts all connections.
    pub(crate) cut_all: CancellationToken,
}

impl Reception {
    /// Accepts for as long as what comes of it is asked for.
    pub(crate) fn accepted(self, listener: impl Listens) -> impl Stream<Item = io::Result<Admitted>> {
        let (admitted, incoming) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(listener, &admitted) => {}
                () = admitted.closed() => {}
            }
        });
        ReceiverStream::new(incoming)
    }

    async fn accept(&self, mut listener: impl Listens, admitted: &mpsc::Sender<io::Result<Admitted>>) {
        let mut failures = 0_u32;
        loop {
            let (stream, address) = match listener.next().await {
                Ok(accepted) => accepted,
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
            let Some(place) = self.places.take(address.ip()) else { continue };
            // Who is slow to shake hands holds up nobody else.
            let (reception, admitted) = (self.clone(), admitted.clone());
            tokio::spawn(async move {
                tokio::select! {
                    met = reception.meet(stream, address.ip().to_canonical(), place) => if let Some(met) = met {
                        // Nobody wants it where the door has closed.
                        let _ = admitted.send(Ok(met)).await;
                    },
                    () = admitted.closed() => {}
                }
            });
        }
    }

    /// Shakes hands.
    async fn meet(&self, stream: TcpStream, address: IpAddr, place: Place) -> Option<Admitted> {
        // Answers are small, and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let tls = Arc::clone(&self.tls.borrow());
        let failed = match timeout(self.handshake_timeout, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.map(|certificate| Arc::new(certificate.clone()));
                let cut = Cut(self.cut_all.child_token());
                let is_cut = Box::pin(cut.0.clone().cancelled_owned());
                let (link, silence) = (Link { address, certificate, cut }, Some(Box::pin(sleep(SILENCE_MAX))));
                return Some(Admitted { stream, link, is_cut, silence, _place: place });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        self.metrics.handshake_failed();
        tracing::debug!(%address, reason = failed, "a TLS handshake by gRPC failed");
        None
    }
}

impl Connected for Admitted {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

impl AsyncRead for Admitted {
    /// HTTP/2 reads at all times, so that this notices the cut.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > filled {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.link.cut.0.is_cancelled() {
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
        if self.link.cut.0.is_cancelled() {
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
        time::Instant,
    };
    use tokio_rustls::{TlsConnector, client};
    use tokio_stream::StreamExt;

    use super::*;
    use crate::tls::{ClientCertificates, GrpcTls};

    const GUARD: Duration = Duration::from_secs(60);

    /// A reception with a certificate of its own, and callers that trust it.
    fn reception(connections_max: usize) -> (Reception, TlsConnector) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = GrpcTls {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            clients: ClientCertificates::Unwanted,
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let callers = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let metrics = RpcMetrics::default();
        let reception = Reception {
            places: Places::new(connections_max, connections_max, metrics.clone()),
            handshake_timeout: Duration::from_secs(1),
            tls: watch::channel(tls.server_config().unwrap()).1,
            metrics,
            cut_all: CancellationToken::new(),
        };
        (reception, TlsConnector::from(Arc::new(callers)))
    }

    async fn connected(callers: &TlsConnector, address: SocketAddr) -> client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        callers.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_a_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reception, callers) = reception(1);
        let metrics = reception.metrics.clone();
        let mut incoming = std::pin::pin!(reception.accepted(listener));
        let _first = connected(&callers, address).await;
        let mut admitted = incoming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(timeout(GUARD, second.read(&mut [0])).await.unwrap().unwrap(), 0, "it is closed");
        assert_eq!(metrics.connections(), (1, 1));
        // Cut from elsewhere, it reads and writes no more.
        admitted.connect_info().cut.cut();
        assert!(timeout(GUARD, admitted.read(&mut [0])).await.unwrap().is_err());
        assert!(admitted.write(b"x").await.is_err());
        drop(admitted);
        let _third = connected(&callers, address).await;
        timeout(GUARD, incoming.next()).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_does_not_shake_hands_holds_up_nobody_and_gives_the_place_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reception, callers) = reception(2);
        let metrics = reception.metrics.clone();
        let mut incoming = std::pin::pin!(reception.accepted(listener));
        let mut mute = TcpStream::connect(address).await.unwrap();
        let _other = connected(&callers, address).await;
        let _admitted = timeout(GUARD, incoming.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(timeout(GUARD, mute.read(&mut [0])).await.unwrap().unwrap(), 0, "it is closed");
        let mut babbler = TcpStream::connect(address).await.unwrap();
        babbler.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        // An alert, and the end.
        timeout(GUARD, babbler.read_to_end(&mut Vec::new())).await.unwrap().ok();
        assert_eq!((metrics.connections(), metrics.handshakes_failed()), ((1, 0), 2));
    }

    #[tokio::test]
    async fn who_says_nothing_after_the_handshake_is_cut_and_so_are_all_with_the_door() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reception, callers) = reception(2);
        let cut_all = reception.cut_all.clone();
        let mut incoming = std::pin::pin!(reception.accepted(listener));
        let _silent = connected(&callers, address).await;
        let mut silent = timeout(GUARD, incoming.next()).await.unwrap().unwrap().unwrap();
        let mut speaking = connected(&callers, address).await;
        let mut heard = timeout(GUARD, incoming.next()).await.unwrap().unwrap().unwrap();
        speaking.write_all(b"x").await.unwrap();
        heard.read_exact(&mut [0]).await.unwrap();
        tokio::time::pause();
        let ended = silent.read(&mut [0]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        // Nothing ends the other, until the door does.
        assert!(timeout(SILENCE_MAX * 2, heard.read(&mut [0])).await.is_err());
        cut_all.cancel();
        assert_eq!(heard.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    /// A listener in a process that has no file descriptors left, for a while.
    struct Starved {
        failures: u32,
        tried_at: Vec<Instant>,
        told: mpsc::UnboundedSender<Vec<Instant>>,
    }

    impl Listens for Starved {
        async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
            self.tried_at.push(Instant::now());
            if self.tried_at.len() > self.failures as usize {
                self.told.send(std::mem::take(&mut self.tried_at)).unwrap();
                std::future::pending::<()>().await;
            }
            // As `accept` has it on Linux: EMFILE.
            Err(io::Error::from_raw_os_error(24))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_file_descriptors_run_out_it_is_tried_again_ever_more_seldom() {
        let (told, mut tried) = mpsc::unbounded_channel();
        let (reception, _) = reception(1);
        let _incoming = reception.accepted(Starved { failures: 9, tried_at: Vec::new(), told });
        let tried_at = tried.recv().await.unwrap();
        let pauses: Vec<u128> = tried_at.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000]);
    }
}
