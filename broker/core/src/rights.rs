//! What one session may do.

use std::sync::Arc;

use zonecast_protocol::{Refusal, Rights, Target, TopicPattern, Zone, wire::ErrorCode};

use crate::Holdings;

/// What the broker permits to everybody, and within that what a session's own token permits.
///
/// Answering needs no right to the asker's inbox: who may listen to any topic at all may publish in every inbox. The own
/// inbox may always be listened to, and no other ever.
#[derive(Debug, Clone)]
pub struct SessionRights {
    everybody: Arc<Rights>,
    own: Arc<Rights>,
}

/// Whose inbox a topic or pattern lies in: `_inbox.`, the source as 16 lower-case hexadecimal digits, `.`, and more.
fn inbox_of(topic: &str) -> Option<u64> {
    let (source, rest) = topic.strip_prefix("_inbox.")?.split_at_checked(16)?;
    let is_source = source.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_source && rest.len() > 1 && rest.starts_with('.') { u64::from_str_radix(source, 16).ok() } else { None }
}

impl SessionRights {
    /// What is permitted by both.
    #[must_use]
    pub fn new(everybody: Arc<Rights>, own: Arc<Rights>) -> Self {
        Self { everybody, own }
    }

    fn both(&self) -> [&Rights; 2] {
        [&self.everybody, &self.own]
    }

    /// The same with other rights of its own.
    #[must_use]
    pub fn with_own(&self, own: Arc<Rights>) -> Self {
        Self { everybody: Arc::clone(&self.everybody), own }
    }

    /// Most publishes per second; none: as the broker's own limit has it.
    #[must_use]
    pub fn publishes_per_second_max(&self) -> Option<u32> {
        self.both().iter().filter_map(|rights| rights.publish.per_second_max).min()
    }

    /// Checks a zone that is to be held.
    ///
    /// # Errors
    /// The session has no right to its world or its place.
    pub fn check_zone(&self, world: &str, zone: &Zone) -> Result<(), Refusal> {
        self.both().iter().try_for_each(|rights| rights.check_zone(world, zone))
    }

    /// Checks where an event is to be published, and its kind.
    ///
    /// # Errors
    /// The session has no right to publish there, or none at all.
    pub fn check_publish(&self, target: &Target<'_>, kind: &str) -> Result<(), Refusal> {
        for rights in self.both() {
            if rights.publish.per_second_max == Some(0) {
                let message = "nothing may be published (the right publish.per_second_max)";
                return Err(Refusal::new(ErrorCode::PermissionDenied, message));
            }
            match target {
                Target::Place { world, circle } => rights.check_event(world, circle, kind)?,
                Target::Topic(topic) => check_topic(rights, topic)?,
            }
        }
        Ok(())
    }

    /// Checks where answers to an event of `source` are wanted: in the own inbox, or where it might publish itself. What
    /// it may not publish, nobody is to publish for it.
    ///
    /// # Errors
    /// The session has no right to publish there.
    pub fn check_reply_to(&self, reply_to: &str, source: u64) -> Result<(), Refusal> {
        if inbox_of(reply_to) == Some(source) {
            return Ok(());
        }
        self.both().iter().try_for_each(|rights| check_topic(rights, reply_to))
    }

    /// Checks a pattern that the session of `source` is to listen to.
    ///
    /// # Errors
    /// It matches topics to which the session has no right, or is in another's inbox.
    pub fn check_subscribe(&self, pattern: &TopicPattern, source: u64) -> Result<(), Refusal> {
        let text = pattern.as_str();
        if inbox_of(text) == Some(source) {
            return Ok(());
        }
        if text.starts_with("_inbox") {
            let message = format!("pattern {text:?}: of _inbox only _inbox.{source:016x}.> is this client's");
            return Err(Refusal::new(ErrorCode::PermissionDenied, message));
        }
        self.both().iter().try_for_each(|rights| rights.check_subscribe_topic(pattern))
    }

    /// Checks all that a session of `source` holds.
    ///
    /// # Errors
    /// It holds something to which these rights give no right.
    pub fn check_held(&self, held: Option<&Holdings>, source: u64) -> Result<(), Refusal> {
        let Some(held) = held else { return Ok(()) };
        held.zones().try_for_each(|(_, zone)| self.check_zone(zone.world.as_str(), &zone.zone))?;
        held.topics().try_for_each(|(_, topic)| self.check_subscribe(&topic.pattern, source))
    }
}

fn check_topic(rights: &Rights, topic: &str) -> Result<(), Refusal> {
    match rights.check_publish_topic(topic) {
        Err(_) if inbox_of(topic).is_some() && rights.may_subscribe() => Ok(()),
        checked => checked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_its_sources() {
        assert_eq!(inbox_of("_inbox.5ac709bc334f371d.7"), Some(0x5ac7_09bc_334f_371d));
        assert_eq!(inbox_of("_inbox.00000000000000ff.>"), Some(0xff));
        for other in [
            "_inbox",
            "_inbox.",
            "_inbox.5ac709bc334f371d",
            "_inbox.5ac709bc334f371d.",
            "_inbox.5AC709BC334F371D.7",
            "_inbox.+ac709bc334f371d.7",
            "_inbox.5ac709bc334f371.7",
            "_inbox.5ac709bc334f371d0.7",
            "_inbox.*.7",
            "_inboxes.5ac709bc334f371d.7",
            "a._inbox.5ac709bc334f371d.7",
        ] {
            assert_eq!(inbox_of(other), None, "{other}");
        }
    }
}
