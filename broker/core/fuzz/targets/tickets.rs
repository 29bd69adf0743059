//! Publishes that wait to be processed: each is answered once, rightly, and never with silence.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use zonecast_core::{Outcome, Settled, Tickets};
use zonecast_protocol::wire::ErrorCode;

#[derive(Debug, Arbitrary)]
enum Op {
    Issue {
        #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=2))]
        publisher: u64,
        #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(1..=3))]
        matched: u32,
        patience_us: u8,
    },
    /// Something becomes of a delivery of the ticket, named by its age.
    Report {
        back: u8,
        said: Said,
    },
    /// About a ticket that there may never have been.
    ReportAny {
        number: u64,
        said: Said,
    },
    Pass {
        us: u8,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Said {
    Processed,
    Rejected,
    Lost,
}

impl From<Said> for Outcome {
    fn from(said: Said) -> Self {
        match said {
            Said::Processed => Self::Processed,
            Said::Rejected => Self::Rejected,
            Said::Lost => Self::Lost,
        }
    }
}

/// What is known of an issued ticket.
struct Issued {
    publisher: u64,
    lane_seq: u64,
    matched: u32,
    expires_at_us: u64,
    processed: u32,
    answer: Option<Result<u32, ErrorCode>>,
}

struct Run {
    tickets: Tickets,
    issued: BTreeMap<u64, Issued>,
    now_us: u64,
}

impl Run {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Issue { publisher, matched, patience_us } => {
                let lane_seq = self.issued.len() as u64 + 1;
                let expires_at_us = self.now_us + u64::from(patience_us);
                let ticket = self.tickets.issue(publisher, 0, lane_seq, matched, expires_at_us);
                assert_eq!(ticket.worker, 7);
                let fresh = Issued { publisher, lane_seq, matched, expires_at_us, processed: 0, answer: None };
                assert!(self.issued.insert(ticket.number, fresh).is_none(), "numbers do not come again");
            }
            Op::Report { back, said } => {
                let number = self.issued.keys().rev().nth(back.into()).copied();
                number.into_iter().for_each(|number| self.report(number, said));
            }
            Op::ReportAny { number, said } => self.report(number, said),
            Op::Pass { us } => {
                self.now_us += u64::from(us);
                self.expire();
            }
        }
        let open: Vec<&Issued> = self.issued.values().filter(|of| of.answer.is_none()).collect();
        assert_eq!((self.tickets.len(), self.tickets.is_empty()), (open.len(), open.is_empty()));
        for publisher in 0..3 {
            let of_publisher = open.iter().filter(|of| of.publisher == publisher).count();
            assert_eq!(self.tickets.open_of(publisher), of_publisher);
        }
        assert_eq!(self.tickets.next_expiry_us(), open.iter().map(|of| of.expires_at_us).min());
    }

    fn report(&mut self, number: u64, said: Said) {
        let settled = self.tickets.report(number, said.into());
        let of = self.issued.get_mut(&number).filter(|of| of.answer.is_none());
        let Some(of) = of else { return assert_eq!(settled, None, "it is settled, or never was") };
        let due = match said {
            Said::Rejected => Some(Err(ErrorCode::Poison)),
            Said::Lost => Some(Err(ErrorCode::SessionLost)),
            Said::Processed => {
                of.processed += 1;
                (of.processed == of.matched).then_some(Ok(of.matched))
            }
        };
        assert_eq!(settled, due.map(|result| of.settled(result)));
        of.answer = due;
    }

    fn expire(&mut self) {
        while let Some(settled) = self.tickets.expire(self.now_us) {
            let of = self.issued.values_mut().find(|of| of.lane_seq == settled.lane_seq).expect("it was issued");
            assert!(of.expires_at_us <= self.now_us && of.answer.is_none(), "once, and not before its time");
            assert_eq!(settled, of.settled(Err(ErrorCode::Expired)));
            of.answer = Some(settled.result);
        }
        assert!(self.tickets.next_expiry_us().is_none_or(|next_us| next_us > self.now_us));
    }
}

impl Issued {
    fn settled(&self, result: Result<u32, ErrorCode>) -> Settled {
        Settled { publisher: self.publisher, lane: 0, lane_seq: self.lane_seq, result }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let mut run = Run { tickets: Tickets::new(7), issued: BTreeMap::new(), now_us: 0 };
    while !input.is_empty()
        && let Ok(op) = Op::arbitrary(&mut input)
    {
        run.step(&op);
    }
    run.now_us = u64::MAX;
    run.expire();
    assert!(run.tickets.is_empty());
    assert!(run.issued.values().all(|of| of.answer.is_some()), "never silence");
});
