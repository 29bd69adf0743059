//! Door two: calls as requests on the broker's topics.
//!
//! A call of `/zonecast.users.v1.UsersService/GetUser` is a request on the topic
//! `_rpc.zonecast.users.v1.UsersService.GetUser` with a `zonecast.rpc.v1.Call`, and its answer a `zonecast.rpc.v1.Answer`.
//! [`BrokerDoor`] listens, in a queue group of the service's full name; [`Channel`] calls.
//!
//! The broker's requests have one answer each, so only unary methods pass; those that stream are answered with
//! UNIMPLEMENTED, and are there by gRPC. A call and its answer each fit in one event ([`Limits::payload_bytes_max`]).
//!
//! [`Limits::payload_bytes_max`]: zonecast_client::Limits::payload_bytes_max

mod channel;
mod listener;
mod message;

pub use channel::Channel;
pub use listener::BrokerDoor;

/// What the topics of calls begin with. Wildcards in the first place do not match topics that begin with `_`: who listens to
/// everything does not read calls with their metadata.
const TOPIC_PREFIX: &str = "_rpc.";

/// The topic of a method's path, `/package.Service/Method`; none for what is no path of a method.
fn topic(path: &str) -> Option<String> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if service.is_empty() || method.is_empty() || method.contains(['/', '.']) {
        return None;
    }
    Some(format!("{TOPIC_PREFIX}{service}.{method}"))
}

/// The path of a topic's method.
fn path(topic: &str) -> Option<String> {
    let (service, method) = topic.strip_prefix(TOPIC_PREFIX)?.rsplit_once('.')?;
    Some(format!("/{service}/{method}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_topics_lead_to_each_other() {
        let (there, back) = ("/zonecast.users.v1.UsersService/GetUser", "_rpc.zonecast.users.v1.UsersService.GetUser");
        assert_eq!(topic(there).as_deref(), Some(back));
        assert_eq!(path(back).as_deref(), Some(there));
        for bad in ["", "/", "a/b", "/a", "/a/", "//b", "/a/b/c", "/a/b.c"] {
            assert_eq!(topic(bad), None, "{bad}");
        }
        assert_eq!((path("users.created"), path("_rpc.a")), (None, None));
    }
}
