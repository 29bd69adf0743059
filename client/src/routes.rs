//! Which local subscription a delivery is for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;
use zonecast_protocol::{QueueGroup, TopicPattern};

use crate::{
    item::{TopicItem, ZoneItem},
    mailbox::Mailbox,
    sync::locked,
};

/// The subscriptions of a client. Changed rarely and read per batch of deliveries, hence copied when it changes.
#[derive(Default)]
pub(crate) struct Routes {
    table: Mutex<Arc<RouteTable>>,
    /// Tells the reader of deliveries that there may be somebody for what had nobody.
    pub(crate) added: Notify,
}

#[derive(Default, Clone)]
pub(crate) struct RouteTable {
    pub(crate) zones: Option<Arc<Mailbox<ZoneItem>>>,
    /// Whether there is or was a zone subscription.
    pub(crate) had_zones: bool,
    pub(crate) topics: Vec<TopicRoute>,
    /// Places in `choices` by topic, for patterns without wildcards.
    exact: HashMap<String, Vec<usize>>,
    /// Places in `choices` of patterns with wildcards.
    wild: Vec<usize>,
    choices: Vec<Choice>,
}

#[derive(Clone)]
pub(crate) struct TopicRoute {
    /// The subscription's number at the broker.
    pub(crate) id: u32,
    pub(crate) pattern: TopicPattern,
    pub(crate) queue_group: Option<QueueGroup>,
    pub(crate) mailbox: Arc<Mailbox<TopicItem>>,
}

/// Subscriptions of which one receives each matching event: a single one, or the local members of a queue group.
#[derive(Clone)]
struct Choice {
    pattern: TopicPattern,
    queue_group: Option<QueueGroup>,
    /// Places in `topics`; never empty.
    members: Vec<usize>,
}

impl Routes {
    pub(crate) fn table(&self) -> Arc<RouteTable> {
        locked(&self.table).clone()
    }

    pub(crate) fn set_zones(&self, mailbox: Option<Arc<Mailbox<ZoneItem>>>) {
        let mut table = locked(&self.table);
        // A table of its own, so that it is seen to be another.
        *table = Arc::new(RouteTable { zones: mailbox, had_zones: true, ..RouteTable::clone(&table) });
        self.added.notify_one();
    }

    /// Adds a topic, unless it could not be told apart from another: then that one's pattern is the error.
    pub(crate) fn add_topic(&self, route: TopicRoute) -> Result<(), TopicPattern> {
        let mut table = locked(&self.table);
        if let Some(other) = table.topics.iter().find(|other| ambiguous(&route, other)) {
            return Err(other.pattern.clone());
        }
        let mut changed = RouteTable::clone(&table);
        changed.topics.push(route);
        changed.index();
        *table = Arc::new(changed);
        self.added.notify_one();
        Ok(())
    }

    pub(crate) fn remove_topic(&self, id: u32) {
        let mut table = locked(&self.table);
        let mut changed = RouteTable::clone(&table);
        changed.topics.retain(|route| route.id != id);
        changed.index();
        *table = Arc::new(changed);
    }
}

impl RouteTable {
    fn index(&mut self) {
        (self.choices, self.exact, self.wild) = (Vec::new(), HashMap::new(), Vec::new());
        for (place, route) in self.topics.iter().enumerate() {
            let mut groups = self.choices.iter_mut().filter(|choice| choice.queue_group.is_some());
            let own = |choice: &&mut Choice| choice.pattern == route.pattern && choice.queue_group == route.queue_group;
            if let Some(choice) = groups.find(own) {
                choice.members.push(place);
                continue;
            }
            let pattern = route.pattern.as_str();
            if pattern.contains(['*', '>']) {
                self.wild.push(self.choices.len());
            } else {
                self.exact.entry(pattern.to_owned()).or_default().push(self.choices.len());
            }
            let (pattern, queue_group) = (route.pattern.clone(), route.queue_group.clone());
            self.choices.push(Choice { pattern, queue_group, members: vec![place] });
        }
    }

