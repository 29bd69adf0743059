//! Both services in one process, and callers from various places.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::Request as HttpRequest, middleware};
use sqlx::Row;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tonic::{Code, Response, Status, body::Body, service::Routes};
use zonecast_access::{Claims, Trust};
use zonecast_api::{
    DESCRIPTORS, auth::v1::auth_service_client::AuthServiceClient, users::v1::users_service_client::UsersServiceClient,
};
use zonecast_auth::{Auth, AuthConfig, Clock, HashingConfig};
use zonecast_doors::{Bearers, Entrance, EntranceLimits, Methods, Origin, Peers, RpcMetrics};
use zonecast_host::Tasks;
use zonecast_protocol::{
    auth::v1::{
        AuditEntry, CreateCredentialRequest, IssueTokenRequest, ListAuditRequest, LogInRequest, LogInResponse,
        RegisterRequest, RegisterResponse,
    },
    changes::v1::Change,
};
use zonecast_store::Database;

/// Good enough for anybody.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

thread_local! {
    /// How far a test's clock is ahead.
    static AHEAD_S: Cell<i64> = const { Cell::new(0) };
}

/// The time of this test.
pub(crate) fn now() -> OffsetDateTime {
    zonecast_store::now() + time::Duration::seconds(AHEAD_S.get())
}

pub(crate) fn now_s() -> u64 {
    now().unix_timestamp().unsigned_abs()
}

/// Time passes.
pub(crate) fn pass(time: Duration) {
    AHEAD_S.set(AHEAD_S.get() + i64::try_from(time.as_secs()).unwrap());
}

/// Passwords that cost next to nothing.
pub(crate) const CHEAP: HashingConfig =
    HashingConfig { memory_kib: 8, passes: 1, lanes: 1, threads: 1, waiting_max: 2_000 };

pub(crate) fn config() -> AuthConfig {
    let mut config = AuthConfig::new("https://auth.test", "zonecast");
    config.clock = Clock::new(now);
    config.hashing = CHEAP;
    config
}

/// The services of one process.
pub(crate) struct Ground {
    pub(crate) database: Database,
    pub(crate) trust: watch::Receiver<Arc<Trust>>,
    pub(crate) tasks: Tasks,
    pub(crate) entrance: Entrance,
    /// While set, the users service makes users and never says so.
    pub(crate) is_mute: Arc<AtomicBool>,
    /// Notified each time that it did.
    pub(crate) made: Arc<Notify>,
}

impl Ground {
    pub(crate) async fn new(database: &Database) -> Self {
        Self::with(database, config()).await
    }

    pub(crate) async fn with(database: &Database, config: AuthConfig) -> Self {
        let trust = config.trust.subscribe();
        let peers = Peers::new(watch::channel(None).1);
        let tasks = Tasks::default();
        let definitions = [zonecast_users::definition(), zonecast_auth::definition(config)];
        let (is_mute, made) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let mut routes = Routes::default();
        let mut names = Vec::new();
        for definition in &definitions {
            names.extend(definition.services);
            let ground = zonecast_host::Ground::new(database.clone(), 1 << 20, peers.clone(), tasks.clone());
            routes = (definition.mount)(ground, routes).await.unwrap();
        }
        let (mute, told) = (Arc::clone(&is_mute), Arc::clone(&made));
        let router = routes.into_axum_router().layer(middleware::from_fn(
            move |request: HttpRequest, next: middleware::Next| {
                let is_mute = mute.load(Relaxed) && request.uri().path().ends_with("/CreateUser");
                let told = Arc::clone(&told);
                async move {
                    let answer = next.run(request).await;
                    if is_mute {
                        told.notify_one();
                        std::future::pending::<()>().await;
                    }
                    answer
                }
            },
        ));
        let methods = Methods::of(DESCRIPTORS, &names).unwrap();
        let gatekeeper = Arc::new(Bearers::new(trust.clone(), now_s));
        let limits =
            EntranceLimits { calls_max: 10_000, timeout: Duration::from_secs(60), ..EntranceLimits::default() };
        let entrance =
            Entrance::new(Routes::from(router).prepare(), methods, gatekeeper, RpcMetrics::default(), limits);
        peers.set_within(entrance.clone());
        Self { database: database.clone(), trust, tasks, entrance, is_mute, made }
    }

    /// Whoever calls from there.
    pub(crate) fn from(&self, origin: u64, token: &str) -> Way {
        Way { entrance: self.entrance.clone(), origin: Origin::Client(origin), token: token.to_owned() }
    }

