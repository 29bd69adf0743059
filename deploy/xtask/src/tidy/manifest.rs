//! Rules on the settings of cargo and clippy.

use toml::Table;

use super::Finding;
use super::tree::Tree;

/// Clippy's settings, and the lint that keeps functions short by them.
const CLIPPY: &str = ".clippy.toml";
const FUNCTION_LINES_MAX: i64 = 70;

/// Manifests: every member takes the lints of the workspace.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path != "Cargo.toml" && !path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 0, "manifest", error.to_string())],
    };
    let is_package = manifest.contains_key("package");
    let takes_lints = at(&manifest, &["lints", "workspace"]).and_then(toml::Value::as_bool) == Some(true);
    if is_package && !takes_lints {
        return vec![Finding::new(path, 0, "lints", "lacks `[lints] workspace = true`")];
    }
    Vec::new()
}

/// The length of functions is clippy's to check; that it does is ours.
pub(super) fn check_clippy(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let settings = tree.text(CLIPPY).and_then(|text| text.parse::<Table>().ok()).unwrap_or_default();
    if settings.get("too-many-lines-threshold").and_then(toml::Value::as_integer) != Some(FUNCTION_LINES_MAX) {
        let message = format!("must say `too-many-lines-threshold = {FUNCTION_LINES_MAX}`");
        findings.push(Finding::new(CLIPPY, 0, "function-length", message));
    }
    let manifest = tree.text("Cargo.toml").and_then(|text| text.parse::<Table>().ok()).unwrap_or_default();
    let level = at(&manifest, &["workspace", "lints", "clippy", "too_many_lines"]).and_then(toml::Value::as_str);
    if !matches!(level, Some("warn" | "deny" | "forbid")) {
        let message = "`[workspace.lints.clippy]` must switch `too_many_lines` on";
        findings.push(Finding::new("Cargo.toml", 0, "function-length", message));
    }
    findings
}

fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a toml::Value> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { at(value.as_table()?, rest) }
}

#[cfg(test)]
mod tests {
    use super::{check, check_clippy};
    use crate::tidy::tree::Tree;

    #[test]
    fn every_package_takes_the_lints_of_the_workspace() {
        let package = "[package]\nname = \"x\"\n";
        assert_eq!(check("client/Cargo.toml", &format!("{package}[lints]\nworkspace = true\n")), []);
        assert_eq!(check("client/Cargo.toml", package)[0].rule, "lints");
        assert_eq!(check("client/Cargo.toml", &format!("{package}[lints]\nworkspace = false\n"))[0].rule, "lints");
        assert_eq!(check("client/Cargo.toml", "[package\n")[0].rule, "manifest");
        assert_eq!(check("Cargo.toml", "[workspace]\n"), []);
        assert_eq!(check(".deny.toml", "[package]\n"), []);
    }

    #[test]
    fn functions_are_kept_short_by_clippy() {
        let on = "[workspace.lints.clippy]\ntoo_many_lines = \"warn\"\n";
        let limit = "too-many-lines-threshold = 70\n";
        let findings =
            |manifest, clippy| check_clippy(&Tree::of(&[("Cargo.toml", manifest), (".clippy.toml", clippy)]));
        assert_eq!(findings(on, limit), []);
        assert_eq!(findings(on, "too-many-lines-threshold = 100\n")[0].path, ".clippy.toml");
        assert_eq!(findings("[workspace]\n", limit)[0].path, "Cargo.toml");
        assert_eq!(check_clippy(&Tree::of(&[])).len(), 2);
    }
}
