CREATE TABLE durableq_counters (
    queue_id BIGINT NOT NULL,
    sent BIGINT DEFAULT '0' NOT NULL,
    moved_in BIGINT DEFAULT '0' NOT NULL,
    moved_out BIGINT DEFAULT '0' NOT NULL,
    completed BIGINT DEFAULT '0' NOT NULL,
    duplicates BIGINT DEFAULT '0' NOT NULL,
    discarded BIGINT DEFAULT '0' NOT NULL,
    expired BIGINT DEFAULT '0' NOT NULL,
    purged BIGINT DEFAULT '0' NOT NULL,
    cancelled BIGINT DEFAULT '0' NOT NULL,
    replaced BIGINT DEFAULT '0' NOT NULL,
    shed BIGINT DEFAULT '0' NOT NULL,
    deduplicated BIGINT DEFAULT '0' NOT NULL,
    in_flight BIGINT DEFAULT '0' NOT NULL,
    backlog_bytes BIGINT DEFAULT '0' NOT NULL,
    tat_ns BIGINT DEFAULT '0' NOT NULL,
    delivered_at_ms BIGINT DEFAULT '0' NOT NULL,
    retry_credit BIGINT DEFAULT '0' NOT NULL,
    turn BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (queue_id)
);
CREATE TABLE durableq_deduplication (
    queue_id BIGINT NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    deduplication_id TEXT COLLATE "C" NOT NULL,
    message_id BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    CONSTRAINT durableq_deduplication_id PRIMARY KEY (queue_id, scope, deduplication_id)
);
CREATE INDEX durableq_deduplication_expiry ON durableq_deduplication (expires_at_ms);
CREATE TABLE durableq_failure (
    queue_id BIGINT NOT NULL,
    message_id BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    unavailable BIGINT DEFAULT '0' NOT NULL,
    completed BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT durableq_failure_message PRIMARY KEY (queue_id, message_id)
);
CREATE TABLE durableq_flow (
    queue_id BIGINT NOT NULL,
    breaker_phase BIGINT DEFAULT '0' NOT NULL,
    breaker_since_ms BIGINT DEFAULT '0' NOT NULL,
    breaker_until_ms BIGINT DEFAULT '0' NOT NULL,
    breaker_trips BIGINT DEFAULT '0' NOT NULL,
    breaker_died BIGINT DEFAULT '0' NOT NULL,
    breaker_judged BIGINT DEFAULT '0' NOT NULL,
    breaker_completed BIGINT DEFAULT '0' NOT NULL,
    breaker_reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (queue_id)
);
CREATE TABLE durableq_group (
    queue_id BIGINT NOT NULL,
    group_id TEXT COLLATE "C" NOT NULL,
    active BIGINT DEFAULT '0' NOT NULL,
    holding BIGINT DEFAULT '0' NOT NULL,
    tat_ns BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT durableq_group_id PRIMARY KEY (queue_id, group_id)
);
CREATE INDEX durableq_group_idle ON durableq_group (tat_ns) WHERE active = 0 AND holding = 0;
CREATE TABLE durableq_history (
    id BIGSERIAL NOT NULL,
    message_id BIGINT NOT NULL,
    queue_id BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    error_type TEXT COLLATE "C" NOT NULL,
    error_message TEXT COLLATE "C" NOT NULL,
    traceback TEXT COLLATE "C" NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C",
    fingerprint TEXT COLLATE "C" DEFAULT '' NOT NULL,
    place TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX durableq_history_message ON durableq_history (message_id, id);
CREATE INDEX durableq_history_queue ON durableq_history (queue_id, at_ms);
CREATE TABLE durableq_idempotency (
    queue_id BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    status BIGINT NOT NULL,
    owner_message_id BIGINT NOT NULL,
    owner_receipt BYTEA NOT NULL,
    payload_hash BYTEA NOT NULL,
    result TEXT COLLATE "C",
    created_at_ms BIGINT NOT NULL,
    completed_at_ms BIGINT,
    expires_at_ms BIGINT,
    CONSTRAINT durableq_idempotency_key PRIMARY KEY (queue_id, key),
    CONSTRAINT durableq_idempotency_status CHECK (status IN (0, 1))
);
CREATE INDEX durableq_idempotency_expiry ON durableq_idempotency (expires_at_ms) WHERE status =
1;
CREATE TABLE durableq_message (
    id BIGSERIAL NOT NULL,
    queue_id BIGINT NOT NULL,
    state BIGINT NOT NULL,
    rank BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    deferred BIGINT NOT NULL,
    receive_count BIGINT NOT NULL,
    recovery_count BIGINT NOT NULL,
    lease_until_ms BIGINT NOT NULL,
    delayed_until_ms BIGINT NOT NULL,
    enqueued_at_ms BIGINT NOT NULL,
    sent_at_ms BIGINT NOT NULL,
    first_received_at_ms BIGINT NOT NULL,
    retention_from_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    debounce_until_ms BIGINT NOT NULL,
    receipt BYTEA NOT NULL,
    owner_id BIGINT NOT NULL,
    body_bytes BIGINT NOT NULL,
    body_format BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    source_queue_id BIGINT,
    group_id TEXT COLLATE "C",
    replace_key TEXT COLLATE "C",
    key TEXT COLLATE "C",
    payload_hash BYTEA,
    sqs_id TEXT COLLATE "C",
    attributes TEXT COLLATE "C",
    system_attributes TEXT COLLATE "C",
    body VARCHAR COLLATE "C" NOT NULL,
    burial_reason TEXT COLLATE "C",
    burial_fingerprint TEXT COLLATE "C",
    PRIMARY KEY (id),
    CONSTRAINT durableq_message_state CHECK (state IN (0, 1, 2, 3)),
    CONSTRAINT durableq_message_receipt CHECK (length(receipt) = 16),
    CONSTRAINT durableq_message_key_has_hash CHECK ((key IS NULL) = (payload_hash IS NULL)),
    CONSTRAINT durableq_message_body_size CHECK (octet_length(body) <= 134217730)
);
CREATE INDEX durableq_message_blocked ON durableq_message (queue_id, group_id, sequence, id)
WHERE state = 3;
CREATE INDEX durableq_message_burial ON durableq_message (source_queue_id, burial_reason,
burial_fingerprint, enqueued_at_ms) WHERE source_queue_id IS NOT NULL;
CREATE INDEX durableq_message_dead ON durableq_message (id) WHERE source_queue_id IS NOT NULL;
CREATE INDEX durableq_message_deferred ON durableq_message (queue_id, key) WHERE deferred = 1;
CREATE INDEX durableq_message_delayed ON durableq_message (queue_id, delayed_until_ms) WHERE
state = 2;
CREATE INDEX durableq_message_expiry ON durableq_message (expires_at_ms) WHERE expires_at_ms !=
140737488355327;
CREATE INDEX durableq_message_leased ON durableq_message (queue_id, lease_until_ms) WHERE state
= 1;
CREATE INDEX durableq_message_ready ON durableq_message (queue_id, rank, id) WHERE state = 0;
CREATE INDEX durableq_message_replace_key ON durableq_message (queue_id, replace_key) WHERE
replace_key IS NOT NULL;
CREATE TABLE durableq_meta (
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE durableq_once (
    key TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C",
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    stale_until_ms BIGINT NOT NULL,
    compute_ms BIGINT NOT NULL,
    owner_token BYTEA,
    owner_until_ms BIGINT NOT NULL,
    owner_process TEXT COLLATE "C" DEFAULT '' NOT NULL,
    CONSTRAINT durableq_once_key PRIMARY KEY (key)
);
CREATE INDEX durableq_once_expiry ON durableq_once (stale_until_ms);
CREATE TABLE durableq_queue (
    id BIGSERIAL NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    dead_letter_queue_id BIGINT,
    created_at_ms BIGINT NOT NULL,
    visibility_timeout_ms BIGINT NOT NULL,
    delay_ms BIGINT NOT NULL,
    retention_ms BIGINT NOT NULL,
    max_receives BIGINT NOT NULL,
    max_recoveries BIGINT NOT NULL,
    backoff_base_ms BIGINT NOT NULL,
    backoff_max_ms BIGINT NOT NULL,
    idempotency_ttl_ms BIGINT NOT NULL,
    max_body_bytes BIGINT NOT NULL,
    paused BIGINT DEFAULT '0' NOT NULL,
    rate DOUBLE PRECISION DEFAULT '0' NOT NULL,
    burst BIGINT DEFAULT '0' NOT NULL,
    max_in_flight BIGINT DEFAULT '0' NOT NULL,
    group_concurrency BIGINT DEFAULT '0' NOT NULL,
    group_on_dead BIGINT DEFAULT '0' NOT NULL,
    group_rate DOUBLE PRECISION DEFAULT '0' NOT NULL,
    group_burst BIGINT DEFAULT '0' NOT NULL,
    breaker BIGINT DEFAULT '0' NOT NULL,
    breaker_share DOUBLE PRECISION DEFAULT '0.5' NOT NULL,
    breaker_minimum BIGINT DEFAULT '10' NOT NULL,
    breaker_window_ms BIGINT DEFAULT '30000' NOT NULL,
    breaker_open_ms BIGINT DEFAULT '10000' NOT NULL,
    breaker_open_max_ms BIGINT DEFAULT '300000' NOT NULL,
    breaker_probes BIGINT DEFAULT '3' NOT NULL,
    slow_start_ms BIGINT DEFAULT '10000' NOT NULL,
    retry_share DOUBLE PRECISION DEFAULT '0' NOT NULL,
    max_backlog BIGINT DEFAULT '0' NOT NULL,
    max_backlog_bytes BIGINT DEFAULT '0' NOT NULL,
    on_full BIGINT DEFAULT '0' NOT NULL,
    block_timeout_ms BIGINT DEFAULT '30000' NOT NULL,
    min_free_bytes BIGINT DEFAULT '0' NOT NULL,
    deduplication_window_ms BIGINT DEFAULT '300000' NOT NULL,
    expires_in_ms BIGINT DEFAULT '0' NOT NULL,
    on_expiry BIGINT DEFAULT '0' NOT NULL,
    priority_aging_ms BIGINT DEFAULT '0' NOT NULL,
    limits BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT durableq_queue_name UNIQUE (name)
);
CREATE TABLE durableq_redrive_task (
    id BIGSERIAL NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    wanted TEXT COLLATE "C" NOT NULL,
    decision TEXT COLLATE "C" NOT NULL,
    to_queue TEXT COLLATE "C",
    actor TEXT COLLATE "C" NOT NULL,
    last_event BIGINT NOT NULL,
    cursor BIGINT NOT NULL,
    total BIGINT NOT NULL,
    moved BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    rate DOUBLE PRECISION DEFAULT '0' NOT NULL,
    tat_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE durableq_worker (
    id BIGSERIAL NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    pid BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    boot_id TEXT COLLATE "C" NOT NULL,
    started_at_ms BIGINT NOT NULL,
    beat_at_ms BIGINT NOT NULL,
    pid_namespace TEXT COLLATE "C" DEFAULT '' NOT NULL,
    restarts BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    handled BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    in_flight BIGINT DEFAULT '0' NOT NULL,
    oldest_began_ms BIGINT DEFAULT '0' NOT NULL,
    queues TEXT COLLATE "C" DEFAULT '' NOT NULL,
    host_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE durableq_counter_delta (
    queue_id BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    completed BIGINT NOT NULL
);
ALTER TABLE durableq_counter_delta REPLICA IDENTITY FULL;
CREATE VIEW durableq_totals AS
SELECT c.queue_id, c.sent + coalesce(d.sent, 0) AS sent,
    c.completed + coalesce(d.completed, 0) AS completed,
    c.moved_in, c.moved_out, c.duplicates, c.discarded, c.expired, c.purged, c.cancelled, c.replaced, c.shed, c.deduplicated, c.in_flight, c.backlog_bytes, c.tat_ns, c.delivered_at_ms, c.retry_credit, c.turn
FROM durableq_counters AS c LEFT JOIN (
    SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
    FROM durableq_counter_delta GROUP BY queue_id
) AS d ON d.queue_id = c.queue_id;
ALTER TABLE durableq_message SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
ALTER TABLE durableq_idempotency SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
ALTER TABLE durableq_counter_delta SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
ALTER TABLE durableq_counters SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, m.burial_reason AS reason,
       to_timestamp(m.enqueued_at_ms / 1000.0) AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body, m.burial_fingerprint AS fingerprint
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))
