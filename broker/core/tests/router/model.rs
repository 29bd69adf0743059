//! The router's promises in the plainest code: lists, looked through from end to end.

use zonecast_core::{InterestOp, SessionId, TopicInterest, ZoneInterest};
use zonecast_protocol::Circle;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) zones: Vec<(SessionId, u32, ZoneInterest)>,
    pub(crate) topics: Vec<(SessionId, u32, TopicInterest)>,
    /// Whose turn it was in each queue group of a pattern.
    turns: Vec<(TopicInterest, SessionId)>,
}

impl Model {
    pub(crate) fn apply(&mut self, ops: &[InterestOp]) {
        for op in ops {
            match op {
                InterestOp::PutZone(session, id, interest) => {
                    self.zones.retain(|(s, i, _)| (s, i) != (session, id));
                    self.zones.push((*session, *id, interest.clone()));
                }
                InterestOp::RemoveZone(session, id) => self.zones.retain(|(s, i, _)| (s, i) != (session, id)),
                InterestOp::PutTopic(session, id, interest) => {
                    if self.topics.contains(&(*session, *id, interest.clone())) {
                        continue;
                    }
                    self.topics.retain(|(s, i, _)| (s, i) != (session, id));
                    self.forget_turns_of_empty_groups();
                    self.topics.push((*session, *id, interest.clone()));
                }
                InterestOp::RemoveTopic(session, id) => self.topics.retain(|(s, i, _)| (s, i) != (session, id)),
                InterestOp::EndSession(session) => {
                    self.zones.retain(|(s, ..)| s != session);
                    self.topics.retain(|(s, ..)| s != session);
                }
                InterestOp::Rehome(from, to) => self.rehome(*from, *to),
            }
            self.forget_turns_of_empty_groups();
        }
    }

    /// As many single steps, by ascending ids, each of which takes something from one and gives it to the other.
    fn rehome(&mut self, from: SessionId, to: SessionId) {
        for (session, id, interest) in self.zones.clone() {
            if session == from {
                self.apply(&[InterestOp::RemoveZone(from, id), InterestOp::PutZone(to, id, interest)]);
            }
        }
        let mut topics = self.topics.clone();
        topics.sort_by_key(|(_, id, _)| *id);
        for (session, id, interest) in topics {
            if session == from {
                self.apply(&[InterestOp::RemoveTopic(from, id), InterestOp::PutTopic(to, id, interest)]);
            }
        }
    }

    pub(crate) fn place(&self, world: &str, circle: &Circle, kind: &str, exclude: Option<SessionId>) -> Vec<SessionId> {
        let mut reached = Vec::new();
        for (session, _, interest) in &self.zones {
            if interest.world.as_str() == world && interest.zone.touches(circle) && interest.kinds.passes(kind) {
                reached.push(*session);
            }
        }
        in_order(reached, exclude)
    }

    pub(crate) fn topic(&mut self, topic: &str, exclude: Option<SessionId>) -> Vec<SessionId> {
        let matching: Vec<_> = self.topics.iter().filter(|(.., interest)| interest.pattern.matches(topic)).collect();
        let (grouped, alone): (Vec<_>, Vec<_>) =
            matching.into_iter().partition(|(.., interest)| interest.queue_group.is_some());
        let mut reached: Vec<_> = alone.iter().map(|(session, ..)| *session).collect();
        let mut served: Vec<&TopicInterest> = Vec::new();
        for (.., group) in &grouped {
            if served.contains(&group) {
                continue;
            }
            served.push(group);
            let members = grouped.iter().filter(|(.., interest)| interest == group).map(|(session, ..)| *session);
            let members = in_order(members.collect(), exclude);
            let last = self.turns.iter().find(|(of, _)| of == group).map(|(_, last)| *last);
            let above = members.iter().find(|member| last.is_none_or(|last| **member > last));
            if let Some(next) = above.or(members.first()) {
                self.turns.retain(|(of, _)| of != group);
                self.turns.push((group.clone(), *next));
                reached.push(*next);
            }
        }
        in_order(reached, exclude)
    }

    pub(crate) fn zones_of(&self, session: SessionId) -> Vec<(u32, ZoneInterest)> {
        let mut zones: Vec<_> =
            self.zones.iter().filter(|(s, ..)| *s == session).map(|(_, id, z)| (*id, z.clone())).collect();
        zones.sort_by_key(|(id, _)| *id);
        zones
    }

    pub(crate) fn topic_ids_of(&self, session: SessionId) -> Vec<u32> {
        self.topics.iter().filter(|(s, ..)| *s == session).map(|(_, id, _)| *id).collect()
    }

    /// Names in order, each with its number of zones.
    pub(crate) fn worlds(&self) -> Vec<(String, usize)> {
        let mut names: Vec<_> = self.zones.iter().map(|(.., interest)| interest.world.as_str()).collect();
        names.sort_unstable();
        names.chunk_by(|a, b| a == b).map(|same| (same[0].to_owned(), same.len())).collect()
    }

    fn forget_turns_of_empty_groups(&mut self) {
        self.turns.retain(|(group, _)| self.topics.iter().any(|(.., interest)| interest == group));
    }
}

fn in_order(mut sessions: Vec<SessionId>, exclude: Option<SessionId>) -> Vec<SessionId> {
    sessions.retain(|session| Some(*session) != exclude);
    sessions.sort_unstable();
    sessions.dedup();
    sessions
}
