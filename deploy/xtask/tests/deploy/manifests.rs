//! The manifests agree with each other and with the broker: what they name is there.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    read,
    schemas::{self, Manifest},
    settings, version,
};

/// What is not applied unless somebody chooses to.
const BY_CHOICE: [&str; 1] = ["servicemonitor.yaml"];

/// All manifests, by file name; none where the tests cannot read them and have said so.
pub(crate) struct Manifests(BTreeMap<String, Manifest>);

impl Manifests {
    /// Reads them.
    pub(crate) fn read() -> Option<Self> {
        let manifests = schemas::manifests()?;
        let count = manifests.len();
        let by_file: BTreeMap<_, _> = manifests.into_iter().map(|known| (known.file.clone(), known)).collect();
        assert_eq!(by_file.len(), count, "one document per file");
        Some(Self(by_file))
    }

    /// The value at a JSON pointer in a file; fails where there is none.
    pub(crate) fn at(&self, file: &str, pointer: &str) -> &Value {
        let manifest = self.0.get(file).unwrap_or_else(|| panic!("there is no {file}"));
        manifest.content.pointer(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}"))
    }

    /// A text at a JSON pointer.
    pub(crate) fn text(&self, file: &str, pointer: &str) -> &str {
        self.at(file, pointer).as_str().unwrap_or_else(|| panic!("{file}: {pointer} is no text"))
    }

    /// A whole number at a JSON pointer.
    pub(crate) fn number(&self, file: &str, pointer: &str) -> u64 {
        self.at(file, pointer).as_u64().unwrap_or_else(|| panic!("{file}: {pointer} is no whole number"))
    }

    /// A list at a JSON pointer.
    pub(crate) fn list(&self, file: &str, pointer: &str) -> &[Value] {
        self.at(file, pointer).as_array().unwrap_or_else(|| panic!("{file}: {pointer} is no list"))
    }

    /// The variables of the broker's container: of the ConfigMap that it names, and its own.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let container = self.at("deployment.yaml", "/spec/template/spec/containers/0");
        assert_eq!(
            container.pointer("/envFrom/0/configMapRef/name"),
            Some(self.at("configmap.yaml", "/metadata/name"))
        );
        let map = self.at("configmap.yaml", "/data").as_object().unwrap();
        let mut variables: BTreeMap<String, String> =
            map.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        for own in container["env"].as_array().into_iter().flatten() {
            let (name, value) = (own["name"].as_str().unwrap(), own["value"].as_str().unwrap());
            variables.insert(name.to_owned(), value.to_owned());
        }
        variables
    }
}

#[test]
fn every_manifest_is_applied_or_left_out_on_purpose() {
    let Some(manifests) = Manifests::read() else { return };
    let resources = manifests.list("kustomization.yaml", "/resources").iter();
    let mut known: Vec<&str> = resources.map(|file| file.as_str().unwrap()).collect();
    known.extend(BY_CHOICE);
    known.push("kustomization.yaml");
    known.sort_unstable();
    assert_eq!(known, schemas::names());
    for manifest in manifests.0.values() {
        assert!(manifest.content.pointer("/metadata/namespace").is_none(), "{} names a namespace", manifest.file);
    }
}

#[test]
fn every_variable_is_a_setting_with_a_value_that_is_accepted() {
    let Some(manifests) = Manifests::read() else { return };
    let (settings, variables) = (settings::all(), manifests.variables());
    for (variable, value) in &variables {
        settings::assert_accepted(&settings, variable, value);
    }
    assert!(variables.len() > 5, "{variables:?}");
}

