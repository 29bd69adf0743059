//! Names that nobody may bear, because others would take the bearer for somebody in charge, or a program for something
//! else.

/// As keys, without separators.
const RESERVED: [&str; 44] = [
    "abuse",
    "account",
    "admin",
    "administrator",
    "all",
    "anonymous",
    "anyone",
    "api",
    "broker",
    "contact",
    "dev",
    "developer",
    "everybody",
    "everyone",
    "gamemaster",
    "guest",
    "help",
    "helpdesk",
    "here",
    "host",
    "hostmaster",
    "info",
    "local",
    "localhost",
    "mod",
    "moderator",
    "nobody",
    "noreply",
    "null",
    "official",
    "operator",
    "owner",
    "postmaster",
    "root",
    "security",
    "server",
    "somebody",
    "staff",
    "support",
    "system",
    "undefined",
    "unknown",
    "webmaster",
    "zonecast",
];

/// Whether a name with this key, its separators left out, is reserved, or looks as one that is.
pub(crate) fn is_reserved(key: &str, lookalike: &str, lookalike_of: impl Fn(&str) -> String) -> bool {
    let plain = |text: &str| text.replace(['-', '.', '_'], "");
    let (key, lookalike) = (plain(key), plain(lookalike));
    RESERVED.iter().any(|reserved| *reserved == key || lookalike_of(reserved) == lookalike)
}
