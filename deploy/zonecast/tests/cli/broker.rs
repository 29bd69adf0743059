use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
};

use super::{
    certificates,
    server::{Server, signal},
    text, zonecast,
};

#[test]
fn it_logs_its_addresses_and_ends_gracefully_on_either_signal() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    for (signal, format) in [("TERM", "json"), ("INT", "gcp")] {
        let mut broker = Server::start("127.0.0.1:0", &flags, format);
        let event = broker.event("broker is listening");
        for field in ["listen", "admin"] {
            let address: std::net::SocketAddr = event[field].as_str().unwrap().parse().unwrap();
            assert_ne!(address.port(), 0, "{event}");
        }
        broker.signal(signal);
        assert_eq!(
            broker.event("broker is shutting down; a second signal ends it at once")["signal"],
            format!("SIG{signal}")
        );
        broker.event("broker has stopped");
        assert_eq!(broker.end(), (Some(0), String::new()));
    }
}

#[test]
fn it_warns_when_any_client_may_connect() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut open = Server::start("127.0.0.1:0", &flags, "json");
    let warning = open.event(
        "any client that can reach the broker may do everything: neither tokens nor client certificates are asked for",
    );
    assert_eq!(warning["level"], "WARN");
    open.event("broker is listening");
    open.signal("TERM");
    assert_eq!(open.end().0, Some(0));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut broker = Server::start(&address, &flags, "json");
    // Its log ends where it would otherwise say that it listens.
    let mut log = String::new();
    while broker.log.read_line(&mut log).unwrap() > 0 {
        assert!(!log.contains("broker is listening"), "{log}");
    }
    let (code, message) = broker.end();
    assert_eq!(code, Some(1), "{message}");
    assert!(message.starts_with("error: the broker cannot start: ") && message.contains(&address), "{message}");
    assert_eq!((message.lines().count(), message.matches("in use").count()), (1, 1), "{message}");
}

#[test]
fn the_certificates_of_clients_open_a_broker_that_demands_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut flags = certificates(directory.path()).to_vec();
    let path = |file: &str| directory.path().join("certs").join(file).to_str().unwrap().to_owned();
    flags.extend(["--tls-client-ca".to_owned(), path("ca.pem")]);
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let address = broker.event("broker is listening")["listen"].as_str().unwrap().to_owned();
    let publish = |identity: &[String]| {
        let call = ["pub", "--topic", "t", "--connect", &address, "--ca", &path("ca.pem")];
        zonecast().args(call).args(identity).output().unwrap()
    };
    let known = publish(&["--cert".into(), path("client-shard-1.pem"), "--key".into(), path("client-shard-1.key")]);
    assert_eq!(known.status.code(), Some(0), "{}", text(&known.stderr));
    let identity = ["--cert".into(), path("client-shard-1.pem"), "--key".into(), path("client-shard-1.key")];
    let other = publish(&[&identity[..], &["--client-id".into(), "shard-2".into()]].concat());
    let message = text(&other.stderr);
    assert_eq!(other.status.code(), Some(1));
    assert!(message.contains("client_id is shard-2") && message.contains("zonecast://client/shard-1"), "{message}");
    // The broker's own certificate is signed by the same authority, but not for clients.
    let server = publish(&["--cert".into(), path("server.pem"), "--key".into(), path("server.key")]);
    assert_eq!(server.status.code(), Some(1), "{}", text(&server.stderr));
    let unknown = publish(&[]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn a_lack_of_open_files_is_told_and_outlived() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::with_open_files(32, &flags);
    let [listen, admin] = broker.addresses();
    let hoarded: Vec<_> = (0..64).map(|_| TcpStream::connect(&admin).unwrap()).collect();
    let told = broker.event("admin HTTP cannot take a connection; it tries again, and sessions are not affected");
    assert!(told["error"].as_str().unwrap().contains("Too many open files"), "{told}");
    let publish = || {
        let call = ["pub", "--topic", "t", "--connect", &listen, "--ca"];
        zonecast().args(call).arg(directory.path().join("certs/ca.pem")).output().unwrap()
    };
    let served = publish();
    assert!(served.status.success(), "{}", text(&served.stderr));
    drop(hoarded);
    let mut live = TcpStream::connect(&admin).unwrap();
    live.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    live.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

/// Whoever stops it need not wait for a client that does not leave.
#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let address = broker.event("broker is listening")["listen"].as_str().unwrap().to_owned();
    let mut client = zonecast()
        .args(["sub", "--topic", ">", "--connect", &address, "--ca"])
        .arg(directory.path().join("certs/ca.pem"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    BufReader::new(client.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.starts_with("connected to "), "{told}");
    // It is there, but will neither leave nor say anything.
    signal(&client, "STOP");

    broker.signal("TERM");
    broker.event("broker is shutting down; a second signal ends it at once");
    broker.signal("INT");
    broker.event("broker ends at once; what still waited for sessions is lost");
    let ended = broker.end();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(ended, (Some(1), String::new()));
}
