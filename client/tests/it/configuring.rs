//! What can be configured, and what cannot.

use std::time::Duration;

use zonecast_client::{Client, ClientConfig, ConnectError, ErrorCode, TlsConfig};

use crate::broker::{FakeBroker, guarded, topic_event};

#[tokio::test]
async fn bad_configurations_are_named() {
    let broker = FakeBroker::start();
    let error = |config: ClientConfig| async { Client::connect(config).await.unwrap_err() };
    assert!(matches!(error(broker.config("no spaces")).await, ConnectError::ClientId(_)));
    assert!(matches!(error(ClientConfig::new("c").tls(broker.tls())).await, ConnectError::NoAddress));
    assert!(matches!(error(ClientConfig::new("c").address("a:1")).await, ConnectError::NoTls));
    assert!(matches!(error(broker.config("c").address("nonsense")).await, ConnectError::BadAddress { .. }));
    for (keep_alive, idle_timeout) in [(0, 10), (3, 0), (10, 10), (20, 10)] {
        let mut transport = zonecast_client::TransportOptions::default();
        (transport.keep_alive, transport.idle_timeout) =
            (Duration::from_secs(keep_alive), Duration::from_secs(idle_timeout));
        assert!(matches!(error(broker.config("c").transport(transport)).await, ConnectError::BadOption { .. }));
    }
    let spinning = broker.config("c").backoff(Duration::ZERO, Duration::from_secs(1));
    assert!(matches!(error(spinning).await, ConnectError::BadOption { .. }));
    assert!(TlsConfig::from_ca_pem(b"nonsense").unwrap_err().to_string().contains("CA certificate"));
    assert!(TlsConfig::from_files(None, None).unwrap_err().to_string().contains("name the PEM file"));
    let missing = TlsConfig::from_files(Some("no-such-directory/ca.pem".as_ref()), None).unwrap_err();
    assert!(missing.to_string().contains("no-such-directory/ca.pem"));
}

#[tokio::test]
async fn for_ever_is_a_time_that_can_be_waited() {
    let broker = FakeBroker::start();
    let mut transport = zonecast_client::TransportOptions::default();
    transport.idle_timeout = Duration::MAX;
    transport.keep_alive = Duration::MAX / 2;
    let for_ever = broker
        .config("c")
        .transport(transport)
        .attempt_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .close_timeout(Duration::MAX)
        .publish_timeout(Duration::MAX)
        .resend_hold_off(Duration::MAX)
        .resume_window(Duration::MAX)
        .backoff(Duration::from_millis(1), Duration::MAX);
    let (client, mut conversation) = tokio::join!(Client::connect(for_ever), broker.welcome());
    let client = client.unwrap();
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.request("svc", "", Duration::MAX).await.map(drop) }
    });
    conversation.grant_topics().await;
    let (_, event) = conversation.lane().await.next_publish().await;
    conversation.cut();
    let mut conversation = broker.welcome().await;
    conversation.grant_topics().await;
    conversation.deliver(&topic_event(&event.reply_to, 1)).await;
    guarded("the reply", asking).await.unwrap().unwrap();
    let closing = tokio::spawn(async move { client.close().await });
    conversation.close(ErrorCode::Unspecified, "");
    let _ = guarded("closing", closing).await.unwrap();
}
