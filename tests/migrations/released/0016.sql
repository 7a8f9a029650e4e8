CREATE SCHEMA kept;
CREATE TABLE kept.durableq_counter_delta (
    queue_id bigint NOT NULL,
    sent bigint NOT NULL,
    completed bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.2');
ALTER TABLE ONLY kept.durableq_counter_delta REPLICA IDENTITY FULL;
CREATE TABLE kept.durableq_counters (
    queue_id bigint NOT NULL,
    sent bigint DEFAULT '0'::bigint NOT NULL,
    moved_in bigint DEFAULT '0'::bigint NOT NULL,
    moved_out bigint DEFAULT '0'::bigint NOT NULL,
    completed bigint DEFAULT '0'::bigint NOT NULL,
    duplicates bigint DEFAULT '0'::bigint NOT NULL,
    discarded bigint DEFAULT '0'::bigint NOT NULL,
    expired bigint DEFAULT '0'::bigint NOT NULL,
    purged bigint DEFAULT '0'::bigint NOT NULL,
    cancelled bigint DEFAULT '0'::bigint NOT NULL,
    replaced bigint DEFAULT '0'::bigint NOT NULL,
    shed bigint DEFAULT '0'::bigint NOT NULL,
    deduplicated bigint DEFAULT '0'::bigint NOT NULL,
    in_flight bigint DEFAULT '0'::bigint NOT NULL,
    backlog_bytes bigint DEFAULT '0'::bigint NOT NULL,
    tat_ns bigint DEFAULT '0'::bigint NOT NULL,
    delivered_at_ms bigint DEFAULT '0'::bigint NOT NULL,
    retry_credit bigint DEFAULT '0'::bigint NOT NULL,
    turn bigint DEFAULT '0'::bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.2');
CREATE TABLE kept.durableq_history (
    id bigint NOT NULL,
    message_id bigint NOT NULL,
    queue_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    event text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    error_type text NOT NULL COLLATE pg_catalog."C",
    error_message text NOT NULL COLLATE pg_catalog."C",
    traceback text NOT NULL COLLATE pg_catalog."C",
    actor text NOT NULL COLLATE pg_catalog."C",
    detail text COLLATE pg_catalog."C",
    fingerprint text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    place text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE kept.durableq_message (
    id bigint NOT NULL,
    queue_id bigint NOT NULL,
    state bigint NOT NULL,
    rank bigint NOT NULL,
    priority bigint NOT NULL,
    deferred bigint NOT NULL,
    receive_count bigint NOT NULL,
    recovery_count bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    delayed_until_ms bigint NOT NULL,
    enqueued_at_ms bigint NOT NULL,
    sent_at_ms bigint NOT NULL,
    first_received_at_ms bigint NOT NULL,
    retention_from_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    debounce_until_ms bigint NOT NULL,
    receipt bytea NOT NULL,
    owner_id bigint NOT NULL,
    body_bytes bigint NOT NULL,
    body_format bigint NOT NULL,
    sequence bigint NOT NULL,
    source_queue_id bigint,
    group_id text COLLATE pg_catalog."C",
    replace_key text COLLATE pg_catalog."C",
    key text COLLATE pg_catalog."C",
    payload_hash bytea,
    sqs_id text COLLATE pg_catalog."C",
    attributes text COLLATE pg_catalog."C",
    system_attributes text COLLATE pg_catalog."C",
    body character varying NOT NULL COLLATE pg_catalog."C",
    burial_reason text COLLATE pg_catalog."C",
    burial_fingerprint text COLLATE pg_catalog."C"
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.2');
CREATE TABLE kept.durableq_queue (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    dead_letter_queue_id bigint,
    created_at_ms bigint NOT NULL,
    visibility_timeout_ms bigint NOT NULL,
    delay_ms bigint NOT NULL,
    retention_ms bigint NOT NULL,
    max_receives bigint NOT NULL,
    max_recoveries bigint NOT NULL,
    backoff_base_ms bigint NOT NULL,
    backoff_max_ms bigint NOT NULL,
    idempotency_ttl_ms bigint NOT NULL,
    max_body_bytes bigint NOT NULL,
    paused bigint DEFAULT '0'::bigint NOT NULL,
    rate double precision DEFAULT '0'::double precision NOT NULL,
    burst bigint DEFAULT '0'::bigint NOT NULL,
    max_in_flight bigint DEFAULT '0'::bigint NOT NULL,
    group_concurrency bigint DEFAULT '0'::bigint NOT NULL,
    group_on_dead bigint DEFAULT '0'::bigint NOT NULL,
    group_rate double precision DEFAULT '0'::double precision NOT NULL,
    group_burst bigint DEFAULT '0'::bigint NOT NULL,
    breaker bigint DEFAULT '0'::bigint NOT NULL,
    breaker_share double precision DEFAULT '0.5'::double precision NOT NULL,
    breaker_minimum bigint DEFAULT '10'::bigint NOT NULL,
    breaker_window_ms bigint DEFAULT '30000'::bigint NOT NULL,
    breaker_open_ms bigint DEFAULT '10000'::bigint NOT NULL,
    breaker_open_max_ms bigint DEFAULT '300000'::bigint NOT NULL,
    breaker_probes bigint DEFAULT '3'::bigint NOT NULL,
    slow_start_ms bigint DEFAULT '10000'::bigint NOT NULL,
    retry_share double precision DEFAULT '0'::double precision NOT NULL,
    max_backlog bigint DEFAULT '0'::bigint NOT NULL,
    max_backlog_bytes bigint DEFAULT '0'::bigint NOT NULL,
    on_full bigint DEFAULT '0'::bigint NOT NULL,
    block_timeout_ms bigint DEFAULT '30000'::bigint NOT NULL,
    min_free_bytes bigint DEFAULT '0'::bigint NOT NULL,
    deduplication_window_ms bigint DEFAULT '300000'::bigint NOT NULL,
    expires_in_ms bigint DEFAULT '0'::bigint NOT NULL,
    on_expiry bigint DEFAULT '0'::bigint NOT NULL,
    priority_aging_ms bigint DEFAULT '0'::bigint NOT NULL,
    limits bigint DEFAULT '0'::bigint NOT NULL,
    bury_at bigint DEFAULT '0'::bigint NOT NULL
);
CREATE VIEW kept.durableq_dead_letter AS
 SELECT m.id,
    source.name AS queue,
    m.key,
    m.burial_reason AS reason,
    to_timestamp((((m.enqueued_at_ms)::numeric / 1000.0))::double precision) AS died_at,
    failure.error_type,
    failure.error_message,
    failure.actor,
    m.recovery_count,
    m.body,
    m.burial_fingerprint AS fingerprint
   FROM ((kept.durableq_message m
     JOIN kept.durableq_queue source ON ((source.id = m.source_queue_id)))
     LEFT JOIN kept.durableq_history failure ON ((failure.id = ( SELECT max(durableq_history.id) AS max
           FROM kept.durableq_history
          WHERE ((durableq_history.message_id = m.id) AND (durableq_history.event = ANY (ARRAY['failed'::text, 'lease_expired'::text])))))));
CREATE TABLE kept.durableq_deduplication (
    queue_id bigint NOT NULL,
    scope text NOT NULL COLLATE pg_catalog."C",
    deduplication_id text NOT NULL COLLATE pg_catalog."C",
    message_id bigint NOT NULL,
    expires_at_ms bigint NOT NULL
);
CREATE TABLE kept.durableq_deleted_queue (
    name text NOT NULL COLLATE pg_catalog."C",
    deleted_at_ms bigint NOT NULL
);
CREATE TABLE kept.durableq_failure (
    queue_id bigint NOT NULL,
    message_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    unavailable bigint DEFAULT '0'::bigint NOT NULL,
    completed bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE kept.durableq_flow (
    queue_id bigint NOT NULL,
    breaker_phase bigint DEFAULT '0'::bigint NOT NULL,
    breaker_since_ms bigint DEFAULT '0'::bigint NOT NULL,
    breaker_until_ms bigint DEFAULT '0'::bigint NOT NULL,
    breaker_trips bigint DEFAULT '0'::bigint NOT NULL,
    breaker_died bigint DEFAULT '0'::bigint NOT NULL,
    breaker_judged bigint DEFAULT '0'::bigint NOT NULL,
    breaker_completed bigint DEFAULT '0'::bigint NOT NULL,
    breaker_reason text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE kept.durableq_group (
    queue_id bigint NOT NULL,
    group_id text NOT NULL COLLATE pg_catalog."C",
    active bigint DEFAULT '0'::bigint NOT NULL,
    holding bigint DEFAULT '0'::bigint NOT NULL,
    tat_ns bigint DEFAULT '0'::bigint NOT NULL
);
CREATE SEQUENCE kept.durableq_history_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_history_id_seq OWNED BY kept.durableq_history.id;
CREATE TABLE kept.durableq_idempotency (
    queue_id bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    status bigint NOT NULL,
    owner_message_id bigint NOT NULL,
    owner_receipt bytea NOT NULL,
    payload_hash bytea NOT NULL,
    result text COLLATE pg_catalog."C",
    created_at_ms bigint NOT NULL,
    completed_at_ms bigint,
    expires_at_ms bigint
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.2');
CREATE TABLE kept.durableq_item (
    table_id bigint NOT NULL,
    pk text NOT NULL COLLATE pg_catalog."C",
    sk text NOT NULL COLLATE pg_catalog."C",
    item text NOT NULL COLLATE pg_catalog."C",
    expires_at_s bigint
);
CREATE TABLE kept.durableq_item_table (
    id bigint CONSTRAINT durableq_item_table_id_not_null1 NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    region text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    definition text NOT NULL COLLATE pg_catalog."C",
    ttl_attribute text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    created_at_ms bigint NOT NULL
);
CREATE SEQUENCE kept.durableq_item_table_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_item_table_id_seq OWNED BY kept.durableq_item_table.id;
CREATE SEQUENCE kept.durableq_message_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_message_id_seq OWNED BY kept.durableq_message.id;
CREATE TABLE kept.durableq_meta (
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE kept.durableq_once (
    key text NOT NULL COLLATE pg_catalog."C",
    value text COLLATE pg_catalog."C",
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    stale_until_ms bigint NOT NULL,
    compute_ms bigint NOT NULL,
    owner_token bytea,
    owner_until_ms bigint NOT NULL,
    owner_process text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE kept.durableq_progress (
    message_id bigint NOT NULL,
    receipt bytea NOT NULL,
    fraction double precision NOT NULL,
    text text NOT NULL COLLATE pg_catalog."C",
    at_ms bigint NOT NULL
);
CREATE TABLE kept.durableq_queue_document (
    queue_id bigint NOT NULL,
    attributes text NOT NULL COLLATE pg_catalog."C",
    tags text NOT NULL COLLATE pg_catalog."C",
    modified_at_ms bigint NOT NULL,
    purged_at_ms bigint NOT NULL,
    version bigint NOT NULL
);
CREATE SEQUENCE kept.durableq_queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_queue_id_seq OWNED BY kept.durableq_queue.id;
CREATE TABLE kept.durableq_receive_attempt (
    queue_id bigint NOT NULL,
    attempt_id text NOT NULL COLLATE pg_catalog."C",
    receipt bytea NOT NULL,
    messages text NOT NULL COLLATE pg_catalog."C",
    lease_until_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL
);
CREATE TABLE kept.durableq_redrive_task (
    id bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    wanted text NOT NULL COLLATE pg_catalog."C",
    decision text NOT NULL COLLATE pg_catalog."C",
    to_queue text COLLATE pg_catalog."C",
    actor text NOT NULL COLLATE pg_catalog."C",
    last_event bigint NOT NULL,
    cursor bigint NOT NULL,
    total bigint NOT NULL,
    moved bigint NOT NULL,
    skipped bigint NOT NULL,
    started_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    rate double precision DEFAULT '0'::double precision NOT NULL,
    tat_ns bigint DEFAULT '0'::bigint NOT NULL,
    last_message bigint DEFAULT '0'::bigint NOT NULL,
    cursor_rank bigint DEFAULT '0'::bigint NOT NULL,
    queue_id bigint,
    failure text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);
CREATE SEQUENCE kept.durableq_redrive_task_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_redrive_task_id_seq OWNED BY kept.durableq_redrive_task.id;
CREATE TABLE kept.durableq_sample (
    queue_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    sent bigint NOT NULL,
    moved_in bigint NOT NULL,
    moved_out bigint NOT NULL,
    completed bigint NOT NULL,
    duplicates bigint NOT NULL,
    discarded bigint NOT NULL,
    expired bigint NOT NULL,
    purged bigint NOT NULL,
    cancelled bigint NOT NULL,
    replaced bigint NOT NULL,
    shed bigint NOT NULL,
    deduplicated bigint NOT NULL,
    ready bigint NOT NULL,
    delayed bigint NOT NULL,
    in_flight bigint NOT NULL,
    held bigint NOT NULL,
    blocked bigint NOT NULL
);
CREATE TABLE kept.durableq_schedule (
    name text NOT NULL COLLATE pg_catalog."C",
    definition text NOT NULL COLLATE pg_catalog."C",
    periods text NOT NULL COLLATE pg_catalog."C",
    boot_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    offset_ms bigint DEFAULT '0'::bigint NOT NULL,
    paused bigint DEFAULT '0'::bigint NOT NULL,
    last_ms bigint DEFAULT '0'::bigint NOT NULL,
    sent bigint DEFAULT '0'::bigint NOT NULL,
    skipped bigint DEFAULT '0'::bigint NOT NULL,
    queue_id bigint NOT NULL,
    next_ms bigint NOT NULL
);
CREATE VIEW kept.durableq_totals AS
 SELECT c.queue_id,
    (c.sent + COALESCE(d.sent, (0)::bigint)) AS sent,
    (c.completed + COALESCE(d.completed, (0)::bigint)) AS completed,
    c.moved_in,
    c.moved_out,
    c.duplicates,
    c.discarded,
    c.expired,
    c.purged,
    c.cancelled,
    c.replaced,
    c.shed,
    c.deduplicated,
    c.in_flight,
    c.backlog_bytes,
    c.tat_ns,
    c.delivered_at_ms,
    c.retry_credit,
    c.turn
   FROM (kept.durableq_counters c
     LEFT JOIN ( SELECT durableq_counter_delta.queue_id,
            (sum(durableq_counter_delta.sent))::bigint AS sent,
            (sum(durableq_counter_delta.completed))::bigint AS completed
           FROM kept.durableq_counter_delta
          GROUP BY durableq_counter_delta.queue_id) d ON ((d.queue_id = c.queue_id)));
CREATE TABLE kept.durableq_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE kept.durableq_worker (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    pid bigint NOT NULL,
    created_ms bigint NOT NULL,
    boot_id text NOT NULL COLLATE pg_catalog."C",
    started_at_ms bigint NOT NULL,
    beat_at_ms bigint NOT NULL,
    pid_namespace text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    restarts bigint DEFAULT '0'::bigint NOT NULL,
    state text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    handled bigint DEFAULT '0'::bigint NOT NULL,
    failed bigint DEFAULT '0'::bigint NOT NULL,
    in_flight bigint DEFAULT '0'::bigint NOT NULL,
    oldest_began_ms bigint DEFAULT '0'::bigint NOT NULL,
    queues text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    host_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    draining bigint DEFAULT '0'::bigint NOT NULL,
    schedules text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);
CREATE SEQUENCE kept.durableq_worker_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE kept.durableq_worker_id_seq OWNED BY kept.durableq_worker.id;
ALTER TABLE ONLY kept.durableq_history ALTER COLUMN id SET DEFAULT nextval('kept.durableq_history_id_seq'::regclass);
ALTER TABLE ONLY kept.durableq_item_table ALTER COLUMN id SET DEFAULT nextval('kept.durableq_item_table_id_seq'::regclass);
ALTER TABLE ONLY kept.durableq_message ALTER COLUMN id SET DEFAULT nextval('kept.durableq_message_id_seq'::regclass);
ALTER TABLE ONLY kept.durableq_queue ALTER COLUMN id SET DEFAULT nextval('kept.durableq_queue_id_seq'::regclass);
ALTER TABLE ONLY kept.durableq_redrive_task ALTER COLUMN id SET DEFAULT nextval('kept.durableq_redrive_task_id_seq'::regclass);
ALTER TABLE ONLY kept.durableq_worker ALTER COLUMN id SET DEFAULT nextval('kept.durableq_worker_id_seq'::regclass);
INSERT INTO kept.durableq_counter_delta VALUES (1, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (1, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (1, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (1, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 0, 1);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 0, 1);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counter_delta VALUES (3, 1, 0);
INSERT INTO kept.durableq_counters VALUES (1, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_counters VALUES (2, 0, 4, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_counters VALUES (4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_counters VALUES (3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_deleted_queue VALUES ('gone', 1700000000000);
INSERT INTO kept.durableq_flow VALUES (1, 0, 0, 0, 0, 0, 0, 0, '');
INSERT INTO kept.durableq_flow VALUES (2, 0, 0, 0, 0, 0, 0, 0, '');
INSERT INTO kept.durableq_flow VALUES (3, 0, 0, 0, 0, 0, 0, 0, '');
INSERT INTO kept.durableq_flow VALUES (4, 0, 0, 0, 0, 0, 0, 0, '');
INSERT INTO kept.durableq_history VALUES (1, 1, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (2, 1, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (3, 1, 1, 1700000000000, 'buried', 'handler_error', 'ValueError', 'no such card', '', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (4, 1, 2, 1700000000000, 'held', 'ask', '', '', '', 'recovery:4712', '{"recovery_count": 0}', '', '');
INSERT INTO kept.durableq_history VALUES (5, 2, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (6, 2, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (7, 2, 1, 1700000000000, 'buried', 'handler_error', 'ValueError', 'no such card', '', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (8, 2, 2, 1700000000000, 'discarded', 'fraud', '', '', '', 'recovery:4712', '{"recovery_count": 0}', '', '');
INSERT INTO kept.durableq_history VALUES (9, 3, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (10, 3, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (11, 3, 1, 1700000000000, 'buried', 'handler_error', 'ValueError', 'no such card', '', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (12, 3, 2, 1700000000000, 'requeued', 'calm now', '', '', '', 'recovery:4712', '{"recovery_count": 1}', '', '');
INSERT INTO kept.durableq_history VALUES (13, 4, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (14, 4, 1, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (15, 4, 1, 1700000000000, 'buried', 'handler_error', 'ValueError', 'no such card', '', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (16, 10, 3, 1700000000000, 'failed', 'handler_error', 'ValueError', 'no such card', 'a stack', 'worker-1:4711', NULL, '7c72123081fc', '');
INSERT INTO kept.durableq_history VALUES (17, -3, 3, 1700000000000, 'schedule', '', '', '', '', '', '{"schedule": "nightly", "action": "added"}', '', '');
INSERT INTO kept.durableq_idempotency VALUES (3, 'paid', 1, 5, '\x1e09b0ad761b96d8eecfbd16b9f4204b', '\x468bf461e7a04b6464d85ace4108c5335588d2a69353ccd0f6edeeccf1051a0e', '{"paid":120}', 1700000000000, 1700000000000, 1700086400000);
INSERT INTO kept.durableq_idempotency VALUES (3, 'held', 0, 8, '\x936fedc7ab918cb64df31b3275648609', '\xec5fca1cc870d102e44c620634dd47f9a80bf85e95173dbc101947a053114532', NULL, 1700000000000, NULL, NULL);
INSERT INTO kept.durableq_item VALUES (1, '"a"', '', '{"id":{"S":"a"},"expiration":{"N":"4000000000"}}', 4000000000);
INSERT INTO kept.durableq_item_table VALUES (1, '000000000000', 'us-east-1', 'idempotency', '{}', 'expiration', 1700000000000);
INSERT INTO kept.durableq_message VALUES (1, 2, 2, 0, 0, 0, 1, 0, 2199023255552, 140737488355327, 1700000000000, 1700000000000, 1700000000000, 140737488355327, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 12, 0, 0, 1, NULL, NULL, 'letter-0', '\x31c6fd40bb1003b579abb5aeee1964b33f1b43cd637c2320deee487ebab9438e', NULL, NULL, NULL, '{"letter":0}', 'handler_error', '7c72123081fc');
INSERT INTO kept.durableq_message VALUES (3, 1, 2, 0, 0, 0, 0, 1, 2199023255552, 1700003600000, 1700000000000, 1700000000000, 140737488355327, 1700003600000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 12, 0, 0, NULL, NULL, NULL, 'letter-2', '\xbbe4c75608d87d6cc07caf346af6b9bbc26af9758effd73feb6f85c256564798', NULL, NULL, NULL, '{"letter":2}', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (4, 2, 0, 0, 0, 0, 0, 0, 2199023255552, 0, 1700000000000, 1700000000000, 1700000000000, 1700000000000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 12, 0, 0, 1, NULL, NULL, 'letter-3', '\xb2aa73f46bdb74ecd45d2fe13e9841fb8ba44a3566bdebe6814494d79eda6b02', NULL, NULL, NULL, '{"letter":3}', 'handler_error', '7c72123081fc');
INSERT INTO kept.durableq_message VALUES (8, 3, 1, 0, 0, 0, 1, 0, 2199024285552, 0, 1700000000000, 1700000000000, 1700000000000, 1700000000000, 140737488355327, 0, '\x936fedc7ab918cb64df31b3275648609', 1099511627777, 15, 0, 0, NULL, NULL, NULL, 'held', '\xec5fca1cc870d102e44c620634dd47f9a80bf85e95173dbc101947a053114532', NULL, NULL, NULL, '{"in":"flight"}', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (9, 3, 2, 0, 0, 1, 0, 0, 2199023255552, 1700000030000, 1700000000000, 1700000000000, 140737488355327, 1700000030000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 15, 0, 0, NULL, NULL, NULL, 'held', '\xec5fca1cc870d102e44c620634dd47f9a80bf85e95173dbc101947a053114532', NULL, NULL, NULL, '{"in":"flight"}', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (10, 3, 2, 0, 0, 0, 1, 0, 2199023255552, 1700000060000, 1700000000000, 1700000000000, 1700000000000, 1700000060000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 17, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"failed":"once"}', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (11, 3, 2, 0, 0, 0, 0, 0, 2199023255552, 1700003600000, 1700000000000, 1700000000000, 140737488355327, 1700003600000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 14, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"later":true}', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (12, 3, 0, -7, 7, 0, 0, 0, 2199023255552, 0, 1700000000000, 1700000000000, 140737488355327, 1700000000000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 29, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, '{"source":"shop","n":1}', NULL, '"ready, of high priority ✓"', NULL, NULL);
INSERT INTO kept.durableq_message VALUES (13, 3, 0, 0, 0, 0, 0, 0, 2199023255552, 0, 1700000000000, 1700000000000, 140737488355327, 1700000000000, 140737488355327, 0, '\x00000000000000000000000000000000', 1099511627776, 256, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff', NULL, NULL);
INSERT INTO kept.durableq_meta VALUES ('clock:boot-1', '{"wall_ms": 1700000000000, "boot_ms": 1000000, "boot_id": "boot-1", "steady_ms": 1700000000000, "jump_ms": 0, "jumped_at_ms": 0, "lease_offset_ms": 0}');
INSERT INTO kept.durableq_meta VALUES ('place', '7714059423364690105/5/16612');
INSERT INTO kept.durableq_meta VALUES ('boot:host-1', 'boot-1');
INSERT INTO kept.durableq_meta VALUES ('note:breaker', 'closed');
INSERT INTO kept.durableq_progress VALUES (8, '\x936fedc7ab918cb64df31b3275648609', 0.4, 'page 4 of 10', 1700000000000);
INSERT INTO kept.durableq_queue VALUES (2, 'mail-dlq', NULL, 1700000000000, 30000, 0, 1209600000, 3, 3, 1000, 300000, 86400000, 1048576, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 10, 30000, 10000, 300000, 3, 10000, 0, 0, 0, 0, 30000, 0, 300000, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_queue VALUES (1, 'mail', 2, 1700000000000, 5000, 0, 1209600000, 2, 3, 1000, 300000, 86400000, 1048576, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 10, 30000, 10000, 300000, 3, 10000, 0, 0, 0, 0, 30000, 0, 300000, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_queue VALUES (4, 'orders-dlq', NULL, 1700000000000, 30000, 0, 1209600000, 3, 3, 1000, 300000, 86400000, 1048576, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 10, 30000, 10000, 300000, 3, 10000, 0, 0, 0, 0, 30000, 0, 300000, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_queue VALUES (3, 'orders', 4, 1700000000000, 30000, 0, 1209600000, 3, 3, 1000, 300000, 86400000, 1048576, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 10, 30000, 10000, 300000, 3, 10000, 0, 0, 0, 0, 30000, 0, 300000, 0, 0, 0, 0, 0);
INSERT INTO kept.durableq_queue_document VALUES (3, '{"Policy":"{}"}', '{"team":"a"}', 1700000000000, 1700000000000, 1);
INSERT INTO kept.durableq_redrive_task VALUES (1, 'running', '{"queue": "mail", "reason": null, "error_type": null, "fingerprint": null, "died_before_ms": null}', '{"name": "requeue", "reason": "calm now", "delay": 0}', NULL, 'person (ann)', 16, 0, 2, 0, 0, 1700000000000, 1700000000000, 0, 0, 13, -9223372036854775808, NULL, '');
INSERT INTO kept.durableq_schedule VALUES ('nightly', '{"attributes": "{}", "body": "{\"of\":\"sales\"}", "catch_up": "latest", "catch_up_limit": 100, "expires_in_ms": null, "group": null, "priority": 0, "timing": "0 3 * * *", "tz": "Europe/Berlin"}', '[[1700000000000, 1700000000000]]', 'boot-1', 0, 0, 0, 0, 0, 3, 1700013600000);
INSERT INTO kept.durableq_version VALUES ('0016');
INSERT INTO kept.durableq_worker VALUES (1, 'worker-1:4711', 4711, 1000, 'boot-1', 1700000000000, 1700000000000, 'pid:[4026531836]', 0, 'working', 12, 8, 1, 0, '["orders"]', '', 0, '[]');
SELECT pg_catalog.setval('kept.durableq_history_id_seq', 17, true);
SELECT pg_catalog.setval('kept.durableq_item_table_id_seq', 1, true);
SELECT pg_catalog.setval('kept.durableq_message_id_seq', 13, true);
SELECT pg_catalog.setval('kept.durableq_queue_id_seq', 4, true);
SELECT pg_catalog.setval('kept.durableq_redrive_task_id_seq', 1, true);
SELECT pg_catalog.setval('kept.durableq_worker_id_seq', 1, true);
ALTER TABLE ONLY kept.durableq_counters
    ADD CONSTRAINT durableq_counters_pkey PRIMARY KEY (queue_id);
ALTER TABLE ONLY kept.durableq_deduplication
    ADD CONSTRAINT durableq_deduplication_id PRIMARY KEY (queue_id, scope, deduplication_id);
ALTER TABLE ONLY kept.durableq_deleted_queue
    ADD CONSTRAINT durableq_deleted_queue_name PRIMARY KEY (name);
ALTER TABLE ONLY kept.durableq_failure
    ADD CONSTRAINT durableq_failure_message PRIMARY KEY (queue_id, message_id);
ALTER TABLE ONLY kept.durableq_flow
    ADD CONSTRAINT durableq_flow_pkey PRIMARY KEY (queue_id);
ALTER TABLE ONLY kept.durableq_group
    ADD CONSTRAINT durableq_group_id PRIMARY KEY (queue_id, group_id);
ALTER TABLE ONLY kept.durableq_history
    ADD CONSTRAINT durableq_history_pkey PRIMARY KEY (id);
ALTER TABLE ONLY kept.durableq_idempotency
    ADD CONSTRAINT durableq_idempotency_key PRIMARY KEY (queue_id, key);
ALTER TABLE ONLY kept.durableq_item
    ADD CONSTRAINT durableq_item_key PRIMARY KEY (table_id, pk, sk);
ALTER TABLE ONLY kept.durableq_item_table
    ADD CONSTRAINT durableq_item_table_name UNIQUE (account, region, name);
ALTER TABLE ONLY kept.durableq_item_table
    ADD CONSTRAINT durableq_item_table_pkey PRIMARY KEY (id);
ALTER TABLE ONLY kept.durableq_message
    ADD CONSTRAINT durableq_message_pkey PRIMARY KEY (id);
ALTER TABLE ONLY kept.durableq_meta
    ADD CONSTRAINT durableq_meta_pkey PRIMARY KEY (name);
ALTER TABLE ONLY kept.durableq_once
    ADD CONSTRAINT durableq_once_key PRIMARY KEY (key);
ALTER TABLE ONLY kept.durableq_progress
    ADD CONSTRAINT durableq_progress_receipt PRIMARY KEY (message_id, receipt);
ALTER TABLE ONLY kept.durableq_queue_document
    ADD CONSTRAINT durableq_queue_document_pkey PRIMARY KEY (queue_id);
ALTER TABLE ONLY kept.durableq_queue
    ADD CONSTRAINT durableq_queue_name UNIQUE (name);
ALTER TABLE ONLY kept.durableq_queue
    ADD CONSTRAINT durableq_queue_pkey PRIMARY KEY (id);
ALTER TABLE ONLY kept.durableq_receive_attempt
    ADD CONSTRAINT durableq_receive_attempt_id PRIMARY KEY (queue_id, attempt_id);
ALTER TABLE ONLY kept.durableq_redrive_task
    ADD CONSTRAINT durableq_redrive_task_pkey PRIMARY KEY (id);
ALTER TABLE ONLY kept.durableq_sample
    ADD CONSTRAINT durableq_sample_time PRIMARY KEY (queue_id, at_ms);
ALTER TABLE ONLY kept.durableq_schedule
    ADD CONSTRAINT durableq_schedule_name PRIMARY KEY (name);
ALTER TABLE ONLY kept.durableq_version
    ADD CONSTRAINT durableq_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY kept.durableq_worker
    ADD CONSTRAINT durableq_worker_pkey PRIMARY KEY (id);
CREATE INDEX durableq_deduplication_expiry ON kept.durableq_deduplication USING btree (expires_at_ms);
CREATE INDEX durableq_group_idle ON kept.durableq_group USING btree (tat_ns) WHERE ((active = 0) AND (holding = 0));
CREATE INDEX durableq_history_message ON kept.durableq_history USING btree (message_id, id);
CREATE INDEX durableq_history_queue ON kept.durableq_history USING btree (queue_id, at_ms);
CREATE INDEX durableq_idempotency_expiry ON kept.durableq_idempotency USING btree (expires_at_ms) WHERE (status = 1);
CREATE INDEX durableq_item_expiry ON kept.durableq_item USING btree (expires_at_s) WHERE (expires_at_s IS NOT NULL);
CREATE INDEX durableq_message_blocked ON kept.durableq_message USING btree (queue_id, group_id, sequence, id) WHERE (state = 3);
CREATE INDEX durableq_message_burial ON kept.durableq_message USING btree (source_queue_id, burial_reason, burial_fingerprint, enqueued_at_ms) WHERE (source_queue_id IS NOT NULL);
CREATE INDEX durableq_message_dead ON kept.durableq_message USING btree (id) WHERE (source_queue_id IS NOT NULL);
CREATE INDEX durableq_message_deferred ON kept.durableq_message USING btree (queue_id, key) WHERE (deferred = 1);
CREATE INDEX durableq_message_delayed ON kept.durableq_message USING btree (queue_id, delayed_until_ms) WHERE (state = 2);
CREATE INDEX durableq_message_expiry ON kept.durableq_message USING btree (expires_at_ms) WHERE (expires_at_ms <> '140737488355327'::bigint);
CREATE INDEX durableq_message_leased ON kept.durableq_message USING btree (queue_id, lease_until_ms) WHERE (state = 1);
CREATE INDEX durableq_message_ready ON kept.durableq_message USING btree (queue_id, rank, id) WHERE (state = 0);
CREATE INDEX durableq_message_replace_key ON kept.durableq_message USING btree (queue_id, replace_key) WHERE (replace_key IS NOT NULL);
CREATE INDEX durableq_once_expiry ON kept.durableq_once USING btree (stale_until_ms);
CREATE INDEX durableq_receive_attempt_expiry ON kept.durableq_receive_attempt USING btree (expires_at_ms);
CREATE UNIQUE INDEX durableq_redrive_task_running ON kept.durableq_redrive_task USING btree (queue_id) WHERE (state = 'running'::text);
