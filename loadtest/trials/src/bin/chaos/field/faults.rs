//! What befalls packets: nft rules that lose some or all of them, and narrow links.

use std::cell::{Cell, RefCell};

use super::{LINKS, namespaces::interface};
use crate::tool;

/// The table of the rules, in the brokers' namespace.
const TABLE: &str = "inet chaos";

/// One thing that befalls packets, for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// So many of a thousand are lost, both ways, on one link or on all.
    Loss(Option<usize>, u32),
    /// Nothing passes a link.
    Cut(usize),
    /// What the peers behind a link say is not heard.
    Mute(usize),
    /// What is said to the peers behind a link is not heard.
    Deaf(usize),
    /// Nothing reaches or leaves the broker at this port.
    BrokerCut(u16),
    /// What the broker at this port says is not heard.
    BrokerMute(u16),
    /// So many kilobits a second pass a link towards the peers, with a short queue.
    Narrow(usize, u32),
}

/// All faults in force.
#[derive(Default)]
pub(crate) struct Faults {
    present: RefCell<Vec<(u64, Fault)>>,
    numbers: Cell<u64>,
}

impl Fault {
    /// By which it is counted.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Loss(..) => "losses",
            Self::Cut(_) | Self::BrokerCut(_) => "partitions",
            Self::Mute(_) | Self::Deaf(_) | Self::BrokerMute(_) => "one_way_partitions",
            Self::Narrow(..) => "narrow_links",
        }
    }

    /// The rules, each with the chain that it belongs to.
    fn rules(&self) -> Vec<(&'static str, String)> {
        const DROP: &str = "counter name lost drop";
        let input = |what: String| ("input", format!("{what} {DROP}"));
        let output = |what: String| ("output", format!("{what} {DROP}"));
        match self {
            Self::Loss(link, permille) => {
                let chance = format!("numgen random mod 1000 < {permille}");
                // With a star, nft takes it for all interfaces that begin so.
                let name = link.map_or_else(|| "link*".to_owned(), interface);
                let [heard, said] = ["iifname", "oifname"].map(|side| format!("{side} \"{name}\" {chance}"));
                vec![input(heard), output(said)]
            }
            Self::Cut(link) => [Self::Mute(*link), Self::Deaf(*link)].iter().flat_map(Self::rules).collect(),
            Self::Mute(link) => vec![input(format!("iifname \"{}\"", interface(*link)))],
            Self::Deaf(link) => vec![output(format!("oifname \"{}\"", interface(*link)))],
            Self::BrokerCut(port) => vec![input(format!("udp dport {port}")), output(format!("udp sport {port}"))],
            Self::BrokerMute(port) => vec![output(format!("udp sport {port}"))],
            Self::Narrow(..) => Vec::new(),
        }
    }
}

impl Faults {
    /// Prepares the brokers' namespace, in which this process runs.
    pub(crate) async fn prepare() -> anyhow::Result<()> {
        let chain = |name| format!("add chain {TABLE} {name} {{ type filter hook {name} priority 0; }}\n");
        let rules = format!("add table {TABLE}\nadd counter {TABLE} lost\n{}{}", chain("input"), chain("output"));
        tool::run("nft", &["-f", "-"], &rules).await.map(drop)
    }

    /// Lets a fault begin; the number names it for [`Self::end`].
    pub(crate) async fn begin(&self, fault: Fault) -> anyhow::Result<u64> {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        if let Fault::Narrow(link, kilobits) = &fault {
            narrow(*link, *kilobits).await?;
        }
        self.present.borrow_mut().push((number, fault));
        self.enforce().await?;
        Ok(number)
    }

    /// Ends one.
    pub(crate) async fn end(&self, number: u64) -> anyhow::Result<()> {
        let ended: Vec<Fault> = {
            let mut present = self.present.borrow_mut();
            present.extract_if(.., |(known, _)| *known == number).map(|(_, fault)| fault).collect()
        };
        for fault in &ended {
            if let Fault::Narrow(link, _) = fault {
                widen(*link).await;
            }
        }
        self.enforce().await
    }

    /// Ends all.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        self.present.borrow_mut().clear();
        for link in 0..LINKS {
            widen(link).await;
        }
        self.enforce().await
    }

    /// All rules anew, in one transaction.
    async fn enforce(&self) -> anyhow::Result<()> {
        let rules: Vec<_> = self.present.borrow().iter().flat_map(|(_, fault)| fault.rules()).collect();
        let mut text = format!("flush chain {TABLE} input\nflush chain {TABLE} output\n");
        for (chain, rule) in rules {
            text += &format!("add rule {TABLE} {chain} {rule}\n");
        }
        tool::run("nft", &["-f", "-"], &text).await.map(drop)
    }

    /// Packets that were lost so far.
    pub(crate) async fn packets_lost(&self) -> anyhow::Result<u64> {
        let told = tool::run("nft", &["list", "counters", "table", "inet", "chaos"], "").await?;
        let mut words = told.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        Ok(words.next().and_then(|count| count.parse().ok()).unwrap_or(0))
    }
}

async fn narrow(link: usize, kilobits: u32) -> anyhow::Result<()> {
    let rate = format!("{kilobits}kbit");
    let name = interface(link);
    let arguments = ["qdisc", "replace", "dev", &name, "root", "tbf", "rate", &rate, "burst", "8kb", "limit", "32kb"];
    tool::run("tc", &arguments, "").await.map(drop)
}

/// Fails when it was not narrow.
async fn widen(link: usize) {
    let _ = tool::run("tc", &["qdisc", "delete", "dev", &interface(link), "root"], "").await;
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn faults_become_rules_of_one_or_both_chains() {
        let rules = Fault::Loss(None, 20).rules();
        assert_eq!(rules[0].1, "iifname \"link*\" numgen random mod 1000 < 20 counter name lost drop");
        assert_eq!(rules[1].0, "output");
        assert_eq!(Fault::Cut(3).rules().len(), 2);
        assert_eq!(Fault::BrokerMute(9).rules(), [("output", "udp sport 9 counter name lost drop".to_owned())]);
        assert!(Fault::Narrow(1, 500).rules().is_empty());
    }
}
