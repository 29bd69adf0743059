//! The load test: a world from a seed, events at times that are fixed before the run, and every arrival checked.
//!
//! Three kinds of process take part. The conductor ([`conduct()`]) starts the others and reads from the system what they
//! use; generators ([`generate`]) host publishers and sessions; the broker is a process of its own. Conductor and
//! generators talk in lines of JSON. All read one clock, `CLOCK_MONOTONIC`.
//!
//! **What is measured.** At a rate, the time of each event is fixed before the run ([`Schedule`]), and its latency counts
//! from that time, whether or not the broker, or the generator, was in time for it. Unpaced, each publisher keeps a
//! window of events under way, and latencies count from the sending. An event has arrived when the session's task is
//! handed it; what is handed over in one go has one time. Events of the warm-up are checked, but not measured.
//!
//! **What is checked.** Each publisher goes round in a pool of circles drawn before the run. Whom each circle concerns
//! is found by comparing it with every zone ([`zonecast_protocol::Zone::touches`]), and each session keeps a bit for
//! every delivery that is due ([`Book`]). So lost, duplicated and unexpected deliveries are exact, and so are wrong
//! counts in acknowledgements. Where zones move, what is not certain is not held against the broker.
//!
//! Brokers of other kinds take part by a [`Transport`] of their own. Start at [`conduct()`].

mod books;
mod clock;
mod conduct;
mod generator;
mod html;
mod orders;
mod payload;
mod plot;
mod report;
mod schedule;
mod settings;
mod tally;
mod transport;
mod usage;
mod world;
mod zonecast;

pub use books::{Balance, Book, Entry};
pub use clock::{now_ns, ns_of};
pub use conduct::{Crew, LoadError, LoadProgress, Stage, conduct};
pub use generator::{GeneratorError, generate};
pub use orders::Role;
pub use payload::{PAYLOAD_BYTES_MIN, Stamp};
pub use report::{BrokerReport, GeneratorReport, LoadOutcome, LoadReport, MachineReport};
pub use schedule::Schedule;
pub use settings::{LoadAck, LoadClass, LoadSettings, Rate, RateError, Scenario, SettingError};
pub use tally::{HistogramRecord, Tally, TallyRecord, Window, latency_histogram};
pub use transport::{Copies, Mover, NoMover, Outgoing, Publisher, Sink, Subscriber, Transport, TransportError};
pub use usage::{Usage, machine_cpu_s};
pub use world::{POSITIONS, World};
pub use zonecast::{Secret, Zonecast, ZonecastMover, ZonecastPublisher, ZonecastSubscriber, ZonecastTarget};
