-- What a service's Postgres needs for `aether-outbox`. `StoreBuilder::open_postgres` creates it where it is missing.

-- One row for each number of a store: the version of this layout, the instance of its source, and its counts.
CREATE TABLE aether_store (
    store text NOT NULL,
    name text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (store, name)
);

-- The waves that wait to be relayed, and with a reason those that the bus refused.
CREATE TABLE aether_outbox (
    store text NOT NULL,
    number bigint NOT NULL,
    wave bytea NOT NULL,
    refused text,
    PRIMARY KEY (store, number)
);

-- The jobs that were done once.
CREATE TABLE aether_once (
    store text NOT NULL,
    area text NOT NULL,
    job bytea NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store, area, job)
);
CREATE INDEX aether_once_by_age ON aether_once (store, done_at);