#[test]
fn ports_are_the_same_everywhere() {
    let Some(manifests) = Manifests::read() else { return };
    let variables = manifests.variables();
    let quic = settings::port(&variables["ZONECAST_LISTEN"]);
    let admin = settings::port(&variables["ZONECAST_ADMIN_LISTEN"]);
    // The image exposes the defaults.
    assert_eq!(quic, settings::port(&settings::default("listen")));
    assert_eq!(admin, settings::port(&settings::default("admin_listen")));
    let address: std::net::SocketAddr = variables["ZONECAST_ADMIN_LISTEN"].parse().unwrap();
    assert!(address.ip().is_unspecified(), "probes cannot reach {address}");

    let wanted = serde_json::json!([
        {"name": "quic", "containerPort": quic, "protocol": "UDP"},
        {"name": "admin", "containerPort": admin, "protocol": "TCP"},
    ]);
    assert_eq!(manifests.at("deployment.yaml", "/spec/template/spec/containers/0/ports"), &wanted);
    for (file, name, port, protocol) in
        [("service.yaml", "quic", quic, "UDP"), ("service-admin.yaml", "admin", admin, "TCP")]
    {
        let wanted = serde_json::json!([{"name": name, "port": port, "targetPort": name, "protocol": protocol}]);
        assert_eq!(manifests.at(file, "/spec/ports"), &wanted, "{file}");
    }
    let opened: Vec<&Value> =
        manifests.list("networkpolicy.yaml", "/spec/ingress").iter().map(|r| &r["ports"]).collect();
    let wanted = serde_json::json!([[{"protocol": "UDP", "port": quic}], [{"protocol": "TCP", "port": admin}]]);
    assert_eq!(serde_json::json!(opened), wanted);
    let annotation = "/spec/template/metadata/annotations/prometheus.io~1port";
    assert_eq!(manifests.text("deployment.yaml", annotation), admin.to_string());
    assert_eq!(manifests.text("servicemonitor.yaml", "/spec/endpoints/0/port"), "admin");
}

#[test]
fn prometheus_asks_where_the_broker_answers() {
    let Some(manifests) = Manifests::read() else { return };
    let routes = read("broker/src/admin.rs");
    let annotation = "/spec/template/metadata/annotations/prometheus.io~1path";
    for path in
        [manifests.text("deployment.yaml", annotation), manifests.text("servicemonitor.yaml", "/spec/endpoints/0/path")]
    {
        assert!(routes.contains(&format!(".route(\"{path}\", get(scrape))")), "{path}");
    }
}

#[test]
fn selectors_choose_what_they_are_for() {
    let Some(manifests) = Manifests::read() else { return };
    let chosen = manifests.at("deployment.yaml", "/spec/selector/matchLabels");
    assert_eq!(chosen, manifests.at("deployment.yaml", "/spec/template/metadata/labels"));
    for (file, pointer) in [
        ("service.yaml", "/spec/selector"),
        ("service-admin.yaml", "/spec/selector"),
        ("networkpolicy.yaml", "/spec/podSelector/matchLabels"),
        ("poddisruptionbudget.yaml", "/spec/selector/matchLabels"),
    ] {
        assert_eq!(manifests.at(file, pointer), chosen, "{file}");
    }
    let of_monitor = manifests.at("servicemonitor.yaml", "/spec/selector/matchLabels");
    assert_eq!(of_monitor, manifests.at("service-admin.yaml", "/metadata/labels"));
    assert_ne!(of_monitor, manifests.at("service.yaml", "/metadata/labels"), "the QUIC port answers no HTTP");
}

#[test]
fn the_image_is_the_one_that_is_built() {
    let Some(manifests) = Manifests::read() else { return };
    let image = format!("zonecast:{}", version());
    assert_eq!(manifests.text("deployment.yaml", "/spec/template/spec/containers/0/image"), image);
    let images = manifests.at("kustomization.yaml", "/images");
    assert_eq!(images, &serde_json::json!([{"name": "zonecast", "newName": "zonecast", "newTag": version()}]));
    for page in ["deploy/README.md", "deploy/container/Containerfile"] {
        assert!(read(page).contains(&format!("--tag {image} ")), "{page} does not build {image}");
    }
}
