//! The tables of both engines, in types that both have. Times are microseconds since 1970, enums
//! are numbers, ids are sixteen bytes. The migrations say what each column is for.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    executors (id) {
        id -> BigInt,
        name -> Text,
        kind -> SmallInt,
        task_paths -> Text,
        concurrency -> Integer,
        lease_us -> BigInt,
        timeout_us -> Nullable<BigInt>,
        max_attempts -> Nullable<Integer>,
        backoff -> Nullable<Text>,
        paused -> Bool,
        url -> Nullable<Text>,
        secret -> Nullable<Text>,
        previous_secret -> Nullable<Text>,
        failures -> Integer,
        failed_at -> Nullable<BigInt>,
        held_until -> Nullable<BigInt>,
        hold_reason -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
        plugin -> Nullable<Text>,
        plugin_digest -> Nullable<Binary>,
        plugin_defaults -> Nullable<Text>,
        memory_mib -> Nullable<Integer>,
        grants -> Nullable<Text>,
        echoes_task_id -> Bool,
    }
}

table! {
    plugins (name) {
        name -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

table! {
    plugin_versions (plugin_name, digest) {
        plugin_name -> Text,
        digest -> Binary,
        bytes -> BigInt,
        tasks -> Text,
        installed_at -> BigInt,
        activated_at -> BigInt,
        component -> Binary,
    }
}

table! {
    routing (id) {
        id -> BigInt,
        version -> BigInt,
        next_seq -> BigInt,
        end_seq -> BigInt,
        clock_steps -> BigInt,
    }
}

table! {
    queues (name) {
        name -> Text,
        paused -> Bool,
        concurrency -> Nullable<Integer>,
        updated_at -> BigInt,
    }
}

table! {
    tasks (seq) {
        seq -> BigInt,
        id -> Binary,
        task_path -> Text,
        queue_name -> Text,
        priority -> SmallInt,
        enqueued_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        timeout_us -> Nullable<BigInt>,
        max_attempts -> Nullable<Integer>,
        backoff -> Nullable<Text>,
        unique_key -> Nullable<Text>,
        idempotency_key -> Nullable<Text>,
        stage -> SmallInt,
        executor_id -> Nullable<BigInt>,
        due_at -> BigInt,
        attempts -> Integer,
        attempts_before -> Integer,
        deliveries -> Integer,
        worker_ids -> Text,
        lease_secret -> Nullable<Binary>,
        lease_renewed_at -> Nullable<BigInt>,
        lease_expires_at -> Nullable<BigInt>,
        deadline_at -> Nullable<BigInt>,
        detached -> Bool,
        started_at -> Nullable<BigInt>,
        last_attempted_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        cancel_requested_at -> Nullable<BigInt>,
        progress_fraction -> Nullable<Double>,
        progress_message -> Nullable<Text>,
        history -> Text,
        errors_dropped -> Integer,
    }
}

table! {
    events (seq) {
        seq -> BigInt,
        at -> BigInt,
        bytes -> BigInt,
        lines -> Text,
    }
}

table! {
    event_log (id) {
        id -> BigInt,
        trimmed_seq -> BigInt,
    }
}

table! {
    tokens (name) {
        name -> Text,
        hash -> Binary,
        scopes -> Text,
        queue_names -> Nullable<Text>,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
    }
}

table! {
    token_log (id) {
        id -> BigInt,
        version -> BigInt,
    }
}

table! {
    asks (executor_id, digest) {
        executor_id -> BigInt,
        digest -> Binary,
        queues -> Text,
        asked_at -> BigInt,
    }
}

table! {
    audit_log (seq) {
        seq -> BigInt,
        at -> BigInt,
        actor -> Text,
        address -> Nullable<Text>,
        action -> Text,
        object -> Text,
    }
}

table! {
    task_inputs (task_seq) {
        task_seq -> BigInt,
        args -> Text,
        kwargs -> Text,
        fingerprint -> Nullable<Binary>,
        traceparent -> Nullable<Text>,
    }
}

table! {
    task_labels (task_seq, key) {
        task_seq -> BigInt,
        key -> Text,
        value -> Text,
    }
}

table! {
    task_results (task_seq) {
        task_seq -> BigInt,
        return_value -> Text,
    }
}

table! {
    task_errors (id) {
        id -> BigInt,
        task_seq -> BigInt,
        attempt -> Integer,
        kind -> SmallInt,
        at -> BigInt,
        exception_class_path -> Nullable<Text>,
        message -> Text,
        traceback -> Nullable<Text>,
    }
}

table! {
    task_logs (id) {
        id -> BigInt,
        task_seq -> BigInt,
        attempt -> Integer,
        at -> BigInt,
        level -> SmallInt,
        bytes -> Integer,
        message -> Text,
    }
}

table! {
    task_log_totals (task_seq) {
        task_seq -> BigInt,
        lines -> BigInt,
        bytes -> BigInt,
        dropped -> BigInt,
    }
}

joinable!(task_inputs -> tasks (task_seq));
allow_tables_to_appear_in_same_query!(tasks, task_inputs, task_labels, executors);

/// The conditions of the partial indexes, written as text: an engine uses such an index only if the
/// statement holds the number itself, not a parameter.
pub(super) mod stage {
    use diesel::{dsl::sql, expression::SqlLiteral, sql_types::Bool};

    pub(in crate::store) fn is_scheduled() -> SqlLiteral<Bool> {
        sql("tasks.stage = 0")
    }

    pub(in crate::store) fn is_available() -> SqlLiteral<Bool> {
        sql("tasks.stage = 1")
    }

    pub(in crate::store) fn is_running() -> SqlLiteral<Bool> {
        sql("tasks.stage = 2")
    }

    pub(in crate::store) fn is_waiting() -> SqlLiteral<Bool> {
        sql("tasks.stage IN (0, 1)")
    }

    pub(in crate::store) fn is_live() -> SqlLiteral<Bool> {
        sql("tasks.stage IN (0, 1, 2)")
    }

    pub(in crate::store) fn is_successful() -> SqlLiteral<Bool> {
        sql("tasks.stage = 3")
    }

    pub(in crate::store) fn is_failed() -> SqlLiteral<Bool> {
        sql("tasks.stage = 4")
    }

    pub(in crate::store) fn is_cancelled() -> SqlLiteral<Bool> {
        sql("tasks.stage = 5")
    }
}
