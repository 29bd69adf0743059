//! What a process saw, written to a file of its own in the moment in which it saw it.
//!
//! One entry is one line and one `write`: when the process is killed, the file has all that was written. Whoever writes
//! puts down what happened *before* acting on it: an event that is about to be published, a delivery before it is
//! acknowledged.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use zonecast_trials::{Aim, Answer, BrokerNumber, Class, Ear, Level, Name, Notice, Run, Want};

use crate::clock::Stamp;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry(pub(crate) Stamp, pub(crate) What);

/// An event as its receiver names it: the publisher's source, the lane, the number on the lane.
pub(crate) type Heard = (u64, u8, u64);

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// The run's process is about to be started.
    Started(Run),
    /// The run's process is about to be killed.
    Ended(Run),
    /// The broker's process is about to be ended.
    BrokerEnded(BrokerNumber),
    /// The source that a run's events bear.
    Source(Run, u64),
    /// Connected; whether the session before goes on.
    Linked(Run, BrokerNumber, bool),
    /// The connection is lost, and why.
    Unlinked(Run, String),
    /// A subscription is in force.
    InForce(Ear, u32, Want),
    /// A subscription is about to be changed.
    GivingUp(Ear, u32),
    /// About to be handed to the library, which will give it this name.
    Publishing(Name, Aim, Class, Level),
    Answered(Name, Answer),
    /// Comes behind later ones of its lane, and the library has found that out by itself: the broker did not say so.
    LateUnannounced(Ear, Heard),
    /// Handed to the application; whether it is said to be sent again or late.
    Delivered(Ear, Heard, bool),
    /// About to be acknowledged.
    Processed(Ear, Heard),
    Noticed(Ear, Notice, String),
}

/// The file of one process, or of one run of it.
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("the journal {} cannot be opened", path.display()))? })
    }

    /// Writes what happens now; gives back when that was.
    pub(crate) fn write(&self, what: What) -> io::Result<Stamp> {
        let stamp = Stamp::now();
        let mut line = serde_json::to_vec(&Entry(stamp, what))?;
        line.push(b'\n');
        (&self.file).write_all(&line)?;
        Ok(stamp)
    }
}

/// Reads a journal, entry by entry.
pub(crate) struct Entries {
    lines: BufReader<File>,
    name: String,
}

impl Entries {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("the journal {name} cannot be read"))?;
        Ok(Self { lines: BufReader::with_capacity(1 << 18, file), name })
    }

    /// The next; `None` at the end, which may be in the middle of a line when the process was killed in that moment.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        let mut line = String::new();
        self.lines.read_line(&mut line).with_context(|| format!("the journal {}", self.name))?;
        if !line.ends_with('\n') {
            return Ok(None);
        }
        let entry = serde_json::from_str(&line).with_context(|| format!("the journal {}: {line}", self.name))?;
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_torn_end_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        let ear = Ear { run: Run { client: 1, incarnation: 2 }, subscription: 3 };
        journal.write(What::Delivered(ear, (u64::MAX, 4, 5), true)).unwrap();
        journal.file.try_clone().unwrap().write_all(b"[1,{\"Deliv").unwrap();
        let mut entries = Entries::open(&path).unwrap();
        let Entry(_, what) = entries.next().unwrap().unwrap();
        assert!(matches!(what, What::Delivered(read, (u64::MAX, 4, 5), true) if read == ear));
        assert!(entries.next().unwrap().is_none());
    }
}
