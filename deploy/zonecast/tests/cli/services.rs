//! The services as whole processes: both doors, topics that cannot lie, and what keeps them from serving all.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use prost::Message;
use tonic::{
    Code,
    body::Body,
    client::GrpcService,
    transport::{Certificate, Channel as GrpcChannel, ClientTlsConfig},
};
use zonecast_api::users::v1::users_service_client::UsersServiceClient;
use zonecast_client::{Client, ClientConfig, TlsConfig, TopicSubscription};
use zonecast_doors::broker::Channel;
use zonecast_protocol::{
    changes::v1::Change,
    users::v1::{
        CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, User, UserCreated,
        get_user_request::By,
    },
};

use super::{certificates, python::python, server::Server, text, zonecast};

const TOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/tests/python/services_tour.py");

/// Certificates, and an SQLite file, in a directory of the test's own.
pub(crate) struct Ground {
    directory: tempfile::TempDir,
    tls: [String; 4],
}

impl Ground {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = certificates(directory.path());
        Self { directory, tls }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("certs/ca.pem")
    }

    pub(crate) fn broker(&self, listen: &str) -> (Server, String) {
        let mut broker = Server::start(listen, &self.tls, "json");
        let [listen, _] = broker.addresses();
        (broker, listen)
    }

    /// `zonecast services` with everything that it needs but what a test is about.
    fn command(&self, broker: &str) -> Command {
        let mut command = zonecast();
        command.args(["services", "users", "--log-format", "json", "--services-brokers", broker]);
        command.args(["--services-listen", "127.0.0.1:0", "--services-admin-listen", "127.0.0.1:0"]);
        command.arg("--services-certificate").arg(self.path("certs/server.pem"));
        command.arg("--services-key").arg(self.path("certs/server.key")).arg("--services-broker-ca").arg(self.ca());
        command.args(["--services-calls-by-broker", "true"]);
        command.env("ZONECAST_DATABASE_URL", format!("sqlite:{}", self.path("services.db").display()));
        command
    }

    pub(crate) fn services(&self, broker: &str) -> (Server, [String; 2]) {
        let mut services = Server::spawn(self.command(broker));
        let listening = services.event("services are listening");
        let addresses = ["listen", "admin"].map(|field| listening[field].as_str().unwrap().to_owned());
        (services, addresses)
    }

    pub(crate) async fn grpc(&self, address: &str) -> UsersServiceClient<GrpcChannel> {
        let ca = Certificate::from_pem(std::fs::read_to_string(self.ca()).unwrap());
        let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
        let channel = GrpcChannel::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        UsersServiceClient::new(channel.connect().await.unwrap())
    }

    pub(crate) async fn client(&self, broker: &str) -> Client {
        let tls = TlsConfig::from_files(Some(&self.ca()), None).unwrap();
        let config = ClientConfig::new("listener").address(broker).server_name("localhost").tls(tls);
        Client::connect(config).await.unwrap()
    }
}

pub(crate) fn block_on<F: Future<Output = ()>>(body: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

/// The same calls by whatever carries them.
async fn tour<T>(mut users: UsersServiceClient<T>, name: &str) -> User
where
    T: GrpcService<Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>> + std::fmt::Debug,
    T::ResponseBody: tonic::transport::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::transport::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let create = |name: &str| CreateUserRequest { name: name.to_owned(), ..Default::default() };
    let made = users.create_user(create(name)).await.unwrap().into_inner().user.unwrap();
    let taken = users.create_user(create(&name.to_uppercase())).await.unwrap_err();
    assert_eq!((taken.code(), taken.message()), (Code::AlreadyExists, "the name is taken"));
    let bad = users.create_user(create("a\u{202e}\nb")).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
    let by = Some(By::Name(name.to_uppercase()));
    let got = users.get_user(GetUserRequest { by }).await.unwrap().into_inner().user.unwrap();
    assert_eq!(got, made);
    let (id, etag) = (made.id.clone(), made.etag.clone());
    let update = UpdateUserRequest { id: id.clone(), etag: etag.clone(), name: Some(format!("{name}-2")) };
    users.update_user(update.clone()).await.unwrap();
    assert_eq!(users.update_user(update).await.unwrap_err().code(), Code::Aborted);
    let listed = users.list_users(ListUsersRequest::default()).await.unwrap().into_inner().users;
    assert!(listed.iter().any(|user| user.id == id));
    users.delete_user(DeleteUserRequest { id: id.clone(), etag: String::new() }).await.unwrap();
    let gone = users.get_user(GetUserRequest { by: Some(By::Id(id)) }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    made
}

async fn changes(heard: &mut TopicSubscription, count: usize) -> Vec<(String, Change)> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let event = heard.next_event().await.unwrap();
        changes.push((event.topic().unwrap().to_owned(), Change::decode(event.payload()).unwrap()));
    }
    changes
}

