-- The number of each store's last change.
create table outbox_heads (
  store text primary key not null,
  sequence integer not null
) strict, without rowid;

-- Changes that are committed and not yet published. Times are microseconds since 1970.
create table outbox (
  store text not null,
  sequence integer not null,
  event_id blob not null,
  topic text not null,
  detail_type text not null,
  detail blob not null,
  occurred_at integer not null,
  primary key (store, sequence)
) strict, without rowid;

-- Which process publishes a store's changes, and until when the others leave it to it, in milliseconds since 1970.
create table outbox_relays (
  store text primary key not null,
  holder blob not null,
  until integer not null
) strict, without rowid;
