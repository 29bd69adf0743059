-- What somebody did not process waits by itself, and what is parked is kept until somebody has looked at it.
alter table outbox add column attempts integer not null default 0;
-- From when on it may be published, in microseconds since 1970; null: it is parked.
alter table outbox add column due_at integer default 0;
-- Why it was not published the last time.
alter table outbox add column problem text not null default '';

create index outbox_waiting on outbox (store, sequence) where due_at is not null;
