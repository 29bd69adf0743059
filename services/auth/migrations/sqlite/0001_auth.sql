-- Times are microseconds since 1970, in both databases, so that one text of each statement serves both.

-- Who can log in. A user who is banned and has never logged in has a row too.
create table auth_accounts (
  user_id blob primary key not null,
  -- As PHC writes it; null: there is no password.
  password_hash text,
  -- Null: not banned.
  banned_until integer,
  ban_reason text not null default '',
  created_at integer not null,
  -- Whoever changes what an account may do raises it first, and so has the account to itself.
  revision integer not null default 0
) strict, without rowid;

create table auth_identities (
  issuer text not null,
  subject text not null,
  user_id blob not null references auth_accounts on delete cascade,
  provider text not null,
  linked_at integer not null,
  primary key (issuer, subject)
) strict, without rowid;
create index auth_identities_of on auth_identities (user_id);

-- A refresh token is a family, which stays, and a turn, which is another after each use. Both are kept as SHA-256.
create table auth_logins (
  id blob primary key not null,
  user_id blob not null references auth_accounts on delete cascade,
  family_hash blob not null unique,
  turn_hash blob not null,
  created_at integer not null,
  expires_at integer not null
) strict, without rowid;
create index auth_logins_of on auth_logins (user_id, id);
create index auth_logins_expire on auth_logins (expires_at);

-- Users that are being made. What stays here was interrupted, and the user is deleted again.
create table auth_registrations (
  user_id blob primary key not null,
  started_at integer not null,
  -- 1: nobody may complete it any more.
  given_up integer not null default 0
) strict, without rowid;

create table auth_nonces (
  hash blob primary key not null,
  provider text not null,
  expires_at integer not null
) strict, without rowid;
create index auth_nonces_expire on auth_nonces (expires_at);

-- The keys that sign, each from its time on until the next one's.
create table auth_keys (
  generation integer primary key not null,
  id text not null,
  pkcs8 blob not null,
  signs_from integer not null
) strict, without rowid;

-- Logins that ended before their tokens did, until the last token has expired.
create table auth_revocations (
  login text primary key not null,
  until integer not null
) strict, without rowid;
create index auth_revocations_expire on auth_revocations (until);

create table auth_credentials (
  client_id blob primary key not null,
  secret_hash blob not null,
  subject text not null,
  scopes text not null,
  rights text not null,
  created_at integer not null,
  created_by text not null
) strict, without rowid;

create table auth_audit (
  id blob primary key not null,
  at integer not null,
  event text not null,
  actor text not null,
  subject text not null,
  origin text not null,
  outcome text not null,
  detail text not null
) strict, without rowid;
create index auth_audit_of on auth_audit (subject, id);
create index auth_audit_expire on auth_audit (at);
