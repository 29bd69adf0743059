//! The transport that all this is for: zonecast's own client.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use zonecast_client::{
    Client, ClientConfig, DeliveryClass, PendingReceipt, Publish, PublishError, Receipt, TlsConfig, TransportOptions,
    Zone, ZoneControl, ZoneItem, ZoneSpec, ZoneSubscription,
};

use super::{
    LoadAck, LoadClass, LoadSettings,
    transport::{Copies, Mover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError},
};

/// The world that zones and events are put into.
const WORLD: &str = "loadtest";
/// Zones that are put in one step when a session takes its zones: less than what a frame holds.
const ZONES_PER_STEP: usize = 4096;

/// Where the broker is, and whom to trust.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZonecastTarget {
    /// Brokers, as `host:port`.
    pub addresses: Vec<String>,
    /// The name that their certificates bear; by default the host of the address.
    pub server_name: Option<String>,
    /// The file of the authorities to trust, PEM.
    pub ca: PathBuf,
    /// The files of the certificate to show and of its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The access token to show, where there is no file with one.
    pub token: Option<Secret>,
    /// A file with the access token.
    pub token_file: Option<PathBuf>,
}

/// A text that must not be seen in a log.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// Sessions and publishers of a zonecast broker, each with a socket and a connection of its own, as servers would have.
pub struct Zonecast {
    target: ZonecastTarget,
    tls: TlsConfig,
    class: DeliveryClass,
    ack: LoadAck,
    coalesce: Duration,
    udp_payload_bytes_max: u16,
}

impl Zonecast {
    async fn connect(&self, name: String) -> Result<Client, TransportError> {
        let mut transport = TransportOptions::default();
        transport.udp_payload_bytes_max = self.udp_payload_bytes_max;
        let mut config = ClientConfig::new(name).tls(self.tls.clone()).coalesce(self.coalesce).transport(transport);
        for address in &self.target.addresses {
            config = config.address(address);
        }
        if let Some(name) = &self.target.server_name {
            config = config.server_name(name);
        }
        config = match (&self.target.token_file, &self.target.token) {
            (Some(path), _) => config.token_file(path),
            (None, Some(Secret(token))) => config.token(token),
            (None, None) => config,
        };
        Client::connect(config).await.map_err(|error| TransportError::new("cannot connect", error))
    }
}

impl Transport for Zonecast {
    type Target = ZonecastTarget;
    type Publisher = ZonecastPublisher;
    type Subscriber = ZonecastSubscriber;
    const COPIES: Copies = Copies::PerSession;

    fn open(target: &ZonecastTarget, settings: &LoadSettings) -> Result<Self, TransportError> {
        let identity = target.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let tls = TlsConfig::from_files(Some(&target.ca), identity);
        let tls = tls.map_err(|error| TransportError::new("cannot use the certificates", error))?;
        let class = match settings.class {
            LoadClass::Reliable => DeliveryClass::Reliable,
            LoadClass::State => DeliveryClass::State,
            LoadClass::Transient => DeliveryClass::Transient,
        };
        let coalesce = Duration::from_millis(settings.coalesce_ms.into());
        let udp_payload_bytes_max = settings.udp_payload_bytes_max;
        Ok(Self { target: target.clone(), tls, class, ack: settings.ack, coalesce, udp_payload_bytes_max })
    }

    async fn publisher(&self, index: u32) -> Result<ZonecastPublisher, TransportError> {
        let client = self.connect(format!("loadtest.publisher-{index}")).await?;
        Ok(ZonecastPublisher { client, class: self.class, ack: self.ack, receipts: VecDeque::new(), keys: Vec::new() })
    }

    async fn subscriber(&self, session: u32, zones: &[(u32, Zone)]) -> Result<ZonecastSubscriber, TransportError> {
        let client = self.connect(format!("loadtest.session-{session}")).await?;
        let mut steps = zones.chunks(ZONES_PER_STEP).map(specs);
        let refused = |error| TransportError::new("cannot take its zones", error);
        let subscription = client.subscribe_zones(steps.next().unwrap_or_default()).await.map_err(refused)?;
        for step in steps {
            subscription.put(step).await.map_err(refused)?;
        }
        Ok(ZonecastSubscriber { client, session, subscription })
    }
}

