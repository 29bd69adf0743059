//! The manifests agree with each other and with the binary: what they name is there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    read,
    schemas::{self, Manifest},
    settings, version,
};

/// What is not applied unless somebody chooses to.
const BY_CHOICE: [&str; 1] = ["servicemonitor.yaml"];

/// What has a folder of manifests.
pub(crate) struct Component {
    /// The folder, the container, the command of the binary, and the label `component`: one name.
    pub(crate) folder: &'static str,
    /// What the port for its clients is called, its setting, and its protocol.
    door: (&'static str, &'static str, &'static str),
    /// The setting of its admin address.
    admin: &'static str,
    /// The source of admin HTTP.
    pub(crate) routes: &'static str,
}

/// All of them.
pub(crate) const COMPONENTS: [Component; 2] = [
    Component {
        folder: "broker",
        door: ("quic", "listen", "UDP"),
        admin: "admin_listen",
        routes: "broker/src/admin.rs",
    },
    Component {
        folder: "services",
        door: ("grpc", "services.listen", "TCP"),
        admin: "services.admin_listen",
        routes: "services/host/src/admin.rs",
    },
];

/// The variable of a setting.
pub(crate) fn variable(key: &str) -> String {
    format!("ZONECAST_{}", key.replace('.', "_").to_uppercase())
}

/// All manifests, by folder and file name; none where the tests cannot read them and have said so.
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

    /// Those of one folder.
    pub(crate) fn of(&self, component: &'static Component) -> Folder<'_> {
        Folder { manifests: &self.0, component }
    }
}

/// The manifests of one component, by file name.
#[derive(Clone, Copy)]
pub(crate) struct Folder<'a> {
    manifests: &'a BTreeMap<String, Manifest>,
    pub(crate) component: &'static Component,
}

impl<'a> Folder<'a> {
    /// The value at a JSON pointer in a file; fails where there is none.
    pub(crate) fn at(self, file: &str, pointer: &str) -> &'a Value {
        let file = format!("{}/{file}", self.component.folder);
        let manifest = self.manifests.get(&file).unwrap_or_else(|| panic!("there is no {file}"));
        manifest.content.pointer(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}"))
    }

    /// A text at a JSON pointer.
    pub(crate) fn text(self, file: &str, pointer: &str) -> &'a str {
        self.at(file, pointer).as_str().unwrap_or_else(|| panic!("{file}: {pointer} is no text"))
    }

    /// A whole number at a JSON pointer.
    pub(crate) fn number(self, file: &str, pointer: &str) -> u64 {
        self.at(file, pointer).as_u64().unwrap_or_else(|| panic!("{file}: {pointer} is no whole number"))
    }

    /// A list at a JSON pointer.
    pub(crate) fn list(self, file: &str, pointer: &str) -> &'a [Value] {
        self.at(file, pointer).as_array().unwrap_or_else(|| panic!("{file}: {pointer} is no list"))
    }

    /// All containers of the pod, those that only prepare among them.
    pub(crate) fn containers(self) -> Vec<&'a Value> {
        let pod = self.at("deployment.yaml", "/spec/template/spec");
        ["initContainers", "containers"].iter().flat_map(|list| pod[list].as_array().into_iter().flatten()).collect()
    }

    /// The variables of the pod's first container, of the `ConfigMap` that it names and its own, which are settings. Those
    /// whose values are Secrets' have none here.
    pub(crate) fn variables(self) -> BTreeMap<String, Option<String>> {
        let container = self.at("deployment.yaml", "/spec/template/spec/containers/0");
        let named = container.pointer("/envFrom/0/configMapRef/name");
        assert_eq!(named, Some(self.at("configmap.yaml", "/metadata/name")));
        let map = self.at("configmap.yaml", "/data").as_object().unwrap();
        let mut variables: BTreeMap<String, Option<String>> =
            map.iter().map(|(name, value)| (name.clone(), Some(value.as_str().unwrap().to_owned()))).collect();
        for own in container["env"].as_array().into_iter().flatten() {
            let (name, value) = (own["name"].as_str().unwrap(), own["value"].as_str().map(str::to_owned));
            assert_eq!(value.is_none(), own["valueFrom"].is_object(), "{name}");
            variables.insert(name.to_owned(), value);
        }
        variables.retain(|name, _| name.starts_with("ZONECAST_"));
        variables
    }

    /// The value of a setting.
    pub(crate) fn setting(self, key: &str) -> String {
        let value = self.variables().remove(&variable(key)).flatten();
        value.unwrap_or_else(|| panic!("the {} have no value for {key}", self.component.folder))
    }

    /// The ports that it has, by what they are called: for clients, and admin HTTP.
    fn ports(self) -> [(&'static str, u16, &'static str); 2] {
        let (name, door, protocol) = self.component.door;
        let port = |key: &str| settings::port(&self.setting(key));
        [(name, port(door), protocol), ("admin", port(self.component.admin), "TCP")]
    }
}

