//! Connecting, reconnecting, and taking leave.

use std::time::Duration;

use zonecast_client::{
    Client, ClientConfig, CloseError, ClosedReason, ConnectError, ConnectionState, ErrorCode, LinkError, Publish,
    PublishError, SubscribeError, TlsConfig, Zone, ZoneError, ZoneSpec,
};
use zonecast_protocol::wire::{self, client_frame::Frame as ClientFrame, server_frame::Frame as ServerFrame};

use crate::broker::{FakeBroker, Identity, guarded};

async fn connected(broker: &FakeBroker) -> (Client, crate::broker::Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    (client.unwrap(), conversation)
}

async fn closed(client: &Client) -> ClosedReason {
    let mut states = client.states();
    let closed = states.wait_for(|state| matches!(state, ConnectionState::Closed { .. }));
    match guarded("the end", closed).await {
        Some(ConnectionState::Closed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn hello_comes_first_and_nothing_else_before_welcome() {
    let broker = FakeBroker::start();
    let connecting = tokio::spawn(Client::connect(broker.config("zone-server-7").token("t")));
    let mut conversation = broker.accept().await;
    let hello = &conversation.hello;
    assert_eq!((hello.protocol_version, &hello.client_id[..], hello.incarnation), (1, "zone-server-7", 1));
    assert!(hello.token == "t" && hello.software.starts_with("zonecast-client/"));
    conversation.welcome().await;
    let client = connecting.await.unwrap().unwrap();
    assert_eq!((client.client_id(), client.source()), ("zone-server-7", 0x5ac7_09bc_334f_371d));
    assert_eq!(client.limits().lanes_max, 16);
    let state = client.states().current();
    let ConnectionState::Connected { address, session_id, resumed } = state else { panic!("connected") };
    assert_eq!((address.port(), session_id, resumed), (broker.address.port(), 5, false));
}

#[tokio::test]
async fn a_broker_that_another_ca_signed_is_refused_at_once_and_clearly() {
    let broker = FakeBroker::start();
    let other = TlsConfig::from_ca_pem(Identity::new().certificate_pem.as_bytes()).unwrap();
    let connecting = Client::connect(broker.config("c").tls(other));
    let (error, none) = tokio::join!(guarded("a refusal", connecting), broker.accept_connection());
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(LinkError::Tls { .. })), "{error:?}");
    assert!(error.to_string().contains("CA file"), "{error}");
    assert!(none.is_none());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let broker = FakeBroker::start();
    let connecting = Client::connect(broker.config("c").server_name("elsewhere"));
    let (error, _) = tokio::join!(guarded("a refusal", connecting), broker.accept_connection());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("server name"), "{error}");
}

#[tokio::test]
async fn a_broker_that_demands_a_certificate_admits_those_who_have_it() {
    let identity = Identity::new();
    let broker = FakeBroker::start_for(&identity);
    let (refused, _) = tokio::join!(Client::connect(broker.config("c")), broker.accept_connection());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("the broker demands a client certificate"), "{error}");
    let (chain, key) = (identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes());
    let tls = broker.tls().with_client_certificate_pem(chain, key).unwrap();
    assert!(!format!("{tls:?}").contains("PRIVATE"));
    let (client, _conversation) = tokio::join!(Client::connect(broker.config("c").tls(tls)), broker.welcome());
    client.unwrap();
}

#[tokio::test]
async fn a_server_of_another_protocol_is_recognised() {
    let broker = FakeBroker::start_with_alpn(b"h3");
    let (error, _) = tokio::join!(Client::connect(broker.config("c")), broker.accept_connection());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("does not speak zonecast/1"), "{error}");
}

#[tokio::test]
async fn silence_is_reported_with_what_to_check() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let broker = FakeBroker::start();
    let config = ClientConfig::new("c")
        .address(silent.local_addr().unwrap().to_string())
        .tls(broker.tls())
        .connect_timeout(Duration::from_millis(300))
        .attempt_timeout(Duration::from_millis(100));
    let error = guarded("giving up", Client::connect(config)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { last: LinkError::NoAnswer { .. }, .. }), "{error:?}");
}

#[tokio::test]
async fn the_next_broker_of_the_list_is_tried() {
    let broker = FakeBroker::start();
    let config = ClientConfig::new("c")
        // No address at all, so this fails at once.
        .address("127.0.0.1:0")
        .address(format!("localhost:{}", broker.address.port()))
        .tls(broker.tls())
        .attempt_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20));
    let (client, _conversation) = tokio::join!(Client::connect(config), broker.welcome());
    client.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_made_again_under_the_same_name() {
    let broker = FakeBroker::start();
    let (client, conversation) = connected(&broker).await;
    let source = client.source();
    let mut states = client.states();
    conversation.close(ErrorCode::SlowConsumer, "too slow");
    let again = broker.welcome().await;
    assert_eq!(again.hello.incarnation, conversation.hello.incarnation);
    let connected = states.wait_for(|state| matches!(state, ConnectionState::Connected { .. }));
    guarded("connected", connected).await.unwrap();
    assert_eq!((client.source(), client.stats().connections), (source, 2));
}

