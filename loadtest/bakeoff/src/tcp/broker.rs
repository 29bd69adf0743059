//! The broker: one thread, one flat buffer per session, readers that wait for room in the buffers that they filled.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
};

use bytes::{Buf, BytesMut};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::spawn_local,
};
use tokio_rustls::TlsAcceptor;
use zonecast_core::SessionId;

use crate::{
    frame::{self, Frame, FrameError},
    hub::Hub,
};

/// A reader that found an outbox fuller than this waits until it is emptier, and reads nothing meanwhile.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Read at once.
const READ_BYTES: usize = 64 * 1024;

type Sessions = Rc<RefCell<Hub<Rc<Outbox>>>>;

/// What waits to be written to one session.
#[derive(Debug, Default)]
struct Outbox {
    pending: RefCell<BytesMut>,
    /// Told when there is something to write, or when the session has ended.
    filled: Notify,
    /// Told when what was pending is being written.
    drained: Notify,
    /// True while a reader has noted this outbox for the end of its turn.
    noted: Cell<bool>,
    closed: Cell<bool>,
}

impl Outbox {
    fn is_full(&self) -> bool {
        self.pending.borrow().len() > OUTBOX_BYTES_MAX && !self.closed.get()
    }

    fn close(&self) {
        self.closed.set(true);
        self.filled.notify_one();
        self.drained.notify_waiters();
    }
}

/// Accepts connections until the future is dropped. To be polled within a [`LocalSet`](tokio::task::LocalSet).
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, tls: ServerConfig) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let sessions = Sessions::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, sessions) = (acceptor.clone(), Rc::clone(&sessions));
        // A connection that fails is its client's affair; the client sees it end.
        spawn_local(async move { drop(converse(stream, acceptor, sessions).await) });
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, sessions: Sessions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = tokio::io::split(acceptor.accept(stream).await?);
    let outbox = Rc::new(Outbox::default());
    let session = sessions.borrow_mut().join(Rc::clone(&outbox));
    let writing = spawn_local({
        let outbox = Rc::clone(&outbox);
        async move {
            let result = write_all(writer, &outbox).await;
            outbox.close();
            result
        }
    });
    let result = read_all(reader, session, &outbox, &sessions).await;
    sessions.borrow_mut().leave(session);
    outbox.close();
    writing.await.map_err(io::Error::other)??;
    result
}

async fn read_all(
    mut reader: impl AsyncRead + Unpin,
    session: SessionId,
    own: &Rc<Outbox>,
    sessions: &Sessions,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut turn = Turn::default();
    while !own.closed.get() {
        buffer.reserve(READ_BYTES);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let consumed = turn.take(&buffer, session, own, sessions).map_err(io::Error::other)?;
        buffer.advance(consumed);
        // First wake every writer, then wait for those that are behind: a slow session delays who publishes to it.
        for outbox in &turn.noted {
            outbox.noted.set(false);
            outbox.filled.notify_one();
        }
        for outbox in turn.noted.drain(..) {
            while outbox.is_full() {
                outbox.drained.notified().await;
            }
        }
    }
    Ok(())
}

/// What a reader does with the bytes of one read.
#[derive(Debug, Default)]
struct Turn {
    noted: Vec<Rc<Outbox>>,
    matched: Vec<u32>,
}

impl Turn {
    /// Takes all whole frames. Gives back how many bytes they were.
    fn take(
        &mut self,
        bytes: &[u8],
        session: SessionId,
        own: &Rc<Outbox>,
        sessions: &Sessions,
    ) -> Result<usize, FrameError> {
        let mut rest = bytes;
        let mut hub = sessions.borrow_mut();
        while let Some(cut) = frame::cut(rest)? {
            rest = cut.rest;
            match frame::decode(cut.frame)? {
                Frame::Event { circle, .. } => {
                    let noted = &mut self.noted;
                    self.matched.push(hub.route(circle, |outbox| {
                        outbox.pending.borrow_mut().extend_from_slice(cut.whole);
                        note(noted, outbox);
                    }));
                }
                Frame::Subscribe(zones) => {
                    hub.subscribe(session, zones);
                    frame::put_subscribed(&mut own.pending.borrow_mut());
                    note(&mut self.noted, own);
                }
                Frame::Subscribed | Frame::Routed(_) => return Err(FrameError::Body(cut.frame[0])),
            }
        }
        if !self.matched.is_empty() {
            frame::put_routed(&mut own.pending.borrow_mut(), &self.matched);
            self.matched.clear();
            note(&mut self.noted, own);
        }
        Ok(bytes.len() - rest.len())
    }
}

fn note(noted: &mut Vec<Rc<Outbox>>, outbox: &Rc<Outbox>) {
    if !outbox.noted.replace(true) {
        noted.push(Rc::clone(outbox));
    }
}

/// Writes all that is pending in one piece, which the TLS layer cuts into records of 16 KiB and hands to the socket
/// in vectored writes.
async fn write_all(mut writer: impl AsyncWrite + Unpin, outbox: &Outbox) -> io::Result<()> {
    let mut chunk = BytesMut::new();
    while !outbox.closed.get() {
        std::mem::swap(&mut chunk, &mut outbox.pending.borrow_mut());
        if chunk.is_empty() {
            writer.flush().await?;
            if outbox.pending.borrow().is_empty() {
                outbox.filled.notified().await;
            }
            continue;
        }
        outbox.drained.notify_waiters();
        writer.write_all(&chunk).await?;
        chunk.clear();
    }
    writer.shutdown().await
}
