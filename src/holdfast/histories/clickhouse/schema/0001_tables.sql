-- The tables of Holdfast's history. Each row is a version of what its sorting key names: the highest version counts.
-- All versions of a row lie in one partition, as the time that chooses it never changes; so partitions are merged alone.
-- place = -seq and began = -started_at: the newest first is the order of the tables, and a page of a list reads no more
-- than itself. gone: this was taken back; what it covers is not shown.

-- Jobs that have ended.
CREATE TABLE IF NOT EXISTS {job} (
    place Int64,
    id String,
    version UInt64,
    gone UInt8,
    deleted UInt8,
    elsewhere UInt8,
    tried UInt8,
    state LowCardinality(String),
    queue LowCardinality(String),
    task LowCardinality(String),
    worker LowCardinality(String),
    instance String,
    key String,
    uniq String,
    paused_by LowCardinality(String),
    tags Array(String),
    created Float64,
    created_at DateTime64(6, 'UTC'),
    finished_at DateTime64(6, 'UTC'),
    error String CODEC(ZSTD(1)),
    payload String CODEC(ZSTD(1)),
    body String CODEC(ZSTD(1)),
    INDEX job_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX job_key key TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX job_queue queue TYPE set(64) GRANULARITY 4,
    INDEX job_task task TYPE set(64) GRANULARITY 4,
    INDEX job_worker worker TYPE set(64) GRANULARITY 4,
    INDEX job_state state TYPE set(8) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(created_at)
ORDER BY (place, id)
{ttl finished_at}
SETTINGS index_granularity = 2048;

-- How many jobs are shown of each block of seqs (see sink.py), so that counts need not read them. last: when the last of them
-- ended; when that is too old, the whole row goes.
CREATE TABLE IF NOT EXISTS {block} (
    block Int64,
    queue LowCardinality(String),
    worker LowCardinality(String),
    state LowCardinality(String),
    elsewhere UInt8,
    version UInt64,
    n UInt64,
    last DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version)
ORDER BY (block, queue, worker, state, elsewhere)
{ttl last};

-- Attempts. waited and ran: microseconds, from ready to claimed and from claimed to settled; duration: seconds, by the
-- worker's own clock. ended: an empty one is an attempt that a report never ended. gave_up: its job has failed by it.
CREATE TABLE IF NOT EXISTS {attempt} (
    began Float64,
    place Int64,
    nr Int32,
    version UInt64,
    gone UInt8,
    hidden UInt8,
    elsewhere UInt8,
    gave_up UInt8,
    job String,
    queue LowCardinality(String),
    task LowCardinality(String),
    worker LowCardinality(String),
    instance String,
    ended LowCardinality(String),
    started_at DateTime64(6, 'UTC'),
    ended_at DateTime64(6, 'UTC'),
    duration Nullable(Float64),
    waited Nullable(UInt64),
    ran UInt64,
    error String CODEC(ZSTD(1)),
    body String CODEC(ZSTD(1)),
    INDEX attempt_ended ended_at TYPE minmax GRANULARITY 1,
    INDEX attempt_place place TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(started_at)
ORDER BY (began, place, nr)
{ttl ended_at};

-- What ended, by minute, hour and day. Histograms are (buckets, counts), a bucket being a fourth root of 2 wide.
CREATE TABLE IF NOT EXISTS {minute} (
    at DateTime('UTC'),
    queue LowCardinality(String),
    task LowCardinality(String),
    worker LowCardinality(String),
    ended LowCardinality(String),
    elsewhere UInt8,
    version UInt64,
    n UInt64,
    gave_up UInt64,
    timed UInt64,
    seconds Float64,
    ran UInt64,
    waits_n UInt64,
    waited UInt64,
    runs Tuple(Array(Int16), Array(UInt64)),
    waits Tuple(Array(Int16), Array(UInt64))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(at)
ORDER BY (at, queue, task, worker, ended, elsewhere)
{ttl at};
CREATE TABLE IF NOT EXISTS {hour} AS {minute};
CREATE TABLE IF NOT EXISTS {day} AS {minute};

-- Workers as they were configured; body: the whole configuration. gone: it was deleted.
CREATE TABLE IF NOT EXISTS {worker} (name String, version UInt64, gone UInt8, body String)
ENGINE = ReplacingMergeTree(version) ORDER BY name;

CREATE TABLE IF NOT EXISTS {meta} (name String, version UInt64, value String)
ENGINE = ReplacingMergeTree(version) ORDER BY name;
