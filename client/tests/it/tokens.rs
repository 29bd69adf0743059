//! Where the token comes from, and when another is shown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use zonecast_client::{Client, ClientConfig, ClosedReason, ConnectError, ConnectionState, ErrorCode, LinkError};
use zonecast_protocol::wire::{self, client_frame::Frame as ClientFrame, server_frame::Frame as ServerFrame};

use crate::broker::{Conversation, FakeBroker, guarded};

/// A client that is asked for `t1`, `t2`, and so on.
fn counting(broker: &FakeBroker) -> (ClientConfig, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let config = broker.config("c").token_from(move || {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok::<_, std::io::Error>(format!("t{number}")) }
    });
    (config, asked)
}

fn deny(conversation: &Conversation) {
    conversation.connection.close((ErrorCode::Unauthenticated as u32).into(), b"the token has expired");
}

async fn renewal(conversation: &mut Conversation) -> wire::Renew {
    loop {
        match conversation.control.next().await {
            ClientFrame::Renew(renew) => return renew,
            ClientFrame::DeliveryAck(_) => {}
            other => panic!("{other:?} instead of a renewal"),
        }
    }
}

#[tokio::test]
async fn a_session_is_renewed_before_its_token_expires() {
    let broker = FakeBroker::start();
    let (config, asked) = counting(&broker);
    let connecting = tokio::spawn(Client::connect(config));
    let mut conversation = broker.accept().await;
    assert_eq!(conversation.hello.token, "t1");
    conversation.welcome_with(|welcome| welcome.token_expires_in_ms = 1_000).await;
    let client = connecting.await.unwrap().unwrap();
    let renew = renewal(&mut conversation).await;
    assert_eq!((renew.token.as_str(), renew.request_id), ("t2", 1));
    // One that is not taken is followed by another.
    let refused = wire::RequestRefused {
        request_id: 1,
        code: ErrorCode::InvalidToken.into(),
        message: "the token is by another issuer".into(),
    };
    conversation.send(ServerFrame::RequestRefused(refused)).await;
    let renew = renewal(&mut conversation).await;
    assert_eq!((renew.token.as_str(), renew.request_id), ("t3", 2));
    conversation.send(ServerFrame::Renewed(wire::Renewed { request_id: 2, token_expires_in_ms: 1_000 })).await;
    let renew = renewal(&mut conversation).await;
    assert_eq!((renew.token.as_str(), renew.request_id), ("t4", 3));
    // One that does not end needs none behind it.
    conversation.send(ServerFrame::Renewed(wire::Renewed { request_id: 3, token_expires_in_ms: 0 })).await;
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert!(matches!(client.states().current(), ConnectionState::Connected { .. }));
}

#[tokio::test]
async fn each_connection_shows_the_token_of_that_time() {
    let broker = FakeBroker::start();
    let (config, _) = counting(&broker);
    let connecting = tokio::spawn(Client::connect(config));
    let conversation = broker.welcome().await;
    let _client = connecting.await.unwrap().unwrap();
    conversation.connection.close((ErrorCode::TokenExpired as u32).into(), b"the token has expired");
    assert_eq!(broker.welcome().await.hello.token, "t2");
}

#[tokio::test]
async fn who_is_refused_shows_another_token_a_few_times() {
    let broker = FakeBroker::start();
    let (config, _) = counting(&broker);
    let connecting = tokio::spawn(Client::connect(config));
    deny(&broker.accept().await);
    let conversation = broker.welcome().await;
    assert_eq!(conversation.hello.token, "t2");
    let client = connecting.await.unwrap().unwrap();
    deny(&conversation);
    for token in ["t3", "t4", "t5", "t6"] {
        let conversation = broker.accept().await;
        assert_eq!(conversation.hello.token, token);
        deny(&conversation);
    }
    let mut states = client.states();
    let closed = states.wait_for(|state| matches!(state, ConnectionState::Closed { .. }));
    let Some(ConnectionState::Closed { reason }) = guarded("the end", closed).await else { panic!("no end") };
    assert!(matches!(reason, ClosedReason::Fatal(LinkError::Ended { code: 25, .. })), "{reason:?}");
}

#[tokio::test]
async fn a_fixed_token_that_is_refused_is_the_end() {
    let broker = FakeBroker::start();
    let connecting = tokio::spawn(Client::connect(broker.config("c").token("t")));
    deny(&broker.accept().await);
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(LinkError::Ended { code: 25, .. })), "{error:?}");
}

#[tokio::test]
async fn a_token_that_nobody_has_is_waited_for() {
    let broker = FakeBroker::start();
    let asked = AtomicU32::new(0);
    let config = broker.config("c").token_from(move || {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if is_first { Err("the vault is sealed") } else { Ok("t".to_owned()) } }
    });
    let connecting = tokio::spawn(Client::connect(config.connect_timeout(Duration::from_secs(40))));
    let conversation = broker.welcome().await;
    assert_eq!(conversation.hello.token, "t");
    connecting.await.unwrap().unwrap();
}
