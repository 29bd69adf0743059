//! Network namespaces: one for the brokers, one for each link, made before a run and removed after it.

use std::{
    fmt::{self, Write},
    net::Ipv4Addr,
    path::Path,
};

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
    let made = make(prefix).await;
    if made.is_err() {
        remove(prefix).await;
    }
    made
}

async fn make(prefix: &str) -> anyhow::Result<()> {
    let brokers = of_brokers(prefix);
    let mut outside = String::new();
    let mut among_brokers = format!("link set lo up\naddress add {BROKERS}/32 dev lo\n");
    for name in all(prefix) {
        line(&mut outside, format_args!("netns add {name}"));
    }
    for link in 0..LINKS {
        let (peers, near) = (of_link(prefix, link), interface(link));
        line(&mut outside, format_args!("link add {near} netns {brokers} type veth peer name uplink netns {peers}"));
        line(&mut among_brokers, format_args!("address add {}/24 dev {near}", end_of_link(link, 1)));
        line(&mut among_brokers, format_args!("link set {near} up"));
    }
    tool::run("ip", &["-batch", "-"], &outside).await?;
    tool::run("ip", &["-n", &brokers, "-batch", "-"], &among_brokers).await?;
    for link in 0..LINKS {
        let mut among_peers = String::from("link set lo up\n");
        line(&mut among_peers, format_args!("address add {}/24 dev uplink", end_of_link(link, 2)));
        line(&mut among_peers, format_args!("link set uplink up"));
        line(&mut among_peers, format_args!("route add default via {}", end_of_link(link, 1)));
        tool::run("ip", &["-n", &of_link(prefix, link), "-batch", "-"], &among_peers).await?;
    }
    Ok(())
}

fn line(text: &mut String, command: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{command}");
}

/// The address at the brokers' end of a link (1), or at the peers' (2).
fn end_of_link(link: usize, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(link + 1).unwrap_or(u8::MAX), end)
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
