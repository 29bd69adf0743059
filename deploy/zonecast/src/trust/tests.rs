use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use zonecast_access::{Claims, SigningKey, TokenError};
use zonecast_client::{Client, ConnectionState};
use zonecast_protocol::Rights;

use super::*;
use crate::{cert, local_broker::LocalBroker};

/// Longer than anything here takes.
const GUARD: Duration = Duration::from_secs(20);

/// What the issuer answers.
#[derive(Default)]
struct Answers {
    keys: String,
    revoked: Revocations,
    /// Whether it is asked for revocations in vain.
    is_mute: bool,
}

/// An issuer of tokens, by HTTPS on this machine.
struct Issuer {
    address: SocketAddr,
    ca: String,
    answers: Arc<Mutex<Answers>>,
}

impl Issuer {
    async fn start() -> Self {
        let pem = cert::throwaway().unwrap().pem;
        let chain = CertificateDer::pem_slice_iter(pem.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::<Mutex<Answers>>::default();
        tokio::spawn(serve(listener, acceptor, Arc::clone(&answers)));
        Self { address, ca: pem.ca, answers }
    }

    fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn keeper(&self) -> TrustKeeper {
        let url = format!("https://localhost:{}", self.address.port());
        let source = KeySource::Authority(Authority::new(&url, Some(self.ca.as_bytes())).unwrap());
        TrustKeeper::new(TokenSettings { issuer: "i".into(), audience: "a".into(), source })
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answers: Arc<Mutex<Answers>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let (status, body) = {
            let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            match request.split(' ').nth(1).unwrap() {
                "/.well-known/jwks.json" => ("200 OK", answers.keys.clone()),
                "/.well-known/zonecast-revocations.json" if answers.is_mute => {
                    ("503 Service Unavailable", String::new())
                }
                "/.well-known/zonecast-revocations.json" => {
                    ("200 OK", serde_json::to_string(&answers.revoked).unwrap())
                }
                _ => ("404 Not Found", String::new()),
            }
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

fn token(key: &SigningKey) -> String {
    let claims = Claims {
        issuer: "i".into(),
        audience: BTreeSet::from(["a".into()]),
        subject: "server:zone".parse().unwrap(),
        login: "login".into(),
        issued_at: now_s(),
        expires_at: now_s() + 600,
        scopes: BTreeSet::new(),
        rights: Rights::everything(),
    };
    claims.sign(key).unwrap()
}

fn jwks(keys: &[&SigningKey]) -> String {
    Keys::jwks(keys.iter().map(|key| (key.id(), key.public())))
}

async fn until(trust: &mut watch::Receiver<Arc<Trust>>, what: impl FnMut(&Arc<Trust>) -> bool) {
    timeout(GUARD, trust.wait_for(what)).await.expect("what is awaited comes").unwrap();
}

#[tokio::test]
async fn nobody_is_admitted_before_there_are_keys_and_a_new_key_is_asked_for() {
    let issuer = Issuer::start().await;
    let (old, new) = (SigningKey::generate("old").unwrap(), SigningKey::generate("new").unwrap());
    let keeper = issuer.keeper();
    let (mut trust, upkeep) = (keeper.trust(), keeper.upkeep());
    assert_eq!(trust.borrow().admit(&token(&old), now_s()), Err(TokenError::UnknownKey));
    let keeping = tokio::spawn(keeper.keep());
    issuer.answer(|answers| answers.keys = jwks(&[&old]));
    until(&mut trust, |trust| trust.keys.contains("old")).await;
    assert!(trust.borrow().admit(&token(&old), now_s()).is_ok());
    issuer.answer(|answers| answers.keys = jwks(&[&old, &new]));
    let begun = Instant::now();
    upkeep.see_unknown_key();
    until(&mut trust, |trust| trust.keys.contains("new")).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "long before the minute is over");
    assert!(upkeep.freshness().keys_read_at() > 0);
    keeping.abort();
}

#[tokio::test]
async fn no_key_counts_before_it_is_known_what_is_revoked() {
    let issuer = Issuer::start().await;
    let key = SigningKey::generate("k").unwrap();
    issuer.answer(|answers| {
        (answers.keys, answers.is_mute) = (jwks(&[&key]), true);
        answers.revoked.logins.extend(["login".to_owned()]);
    });
    let keeper = issuer.keeper();
    let mut trust = keeper.trust();
    let keeping = tokio::spawn(keeper.keep());
    // Long enough for many looks, and for keys that do not wait for the revocations.
    assert!(timeout(Duration::from_secs(3), trust.changed()).await.is_err());
    issuer.answer(|answers| answers.is_mute = false);
    until(&mut trust, |trust| trust.keys.contains("k")).await;
    assert_eq!(trust.borrow().admit(&token(&key), now_s()), Err(TokenError::Revoked));
    keeping.abort();
}

#[tokio::test]
async fn what_is_revoked_ends_at_the_broker_within_five_seconds() {
    let issuer = Issuer::start().await;
    let key = SigningKey::generate("k").unwrap();
    issuer.answer(|answers| answers.keys = jwks(&[&key]));
    let keeper = issuer.keeper();
    let (mut trust, upkeep) = (keeper.trust(), keeper.upkeep());
    let local = LocalBroker::start(None, |config| (config.trust, config.trust_upkeep) = (Some(keeper.trust()), upkeep));
    let local = local.await.unwrap();
    let keeping = tokio::spawn(keeper.keep());
    until(&mut trust, |trust| trust.keys.contains("k")).await;
    let client = Client::connect(local.client("zone".into()).token(token(&key))).await.unwrap();

    let revoked = Instant::now();
    issuer.answer(|answers| answers.revoked.logins.extend(["login".to_owned()]));
    let mut states = client.states();
    let closed = states.wait_for(|state| matches!(state, ConnectionState::Closed { .. }));
    let Some(ConnectionState::Closed { reason }) = timeout(GUARD, closed).await.unwrap() else { panic!("no end") };
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    assert!(reason.to_string().contains("revoked"), "{reason}");
    keeping.abort();
}

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (old, new) = (SigningKey::generate("old").unwrap(), SigningKey::generate("new").unwrap());
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let keys = Keys::from_jwks(&jwks(&[&old])).unwrap();
    let source = KeySource::File { path: path.clone(), keys, look_every: Duration::from_millis(10) };
    let keeper = TrustKeeper::new(TokenSettings { issuer: "i".into(), audience: "a".into(), source });
    let mut trust = keeper.trust();
    assert!(trust.borrow().admit(&token(&old), now_s()).is_ok());
    let keeping = tokio::spawn(keeper.keep());
    std::fs::write(&path, jwks(&[&new])).unwrap();
    until(&mut trust, |trust| trust.keys.contains("new") && !trust.keys.contains("old")).await;
    keeping.abort();
}

#[tokio::test]
async fn a_keeper_that_panics_has_failed_and_where_there_is_none_none_does() {
    let mut keeping = Some(Keeping(tokio::spawn(async { panic!("as it must not") })));
    failed(&mut keeping).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), failed(&mut None)).await.is_err());
}
