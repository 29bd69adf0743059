-- Times are microseconds since 1970. name_key and lookalike are made of the name: see services/names/src/name.rs.
create table users (
  id blob primary key not null,
  name text not null,
  name_key text not null unique,
  lookalike text not null unique,
  created_at integer not null,
  updated_at integer not null,
  revision integer not null
) strict, without rowid;