    /// Calls `found` with the place in `topics` of each subscription that receives an event on the topic.
    ///
    /// `turn` goes up with each event, so that the members of a group take turns.
    pub(crate) fn each_match(&self, topic: &str, turn: usize, mut found: impl FnMut(usize)) {
        let exact = self.exact.get(topic).into_iter().flatten();
        let wild = self.wild.iter().filter(|place| self.choices[**place].pattern.matches(topic));
        for place in exact.chain(wild) {
            let members = &self.choices[*place].members;
            found(members[turn % members.len()]);
        }
    }
}

/// Whether some topic matches both and one of them is in a queue group that the other is not.
///
/// The broker sends a session each event once, whatever matched; from the event alone the client could not tell whether
/// it came as the group's choice.
fn ambiguous(a: &TopicRoute, b: &TopicRoute) -> bool {
    let alike = a.pattern == b.pattern && a.queue_group == b.queue_group;
    let grouped = a.queue_group.is_some() || b.queue_group.is_some();
    grouped && !alike && overlap(a.pattern.as_str(), b.pattern.as_str())
}

/// Whether some topic matches both patterns.
fn overlap(a: &str, b: &str) -> bool {
    let is_wild = |token: &str| matches!(token, "*" | ">");
    let hides = |token: &str, other: &str| is_wild(token) && other.starts_with('_');
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    let mut first = true;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(x), Some(y)) if first && (hides(x, y) || hides(y, x)) => return false,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == y || is_wild(x) || is_wild(y) => first = false,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mailbox::MailboxBounds;

    fn route(id: u32, pattern: &str, group: &str) -> TopicRoute {
        let bounds = MailboxBounds { items_max: 1, bytes_max: 1 };
        TopicRoute {
            id,
            pattern: TopicPattern::new(pattern).unwrap(),
            queue_group: QueueGroup::new(group).ok(),
            mailbox: Arc::new(Mailbox::new(bounds)),
        }
    }

    fn matches(routes: &Routes, topic: &str, turn: usize) -> Vec<u32> {
        let table = routes.table();
        let mut ids = Vec::new();
        table.each_match(topic, turn, |place| ids.push(table.topics[place].id));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn every_matching_subscription_is_found_and_removed_ones_are_not() {
        let routes = Routes::default();
        for (id, pattern) in [(1, "a.b"), (2, "a.*"), (3, "a.b"), (4, ">"), (5, "c")] {
            routes.add_topic(route(id, pattern, "")).unwrap();
        }
        assert_eq!(matches(&routes, "a.b", 0), [1, 2, 3, 4]);
        routes.remove_topic(2);
        assert_eq!(matches(&routes, "a.b", 1), [1, 3, 4]);
        assert_eq!(matches(&routes, "_a.b", 1), []);
    }

    #[test]
    fn members_of_a_group_take_turns_and_mixtures_are_refused() {
        let routes = Routes::default();
        routes.add_topic(route(1, "work.>", "w")).unwrap();
        routes.add_topic(route(2, "work.>", "w")).unwrap();
        assert_eq!(matches(&routes, "work.a", 0), [1]);
        assert_eq!(matches(&routes, "work.a", 1), [2]);
        for (pattern, group) in [("work.>", "v"), ("work.*", "w"), ("work.a", ""), (">", "")] {
            assert_eq!(routes.add_topic(route(3, pattern, group)).unwrap_err().as_str(), "work.>");
        }
        routes.add_topic(route(3, "play.>", "v")).unwrap();
    }

    proptest! {
        /// `overlap` against its definition, on all topics of up to three tokens of a small alphabet.
        #[test]
        fn patterns_overlap_when_a_topic_matches_both(
            a in "([ab*]|_a)(\\.[ab*]){0,2}(\\.>)?",
            b in "([ab*]|_a)(\\.[ab*]){0,2}(\\.>)?",
        ) {
            let (left, right) = (TopicPattern::new(&a).unwrap(), TopicPattern::new(&b).unwrap());
            let tokens = ["a", "b", "_a", "c"];
            let mut topics = tokens.map(str::to_owned).to_vec();
            let mut all = topics.clone();
            for _ in 0..4 {
                topics = topics.iter().flat_map(|topic| tokens.map(|token| format!("{topic}.{token}"))).collect();
                all.extend(topics.iter().cloned());
            }
            let expected = all.iter().any(|topic| left.matches(topic) && right.matches(topic));
            prop_assert_eq!(overlap(&a, &b), expected);
        }
    }
}
