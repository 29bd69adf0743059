use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(lane_seq: u64) -> EventId {
    EventId { source: 1, lane: 0, lane_seq }
}

#[derive(Debug, Clone)]
enum Step {
    /// An event comes that did not come before, for so many subscriptions; none: there is nobody any more.
    New(u32),
    /// One that did comes again.
    Again(prop::sample::Index),
    /// One that is under way is for so many further subscriptions.
    More(prop::sample::Index, u32),
    /// A subscription is done with an event, or rejects it.
    Finish(prop::sample::Index, bool),
    Session,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u32).prop_map(Step::New),
        3 => any::<prop::sample::Index>().prop_map(Step::Again),
        1 => (any::<prop::sample::Index>(), 1..3_u32).prop_map(|(which, parts)| Step::More(which, parts)),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, rejects)| Step::Finish(which, rejects)),
        1 => Just(Step::Session),
    ]
}

/// What every subscription made of an event; `None` while it is at it.
type Parts = Vec<Option<Verdict>>;

/// All that a broker could demand, and the application's own account, by the event's number.
#[derive(Default)]
struct Model {
    events: BTreeMap<u64, Parts>,
    /// The latest number of each event in the present session that has no verdict yet.
    asked: BTreeMap<u64, u64>,
    last_seq: u64,
}

impl Model {
    /// The events that are under way.
    fn open(&self) -> Vec<u64> {
        self.events.iter().filter(|(_, parts)| parts.contains(&None)).map(|(event, _)| *event).collect()
    }

    fn verdict(&self, event: u64) -> Option<Verdict> {
        let parts = &self.events[&event];
        let done = parts.iter().all(Option::is_some);
        let rejected = parts.is_empty() || parts.contains(&Some(Verdict::Rejected));
        done.then_some(if rejected { Verdict::Rejected } else { Verdict::Processed })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// A delivery gets its verdict when all subscriptions are done, in the session in which it was delivered last; it is
    /// the verdict of the event, however often that comes again; and never before.
    #[test]
    fn the_broker_is_told_what_the_application_did(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut processing, mut model) = (Processing::new(), Model::default());
        for step in steps {
            match step {
                Step::New(parts) => {
                    let event = model.events.len() as u64 + 1;
                    model.last_seq += 1;
                    model.events.insert(event, vec![None; parts as usize]);
                    if parts == 0 {
                        processing.reject(id(event));
                    } else {
                        processing.begin(id(event), model.last_seq, parts);
                        model.asked.insert(event, model.last_seq);
                    }
                }
                Step::Again(which) if !model.events.is_empty() => {
                    let event = which.index(model.events.len()) as u64 + 1;
                    model.last_seq += 1;
                    let verdict = model.verdict(event);
                    prop_assert_eq!(processing.again(id(event), model.last_seq), verdict);
                    if verdict.is_none() {
                        model.asked.insert(event, model.last_seq);
                    }
                }
                Step::More(which, parts) => {
                    let events = model.open();
                    if !events.is_empty() {
                        let event = *which.get(&events);
                        processing.begin_more(id(event), parts);
                        model.events.get_mut(&event).unwrap().extend(vec![None; parts as usize]);
                    }
                }
                Step::Finish(which, rejects) => {
                    let events = model.open();
                    if events.is_empty() {
                        continue;
                    }
                    let event = *which.get(&events);
                    let verdict = if rejects { Verdict::Rejected } else { Verdict::Processed };
                    let parts = model.events.get_mut(&event).unwrap();
                    *parts.iter_mut().find(|part| part.is_none()).unwrap() = Some(verdict);
                    let told = processing.finish_part(id(event), verdict);
                    let expected = model.verdict(event).and_then(|all| Some((model.asked.remove(&event)?, all)));
                    prop_assert_eq!(told, expected);
                }
                Step::Session => {
                    processing.begin_session();
                    (model.asked, model.last_seq) = (BTreeMap::new(), 0);
                }
                Step::Again(_) => {}
            }
        }
        prop_assert_eq!(processing.under_way.len(), model.open().len(), "nothing else is kept");
    }
}

#[test]
fn rejected_events_are_remembered_up_to_a_bound() {
    let mut processing = Processing::new();
    for event in 0..=REJECTED_MAX as u64 {
        processing.reject(id(event));
        processing.reject(id(event));
    }
    assert_eq!(processing.again(id(0), 1), Some(Verdict::Processed), "the oldest is forgotten");
    assert_eq!(processing.again(id(1), 1), Some(Verdict::Rejected));
    assert_eq!(processing.rejected.len(), REJECTED_MAX);
}
