//! Tickets against a list of what was said about each.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use zonecast_core::{Outcome, Settled, Tickets};
use zonecast_protocol::wire::ErrorCode;

#[derive(Debug, Clone)]
enum Op {
    Issue {
        publisher: u64,
        matched: u32,
        patience_us: u64,
    },
    /// Something becomes of a delivery of the ticket, named by its age.
    Report {
        back: usize,
        outcome: Outcome,
    },
    Pass {
        us: u64,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![6 => Just(Outcome::Processed), 1 => Just(Outcome::Rejected), 1 => Just(Outcome::Lost)];
    prop_oneof![
        3 => (0..3_u64, 1..4_u32, 0..100_u64)
            .prop_map(|(publisher, matched, patience_us)| Op::Issue { publisher, matched, patience_us }),
        8 => (0..10_usize, outcome).prop_map(|(back, outcome)| Op::Report { back, outcome }),
        1 => (0..50_u64).prop_map(|us| Op::Pass { us }),
    ]
}

/// What is known of an issued ticket.
struct Issued {
    publisher: u64,
    lane_seq: u64,
    matched: u32,
    expires_at_us: u64,
    said: Vec<Outcome>,
    answer: Option<Result<u32, ErrorCode>>,
}

impl Issued {
    fn lane(&self) -> u32 {
        u32::try_from(self.publisher + 1).unwrap()
    }

    /// The answer that what was said and the time oblige to.
    fn due(&self, now_us: u64) -> Option<Result<u32, ErrorCode>> {
        for outcome in &self.said {
            match outcome {
                Outcome::Processed => {}
                Outcome::Rejected => return Some(Err(ErrorCode::Poison)),
                Outcome::Lost => return Some(Err(ErrorCode::SessionLost)),
            }
        }
        if self.said.len() == self.matched as usize {
            return Some(Ok(self.matched));
        }
        (self.expires_at_us <= now_us).then_some(Err(ErrorCode::Expired))
    }
}

proptest! {
    #[test]
    fn each_is_answered_once_and_rightly(ops in prop::collection::vec(any_op(), 0..200)) {
        let mut tickets = Tickets::new(7);
        let mut issued: BTreeMap<u64, Issued> = BTreeMap::new();
        let (mut now_us, mut lane_seq) = (0, 0);
        let take = |issued: &mut BTreeMap<u64, Issued>, settled: Settled, now_us| -> Result<(), TestCaseError> {
            let of = issued.values_mut().find(|of| of.lane_seq == settled.lane_seq).unwrap();
            prop_assert_eq!((of.publisher, of.lane()), (settled.publisher, settled.lane));
            prop_assert_eq!(of.answer, None, "once");
            prop_assert_eq!(of.due(now_us), Some(settled.result));
            of.answer = Some(settled.result);
            Ok(())
        };
        for op in ops {
            match op {
                Op::Issue { publisher, matched, patience_us } => {
                    lane_seq += 1;
                    let expires_at_us = now_us + patience_us;
                    let fresh = Issued { publisher, lane_seq, matched, expires_at_us, said: Vec::new(), answer: None };
                    let ticket = tickets.issue(publisher, fresh.lane(), lane_seq, matched, expires_at_us);
                    prop_assert_eq!(ticket.worker, 7);
                    prop_assert!(issued.insert(ticket.number, fresh).is_none(), "numbers do not come again");
                }
                Op::Report { back, outcome } => {
                    let Some(number) = issued.keys().rev().nth(back).copied() else { continue };
                    let of = issued.get_mut(&number).unwrap();
                    // A session says something about a delivery once.
                    if of.said.len() < of.matched as usize && of.answer.is_none() {
                        of.said.push(outcome);
                    }
                    if let Some(settled) = tickets.report(number, outcome) {
                        take(&mut issued, settled, now_us)?;
                    }
                }
                Op::Pass { us } => {
                    now_us += us;
                    while let Some(settled) = tickets.expire(now_us) {
                        take(&mut issued, settled, now_us)?;
                    }
                    prop_assert!(tickets.next_expiry_us().is_none_or(|next_us| next_us > now_us));
                }
            }
            let open: Vec<&Issued> = issued.values().filter(|of| of.answer.is_none()).collect();
            prop_assert_eq!((tickets.len(), tickets.is_empty()), (open.len(), open.is_empty()));
            prop_assert_eq!(tickets.next_expiry_us(), open.iter().map(|of| of.expires_at_us).min());
            for publisher in 0..3 {
                let of_publisher = open.iter().filter(|of| of.publisher == publisher).count();
                prop_assert_eq!(tickets.open_of(publisher), of_publisher);
            }
        }
        while let Some(settled) = tickets.expire(u64::MAX) {
            take(&mut issued, settled, u64::MAX)?;
        }
        prop_assert!(tickets.is_empty() && tickets.next_expiry_us().is_none());
        prop_assert!(issued.values().all(|of| of.answer.is_some()), "never silence");
    }
}
