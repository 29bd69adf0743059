//! Which methods there are, from the descriptors.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::FileDescriptorSet;
use thiserror::Error;

/// The label of methods that do not exist; callers could make up any number of names.
const UNKNOWN: &str = "unknown";

/// The bytes are no descriptors.
#[derive(Debug, Error)]
#[error("the services' descriptors cannot be read: {0}")]
pub struct DescriptorError(#[from] prost::DecodeError);

/// The methods of the services that are served, by path (`/zonecast.users.v1.UsersService/GetUser`).
#[derive(Debug, Clone, Default)]
pub struct Methods {
    streams: BTreeMap<String, bool>,
}

impl Methods {
    /// Reads the methods of these services (full names) out of an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// The bytes are no descriptors.
    pub fn of(descriptors: &[u8], services: &[&str]) -> Result<Self, DescriptorError> {
        let mut streams = BTreeMap::new();
        for file in FileDescriptorSet::decode(descriptors)?.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                if services.contains(&name.as_str()) {
                    let methods = service.method.iter().map(|method| {
                        let path = format!("/{name}/{}", method.name());
                        (path, method.client_streaming() || method.server_streaming())
                    });
                    streams.extend(methods);
                }
            }
        }
        Ok(Self { streams })
    }

    /// Whether there is such a method.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.streams.contains_key(path)
    }

    /// Whether a method takes or gives streams.
    #[must_use]
    pub fn is_streaming(&self, path: &str) -> bool {
        self.streams.get(path).copied().unwrap_or_default()
    }

    /// How a method is called in metrics: its path without the first slash, or a word for all that do not exist.
    #[must_use]
    pub fn label(&self, path: &str) -> String {
        match self.streams.get_key_value(path) {
            Some((known, _)) => known.trim_start_matches('/').to_owned(),
            None => UNKNOWN.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;

    #[test]
    fn methods_are_known_by_path_and_others_share_a_label() {
        let method = |name: &str, streams| MethodDescriptorProto {
            name: Some(name.into()),
            server_streaming: Some(streams),
            ..Default::default()
        };
        let service = |name: &str| ServiceDescriptorProto {
            name: Some(name.into()),
            method: vec![method("Get", false), method("Watch", true)],
            ..Default::default()
        };
        let file = FileDescriptorProto {
            package: Some("a.v1".into()),
            service: vec![service("Here"), service("Elsewhere")],
            ..Default::default()
        };
        let methods = Methods::of(&FileDescriptorSet { file: vec![file] }.encode_to_vec(), &["a.v1.Here"]).unwrap();
        assert_eq!(methods.label("/a.v1.Here/Get"), "a.v1.Here/Get");
        assert!(!methods.is_streaming("/a.v1.Here/Get") && methods.is_streaming("/a.v1.Here/Watch"));
        for unknown in ["/a.v1.Elsewhere/Get", "/a.v1.Here/Nothing", ""] {
            assert_eq!(methods.label(unknown), UNKNOWN);
        }
        assert!(Methods::of(b"\xff", &[]).is_err());
    }
}