#[test]
fn a_generated_client_runs_over_both_doors_and_every_change_is_heard() {
    block_on(async {
        let ground = Ground::new();
        let (_broker, broker) = ground.broker("127.0.0.1:0");
        let client = ground.client(&broker).await;
        let mut heard = client.subscribe("users.*").await.unwrap();
        let (mut services, [listen, admin]) = ground.services(&broker);
        services.event("calls are taken by the broker");

        tour(ground.grpc(&listen).await, "by-grpc").await;
        tour(UsersServiceClient::new(Channel::new(client.clone())), "by-broker").await;

        let changes = changes(&mut heard, 6).await;
        let topics: Vec<&str> = changes.iter().map(|(topic, _)| topic.as_str()).collect();
        let once = ["users.created", "users.updated", "users.deleted"];
        assert_eq!(topics, [once, once].concat());
        let sequences: Vec<u64> = changes.iter().map(|(_, change)| change.sequence).collect();
        assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);

        let metrics = get(&admin, "/metrics");
        for door in ["Grpc", "Broker"] {
            let line = format!(
                "zonecast_rpcs_total{{method=\"zonecast.users.v1.UsersService/CreateUser\",code=\"AlreadyExists\",\
                 door=\"{door}\"}} 1"
            );
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
        assert!(metrics.contains("zonecast_outbox_lease{store=\"users\"} 1.0"), "{metrics}");
        assert!(get(&admin, "/ready").starts_with("HTTP/1.1 200"));

        services.signal("TERM");
        services.event("services have stopped");
        let mut orphan = UsersServiceClient::new(Channel::new(client.clone()));
        let nobody = orphan.list_users(ListUsersRequest::default()).await.unwrap_err();
        assert_eq!(nobody.code(), Code::Unavailable, "{nobody}");
        assert_eq!(services.end(), (Some(0), String::new()));
    });
}

#[test]
fn what_was_committed_is_published_after_kill_9_and_what_was_refused_never() {
    block_on(async {
        let ground = Ground::new();
        // A port at which there is nobody yet.
        let later = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (services, [listen, _]) = ground.services(&later);
        let mut users = ground.grpc(&listen).await;
        let create = |name: &str| CreateUserRequest { name: name.to_owned(), ..Default::default() };
        let made = users.create_user(create("survivor")).await.unwrap().into_inner().user.unwrap();
        users.create_user(create("SURVIVOR")).await.unwrap_err();
        services.signal("KILL");
        assert_eq!(services.end().0, None);

        let (_broker, broker) = ground.broker(&later);
        let mut heard = ground.client(&broker).await.subscribe("users.*").await.unwrap();
        let (services, _) = ground.services(&broker);
        let [(topic, change)] = &changes(&mut heard, 1).await[..] else { panic!("one change") };
        assert_eq!((topic.as_str(), change.store.as_str(), change.sequence), ("users.created", "users", 1));
        let detail: UserCreated = change.detail.as_ref().unwrap().to_msg().unwrap();
        assert_eq!(detail.user, Some(made));
        services.signal("TERM");
        assert_eq!(services.end().0, Some(0));
    });
}

#[test]
fn without_identities_they_serve_this_machine_or_do_not_start() {
    let ground = Ground::new();
    for (flags, words) in [
        (&["--services-listen", "0.0.0.0:0"][..], "0.0.0.0:0 is not on loopback"),
        (&["--services-brokers", "broker.example.org:4433"], "broker.example.org:4433 is not on loopback"),
        (&["--database-replicas", "2"], "give them one PostgreSQL database"),
    ] {
        let mut command = zonecast();
        let given = ground.command("127.0.0.1:1");
        // A flag may be given once: what a test is about takes the place of what is there.
        let mut arguments = given.get_args().map(|part| part.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        if let Some(at) = arguments.iter().position(|argument| argument == flags[0]) {
            arguments.drain(at..at + 2);
        }
        command.args(arguments).args(flags).env("ZONECAST_DATABASE_URL", "sqlite:unused.db");
        let Output { status, stderr, .. } = command.current_dir(ground.directory.path()).output().unwrap();
        let told = text(&stderr);
        assert!(status.code() == Some(1) && told.lines().count() == 1 && told.contains(words), "{told}");
    }
}

#[test]
fn tables_that_lack_a_step_are_refused_until_migrate_has_run() {
    let ground = Ground::new();
    let strict = || {
        let mut command = ground.command("127.0.0.1:1");
        command.args(["--database-migrate", "false"]);
        command
    };
    let refused = strict().output().unwrap();
    let told = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && told.contains("run `zonecast migrate`"), "{told}");
    let url = format!("sqlite:{}", ground.path("services.db").display());
    for _ in 0..2 {
        let migrated = zonecast().args(["migrate", "users"]).env("ZONECAST_DATABASE_URL", &url).output().unwrap();
        assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    }
    let mut services = Server::spawn(strict());
    services.event("services are listening");
    services.signal("TERM");
    assert_eq!(services.end().0, Some(0));
}

/// From the `.proto` files, and from reflection alone; on the databases that there are.
#[test]
fn a_client_in_another_language_takes_the_tour() {
    let Some(python) = python() else { return };
    let ground = Ground::new();
    let (services, [listen, _]) = ground.services("127.0.0.1:1");
    let output = Command::new(python)
        .arg(Path::new(TOUR))
        .args(["--connect", &listen, "--ca"])
        .arg(ground.ca())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{said}");
    services.signal("TERM");
    assert_eq!(services.end().0, Some(0));
}

/// The answer to a GET, its head included.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