#[tokio::test]
async fn a_broker_that_goes_away_is_left_in_peace_and_its_wait_is_kept() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (mut states, mut refusals) = (client.states(), client.refusals());
    let go_away = wire::GoAway { code: 23, message: "restarting".into(), reconnect_after_ms: 60_000 };
    conversation.send(ServerFrame::GoAway(go_away)).await;
    // Read behind the GoAway, so it tells that the client knows.
    conversation.send(ServerFrame::PublishRefused(wire::PublishRefused::default())).await;
    guarded("the client to know", refusals.next()).await;
    client.publish(Publish::to_topic("a")).await.unwrap();
    let zones = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe_zones([]).await.map(drop) }
    });
    conversation.close(ErrorCode::ShuttingDown, "");
    let disconnected = states.wait_for(|state| matches!(state, ConnectionState::Disconnected { .. }));
    let Some(ConnectionState::Disconnected { reason, retry_in }) = guarded("it to end", disconnected).await else {
        panic!("disconnected")
    };
    assert!(matches!(&reason, LinkError::Ended { code: 23, message } if message == "restarting"), "{reason:?}");
    assert!((60.0..=61.1).contains(&retry_in.as_secs_f64()), "what was asked, and a second's spread: {retry_in:?}");
    assert_eq!(guarded("closing", client.close()).await, Err(CloseError::Unsent { publishes: 1 }));
    assert_eq!(zones.await.unwrap(), Err(ZoneError::Closed));
}

#[tokio::test]
async fn after_a_fatal_code_it_stays_away() {
    for code in [
        ErrorCode::MalformedFrame,
        ErrorCode::UnknownFrame,
        ErrorCode::UnexpectedFrame,
        ErrorCode::UnsupportedVersion,
        ErrorCode::InvalidHello,
        ErrorCode::FrameTooLarge,
        ErrorCode::SessionReplaced,
        ErrorCode::StaleIncarnation,
        ErrorCode::Unauthenticated,
    ] {
        let broker = FakeBroker::start();
        let (client, conversation) = connected(&broker).await;
        conversation.close(code, "because");
        let reason = loop {
            tokio::select! {
                reason = closed(&client) => break reason,
                // Only when the farewell, which is one packet, was lost.
                again = broker.welcome() => again.close(code, "because"),
            }
        };
        let ClosedReason::Fatal(LinkError::Ended { code: told, message }) = reason else {
            panic!("{code:?}: {reason:?}")
        };
        assert_eq!((told, &message[..]), (code as u32, "because"));
        assert_eq!(client.publish(Publish::to_topic("a")).await, Err(PublishError::Closed));
        assert_eq!(client.states().next().await.map(drop), None);
        assert_eq!(client.refusals().next().await, None);
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_first_connection_is_an_error_of_connect() {
    let broker = FakeBroker::start();
    let connecting = tokio::spawn(Client::connect(broker.config("c")));
    broker.accept().await.close(ErrorCode::StaleIncarnation, "a newer run is live");
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(LinkError::Ended { code: 21, .. })), "{error:?}");
    assert!(error.to_string().contains("STALE_INCARNATION: a newer run is live"), "{error}");
}

