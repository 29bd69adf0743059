//! `zonecast dev` on a machine that has nothing.

use serde_json::Value;

use super::{text, zonecast};

#[test]
fn it_plays_the_sample_and_ends_by_itself() {
    let arguments = ["dev", "--seconds", "2", "--json", "--speed", "100000", "--listen", "127.0.0.1:0"];
    let output = zonecast()
        .args(arguments)
        .args(["--admin-listen", "127.0.0.1:0", "--services-listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "one JSON object and nothing else: {printed}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&report["sessions"], &report["zones"]), (&Value::from(175), &Value::from(286)));
    for key in ["lost", "duplicated", "unexpected", "miscounted_acks"] {
        assert_eq!(report[key], 0, "{report}");
    }
    assert!(report["deliveries"].as_u64().unwrap() > 50, "{report}");
    for word in
        ["broker", "auth/Register", "/metrics", "ZONECAST_CA=", "zonecast game-server", "zonecast pub", "sessions"]
    {
        assert!(told.contains(word), "{word} in {told}");
    }
}

#[test]
fn a_port_in_use_is_said_so() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = zonecast().args(["dev", "--admin-listen", "127.0.0.1:0", "--listen", &listen]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains(&listen) && told.contains("in use"), "{told}");
}
