-- The tables of Holdfast. Times are microseconds since the epoch, UTC.

-- Jobs that have not ended. AUTOINCREMENT: a number is never given twice, also when the newest job was purged.
-- owner: of a sticky job that is next in the line of its key (ready = 3, as a suspect 4), the process that has the key; @service: nobody.
CREATE TABLE {job} (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    state INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    prio INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    policy BLOB,
    lane_key TEXT,
    lane INTEGER NOT NULL,
    uniq TEXT,
    sticky TEXT,
    pod INTEGER,
    pod_epoch INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    queued_at INTEGER,
    updated_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    token INTEGER NOT NULL,
    instance TEXT,
    worker TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER,
    lease_until INTEGER NOT NULL,
    cancel_asked INTEGER NOT NULL,
    rest BLOB,
    owner TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX {job}_id ON {job} (id);
-- Each index ends with seq by itself.
CREATE INDEX {job}_ready ON {job} (queue, prio, run_at) WHERE ready = 1;
CREATE INDEX {job}_suspects ON {job} (queue, prio, run_at, seq) WHERE ready = 2;
CREATE INDEX {job}_sticky ON {job} (queue, owner, ready, prio, run_at, seq) WHERE sticky IS NOT NULL;
CREATE INDEX {job}_due ON {job} (run_at, seq) WHERE state IN (1, 4);
CREATE INDEX {job}_running ON {job} (instance, queue) WHERE state = 3;
CREATE INDEX {job}_lane ON {job} (lane_key, lane, seq) WHERE lane_key IS NOT NULL;
-- For lists: see lists.py. Neither ready jobs are in it nor what runs, so nothing of a plain job's life writes here.
CREATE INDEX {job}_list ON {job} (queue, task, worker, state) WHERE state NOT IN (2, 3);
CREATE INDEX {job}_heads ON {job} (lane_key) WHERE lane_key IS NOT NULL AND ready > 0;
-- An unfinished job holds its unique key alone, whatever else goes wrong.
CREATE UNIQUE INDEX {job}_uniq ON {job} (uniq) WHERE uniq IS NOT NULL;

-- Jobs that have ended.
CREATE TABLE {done} (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    state INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    prio INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    policy BLOB,
    lane_key TEXT,
    lane INTEGER NOT NULL,
    uniq TEXT,
    sticky TEXT,
    pod INTEGER,
    pod_epoch INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    queued_at INTEGER,
    updated_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    token INTEGER NOT NULL,
    instance TEXT,
    worker TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER,
    lease_until INTEGER NOT NULL,
    cancel_asked INTEGER NOT NULL,
    rest BLOB,
    finished_at INTEGER NOT NULL,
    duration REAL,
    result BLOB,
    tail BLOB,
    deleted_at INTEGER
);
CREATE UNIQUE INDEX {done}_id ON {done} (id);
-- One for each order of lists: by group, and then as they ended or as they were accepted.
CREATE INDEX {done}_ended ON {done} (queue, task, worker, state, finished_at);
CREATE INDEX {done}_list ON {done} (queue, task, worker, state);
CREATE INDEX {done}_uniq ON {done} (uniq, seq) WHERE uniq IS NOT NULL;
CREATE INDEX {done}_key ON {done} (lane_key, seq) WHERE lane_key IS NOT NULL;

-- Attempts that ended without ending their job.
CREATE TABLE {attempt} (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;

CREATE TABLE {queue} (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    fleet_limit INTEGER,
    rescue_after INTEGER,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE {definition} (
    id TEXT PRIMARY KEY,
    alias TEXT NOT NULL UNIQUE,
    stopped INTEGER NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE {schedule} (name TEXT PRIMARY KEY, next_run_at INTEGER, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE {worker} (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE {instance} (
    id TEXT PRIMARY KEY,
    worker TEXT NOT NULL,
    live INTEGER NOT NULL,
    owns INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    body BLOB NOT NULL,
    beat BLOB
) WITHOUT ROWID;
CREATE TABLE {operation} (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE {audit} (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE {link} (
    service TEXT NOT NULL,
    lane_key TEXT NOT NULL,
    pod INTEGER,
    instance TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (service, lane_key)
) WITHOUT ROWID;
CREATE INDEX {link}_instance ON {link} (instance, service, lane_key);
CREATE INDEX {link}_held ON {link} (instance, pod);

-- How many jobs have ended or ran elsewhere, and how long successes took: of timed attempts, in whole microseconds (a float
-- holds them exactly up to 285 years, and never runs over).
CREATE TABLE {tally} (
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    worker TEXT NOT NULL,
    state INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    n INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    took REAL NOT NULL,
    PRIMARY KEY (queue, task, worker, state, shard)
) WITHOUT ROWID;
-- Attempts that ended elsewhere, by the hour and the worker that they were reported for.
CREATE TABLE {report} (
    hour INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome INTEGER NOT NULL,
    n INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    took REAL NOT NULL,
    PRIMARY KEY (hour, worker, outcome)
) WITHOUT ROWID;
CREATE TABLE {counter} (
    name TEXT NOT NULL,
    shard INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (name, shard)
) WITHOUT ROWID;
-- What happened, minute by minute: counts, sums in microseconds, and histograms of waiting and of running. waited, ran: by the
-- database's clock; timed, took: how many durations the workers told, and their sum.
CREATE TABLE {stat} (
    minute INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    outcome INTEGER NOT NULL,
    instance TEXT NOT NULL,
    worker TEXT NOT NULL,
    n INTEGER NOT NULL,
    waited INTEGER NOT NULL,
    ran INTEGER NOT NULL,
    waits BLOB NOT NULL,
    runs BLOB NOT NULL,
    timed INTEGER NOT NULL,
    took REAL NOT NULL,
    PRIMARY KEY (minute, queue, task, outcome, instance)
) WITHOUT ROWID;
-- The same of minutes that are over, and of hours: span seconds long, the number-th since the epoch.
CREATE TABLE {stat_sum} (
    span INTEGER NOT NULL,
    number INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    outcome INTEGER NOT NULL,
    worker TEXT NOT NULL,
    n INTEGER NOT NULL,
    waited INTEGER NOT NULL,
    ran INTEGER NOT NULL,
    waits BLOB NOT NULL,
    runs BLOB NOT NULL,
    timed INTEGER NOT NULL,
    took REAL NOT NULL,
    PRIMARY KEY (span, number, queue, task, outcome, worker)
) WITHOUT ROWID;

-- What an exporter has not had, in the order in which it became so; gone: a person purged the job.
CREATE TABLE {feed} (
    pos INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL,
    gone INTEGER NOT NULL
);
CREATE INDEX {feed}_seq ON {feed} (seq);

CREATE TABLE {meta} (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO {meta} (name, value) VALUES ('epoch', '1'), ('export', '0'), ('database', lower(hex(randomblob(16))));
