//! Rules on who may depend on whom, checked on the dependency graph as cargo resolved it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;

/// Who may use whom: the directory of a member, and the directories of the members that it may name. A `*` at the end
/// stands for everything below. Whatever a member reaches through others follows from this.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("protocol", &[]),
    ("protocol/access", &["protocol"]),
    ("broker/core", &["protocol"]),
    ("broker", &["protocol", "protocol/access", "broker/core"]),
    ("client", &["protocol"]),
    ("services/*", &["protocol", "protocol/access", "client", "services/*"]),
    ("benches", &["protocol", "broker/core"]),
    ("loadtest", &["protocol", "client"]),
    ("loadtest/bakeoff", &["protocol", "broker/core", "loadtest"]),
    ("loadtest/trials", &["protocol", "protocol/access", "broker", "client"]),
    // Puts up a broker with services and calls them as anybody would.
    ("loadtest/services", &["protocol", "protocol/access", "broker", "client", "services/*"]),
    ("deploy/*", &["*"]),
];

/// Members without a runtime, a socket, a clock or chance.
const PURE: [&str; 2] = ["protocol", "broker/core"];

/// What members in [`PURE`] must not reach, not even through others.
const IMPURE: [&str; 9] = ["axum", "fastrand", "getrandom", "hyper", "mio", "quinn", "quinn-proto", "socket2", "tokio"];

/// The dependency graph, of packages by cargo's ids.
pub(super) struct Graph {
    packages: BTreeMap<String, Package>,
}

struct Package {
    name: String,
    /// Where a member of the workspace is, relative to the top level; none for all others.
    member: Option<String>,
    /// True for a package that is a directory on this machine.
    local: bool,
    uses: Vec<Edge>,
}

/// One package uses another.
struct Edge {
    to: String,
    /// False where only tests or build scripts do.
    normal: bool,
}

/// The parts of `cargo metadata` that are needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
    workspace_members: BTreeSet<String>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    manifest_path: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

impl Graph {
    /// Reads what `cargo metadata --format-version 1` prints.
    pub(super) fn from_metadata(json: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(json).context("cargo metadata printed something unknown")?;
        let mut uses: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
        for node in metadata.resolve.nodes {
            let edges = node.deps.into_iter().map(|dependency| Edge {
                normal: dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()),
                to: dependency.pkg,
            });
            uses.insert(node.id, edges.collect());
        }
        let root = metadata.workspace_root.replace('\\', "/");
        let mut packages = BTreeMap::new();
        for package in metadata.packages {
            let place = package.manifest_path.replace('\\', "/");
            let member = metadata.workspace_members.contains(&package.id).then(|| {
                let inside = place.strip_prefix(&root).unwrap_or(&place);
                inside.trim_start_matches('/').trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned()
            });
            let local = package.source.is_none();
            let uses = uses.remove(&package.id).unwrap_or_default();
            packages.insert(package.id, Package { name: package.name, member, local, uses });
        }
        Ok(Self { packages })
    }
}

/// All rules on the graph.
pub(super) fn check(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, package) in &graph.packages {
        match &package.member {
            Some(place) => {
                findings.extend(layers(graph, package, place));
                if PURE.contains(&place.as_str()) {
                    findings.extend(purity(graph, id, place));
                }
            }
            None if package.local => {
                let message = format!("`{}` is neither of this workspace nor from a registry", package.name);
                findings.push(Finding::new("Cargo.toml", 0, "dependency-source", message));
            }
            None => {}
        }
    }
    findings
}

/// The table, on every edge between two members. Tests count: a test that needs the broker belongs where it may.
fn layers(graph: &Graph, package: &Package, place: &str) -> Vec<Finding> {
    let manifest = format!("{place}/Cargo.toml");
    let Some((_, permitted)) = MAY_USE.iter().find(|(pattern, _)| matches(pattern, place)) else {
        return vec![Finding::new(manifest, 0, "layers", "has no line in the table of who may use whom")];
    };
    let used = package.uses.iter().filter_map(|edge| graph.packages.get(&edge.to)?.member.as_ref());
    used.filter(|used| !permitted.iter().any(|pattern| matches(pattern, used)))
        .map(|used| Finding::new(manifest.clone(), 0, "layers", format!("`{place}` must not use `{used}`")))
        .collect()
}

fn matches(pattern: &str, place: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == place, |before| place.starts_with(before))
}