fn specs(zones: &[(u32, Zone)]) -> Vec<ZoneSpec> {
    // Clients number their zones from 1.
    zones.iter().map(|(number, zone)| ZoneSpec::new(number + 1, WORLD, *zone)).collect()
}

/// A publisher. Everything that it publishes is acknowledged, and the acknowledgements name the sessions.
pub struct ZonecastPublisher {
    client: Client,
    class: DeliveryClass,
    ack: LoadAck,
    receipts: VecDeque<PendingReceipt>,
    /// Names of the places in the pool, for events of class state.
    keys: Vec<String>,
}

impl ZonecastPublisher {
    fn take(
        &mut self,
        answer: Result<Receipt, PublishError>,
        done: &mut Vec<Option<u32>>,
    ) -> Result<(), TransportError> {
        self.receipts.pop_front();
        let receipt = answer.map_err(|error| TransportError::new("an event was refused", error))?;
        done.push(Some(receipt.matched));
        Ok(())
    }
}

impl Publisher for ZonecastPublisher {
    async fn publish(&mut self, event: Outgoing<'_>) -> Result<(), TransportError> {
        let mut publish = Publish::at(WORLD, event.circle).payload(event.payload).class(self.class);
        if self.class == DeliveryClass::State {
            let place = event.pool_index as usize;
            while self.keys.len() <= place {
                self.keys.push(self.keys.len().to_string());
            }
            publish = publish.key(self.keys[place].as_str());
        }
        let receipt = match self.ack {
            LoadAck::Routed => self.client.publish_with_ack(publish).await,
            LoadAck::Processed => self.client.publish_with_processed_ack(publish).await,
        };
        self.receipts.push_back(receipt.map_err(|error| TransportError::new("cannot publish", error))?);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        // The client's writer takes what is there as soon as it gets its turn.
        Ok(())
    }

    async fn completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        if let Some(oldest) = self.receipts.front_mut() {
            let answer = oldest.await;
            self.take(answer, done)?;
        }
        self.try_completed(done)
    }

    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        let mut context = Context::from_waker(Waker::noop());
        while let Some(oldest) = self.receipts.front_mut() {
            match Pin::new(oldest).poll(&mut context) {
                Poll::Ready(answer) => self.take(answer, done)?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    async fn close(self) {
        // The goodbye is a courtesy: whatever it meets, the run is over.
        let _ = self.client.close().await;
    }
}

/// A session.
pub struct ZonecastSubscriber {
    client: Client,
    session: u32,
    subscription: ZoneSubscription,
}

impl Subscriber for ZonecastSubscriber {
    type Mover = ZonecastMover;

    async fn receive<S: Sink>(&mut self, sink: &mut S) -> Result<(), TransportError> {
        let (session, subscription) = (self.session, &mut self.subscription);
        let mut is_first = true;
        // Whatever this finds was there before it reads the clock: nothing else runs on this thread meanwhile.
        poll_fn(|context| {
            loop {
                match Pin::new(&mut *subscription).poll_next(context) {
                    Poll::Ready(Some(item)) => {
                        if std::mem::take(&mut is_first) {
                            sink.batch();
                        }
                        if let ZoneItem::Event(event) = item {
                            sink.payload(session, event.payload());
                        }
                    }
                    Poll::Ready(None) => {
                        let ended = "the broker or the client closed it";
                        return Poll::Ready(Err(TransportError::new("the session has ended", ended)));
                    }
                    Poll::Pending if is_first => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
        })
        .await
    }

    fn mover(&self) -> Option<ZonecastMover> {
        Some(ZonecastMover { control: self.subscription.control() })
    }

    async fn close(self) {
        drop(self.subscription);
        let _ = self.client.close().await;
    }
}

/// Moves a session's zones.
pub struct ZonecastMover {
    control: ZoneControl,
}

impl Mover for ZonecastMover {
    async fn move_zones(&self, zones: &[(u32, Zone)]) -> Result<(), TransportError> {
        let moved = self.control.put(specs(zones)).await;
        moved.map(|_| ()).map_err(|error| TransportError::new("cannot move zones", error))
    }
}
