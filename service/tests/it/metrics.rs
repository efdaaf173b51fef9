//! `GET /metrics`: what is counted, by which names, and how many of them.
#![expect(clippy::float_cmp, reason = "what is compared are whole numbers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nightshift::{
    clock::{Clock, later},
    config::Hidden,
    metrics::{Metrics, NAMES_MAX},
};
use nightshift_client::types::{QueueChange, TaskRequest};

use crate::support::{
    app::{Builder, value},
    database::Database,
    executor::{Reply, TestExecutor},
    metrics::Samples,
    on_both_engines,
    proxy::{Mode, Proxy},
    until,
};

fn in_queue(queue: &str, task_path: &str) -> TaskRequest {
    TaskRequest { queue_name: Some(queue.to_owned()), ..TaskRequest::new(task_path) }
}

on_both_engines! {
    async fn a_scrape_shows_queues_attempts_and_the_writer(builder: App) {
        let (builder, clock) = builder.with_manual_clock();
        let app = builder.start();
        let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
            "good" => Reply::ok("1"),
            "bad" => Reply::with(422, r#"{"title":"bad"}"#),
            _ => Reply::Hang,
        })
        .await;
        app.register(&executor).await;
        let good = app.enqueue_with(in_queue("sky", "good")).await.id;
        app.end(good).await;
        let bad = app.enqueue_with(in_queue("sky", "bad")).await.id;
        app.end(bad).await;
        app.enqueue_with(in_queue("sky", "hang")).await;
        executor.called(3).await;
        let later = later(clock.now(), Duration::from_hours(1)).into();
        app.enqueue_with(TaskRequest { run_after: Some(later), ..in_queue("sky", "good") }).await;
        app.client.update_queue("night", &paused()).await.unwrap();
        app.enqueue_with(in_queue("night", "good")).await;
        let crew = app.register_workers("crew", |r| r.task_paths = vec!["crew.*".to_owned()]);
        assert!(crew.await.lease(1).await.is_empty());

        let samples = Samples::of(&app).await;
        let queue = |queue: &str, state: &str| {
            samples.get(&format!(r#"nightshift_queue_tasks{{queue="{queue}",state="{state}"}}"#))
        };
        assert_eq!([queue("sky", "ready"), queue("sky", "scheduled")], [0.0, 1.0]);
        assert_eq!([queue("sky", "running"), queue("night", "ready")], [1.0, 1.0]);
        assert_eq!(samples.get(r#"nightshift_queue_paused{queue="night"}"#), 1.0);
        assert_eq!(samples.get(r#"nightshift_queue_paused{queue="sky"}"#), 0.0);
        let attempts = |outcome: &str| {
            let labels = format!(r#"{{executor="exec",outcome="{outcome}"}}"#);
            samples.get(&format!("nightshift_attempts_total{labels}"))
        };
        assert_eq!([attempts("successful"), attempts("rejected")], [1.0, 1.0]);
        let worked = r#"{queue="sky",executor_kind="http"}"#;
        assert_eq!(samples.get(&format!("nightshift_task_wait_seconds_count{worked}")), 3.0);
        assert_eq!(samples.get(&format!("nightshift_attempt_duration_seconds_count{worked}")), 2.0);
        assert_eq!(samples.get(r#"nightshift_executor_calls_in_flight{executor="exec"}"#), 1.0);
        assert_eq!(samples.get(r#"nightshift_executor_circuit_open{executor="exec"}"#), 0.0);
        assert_eq!(samples.get(r#"nightshift_events_total{kind="enqueued"}"#), 5.0);
        let posts = r#"{method="POST",route="/tasks",status="201"}"#;
        assert_eq!(samples.get(&format!("nightshift_http_requests_total{posts}")), 5.0);
        let commits = samples.get("nightshift_writer_commit_seconds_count");
        assert!(commits >= 9.0, "{commits}");
        assert_eq!(samples.get("nightshift_writer_batch_commands_count"), commits);
        assert!(samples.get("nightshift_writer_batch_commands_sum") >= commits);
        assert_eq!(samples.get("nightshift_database_usable"), 1.0);
        let size = samples.get("nightshift_database_size_bytes");
        assert!(size > 50_000.0, "{size}");
        assert!(samples.get(r#"nightshift_disk_free_bytes{disk="plugin_cache"}"#) > 0.0);
        let database = r#"nightshift_disk_free_bytes{disk="database"}"#;
        assert_eq!(samples.0.contains_key(database), app.database_url().starts_with("sqlite"));
        check_catalogue(&samples);
    }

    async fn a_queue_that_is_empty_again_is_shown_as_such(builder: App) {
        let (builder, clock) = builder.with_manual_clock();
        let app = builder.start();
        let id = app.enqueue_with(in_queue("sky", "a")).await.id;
        let shown = || async {
            let samples = Samples::of(&app).await;
            let ready = samples.get(r#"nightshift_queue_tasks{queue="sky",state="ready"}"#);
            let age = samples.get(r#"nightshift_queue_oldest_ready_age_seconds{queue="sky"}"#);
            (ready, age)
        };
        clock.advance(Duration::from_mins(10));
        assert_eq!(shown().await, (1.0, 600.0));
        app.client.cancel_task(id, false).await.unwrap();
        clock.advance(Duration::from_mins(10));
        assert_eq!(shown().await, (0.0, 0.0));
    }

    async fn waiting_and_running_take_the_time_of_the_service_s_clock(builder: App) {
        let (builder, clock) = builder.with_manual_clock();
        let app = builder.start();
        app.client.update_queue("q", &paused()).await.unwrap();
        app.enqueue_with(in_queue("q", "a")).await;
        clock.advance(Duration::from_secs(90));
        let oldest = r#"nightshift_queue_oldest_ready_age_seconds{queue="q"}"#;
        assert_eq!(Samples::of(&app).await.get(oldest), 90.0);
        let worker = app.register_workers("w", |_| {}).await;
        let resumed = QueueChange { paused: Some(false), ..QueueChange::default() };
        app.client.update_queue("q", &resumed).await.unwrap();
        let lease = worker.next().await;
        clock.advance(Duration::from_secs(20));
        app.client.finish_lease(&lease.token, &value("1")).await.unwrap();
        let samples = Samples::of(&app).await;
        let of_worker = r#"{queue="q",executor_kind="worker"}"#;
        assert_eq!(samples.get(&format!("nightshift_task_wait_seconds_sum{of_worker}")), 90.0);
        let took = format!("nightshift_attempt_duration_seconds_sum{of_worker}");
        assert_eq!(samples.get(&took), 20.0);
    }

    async fn a_scrape_shows_when_workers_asked_last(builder: App) {
        let (builder, clock) = builder.with_manual_clock();
        let app = builder.start();
        let seen = |samples: &Samples, executor: &str| {
            let labels = format!(r#"{{executor="{executor}"}}"#);
            let name = format!("nightshift_executor_worker_seen_timestamp_seconds{labels}");
            samples.0.get(&name).copied()
        };
        let crew = app.register_workers("crew", |_| {}).await;
        app.register_workers("away", |_| {}).await;
        assert!(crew.lease(1).await.is_empty());
        let now = || f64::from(u32::try_from(clock.now().as_second()).unwrap());
        let first = now();
        clock.advance(Duration::from_mins(10));
        let samples = Samples::of(&app).await;
        assert_eq!(seen(&samples, "crew"), Some(first));
        assert_eq!(seen(&samples, "away"), None);
        assert!(crew.lease(1).await.is_empty());
        let second = now();
        // The process after it has it from the database.
        let app = app.stop().await.start();
        assert_eq!(seen(&Samples::of(&app).await, "crew"), Some(second));
    }

    async fn an_executor_that_is_away_has_an_open_circuit(builder: App) {
        let (builder, _clock) = builder.with_manual_clock();
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::Close).await;
        let url = format!("http://127.0.0.1:{}/", free_port().await);
        app.register_as("away", &executor, |request| request.url = Some(url)).await;
        app.enqueue("a").await;
        until("a delivery that failed", || async {
            let executor = app.client.get_executor("away").await.unwrap();
            executor.hold.is_some().then_some(())
        })
        .await;
        let samples = Samples::of(&app).await;
        assert_eq!(samples.get(r#"nightshift_executor_circuit_open{executor="away"}"#), 1.0);
        let unreachable = r#"{executor="away",outcome="unreachable"}"#;
        assert!(samples.get(&format!("nightshift_attempts_total{unreachable}")) >= 1.0);
    }
}

/// Each metric that is shown is in the catalogue, with these labels, and the other way round.
fn check_catalogue(samples: &Samples) {
    let shown = |name: &str| -> BTreeSet<String> {
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let named = |key: &str| {
            let base = key.split('{').next().unwrap();
            suffixes.iter().any(|suffix| base == format!("{name}{suffix}"))
        };
        let labels = |key: &String| -> Vec<String> {
            let Some((_, labels)) = key.trim_end_matches('}').split_once('{') else {
                return Vec::new();
            };
            labels.split(',').map(|pair| pair.split('=').next().unwrap().to_owned()).collect()
        };
        samples.0.keys().filter(|key| named(key)).flat_map(labels).collect()
    };
    let mut known = BTreeSet::new();
    for entry in Metrics::catalogue() {
        let mut labels = shown(entry.name);
        labels.remove("le");
        let expected = entry.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(labels, expected, "{}", entry.name);
        known.extend(["", "_bucket", "_sum", "_count"].map(|end| format!("{}{end}", entry.name)));
    }
    let unknown: Vec<_> = samples.names().into_iter().filter(|n| !known.contains(*n)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_is_told_of_as_the_system_sees_it() {
    let (builder, _clock) = Builder::sqlite().with_manual_clock();
    let app = builder.start();
    let first = Samples::of(&app).await;
    // 2026-11-25T12:00:00Z.
    assert_eq!(first.get("process_start_time_seconds"), 1_795_608_000.0);
    let mib = 1024.0 * 1024.0;
    let memory = first.get("process_resident_memory_bytes");
    assert!(memory > mib && memory < first.get("process_virtual_memory_bytes"), "{memory}");
    assert!(first.get("process_threads") > 2.0);
    let files = first.get("process_open_fds");
    assert!(files > 3.0 && files < first.get("process_max_fds"), "{files}");
    until("some processor time", || async {
        let taken = Samples::of(&app).await.get("process_cpu_seconds_total");
        (taken > first.get("process_cpu_seconds_total")).then_some(())
    })
    .await;
}

fn paused() -> QueueChange {
    QueueChange { paused: Some(true), ..QueueChange::default() }
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_events_are_counted_as_long_as_they_are_there() {
    let app = Builder::sqlite().start();
    let readers = || async { Samples::of(&app).await.get("nightshift_event_readers") };
    assert_eq!(readers().await, 0.0);
    let stream = app.request("GET", "/events").send().await.unwrap();
    assert_eq!(readers().await, 1.0);
    let head = app.send(app.request("HEAD", "/events")).await;
    assert_eq!((head.status, readers().await), (200, 1.0), "who asks for the head reads nothing");
    drop(stream);
    // That a reader has gone is noticed when there is something to tell.
    until("nobody reading", || async {
        app.enqueue("a").await;
        (readers().await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_clients_make_up_are_bounded() {
    let (builder, clock) = Builder::sqlite().with_manual_clock();
    let app = builder.start();
    for number in 0..NAMES_MAX + 20 {
        app.enqueue_with(in_queue(&format!("q{number}"), "a")).await;
        if number == NAMES_MAX {
            clock.advance(Duration::from_mins(1));
        }
    }
    let samples = Samples::of(&app).await;
    let ready = |key: &&String| key.starts_with("nightshift_queue_tasks") && key.contains("ready");
    assert_eq!(samples.0.keys().filter(ready).count(), NAMES_MAX + 1);
    assert_eq!(samples.get(r#"nightshift_queue_tasks{queue="other",state="ready"}"#), 20.0);
    let oldest = r#"nightshift_queue_oldest_ready_age_seconds{queue="other"}"#;
    assert_eq!(samples.get(oldest), 60.0, "of all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessed_paths_and_methods_make_no_series() {
    let app = Builder::sqlite().start();
    for path in ["/tasks/1", "/guess/1", "/guess/2"] {
        app.send(app.request("BREW", path)).await;
    }
    app.send(app.request("GET", "/tasks/00000000-0000-0000-0000-000000000001")).await;
    let samples = Samples::of(&app).await;
    let requests: BTreeMap<&str, f64> = samples
        .0
        .iter()
        .filter_map(|(key, value)| {
            Some((key.strip_prefix("nightshift_http_requests_total")?, *value))
        })
        .collect();
    assert_eq!(
        requests,
        BTreeMap::from([
            (r#"{method="GET",route="/tasks/{id}",status="404"}"#, 1.0),
            (r#"{method="other",route="/tasks/{id}",status="405"}"#, 1.0),
            (r#"{method="other",route="none",status="404"}"#, 2.0),
        ])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_token_are_refused_and_counted() {
    let token = "token-".repeat(6);
    let mut builder = Builder::sqlite();
    builder.config.admin_token = Some(Hidden::new(token.as_str()));
    let app = builder.start();
    for path in ["/metrics", "/tasks", "/guess"] {
        assert_eq!(app.send(app.request("GET", path)).await.status, 401, "{path}");
    }
    let answer = app.send(app.request("GET", "/metrics").bearer_auth(&token)).await;
    assert_eq!(answer.status, 200);
    for route in ["/metrics", "/tasks", "none"] {
        let sample = format!(
            "nightshift_http_requests_total{{method=\"GET\",route=\"{route}\",status=\"401\"}} 1\n"
        );
        assert!(answer.text.contains(&sample), "{route} {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_said_is_shown_again_for_a_while() {
    let (builder, clock) = Builder::sqlite().with_manual_clock();
    let app = builder.start();
    app.enqueue("a").await;
    let ready = || async {
        let samples = Samples::of(&app).await;
        samples.get(r#"nightshift_queue_tasks{queue="default",state="ready"}"#)
    };
    assert_eq!(ready().await, 1.0);
    app.enqueue("a").await;
    assert_eq!(ready().await, 1.0, "not asked again yet");
    // As long as counting took, twenty times over, at most.
    clock.advance(Duration::from_mins(10));
    assert_eq!(ready().await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_said_is_not_shown_while_it_is_away_postgres() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let (mut builder, clock) = Builder::on(database).with_manual_clock();
    builder.config.database_url = url;
    let app = builder.start();
    app.enqueue("a").await;
    let of_queues = |name: &&str| name.starts_with("nightshift_queue");
    let samples = Samples::of(&app).await;
    assert_eq!(samples.names().into_iter().filter(of_queues).count(), 3);
    assert_eq!(samples.get("nightshift_database_usable"), 1.0);
    proxy.set(Mode::Cut);
    assert_eq!(app.post("/tasks", r#"{"task_path":"a"}"#).await.status, 503);
    clock.advance(Duration::from_mins(10));
    let samples = Samples::of(&app).await;
    assert_eq!(samples.names().into_iter().filter(of_queues).count(), 0);
    assert_eq!(samples.get("nightshift_database_usable"), 0.0);
}
