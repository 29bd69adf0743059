//! Tells the observer what all processes saw, in the order in which it happened.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    path::PathBuf,
    time::Duration,
};

use zonecast_trials::{Answer, Findings, Name, Observer, Run};

use crate::{
    clock::Stamp,
    journal::{Entries, Entry, Heard, What},
};

/// What came of a run.
pub(crate) struct Verdict {
    pub(crate) findings: Findings,
    /// Times from the loss of a link to the session's going on.
    pub(crate) resumed_in: Vec<Duration>,
    /// How often a session did not go on.
    pub(crate) begun_anew: u64,
    /// Refusals, by their reason.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// Events out of order of which the broker did not say so; libraries found it out by themselves.
    pub(crate) late_unannounced: u64,
}

/// Entries of all journals in the order of their stamps. Each journal is in that order already.
pub(crate) struct Merged {
    journals: Vec<Entries>,
    next: BinaryHeap<Reverse<Ordered>>,
}

/// An entry, and the number of its journal.
struct Ordered(Stamp, usize, What);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl Merged {
    pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        // A peer that was killed before it had its script has no journal.
        let existing = paths.iter().filter(|path| path.exists());
        let journals = existing.map(|path| Entries::open(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut merged = Self { next: BinaryHeap::with_capacity(journals.len()), journals };
        for number in 0..merged.journals.len() {
            merged.advance(number)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, number: usize) -> anyhow::Result<()> {
        if let Some(Entry(stamp, what)) = self.journals[number].next()? {
            self.next.push(Reverse(Ordered(stamp, number, what)));
        }
        Ok(())
    }

    /// The next entry of all.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        let Some(Reverse(Ordered(stamp, number, what))) = self.next.pop() else { return Ok(None) };
        self.advance(number)?;
        Ok(Some(Entry(stamp, what)))
    }
}

/// Reads all journals and judges.
///
/// # Errors
/// One cannot be read.
pub(crate) fn judge(journals: &[PathBuf]) -> anyhow::Result<Verdict> {
    let mut merged = Merged::open(journals)?;
    let mut replay = Replay::default();
    let mut began = None;
    while let Some(Entry(stamp, what)) = merged.next()? {
        replay.observer.set_time(stamp.since(*began.get_or_insert(stamp)));
        replay.tell(stamp, what);
    }
    let Replay { observer, resumed_in, begun_anew, refusals, late_unannounced, .. } = replay;
    Ok(Verdict { findings: observer.finish(), resumed_in, begun_anew, refusals, late_unannounced })
}

#[derive(Default)]
struct Replay {
    observer: Observer,
    sources: BTreeMap<u64, Run>,
    unlinked: BTreeMap<Run, Stamp>,
    resumed_in: Vec<Duration>,
    begun_anew: u64,
    refusals: BTreeMap<String, u64>,
    late_unannounced: u64,
}

impl Replay {
    fn tell(&mut self, stamp: Stamp, what: What) {
        let observer = &mut self.observer;
        match what {
            What::Started(run) => observer.started(run),
            What::Ended(run) => {
                self.unlinked.remove(&run);
                observer.ended(run);
            }
            What::BrokerEnded(broker) => observer.broker_killed(broker),
            What::Source(run, source) => drop(self.sources.insert(source, run)),
            What::Linked(run, broker, resumed) => {
                match (self.unlinked.remove(&run), resumed) {
                    (Some(lost), true) => self.resumed_in.push(stamp.since(lost)),
                    (Some(_), false) => self.begun_anew += 1,
                    (None, _) => {}
                }
                observer.linked(run, broker, resumed);
            }
            What::Unlinked(run, _) => {
                self.unlinked.entry(run).or_insert(stamp);
                observer.unlinked(run);
            }
            What::InForce(ear, number, want) => observer.in_force(ear, number, want),
            What::GivingUp(ear, number) => observer.giving_up(ear, number),
            What::Publishing(name, aim, class, level) => observer.published(name, aim, class, level),
            What::Answered(name, answer) => {
                if let Answer::Refused(reason) = &answer {
                    *self.refusals.entry(reason.clone()).or_default() += 1;
                }
                observer.answered(name, answer);
            }
            What::LateUnannounced(..) => self.late_unannounced += 1,
            What::Delivered(ear, heard, resent) => {
                let name = self.name(heard);
                self.observer.delivered(ear, name, resent);
            }
            What::Processed(ear, heard) => {
                let name = self.name(heard);
                self.observer.processed(ear, name);
            }
            What::Noticed(ear, notice, _) => observer.noticed(ear, notice),
        }
    }

    /// An unknown source is nobody's: the observer will say that this was never published.
    fn name(&self, (source, lane, lane_seq): Heard) -> Name {
        let nobody = Run { client: u16::MAX, incarnation: 0 };
        Name { publisher: self.sources.get(&source).copied().unwrap_or(nobody), lane, lane_seq }
    }
}
