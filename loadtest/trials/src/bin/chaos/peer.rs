//! The peer role: one process with some clients, which writes down all that they see.
//!
//! Its script comes as the first line of standard input, orders follow. It ends, at once and without a farewell, when
//! standard input ends: so none outlives the stage.

mod life;
mod publishing;
mod reading;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use anyhow::Context;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin},
    sync::watch,
    task::{LocalSet, spawn_local},
};
use zonecast_client::TlsConfig;
use zonecast_trials::BrokerNumber;

use crate::{
    journal::{Journal, What},
    script::{Order, PeerScript, Standing},
};

/// What all clients of the process share.
pub(crate) struct Desk {
    script: PeerScript,
    tls: TlsConfig,
    journal: Journal,
    standing: Cell<Standing>,
    publishing: watch::Sender<bool>,
    lives: RefCell<Vec<Rc<life::Life>>>,
}

impl Desk {
    /// Writes down what happened. A journal with holes proves nothing, so without it the process ends.
    fn note(&self, what: What) {
        if let Err(error) = self.journal.write(what) {
            end(&format!("the journal cannot be written: {error}"));
        }
    }

    fn count(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.get();
        change(&mut standing);
        self.standing.set(standing);
    }

    fn is_publishing(&self) -> bool {
        *self.publishing.borrow()
    }

    fn broker_at(&self, address: std::net::SocketAddr) -> Option<BrokerNumber> {
        // The library's sockets serve both families, so an IPv4 address may come back in IPv6 form.
        let plain = std::net::SocketAddr::new(address.ip().to_canonical(), address.port());
        self.script.brokers.iter().find(|(_, at)| *at == plain).map(|(number, _)| *number)
    }
}

/// Says why and ends the process.
#[expect(clippy::print_stderr, reason = "the stage keeps what its peers say")]
fn end(why: &str) -> ! {
    eprintln!("error: {why}");
    std::process::exit(1)
}

/// Plays the role until standard input ends.
///
/// # Errors
/// The script cannot be read, or what it names cannot be opened.
pub(crate) fn run() -> anyhow::Result<()> {
    // A stopped process does not see the end of its input.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, play())?;
    // Not by returning: what the clients would still say in their last moments is nobody's business.
    std::process::exit(0)
}

async fn play() -> anyhow::Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let script = orders.next_line().await?.context("there is no script")?;
    let script: PeerScript = serde_json::from_str(&script).context("the script")?;
    let desk = Rc::new(Desk {
        tls: TlsConfig::from_files(Some(&script.ca), None)?,
        journal: Journal::open(&script.journal)?,
        standing: Cell::default(),
        publishing: watch::Sender::new(true),
        lives: RefCell::default(),
        script,
    });
    for client in desk.script.clients.clone() {
        spawn_local(life::live(Rc::clone(&desk), client));
    }
    obey(&desk, &mut orders).await?;
    Ok(())
}

async fn obey(desk: &Rc<Desk>, orders: &mut Lines<BufReader<Stdin>>) -> io::Result<()> {
    let mut answers = tokio::io::stdout();
    while let Some(line) = orders.next_line().await? {
        match serde_json::from_str(&line)? {
            Order::BeQuiet => {
                desk.publishing.send_replace(false);
            }
            Order::Probe => publishing::probe(desk),
            Order::Mark => desk.lives.borrow().iter().for_each(|life| life.mark()),
            Order::Report => {
                let mut line = serde_json::to_vec(&standing(desk))?;
                line.push(b'\n');
                answers.write_all(&line).await?;
                answers.flush().await?;
            }
        }
    }
    Ok(())
}

fn standing(desk: &Desk) -> Standing {
    let mut standing = desk.standing.get();
    for life in desk.lives.borrow().iter().filter(|life| life.tell_link()) {
        standing.linked += 1;
        standing.relinked += usize::from(life.is_relinked());
    }
    standing
}