/// Runs a test on each component.
pub(crate) fn on_each(test: impl Fn(Folder<'_>)) {
    let Some(manifests) = Manifests::read() else { return };
    COMPONENTS.iter().for_each(|component| test(manifests.of(component)));
}

#[test]
fn every_manifest_is_applied_or_left_out_on_purpose() {
    let folders: Vec<&str> = COMPONENTS.iter().map(|component| component.folder).collect();
    assert_eq!(schemas::folders(), folders);
    on_each(|folder| {
        let resources = folder.list("kustomization.yaml", "/resources").iter();
        let mut known: Vec<&str> = resources.map(|file| file.as_str().unwrap()).collect();
        known.extend(BY_CHOICE);
        known.push("kustomization.yaml");
        known.sort_unstable();
        assert_eq!(known, schemas::names(folder.component.folder));
        let page = read("deploy/README.md");
        assert!(page.contains(&format!("apply -k deploy/kubernetes/{}\n", folder.component.folder)));
    });
    let Some(manifests) = Manifests::read() else { return };
    for manifest in manifests.0.values() {
        assert!(manifest.content.pointer("/metadata/namespace").is_none(), "{} names a namespace", manifest.file);
    }
}

#[test]
fn every_variable_is_a_setting_with_a_value_that_is_accepted() {
    let settings = settings::all();
    on_each(|folder| {
        let variables = folder.variables();
        for (variable, value) in &variables {
            match value.as_deref() {
                Some(value) => {
                    settings::assert_accepted(&settings, variable, &value.replace("$(POD_NAME)", "pod-7f-x"))
                }
                None => assert!(settings.iter().any(|known| known.variable == *variable), "{variable} is no setting"),
            }
        }
        assert!(variables.len() > 5, "{variables:?}");
    });
}

#[test]
fn ports_are_the_same_everywhere() {
    on_each(|folder| {
        let ports = folder.ports();
        let [(_, door, _), (_, admin, _)] = ports;
        // The image exposes the broker's, and every page names them: they are the defaults.
        assert_eq!(door, settings::port(&settings::default(folder.component.door.1)));
        assert_eq!(admin, settings::port(&settings::default(folder.component.admin)));
        for key in [folder.component.door.1, folder.component.admin] {
            let address: std::net::SocketAddr = folder.setting(key).parse().unwrap();
            assert!(address.ip().is_unspecified(), "nobody reaches {address} from outside of the pod");
        }
        let declared =
            ports.map(|(name, port, protocol)| json!({"name": name, "containerPort": port, "protocol": protocol}));
        assert_eq!(folder.at("deployment.yaml", "/spec/template/spec/containers/0/ports"), &json!(declared));
        for (file, (name, port, protocol)) in ["service.yaml", "service-admin.yaml"].into_iter().zip(ports) {
            let wanted = json!([{"name": name, "port": port, "targetPort": name, "protocol": protocol}]);
            assert_eq!(folder.at(file, "/spec/ports"), &wanted, "{file}");
        }
        let ingress = folder.list("networkpolicy.yaml", "/spec/ingress");
        let opened: Vec<&Value> = ingress.iter().map(|rule| &rule["ports"]).collect();
        let wanted = ports.map(|(_, port, protocol)| json!([{"protocol": protocol, "port": port}]));
        assert_eq!(json!(opened), json!(wanted));
        let monitoring = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
        assert_eq!(ingress[1]["from"], monitoring, "nobody else reaches admin HTTP");
        let annotation = "/spec/template/metadata/annotations/prometheus.io~1port";
        assert_eq!(folder.text("deployment.yaml", annotation), admin.to_string());
        assert_eq!(folder.text("servicemonitor.yaml", "/spec/endpoints/0/port"), "admin");
    });
}

#[test]
fn prometheus_asks_where_there_is_an_answer() {
    on_each(|folder| {
        let routes = read(folder.component.routes);
        let annotation = "/spec/template/metadata/annotations/prometheus.io~1path";
        for path in
            [folder.text("deployment.yaml", annotation), folder.text("servicemonitor.yaml", "/spec/endpoints/0/path")]
        {
            assert!(routes.contains(&format!(".route(\"{path}\", get(scrape))")), "{path}");
        }
    });
}

#[test]
fn selectors_choose_what_they_are_for() {
    on_each(|folder| {
        let chosen = folder.at("deployment.yaml", "/spec/selector/matchLabels");
        assert_eq!(chosen["app.kubernetes.io/component"], folder.component.folder);
        assert_eq!(chosen, folder.at("deployment.yaml", "/spec/template/metadata/labels"));
        for (file, pointer) in [
            ("service.yaml", "/spec/selector"),
            ("service-admin.yaml", "/spec/selector"),
            ("networkpolicy.yaml", "/spec/podSelector/matchLabels"),
            ("poddisruptionbudget.yaml", "/spec/selector/matchLabels"),
        ] {
            assert_eq!(folder.at(file, pointer), chosen, "{file}");
        }
        let of_monitor = folder.at("servicemonitor.yaml", "/spec/selector/matchLabels");
        assert_eq!(of_monitor, folder.at("service-admin.yaml", "/metadata/labels"));
        assert_ne!(of_monitor, folder.at("service.yaml", "/metadata/labels"), "that port has no metrics");
    });
}

#[test]
fn the_image_is_the_one_that_is_built() {
    let image = format!("zonecast:{}", version());
    on_each(|folder| {
        assert_eq!(folder.text("deployment.yaml", "/spec/template/spec/containers/0/image"), image);
        for container in folder.containers() {
            let (name, tag) = container["image"].as_str().unwrap().rsplit_once(':').expect("a tag");
            assert!(name != "zonecast" || tag == version(), "{container}");
        }
        let images = folder.at("kustomization.yaml", "/images");
        assert_eq!(images, &json!([{"name": "zonecast", "newName": "zonecast", "newTag": version()}]));
    });
    for page in ["deploy/README.md", "deploy/container/Containerfile"] {
        assert!(read(page).contains(&format!("--tag {image} ")), "{page} does not build {image}");
    }
}