    /// Somebody without a token.
    pub(crate) fn anybody(&self) -> AuthServiceClient<Way> {
        AuthServiceClient::new(self.from(1, ""))
    }

    /// Who bears a token.
    pub(crate) fn bearer(&self, token: &str) -> AuthServiceClient<Way> {
        AuthServiceClient::new(self.from(1, token))
    }

    /// The users service, for who bears a token.
    pub(crate) fn users(&self, token: &str) -> UsersServiceClient<Way> {
        UsersServiceClient::new(self.from(1, token))
    }

    pub(crate) async fn register(&self, name: &str) -> Result<RegisterResponse, Status> {
        let request = RegisterRequest { name: name.to_owned(), password: PASSWORD.to_owned() };
        self.anybody().register(request).await.map(Response::into_inner)
    }

    pub(crate) async fn log_in(&self, name: &str, password: &str) -> Result<LogInResponse, Status> {
        log_in(&mut self.anybody(), name, password).await
    }

    /// What a token says, where it is trusted.
    pub(crate) fn admit(&self, token: &str) -> Result<Claims, zonecast_access::TokenError> {
        self.trust.borrow().admit(token, now_s())
    }

    /// The token of a service with these scopes.
    pub(crate) async fn service(&self, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let request = CreateCredentialRequest { subject: "service:test".into(), scopes, ..Default::default() };
        let credential = Auth::bootstrap(&self.database, &request).await.unwrap();
        let request = IssueTokenRequest { client_id: credential.client_id, secret: credential.secret };
        self.anybody().issue_token(request).await.unwrap().into_inner().access_token
    }

    /// The audit log, newest first, but what reading it adds.
    pub(crate) async fn audit(&self) -> Vec<AuditEntry> {
        let token = self.service(&["auth.audit"]).await;
        let request = ListAuditRequest { page_size: 1_000, ..Default::default() };
        let entries = self.bearer(&token).list_audit(request).await.unwrap().into_inner().entries;
        // The reader's own credential and token.
        entries.into_iter().skip(2).collect()
    }
}

/// Does something to a database; how many rows it concerns.
pub(crate) async fn execute(database: &Database, statement: &'static str) -> u64 {
    match database {
        Database::Sqlite(pool) => {
            sqlx::query(statement).execute(&mut pool.writer().await.unwrap()).await.unwrap().rows_affected()
        }
        Database::Postgres(pool) => sqlx::query(statement).execute(pool).await.unwrap().rows_affected(),
    }
}

pub(crate) async fn log_in(
    client: &mut AuthServiceClient<Way>,
    name: &str,
    password: &str,
) -> Result<LogInResponse, Status> {
    let request = LogInRequest { name: name.to_owned(), password: password.to_owned() };
    client.log_in(request).await.map(Response::into_inner)
}

/// Whether the services take a token.
pub(crate) async fn is_taken(ground: &Ground, token: &str) -> bool {
    let asked = ground.bearer(token).get_keys(zonecast_protocol::auth::v1::GetKeysRequest {}).await;
    asked.map_err(|status| assert_eq!(status.code(), Code::Unauthenticated, "{status}")).is_ok()
}

/// The changes that are recorded on a topic, in order.
pub(crate) async fn changes(database: &Database, topic: &str) -> Vec<Change> {
    let query = "select detail_type, detail from outbox where topic = $1 order by sequence";
    let rows: Vec<(String, Vec<u8>)> = match database {
        Database::Sqlite(pool) => {
            let rows = sqlx::query(query).bind(topic).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        }
        Database::Postgres(pool) => {
            let rows = sqlx::query(query).bind(topic).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        }
    };
    let change =
        |(type_url, value)| Change { detail: Some(prost_types::Any { type_url, value }), ..Default::default() };
    rows.into_iter().map(change).collect()
}

/// What lies between a client and the entrance: from where it calls, and with which token.
#[derive(Clone)]
pub(crate) struct Way {
    entrance: Entrance,
    origin: Origin,
    token: String,
}

impl tower_service::Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.origin);
        if !self.token.is_empty() {
            let value = format!("Bearer {}", self.token).parse().unwrap();
            request.headers_mut().insert(http::header::AUTHORIZATION, value);
        }
        tower_service::Service::call(&mut self.entrance, request)
    }
}

/// Waits until something is so that nobody tells of, for at most 20 s.
pub(crate) async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never came to be so");
}