#[tokio::test]
async fn goodbye_comes_after_all_publishes_and_their_answers() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    client.publish(Publish::to_topic("a")).await.unwrap();
    let receipt = client.publish_with_ack(Publish::to_topic("b")).await.unwrap();
    let closing = tokio::spawn(async move { client.close().await });
    let mut lane = conversation.lane().await;
    let (_, first) = lane.next_publish().await;
    let (_, event) = lane.next_publish().await;
    assert!(lane.try_next().await.is_none(), "the lane is finished");
    conversation.ack(&first, 0).await;
    conversation.ack(&event, 3).await;
    assert_eq!(receipt.await.unwrap().matched, 3);
    assert!(matches!(conversation.control.next().await, ClientFrame::Goodbye(_)));
    assert!(conversation.control.try_next().await.is_none(), "the control stream is finished");
    conversation.close(ErrorCode::Unspecified, "");
    guarded("closing", closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_ever() {
    let broker = FakeBroker::start();
    let config = broker.config("c").close_timeout(Duration::from_millis(50));
    let (client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    let receipt = client.publish_with_ack(Publish::to_topic("a")).await.unwrap();
    guarded("closing", client.close()).await.unwrap();
    assert_eq!(receipt.await, Err(PublishError::Closed));
    guarded("the connection's end", conversation.connection.closed()).await;
}

/// A runtime of the client's own, to be shut down beneath it.
#[tokio::test]
async fn whoever_waits_for_a_client_whose_runtime_has_ended_is_told() {
    let broker = FakeBroker::start();
    let (shut_down, until) = tokio::sync::oneshot::channel::<()>();
    let (connect, connected) = tokio::sync::oneshot::channel();
    let config = broker.config("c").lane_queue_bytes_max(1);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            connect.send(Client::connect(config).await.unwrap()).unwrap();
            let _ = until.await;
        });
    });
    let (client, mut conversation) = tokio::join!(connected, broker.welcome());
    let client = client.unwrap();
    let (topic, _) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    let mut topic = topic.unwrap();
    let receipt = client.publish_with_ack(Publish::to_topic("a")).await.unwrap();
    let full = tokio::spawn({
        let client = client.clone();
        async move { client.publish(Publish::to_topic("a")).await }
    });
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("b").await.map(drop) }
    });
    assert!(matches!(conversation.next_request().await, ClientFrame::UpdateTopics(_)));
    drop(shut_down);
    thread.join().unwrap();
    assert_eq!(guarded("the receipt", receipt).await, Err(PublishError::Closed));
    assert_eq!(guarded("the publish", full).await.unwrap(), Err(PublishError::Closed));
    assert_eq!(guarded("the answer", subscribing).await.unwrap(), Err(SubscribeError::Closed));
    assert!(guarded("the subscription's end", topic.next()).await.is_none());
    assert!(matches!(closed(&client).await, ClosedReason::Aborted));
    assert!(matches!(guarded("closing", client.close()).await, Err(CloseError::Aborted { .. })));
}

/// Neither by what waits to be written, nor by a broker that is stuck while its QUIC stack lives.
#[tokio::test]
async fn closing_does_not_wait_behind_what_cannot_be_written() {
    let broker = FakeBroker::start();
    let config = broker.config("c").close_timeout(Duration::from_millis(50));
    let (client, mut conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    let zones = zones.unwrap();
    let kinds = (0..30).map(|n| format!("{n:060}")).collect::<Vec<_>>();
    // Each of a megabyte.
    let changes = (0..8_u32).map(|first| {
        let zone = |n: u32| ZoneSpec::new(first * 500 + n, "earth", Zone::new(0.0, 0.0, 1.0, 1.0).unwrap());
        let put = (1..=500).map(|n| zone(n).kinds(kinds.clone())).collect::<Vec<_>>();
        let control = zones.control();
        tokio::spawn(async move { control.put(put).await })
    });
    let changes = changes.collect::<Vec<_>>();
    // Read a little, so that the client has begun to write them.
    assert!(matches!(conversation.next_request().await, ClientFrame::UpdateZones(_)));
    guarded("closing", client.close()).await.unwrap();
    for change in changes {
        assert_eq!(guarded("the answer", change).await.unwrap(), Err(ZoneError::Closed));
    }
}

#[tokio::test]
async fn the_last_handle_takes_leave() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let clone = client.clone();
    drop(client);
    clone.publish(Publish::to_topic("a")).await.unwrap();
    drop(clone);
    let (_, event) = conversation.lane().await.next_publish().await;
    conversation.ack(&event, 1).await;
    assert!(matches!(conversation.control.next().await, ClientFrame::Goodbye(_)));
}

#[tokio::test]
async fn clients_may_share_an_endpoint() {
    let broker = FakeBroker::start();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut ports = Vec::new();
    let mut clients = Vec::new();
    for name in ["a", "b"] {
        let config = broker.config(name).endpoint(endpoint.clone());
        let (client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
        ports.push(conversation.connection.remote_address().port());
        clients.push((client.unwrap(), conversation));
    }
    assert_eq!(ports[0], ports[1]);
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_client_connected_or_not() {
    let broker = FakeBroker::start();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let config = broker.config("c").endpoint(endpoint.clone());
    let (client, mut conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    let (topic, _) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    client.publish(Publish::to_topic("b")).await.unwrap();
    drop(client);
    assert!(tasks() > before, "the subscription keeps the client");
    conversation.close(ErrorCode::ShuttingDown, "");
    // Nobody answers at the other end any more.
    drop((topic.unwrap(), conversation));
    guarded("the tasks' end", async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let broker = FakeBroker::start();
    assert!(!format!("{:?}", broker.config("c").token("swordfish")).contains("swordfish"));
}
