-- What somebody did not process waits by itself, and what is parked is kept until somebody has looked at it.
alter table outbox add column attempts bigint not null default 0;
-- From when on it may be published; null: it is parked.
alter table outbox add column due_at timestamptz default 'epoch';
-- Why it was not published the last time.
alter table outbox add column problem text not null default '';

create index outbox_waiting on outbox (store, sequence) where due_at is not null;