/// Searches everything that the member reaches in normal use, and tells the shortest way to what it must not.
fn purity(graph: &Graph, start: &str, place: &str) -> Vec<Finding> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    let mut findings = Vec::new();
    while let Some(id) = open.pop_front() {
        let Some(package) = graph.packages.get(id) else { continue };
        if IMPURE.contains(&package.name.as_str()) {
            let message = format!("`{place}` must stay pure, but: {}", way(graph, &came_from, id));
            findings.push(Finding::new(format!("{place}/Cargo.toml"), 0, "purity", message));
            continue;
        }
        for edge in package.uses.iter().filter(|edge| edge.normal) {
            if edge.to != start && !came_from.contains_key(edge.to.as_str()) {
                came_from.insert(&edge.to, id);
                open.push_back(&edge.to);
            }
        }
    }
    findings
}

fn way(graph: &Graph, came_from: &BTreeMap<&str, &str>, end: &str) -> String {
    let steps = std::iter::successors(Some(end), |id| came_from.get(id).copied());
    let mut names: Vec<&str> =
        steps.map(|id| graph.packages.get(id).map_or(id, |package| package.name.as_str())).collect();
    names.reverse();
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Finding, Graph, check};

    /// Members by directory, other packages by a name that begins with `@`; edges as (from, to, kind).
    fn findings(packages: &[&str], edges: &[(&str, &str, Option<&str>)]) -> Vec<Finding> {
        let is_member = |name: &&&str| !name.starts_with('@') && !name.starts_with('~');
        let described: Vec<Value> = packages
            .iter()
            .map(|name| {
                json!({
                    "id": name,
                    "name": name.trim_start_matches(['@', '~']),
                    "manifest_path": format!("/checkout/{name}/Cargo.toml"),
                    "source": name.starts_with('@').then_some("registry"),
                })
            })
            .collect();
        let nodes: Vec<Value> = packages
            .iter()
            .map(|from| {
                let uses = edges.iter().filter(|edge| edge.0 == *from);
                let deps: Vec<Value> =
                    uses.map(|edge| json!({"pkg": edge.1, "dep_kinds": [{"kind": edge.2, "target": null}]})).collect();
                json!({"id": from, "deps": deps})
            })
            .collect();
        let metadata = json!({
            "packages": described,
            "resolve": {"nodes": nodes},
            "workspace_members": packages.iter().filter(is_member).collect::<Vec<_>>(),
            "workspace_root": "/checkout",
        });
        check(&Graph::from_metadata(&metadata.to_string()).unwrap())
    }

    #[test]
    fn the_layout_as_designed_is_in_order() {
        let members = ["protocol", "broker", "broker/core", "client", "services/users", "deploy/zonecast", "@tokio"];
        let edges = [
            ("broker", "broker/core", None),
            ("broker", "@tokio", None),
            ("broker/core", "protocol", None),
            ("client", "protocol", None),
            ("services/users", "client", None),
            ("deploy/zonecast", "broker", None),
            ("deploy/zonecast", "services/users", None),
        ];
        assert_eq!(findings(&members, &edges), []);
    }

    #[test]
    fn a_wrong_direction_is_found_in_tests_too() {
        let members = ["protocol", "broker", "broker/core", "client", "services/users"];
        for (from, to) in [
            ("client", "broker"),
            ("client", "broker/core"),
            ("services/users", "broker/core"),
            ("protocol", "broker/core"),
            ("broker/core", "broker"),
            ("broker", "client"),
        ] {
            for kind in [None, Some("dev")] {
                let found = findings(&members, &[(from, to, kind)]);
                assert_eq!(found.len(), 1, "{from} -> {to}");
                assert_eq!((found[0].rule, found[0].path.clone()), ("layers", format!("{from}/Cargo.toml")));
            }
        }
    }

    #[test]
    fn a_member_that_the_table_does_not_know_is_found() {
        assert_eq!(findings(&["gateway"], &[])[0].rule, "layers");
    }

    #[test]
    fn a_pure_crate_reaches_no_runtime_through_others() {
        let packages = ["protocol", "broker/core", "@h3", "@tokio"];
        let reached = findings(
            &packages,
            &[("broker/core", "protocol", None), ("protocol", "@h3", None), ("@h3", "@tokio", None)],
        );
        let messages: Vec<&str> = reached.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(reached.len(), 2, "{messages:?}");
        assert!(messages[0].ends_with("broker/core -> protocol -> h3 -> tokio"), "{messages:?}");
        assert!(messages[1].ends_with("protocol -> h3 -> tokio"), "{messages:?}");
    }

    #[test]
    fn what_tests_and_build_scripts_of_a_pure_crate_use_does_not_count() {
        let packages = ["protocol", "@tokio", "@mio"];
        let edges = [("protocol", "@tokio", Some("dev")), ("protocol", "@mio", Some("build"))];
        assert_eq!(findings(&packages, &edges), []);
    }

    #[test]
    fn a_package_from_elsewhere_on_the_machine_is_found() {
        assert_eq!(findings(&["~vendored"], &[])[0].rule, "dependency-source");
    }
}
