//! NATS, as its users would: one subject per zone, the publisher knowing the zones.
//!
//! An event is complete when the client library has it, as usual with core NATS; what keeps NATS and its client from
//! dropping is the window of `progress.rs`.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use async_nats::{Client, ConnectOptions, Subject, Subscriber as Subscription};
use bytes::{Bytes, BytesMut};
use tokio::task::{JoinHandle, spawn_local};
use tokio_stream::{Stream, StreamExt};
use zonecast_loadtest::load::{
    Copies, LoadSettings, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError,
};
use zonecast_protocol::{Circle, Zone};

use crate::{
    progress::{Reports, Window},
    target::PeerTarget,
    tls,
};

/// Messages that the client library keeps for one subscription before it drops.
const SUBSCRIPTION_MESSAGES_MAX: usize = 128 * 1024;
/// Handed over in one go at most, so that other tasks of the process get their turn.
const BATCH_MAX: usize = 1024;
/// The circle, before the application's bytes.
const HEAD_BYTES: usize = 24;

/// A NATS server, seen from a client.
pub struct Nats {
    target: PeerTarget,
    sessions: u32,
}

impl Nats {
    async fn connect(&self) -> Result<Client, TransportError> {
        let mut options = ConnectOptions::new().subscription_capacity(SUBSCRIPTION_MESSAGES_MAX).max_reconnects(1);
        if let Some(ca) = &self.target.ca {
            let config = tls::client(Some(ca)).map_err(|error| TransportError::new("no TLS", error))?;
            options = options.tls_client_config(config).require_tls(true);
        }
        let connected = options.connect(self.target.address.to_string()).await;
        connected.map_err(|error| TransportError::new("cannot connect", error))
    }
}

impl Transport for Nats {
    type Target = PeerTarget;
    type Publisher = NatsPublisher;
    type Subscriber = NatsSubscriber;
    const COPIES: Copies = Copies::PerZone;

    fn open(target: &PeerTarget, settings: &LoadSettings) -> Result<Self, TransportError> {
        tls::install_provider();
        Ok(Self { target: target.clone(), sessions: settings.sessions })
    }

    async fn publisher(&self, index: u32) -> Result<NatsPublisher, TransportError> {
        let client = self.connect().await?;
        let reports = client.subscribe(report_subject(index)).await.map_err(not_subscribed)?;
        in_force(&client, &format!("publisher.{index}")).await?;
        let window = Window::default();
        let reading = spawn_local(read_reports(reports, window.clone()));
        Ok(NatsPublisher { client, window, reading, complete: 0, subjects: Vec::new() })
    }

    async fn subscriber(&self, session: u32, zones: &[(u32, Zone)]) -> Result<NatsSubscriber, TransportError> {
        let client = self.connect().await?;
        let mut subscriptions = Vec::with_capacity(zones.len());
        for (zone, _) in zones {
            subscriptions.push((*zone, client.subscribe(zone_subject(*zone)).await.map_err(not_subscribed)?));
        }
        in_force(&client, &format!("session.{session}")).await?;
        Ok(NatsSubscriber { client, subscriptions, turn: 0, reports: Reports::new(self.sessions) })
    }
}

/// Publishes once for each zone.
#[derive(Debug)]
pub struct NatsPublisher {
    client: Client,
    window: Window,
    reading: JoinHandle<()>,
    /// Events that the client library has and that nobody was told of.
    complete: usize,
    /// By zone.
    subjects: Vec<Subject>,
}

impl Publisher for NatsPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        self.window.take(event.zones.len() as u64).await?;
        let message = with_head(&event.circle, event.payload);
        for zone in event.zones {
            let place = usize::try_from(*zone).unwrap_or(usize::MAX);
            while self.subjects.len() <= place {
                self.subjects.push(zone_subject(u32::try_from(self.subjects.len()).unwrap_or(u32::MAX)));
            }
            let published = self.client.publish(self.subjects[place].clone(), message.clone()).await;
            published.map_err(|error| TransportError::new("cannot publish", error))?;
        }
        self.complete += 1;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        // The library's task writes what it has as soon as it gets its turn.
        Ok(())
    }

    async fn completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        self.try_completed(done)
    }

    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        done.extend(std::iter::repeat_n(None, std::mem::take(&mut self.complete)));
        Ok(())
    }

    async fn close(self) {
        self.reading.abort();
        drop(self.client.drain().await);
    }
}

/// Receives what is published on the subjects of its zones.
#[derive(Debug)]
pub struct NatsSubscriber {
    client: Client,
    subscriptions: Vec<(u32, Subscription)>,
    /// With which subscription the next batch begins.
    turn: usize,
    reports: Reports,
}

impl NatsSubscriber {
    fn poll_batch<S: Sink>(&mut self, context: &mut Context<'_>, sink: &mut S) -> Poll<Result<(), TransportError>> {
        let mut count = 0;
        let all = self.subscriptions.len();
        for offset in 0..all {
            let (zone, subscription) = &mut self.subscriptions[(self.turn + offset) % all];
            while count < BATCH_MAX {
                let message = match Pin::new(&mut *subscription).poll_next(context) {
                    Poll::Ready(Some(message)) => message,
                    Poll::Ready(None) => {
                        return Poll::Ready(Err(TransportError::new("the connection is lost", "NATS")));
                    }
                    Poll::Pending => break,
                };
                let Some(payload) = message.payload.get(HEAD_BYTES..) else { continue };
                if count == 0 {
                    sink.batch();
                }
                sink.payload(*zone, payload);
                self.reports.note(payload);
                count += 1;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Subscriber for NatsSubscriber {
    type Mover = NoMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        // A report that is due stays so where this future is dropped while it waits.
        while let Some((publisher, count)) = self.reports.next() {
            let report = Bytes::copy_from_slice(&count.to_le_bytes());
            let sent = self.client.publish(report_subject(publisher), report).await;
            sent.map_err(|error| TransportError::new("cannot report", error))?;
            self.reports.sent(publisher);
        }
        poll_fn(|context| self.poll_batch(context, sink)).await
    }

    fn mover(&self) -> Option<NoMover> {
        None
    }

    async fn close(self) {
        drop(self.subscriptions);
        drop(self.client.drain().await);
    }
}

async fn read_reports(mut reports: Subscription, window: Window) {
    while let Some(report) = reports.next().await {
        if let Some(count) = report.payload.first_chunk() {
            window.give_back(u64::from(u32::from_le_bytes(*count)));
        }
    }
    window.fail("the reports have ended");
}

/// Waits until the server has carried out what this client asked for: it answers in order.
async fn in_force(client: &Client, who: &str) -> Result<(), TransportError> {
    let subject = format!("echo.{who}");
    let mut echo = client.subscribe(subject.clone()).await.map_err(not_subscribed)?;
    client.publish(subject, Bytes::new()).await.map_err(|error| TransportError::new("cannot subscribe", error))?;
    match echo.next().await {
        Some(_) => Ok(()),
        None => Err(TransportError::new("cannot subscribe", "the connection is lost")),
    }
}

fn with_head(circle: &Circle, payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    for number in [circle.x(), circle.y(), circle.radius()] {
        message.extend_from_slice(&number.to_le_bytes());
    }
    message.extend_from_slice(payload);
    message.freeze()
}

fn zone_subject(zone: u32) -> Subject {
    format!("zone.{zone}").into()
}

fn report_subject(publisher: u32) -> Subject {
    format!("progress.{publisher}").into()
}

fn not_subscribed(error: async_nats::SubscribeError) -> TransportError {
    TransportError::new("cannot subscribe", error)
}
