//! Topic patterns in a trie of tokens.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use zonecast_protocol::QueueGroup;

use crate::{SessionId, TopicInterest};

/// Who listens to which topic pattern. Matches as `TopicPattern::matches` does.
#[derive(Debug, Default)]
pub(super) struct TopicIndex {
    root: Node,
}

/// A place in a pattern, after some tokens. Nodes without anything below or in them do not exist, but for the root.
#[derive(Debug, Default)]
struct Node {
    /// By the next token.
    exact: FxHashMap<Box<str>, Node>,
    /// `*` is the next token.
    any: Option<Box<Node>>,
    /// Of the patterns that end here.
    here: Audience,
    /// Of the patterns that end here with a `>` more.
    rest: Audience,
}

/// Who listens to one pattern.
#[derive(Debug, Default)]
struct Audience {
    everyone: Members,
    /// Ordered, because a hash map is slow to walk through.
    groups: BTreeMap<QueueGroup, Group>,
}

/// Sessions in ascending order, each with the number of times that it listens (a pattern may be held under several
/// ids).
#[derive(Debug, Default)]
struct Members(Vec<(SessionId, u32)>);

#[derive(Debug, Default)]
struct Group {
    members: Members,
    /// Whose turn it was. May have left since.
    last: Option<SessionId>,
}

impl TopicIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    pub(super) fn insert(&mut self, session: SessionId, interest: &TopicInterest) {
        let mut node = &mut self.root;
        for token in interest.pattern.as_str().split('.') {
            node = match token {
                ">" => return node.rest.insert(session, interest.queue_group.as_ref()),
                "*" => node.any.get_or_insert_default(),
                exact => node.exact.entry(exact.into()).or_default(),
            };
        }
        node.here.insert(session, interest.queue_group.as_ref());
    }

    /// Undoes one [`insert`](Self::insert) of the same.
    pub(super) fn remove(&mut self, session: SessionId, interest: &TopicInterest) {
        self.root.remove(Some(interest.pattern.as_str()), session, interest.queue_group.as_ref());
    }

    /// Calls `found` with the sessions that listen to the topic, in no particular order, a session perhaps more than
    /// once. `exclude` is passed over in queue groups.
    ///
    /// Visits at most every node once. Without `*` in the patterns it visits one per token.
    pub(super) fn search(&mut self, topic: &str, exclude: Option<SessionId>, mut found: impl FnMut(SessionId)) {
        let reach = &mut |audience: &mut Audience| audience.reach(exclude, &mut found);
        if topic.starts_with('_') {
            // Hidden from a wildcard in the first place.
            let (token, rest) = split_first(topic);
            if let Some(child) = self.root.exact.get_mut(token) {
                child.search(rest, reach);
            }
        } else {
            self.root.search(Some(topic), reach);
        }
    }
}

/// The first token and what follows it.
fn split_first(tokens: &str) -> (&str, Option<&str>) {
    tokens.split_once('.').map_or((tokens, None), |(token, rest)| (token, Some(rest)))
}

impl Node {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    /// Patterns have at most 16 tokens, so the recursion is shallow, here and in `search`.
    fn remove(&mut self, tokens: Option<&str>, session: SessionId, group: Option<&QueueGroup>) {
        let Some(tokens) = tokens else { return self.here.remove(session, group) };
        match split_first(tokens) {
            (">", _) => self.rest.remove(session, group),
            ("*", rest) => {
                if let Some(child) = &mut self.any {
                    child.remove(rest, session, group);
                }
                self.any.take_if(|child| child.is_empty());
            }
            (token, rest) => {
                let Some(child) = self.exact.get_mut(token) else { return };
                child.remove(rest, session, group);
                if child.is_empty() {
                    self.exact.remove(token);
                }
            }
        }
    }

    fn search(&mut self, tokens: Option<&str>, reach: &mut impl FnMut(&mut Audience)) {
        let Some(tokens) = tokens else { return reach(&mut self.here) };
        let (token, rest) = split_first(tokens);
        reach(&mut self.rest);
        if let Some(child) = self.exact.get_mut(token) {
            child.search(rest, reach);
        }
        if let Some(child) = &mut self.any {
            child.search(rest, reach);
        }
    }
}

impl Audience {
    fn is_empty(&self) -> bool {
        self.everyone.0.is_empty() && self.groups.is_empty()
    }

    fn insert(&mut self, session: SessionId, group: Option<&QueueGroup>) {
        match group {
            None => self.everyone.insert(session),
            Some(group) => self.groups.entry(group.clone()).or_default().members.insert(session),
        }
    }

    fn remove(&mut self, session: SessionId, group: Option<&QueueGroup>) {
        let Some(name) = group else { return self.everyone.remove(session) };
        let Some(group) = self.groups.get_mut(name) else { return };
        group.members.remove(session);
        if group.members.0.is_empty() {
            self.groups.remove(name);
        }
    }

    fn reach(&mut self, exclude: Option<SessionId>, found: &mut impl FnMut(SessionId)) {
        for (session, _) in &self.everyone.0 {
            found(*session);
        }
        for group in self.groups.values_mut() {
            if let Some(session) = group.take_turn(exclude) {
                found(session);
            }
        }
    }
}

impl Members {
    fn insert(&mut self, session: SessionId) {
        match self.0.binary_search_by_key(&session, |(member, _)| *member) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (session, 1)),
        }
    }

    fn remove(&mut self, session: SessionId) {
        let Ok(place) = self.0.binary_search_by_key(&session, |(member, _)| *member) else { return };
        match &mut self.0[place].1 {
            1 => drop(self.0.remove(place)),
            times => *times -= 1,
        }
    }
}

impl Group {
    /// The member after the one whose turn it was, in ascending order and round again; `exclude` is passed over.
    fn take_turn(&mut self, exclude: Option<SessionId>) -> Option<SessionId> {
        let members = &self.members.0;
        let start = self.last.map_or(0, |last| members.partition_point(|(member, _)| *member <= last));
        // A session is in the list once, so of two in a row one is not excluded.
        let turn = members[start..].iter().chain(&members[..start]).take(2);
        let chosen = turn.map(|(member, _)| *member).find(|member| Some(*member) != exclude)?;
        self.last = Some(chosen);
        Some(chosen)
    }
}
