//! `zonecast cert`, and certificates that live no longer than a process: an authority of one's own for development.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};
use zonecast_broker::BrokerTls;
use zonecast_protocol::ClientId;

use crate::cli::CertArgs;

/// Names of the files in the directory.
const CA: &str = "ca";
const SERVER: &str = "server";

/// Only the owner may read a key; everyone may read a certificate.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Days that in-memory certificates last: longer than any process of a developer.
const THROWAWAY_DAYS: u16 = 30;

/// An authority and a broker's identity that exist in memory only.
pub(crate) struct Throwaway {
    /// The broker's side; any client may connect.
    pub(crate) tls: BrokerTls,
    /// The same for whoever else serves on this machine.
    pub(crate) pem: ThrowawayPem,
}

/// The same as texts, for a broker in another process.
pub(crate) struct ThrowawayPem {
    /// The authority's certificate, for clients.
    pub(crate) ca: String,
    /// The broker's certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
}

/// Makes an authority and a certificate for localhost, 127.0.0.1 and ::1.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn throwaway() -> anyhow::Result<Throwaway> {
    let made = throwaway_pem()?;
    let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
    Ok(Throwaway { tls: BrokerTls::new(vec![certificate], key), pem: made })
}

/// As [`throwaway`].
///
/// # Errors
/// As there.
pub(crate) fn throwaway_pem() -> anyhow::Result<ThrowawayPem> {
    let authority = Authority::new(THROWAWAY_DAYS)?;
    let server = authority.server(&[])?;
    Ok(ThrowawayPem { ca: authority.issuer.pem(), certificate: server.certificate, key: server.key })
}

/// Writes the files and says what to do with them.
///
/// # Errors
/// A file is there already, or cannot be written.
pub(crate) fn run(args: &CertArgs) -> anyhow::Result<()> {
    let authority = Authority::new(args.days)?;
    let mut identities =
        vec![(CA.to_owned(), authority.identity()), (SERVER.to_owned(), authority.server(&args.hosts)?)];
    for client in &args.clients {
        let name = format!("client-{client}");
        // The same name twice would overwrite itself.
        if identities.iter().all(|(known, _)| *known != name) {
            identities.push((name, authority.client(client)?));
        }
    }
    write(&args.out, &identities, args.force)?;
    let names: Vec<&str> = identities.iter().map(|(name, _)| name.as_str()).collect();
    io::stdout().write_all(next_steps(&args.out, &names, args.days).as_bytes())?;
    Ok(())
}

/// A certificate and its key, PEM.
struct Identity {
    certificate: String,
    key: String,
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    days: u16,
}

impl Authority {
    fn new(days: u16) -> anyhow::Result<Self> {
        let mut params = params("zonecast development CA", days);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("no authority can be made")?;
        Ok(Self { issuer, days })
    }

    fn identity(&self) -> Identity {
        Identity { certificate: self.issuer.pem(), key: self.issuer.key().serialize_pem() }
    }

    fn server(&self, hosts: &[String]) -> anyhow::Result<Identity> {
        let mut params = params("zonecast broker", self.days);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![
            host_name("localhost")?,
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        for host in hosts {
            let name = host_name(host)?;
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        self.sign(params)
    }

    /// The client's id stands in a URI, by which the broker knows it, because an id may hold what a DNS name may not.
    fn client(&self, client: &ClientId) -> anyhow::Result<Identity> {
        let mut params = params(client.as_str(), self.days);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(client_uri(client).as_str().try_into()?)];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).context("no certificate can be made")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The URI that names a client in its certificate.
fn client_uri(client: &ClientId) -> String {
    format!("zonecast://client/{client}")
}

fn params(common_name: &str, days: u16) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    // A machine whose clock is a little behind should not refuse it.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(i64::from(days));
    params
}

fn host_name(host: &str) -> anyhow::Result<SanType> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let label_is_valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let plain = host.strip_prefix("*.").unwrap_or(host);
    if host.len() > 253 || !plain.split('.').all(label_is_valid) {
        bail!("--host {host:?} is neither an IP address nor a DNS name");
    }
    Ok(SanType::DnsName(host.try_into()?))
}

/// One file to be written.
struct Target<'a> {
    path: PathBuf,
    content: &'a str,
    mode: u32,
}

fn write(directory: &Path, identities: &[(String, Identity)], force: bool) -> anyhow::Result<()> {
    let targets = identities.iter().flat_map(|(name, identity)| {
        let target = |end, content, mode| Target { path: directory.join(format!("{name}.{end}")), content, mode };
        [target("pem", identity.certificate.as_str(), CERTIFICATE_MODE), target("key", identity.key.as_str(), KEY_MODE)]
    });
    let targets: Vec<Target<'_>> = targets.collect();
    // All are looked for first: half a set of files would be worse than none.
    let existing: Vec<String> =
        targets.iter().filter(|t| t.path.symlink_metadata().is_ok()).map(|t| t.path.display().to_string()).collect();
    if !existing.is_empty() && !force {
        bail!("there already: {}; --force overwrites them", existing.join(", "));
    }
    fs::create_dir_all(directory).with_context(|| format!("directory {} cannot be made", directory.display()))?;
    for target in targets {
        write_one(directory, &target, force).with_context(|| format!("{} cannot be written", target.path.display()))?;
    }
    Ok(())
}

/// Writes beside the file and renames: nobody ever reads half a key, or one with a wrong mode.
fn write_one(directory: &Path, target: &Target<'_>, force: bool) -> anyhow::Result<()> {
    let mut file = NamedTempFile::new_in(directory)?;
    file.as_file().set_permissions(Permissions::from_mode(target.mode))?;
    file.write_all(target.content.as_bytes())?;
    file.as_file().sync_all()?;
    if force {
        file.persist(&target.path)?
    } else {
        file.persist_noclobber(&target.path)?
    };
    Ok(())
}

fn next_steps(directory: &Path, names: &[&str], days: u16) -> String {
    let path = |file: &str| quoted(&directory.join(file));
    let client = names.iter().find(|name| name.starts_with("client-"));
    let mut out = format!("Certificates for development, valid for {days} days, are in {}:\n", directory.display());
    for name in names {
        out.push_str(&format!("  {name}.pem, {name}.key\n"));
    }
    let (ca, certificate, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
    out.push_str("\nStart a broker:\n");
    out.push_str(&format!("  zonecast broker --tls-certificate {certificate} --tls-key {key}"));
    out.push_str(&client.map_or_else(String::new, |_| format!(" --tls-client-ca {ca}")));
    out.push_str("\nand listen to it from another terminal:\n");
    let shown = client.map_or_else(String::new, |name| {
        format!(" --cert {} --key {}", path(&format!("{name}.pem")), path(&format!("{name}.key")))
    });
    out.push_str(&format!("  zonecast sub --ca {ca}{shown} --zone earth:0,0,100,100\n"));
    out.push_str("\nKeep the .key files to yourself; with ca.key anyone can make further certificates.\n");
    out
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b',' | b':' | b'@');
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throwaway_identity_serves() {
        let made = throwaway().unwrap();
        assert!(made.tls.quic_config().is_ok());
        assert!(made.pem.ca.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn host_names_are_checked() {
        for good in ["localhost", "broker.internal", "*.example.org", "10.0.0.7", "::1"] {
            assert!(host_name(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a b", "-a", "a..b", "https://a", "a:1", "é", "a\n", &"a".repeat(64)] {
            assert!(host_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("certs/a.pem")), "certs/a.pem");
        assert_eq!(quoted(Path::new("my certs/it's")), r"'my certs/it'\''s'");
    }
}
