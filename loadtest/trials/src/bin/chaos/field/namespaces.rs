//! Network namespaces: one for the brokers, one for each link, made before a run and removed after it.

use std::{fmt::Write, net::Ipv4Addr, path::Path};

use super::LINKS;
use crate::tool;

/// The brokers' address. It exists in their namespace alone.
pub(super) const BROKERS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The interface at the brokers' end of a link.
pub(super) fn interface(link: usize) -> String {
    format!("link{link}")
}

pub(super) fn of_brokers(prefix: &str) -> String {
    format!("{prefix}-b")
}

pub(super) fn of_link(prefix: &str, link: usize) -> String {
    format!("{prefix}-{link}")
}

fn all(prefix: &str) -> impl Iterator<Item = String> {
    (0..LINKS).map(|link| of_link(prefix, link)).chain([of_brokers(prefix)])
}

/// Makes the namespaces, their links and addresses.
///
/// # Errors
/// One of the tools is missing or refuses; what was made is removed.
pub(crate) async fn lay(prefix: &str) -> anyhow::Result<()> {
    let made = tool::run("ip", &["-batch", "-"], &commands(prefix)).await.map(drop);
    if made.is_err() {
        remove(prefix).await;
    }
    made
}

fn commands(prefix: &str) -> String {
    let brokers = of_brokers(prefix);
    let mut commands = String::new();
    let mut add = |command: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(commands, "{command}");
    };
    all(prefix).for_each(|name| add(format!("netns add {name}")));
    add(format!("-n {brokers} link set lo up"));
    add(format!("-n {brokers} address add {BROKERS}/32 dev lo"));
    for link in 0..LINKS {
        let (peers, near) = (of_link(prefix, link), interface(link));
        let ends = [1, 2].map(|end| format!("10.77.{}.{end}", link + 1));
        add(format!("link add {near} netns {brokers} type veth peer name uplink netns {peers}"));
        add(format!("-n {brokers} address add {}/24 dev {near}", ends[0]));
        add(format!("-n {brokers} link set {near} up"));
        add(format!("-n {peers} address add {}/24 dev uplink", ends[1]));
        add(format!("-n {peers} link set lo up"));
        add(format!("-n {peers} link set uplink up"));
        add(format!("-n {peers} route add default via {}", ends[0]));
    }
    commands
}

/// Removes the namespaces, and with them all that is in them. What is not there need not be removed.
pub(crate) async fn remove(prefix: &str) {
    for name in all(prefix) {
        if Path::new("/run/netns").join(&name).exists() {
            let _ = tool::run("ip", &["netns", "delete", &name], "").await;
        }
    }
}

/// Removes what a run left behind that was killed together with its guard. `is_stale` says it of a prefix.
pub(crate) async fn remove_stale(is_stale: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for prefix in names.iter().filter_map(|name| name.strip_suffix("-b")).filter(|prefix| is_stale(prefix)) {
        remove(prefix).await;
    }
}
