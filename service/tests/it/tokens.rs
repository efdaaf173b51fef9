//! Nobody gets in who shows no token that is good for what is asked, on any route.

use std::time::Duration;

use nightshift_client::{
    Client, EnqueueOptions, Error, TaskFilter,
    types::{
        ErrorReport, ExecutorKind, ExecutorRequest, FinishRequest, LeaseRequest, QueueChange, Task,
        TaskBatch, TaskRequest, TaskStatus, TokenRequest, TokenScope,
    },
};
use reqwest::header::AUTHORIZATION;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{
    SOON,
    app::{Answer, Builder, SECRET, TestApp, Worker, json},
    events::Reader,
    on_both_engines, soon,
    tokens::{ADMIN, bound, code, secret, showing, wanted, with_admin},
    until,
};

const WRONG: &str = "nst_wrongwrongwrongwrongwrongwrongwrongwrongwro";

/// An operation of the OpenAPI document.
struct Operation {
    id: String,
    method: String,
    path: String,
    tag: String,
    /// `None`: whoever asks.
    scope: Option<String>,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(nightshift::api::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let own = operation.get("security").unwrap_or(&document["security"]);
            let scope = own.as_array().unwrap().iter().find_map(|one| one["bearer"][0].as_str());
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                tag: operation["tags"][0].as_str().unwrap().to_owned(),
                scope: scope.map(str::to_owned),
            });
        }
    }
    assert!(operations.len() > 30);
    operations
}

impl Operation {
    /// Status and code of what is answered to it, about things that are not there.
    async fn ask(&self, app: &TestApp, token: Option<&str>) -> (u16, String) {
        self.ask_about(app, token, &Uuid::nil().to_string()).await
    }

    async fn ask_about(&self, app: &TestApp, token: Option<&str>, id: &str) -> (u16, String) {
        let path = self.path.replace("{id}", id).replace("{name}", "nobody");
        let path = path.replace("{token}", &"0".repeat(48));
        let mut request = app.request(&self.method, &path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        // An answer that is none of these may be a stream without end.
        if !matches!(status, 401 | 403 | 404 | 429) {
            return (status, String::new());
        }
        let challenge = response.headers().get("www-authenticate").cloned();
        assert_eq!(challenge.is_some(), status == 401, "RFC 9110, section 11.6.1");
        let problem: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    }
}

on_both_engines! {
    async fn every_operation_looks_at_the_token(app: App) {
        let (builder, clock) = with_admin(app).with_manual_clock();
        let app = builder.start();
        let admin = showing(&app, ADMIN);
        let expired = TokenRequest {
            expires_at: Some("2026-11-25T12:00:01Z".parse().unwrap()),
            ..wanted("expired", &[TokenScope::Admin])
        };
        let expired = secret(&admin, expired).await;
        let revoked = secret(&admin, wanted("revoked", &[TokenScope::Admin])).await;
        admin.revoke_token("revoked").await.unwrap();
        let mut of_scope = Vec::new();
        for (name, scope) in [
            ("enqueue", TokenScope::Enqueue),
            ("read", TokenScope::Read),
            ("work", TokenScope::Work),
            ("admin", TokenScope::Admin),
        ] {
            of_scope.push((name, secret(&admin, wanted(name, &[scope])).await));
        }
        for operation in operations() {
            let Operation { id, scope, .. } = &operation;
            // Wrong ones are counted.
            clock.advance(Duration::from_secs(61));
            for bad in [WRONG, "", "a b", &expired, &revoked, &of_scope[3].1[1..]] {
                let answer = operation.ask(&app, Some(bad)).await;
                assert_eq!(answer, (401, "unauthorized".to_owned()), "{id} {bad}");
            }
            let (without, _) = operation.ask(&app, None).await;
            assert_eq!(without == 401, scope.is_some(), "{id} answers {without} without a token");
            for (name, token) in &of_scope {
                let (status, code) = operation.ask(&app, Some(token)).await;
                let good = scope.as_deref().is_none_or(|scope| scope == *name || *name == "admin");
                assert_ne!(status, 401, "{id} {name}");
                assert_eq!(code == "forbidden", !good, "{id} answers {status} to {name}");
            }
            let (configured, _) = operation.ask(&app, Some(ADMIN)).await;
            assert!(!matches!(configured, 401 | 403), "{id} answers {configured} to the admin");
        }
        app.stop().await;
    }

    async fn a_path_written_in_another_way_leads_nowhere(app: App) {
        let app = with_admin(app).start();
        let reader = secret(&showing(&app, ADMIN), wanted("reader", &[TokenScope::Read])).await;
        let port = app.server.rsplit(':').next().unwrap();
        for path in [
            "/%74okens", "/tokens/", "//tokens", "/tokens;x=1", "/executors/../tokens",
            "/executors/%2e%2e/tokens", "/tokens%2f", "/docs/../tokens", "/docs%2f..%2ftokens",
            "/healthz/../tokens", "http://127.0.0.1/tokens", "/TOKENS",
        ] {
            for (token, allowed) in [(None, &["401", "404"][..]), (Some(&reader), &["403", "404"])] {
                let status = raw_status(port, path, token).await;
                assert!(allowed.contains(&status.as_str()), "{path} {}: {status}", token.is_some());
            }
        }
        // What is known by one route in one way, and by another in the other.
        let batch = app.request("POST", "/tasks/%62atch").bearer_auth(&reader);
        let batch = batch.header("content-type", "application/json");
        let answer = app.send(batch.body(r#"{"tasks":[{"task_path":"x"}]}"#)).await;
        assert_eq!(answer.problem(), "405 method_not_allowed -");
        assert!(showing(&app, ADMIN).list_tasks(&TaskFilter::default()).await.unwrap().items.is_empty());
        app.stop().await;
    }

    async fn what_goes_on_for_long_ends_with_its_token(app: App) {
        let app = with_admin(app).start();
        let admin = showing(&app, ADMIN);
        let workers = ExecutorRequest {
            kind: ExecutorKind::Worker,
            task_paths: vec!["*".to_owned()],
            ..ExecutorRequest::default()
        };
        admin.put_executor("w", &workers).await.unwrap();
        let reader = secret(&admin, wanted("reader", &[TokenScope::Read])).await;
        let worker = secret(&admin, wanted("worker", &[TokenScope::Work])).await;
        let mut events = Reader::all(&showing(&app, &reader), None).await;
        let seen = admin.create_task(&TaskRequest::new("x"), &EnqueueOptions::default()).await;
        let seen = seen.unwrap().task.id;
        assert_eq!(events.event().await.task_id, seen);
        let ask = LeaseRequest {
            worker_id: "w1".to_owned(),
            wait_seconds: Some(60),
            ..LeaseRequest::default()
        };
        let client = showing(&app, &worker);
        assert_eq!(client.lease_tasks("w", &ask).await.unwrap().leases.len(), 1);
        let polling = tokio::spawn(async move { client.lease_tasks("w", &ask).await });
        let watcher = showing(&app, &reader);
        let minute = Some(Duration::from_mins(1));
        let waiting = tokio::spawn(async move { watcher.get_task(seen, minute).await });
        for name in ["reader", "worker"] {
            admin.revoke_token(name).await.unwrap();
        }
        let waited = soon("the end of a wait", waiting).await.unwrap();
        assert_eq!(code(waited), "unauthorized");
        let none = soon("the end of a long poll", polling).await.unwrap();
        assert!(none.as_ref().is_ok_and(|list| list.leases.is_empty()) || code(none) == "unauthorized");
        let task = admin.create_task(&TaskRequest::new("x"), &EnqueueOptions::default()).await;
        let task = task.unwrap().task.id;
        assert!(events.rest().await.iter().all(|event| event.task_id != task));
        assert_eq!(admin.get_task(task, None).await.unwrap().status, TaskStatus::Ready);
        app.stop().await;
    }

    async fn who_may_not_read_is_shown_what_he_said_himself(app: App) {
        let app = with_admin(app).start();
        let admin = showing(&app, ADMIN);
        let client = showing(&app, &secret(&admin, wanted("web", &[TokenScope::Enqueue])).await);
        let kind = ExecutorKind::Worker;
        let request = ExecutorRequest { kind, task_paths: vec!["*".to_owned()], ..Default::default() };
        admin.put_executor("workers", &request).await.unwrap();
        let worker = Worker { client: admin.clone(), executor: "workers".into(), id: "w".into() };
        let asked = |text: &str| TaskRequest {
            args: json(text),
            unique_key: Some("nightly".to_owned()),
            ..TaskRequest::new("x")
        };
        let options = EnqueueOptions::default();
        let id = admin.create_task(&asked(r#"["theirs"]"#), &options).await.unwrap().task.id;
        let error = ErrorReport { retryable: Some(false), ..ErrorReport::default() };
        let failed = FinishRequest { error: Some(error), ..FinishRequest::default() };
        worker.finish(&worker.next().await, failed).await.unwrap();
        let unseen = |task: &Task| {
            assert_eq!((task.id, task.args.as_str(), task.kwargs.as_str()), (id, "[]", "{}"));
            assert_eq!((&task.return_value, task.errors.len()), (&None, 0));
        };
        unseen(&client.retry_task(id).await.unwrap());
        unseen(&client.create_task(&asked("[]"), &options).await.unwrap().task);
        unseen(&client.cancel_task(id, false).await.unwrap());
        let seen = admin.cancel_task(id, false).await.unwrap();
        assert_eq!((seen.args.as_str(), seen.errors.len()), (r#"["theirs"]"#, 2));

        let mine = TaskRequest { id: Some(Uuid::from_u128(7)), ..asked(r#"["mine"]"#) };
        let wait = EnqueueOptions { wait: Some(SOON), ..EnqueueOptions::default() };
        let (waited, _) = tokio::join!(client.create_task(&mine, &wait), async {
            worker.succeed(&worker.next().await).await
        });
        for task in [waited.unwrap().task, client.create_task(&mine, &options).await.unwrap().task] {
            assert_eq!(task.args.as_str(), r#"["mine"]"#, "he has said so himself");
            assert_eq!((task.status, task.return_value), (TaskStatus::Successful, None));
        }
        app.stop().await;
    }

    async fn a_unique_key_of_another_queue_shows_nothing(app: App) {
        let app = with_admin(app).start();
        let admin = showing(&app, ADMIN);
        let client = showing(&app, &secret(&admin, bound("a", &[TokenScope::Enqueue], &["a"])).await);
        let unique = |queue: &str| TaskRequest {
            queue_name: Some(queue.to_owned()),
            unique_key: Some("nightly".to_owned()),
            ..TaskRequest::new("x")
        };
        admin.create_task(&unique("b"), &EnqueueOptions::default()).await.unwrap();
        let refused = client.create_task(&unique("a"), &EnqueueOptions::default()).await;
        assert_eq!(code(refused), "unique_key_taken", "whose it is, is not told");
        let batch = TaskBatch { tasks: vec![TaskRequest::new("x"), unique("a")] };
        assert_eq!(code(client.create_tasks(&batch).await), "forbidden");
        let batch = TaskBatch { tasks: vec![unique("a")] };
        assert_eq!(code(client.create_tasks(&batch).await), "unique_key_taken");
        assert_eq!(admin.list_tasks(&TaskFilter::default()).await.unwrap().items.len(), 1);
        app.stop().await;
    }

    async fn a_bound_token_sees_its_queues_alone(app: App) {
        let app = with_admin(app).start();
        let admin = showing(&app, ADMIN);
        let everything = [TokenScope::Enqueue, TokenScope::Read, TokenScope::Work];
        let token = secret(&admin, bound("a", &everything, &["a"])).await;
        let client = showing(&app, &token);
        let workers = ExecutorRequest {
            kind: ExecutorKind::Worker,
            task_paths: vec!["*".to_owned()],
            ..ExecutorRequest::default()
        };
        admin.put_executor("w", &workers).await.unwrap();
        let enqueue = async |client: &Client, queue: &str| -> nightshift_client::Result<Task> {
            let request =
                TaskRequest { queue_name: Some(queue.to_owned()), ..TaskRequest::new("x") };
            Ok(client.create_task(&request, &EnqueueOptions::default()).await?.task)
        };
        let mut events = Reader::all(&client, None).await;
        let other = enqueue(&admin, "b").await.unwrap();
        let own = enqueue(&client, "a").await.unwrap();
        assert_eq!(code(enqueue(&client, "b").await), "forbidden");
        let both = ["a", "b"].map(|queue| TaskRequest {
            queue_name: Some(queue.to_owned()),
            ..TaskRequest::new("x")
        });
        let refused = client.create_tasks(&TaskBatch { tasks: both.to_vec() }).await.unwrap_err();
        let Error::Problem { problem, .. } = refused else { panic!("{refused}") };
        assert_eq!((problem.code.as_str(), problem.pointer.as_deref()), ("forbidden", Some("/tasks/1")));
        assert_eq!(events.event().await.task_id, own.id, "the other queue's event is not told");

        // Another queue's task is as good as none, whatever is asked of it.
        for operation in operations().iter().filter(|operation| operation.path.contains("{id}")) {
            let answer = operation.ask_about(&app, Some(&token), &other.id.to_string()).await;
            assert_eq!(answer, (404, "task_not_found".to_owned()), "{}", operation.id);
        }
        // What is not about one queue is not for it.
        for operation in operations() {
            let of_queues = ["tasks", "events", "queues", "leases"].contains(&&*operation.tag);
            if operation.scope.is_some() && !of_queues {
                let answer = operation.ask(&app, Some(&token)).await;
                assert_eq!(answer, (403, "forbidden".to_owned()), "{}", operation.id);
            }
        }

        let list = client.list_tasks(&TaskFilter::default()).await.unwrap().items;
        assert_eq!(list.iter().map(|task| task.id).collect::<Vec<_>>(), [own.id]);
        let of_b = TaskFilter { queue_name: Some("b".to_owned()), ..TaskFilter::default() };
        assert_eq!(code(client.list_tasks(&of_b).await), "forbidden");
        let queues = client.list_queues(None, None).await.unwrap().items;
        assert_eq!(queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(code(client.get_queue("b").await), "forbidden");
        assert_eq!(code(client.update_queue("a", &QueueChange::default()).await), "forbidden");

        let request = |queues: Option<&[&str]>| LeaseRequest {
            worker_id: "w1".to_owned(),
            max_tasks: Some(10),
            queue_names: queues.map(|names| names.iter().map(ToString::to_string).collect()),
            ..LeaseRequest::default()
        };
        assert_eq!(code(client.lease_tasks("w", &request(Some(&["b"]))).await), "forbidden");
        for queues in [None, Some(&["*"][..])] {
            let leases = client.lease_tasks("w", &request(queues)).await.unwrap().leases;
            assert!(leases.iter().all(|lease| lease.task.id == own.id), "{leases:?}");
        }
        assert_eq!(app_task(&admin, other.id).await.attempts, 0, "nobody took it");

        // Of several queues one has to be named.
        let token = secret(&admin, bound("ab", &everything, &["a", "b"])).await;
        let client = showing(&app, &token);
        assert_eq!(code(client.list_tasks(&TaskFilter::default()).await), "forbidden");
        assert_eq!(client.list_tasks(&of_b).await.unwrap().items.len(), 1);
        drop(events);
        app.stop().await;
    }

    async fn workers_register_themselves_and_nobody_else(app: App) {
        let app = with_admin(app).start();
        let admin = showing(&app, ADMIN);
        let worker = showing(&app, &secret(&admin, wanted("w", &[TokenScope::Work])).await);
        let request = ExecutorRequest {
            kind: ExecutorKind::Worker,
            task_paths: vec!["a.*".to_owned()],
            ..ExecutorRequest::default()
        };
        worker.put_executor("mine", &request).await.unwrap();
        worker.put_executor("mine", &request).await.unwrap();
        let http = ExecutorRequest {
            kind: ExecutorKind::Http,
            url: Some("http://127.0.0.1:1/".to_owned()),
            secret: Some(SECRET.to_owned()),
            ..request.clone()
        };
        assert_eq!(code(worker.put_executor("mine", &http).await), "forbidden");
        assert_eq!(code(worker.put_executor("web", &http).await), "forbidden");
        admin.put_executor("web", &http).await.unwrap();
        assert_eq!(code(worker.put_executor("web", &request).await), "forbidden");
        assert_eq!(code(worker.delete_executor("mine").await), "forbidden");
        app.stop().await;
    }

    async fn the_first_token_closes_the_door_and_the_last_admin_stays(app: App) {
        let app = app.start();
        let anybody = &app.client;
        assert_eq!(code(anybody.create_token(&wanted("web", &[TokenScope::Read])).await), "admin_token_needed");
        let expiring = TokenRequest {
            expires_at: Some("9000-01-01T00:00:00Z".parse().unwrap()),
            ..wanted("ops", &[TokenScope::Admin])
        };
        assert_eq!(code(anybody.create_token(&expiring).await), "admin_token_needed");
        anybody.get_stats().await.unwrap();

        let first = anybody.create_token(&wanted("ops", &[TokenScope::Admin])).await.unwrap();
        assert_eq!((first.secret.len(), &first.secret[..4]), (47, "nst_"));
        assert_eq!(code(anybody.get_stats().await), "unauthorized");
        let ops = showing(&app, &first.secret);
        assert_eq!(code(ops.create_token(&wanted("ops", &[TokenScope::Read])).await), "token_name_taken");
        assert_eq!(code(ops.revoke_token("ops").await), "admin_token_needed");
        assert_eq!(code(ops.revoke_token("nobody").await), "token_not_found");
        for name in ["admin_token", "anybody"] {
            let refused = ops.create_token(&wanted(name, &[TokenScope::Read])).await;
            assert_eq!(code(refused), "invalid_field", "the audit log says {name} of others");
        }

        let next = ops.create_token(&wanted("ops-2", &[TokenScope::Admin])).await.unwrap();
        let next = showing(&app, &next.secret);
        next.revoke_token("ops").await.unwrap();
        next.revoke_token("ops").await.unwrap();
        assert_eq!(code(ops.get_stats().await), "unauthorized");
        assert_eq!(code(next.create_token(&wanted("ops", &[TokenScope::Read])).await), "token_name_taken");
        let list = next.list_tokens(None, None).await.unwrap().items;
        let names: Vec<_> = list.iter().map(|t| (t.name.as_str(), t.revoked_at.is_some())).collect();
        assert_eq!(names, [("ops", true), ("ops-2", false)]);

        let app = app.stop().await.start();
        assert_eq!(code(app.client.get_stats().await), "unauthorized", "after a start as well");
        app.stop().await;
    }

    async fn bad_wishes_for_tokens_get_a_clear_error(app: App) {
        let app = with_admin(app).start();
        for (body, problem) in [
            (r#"{"name":"a","scopes":[]}"#, "422 invalid_field /scopes"),
            (r#"{"name":"a","scopes":["all"]}"#, "422 invalid_field /scopes/0"),
            (r#"{"name":"a b","scopes":["read"]}"#, "422 invalid_field /name"),
            (r#"{"name":"","scopes":["read"]}"#, "422 invalid_field /name"),
            (r#"{"name":"a","scopes":["admin"],"queue_names":["a"]}"#, "422 invalid_field /queue_names"),
            (r#"{"name":"a","scopes":["read"],"queue_names":[]}"#, "422 invalid_field /queue_names"),
            (r#"{"name":"a","scopes":["read"],"queue_names":["*"]}"#, "422 invalid_field /queue_names"),
            (r#"{"name":"a","scopes":["read"],"expires_at":"2020-01-01T00:00:00Z"}"#, "422 invalid_field /expires_at"),
            (r#"{"name":"a","scopes":["read"],"secret":"x"}"#, "422 invalid_field /secret"),
        ] {
            let request = app.request("POST", "/tokens").body(body).bearer_auth(ADMIN);
            let answer: Answer = app.send(request.header("content-type", "application/json")).await;
            assert_eq!(answer.problem(), problem, "{body}");
        }
        assert!(showing(&app, ADMIN).list_tokens(None, None).await.unwrap().items.is_empty());
        app.stop().await;
    }

    async fn whoever_guesses_is_slowed_down_and_nobody_else(app: App) {
        let (builder, clock) = with_admin(app).with_manual_clock();
        let app = builder.start();
        let guess = || app.send(app.request("GET", "/stats").bearer_auth(WRONG));
        for _ in 0..30 {
            assert_eq!(guess().await.problem(), "401 unauthorized -");
        }
        let slowed = guess().await;
        assert_eq!(slowed.problem(), "429 too_many_guesses -");
        assert_eq!(slowed.header("retry-after"), Some("60"));
        showing(&app, ADMIN).get_stats().await.unwrap();
        clock.advance(Duration::from_mins(1));
        assert_eq!(guess().await.problem(), "401 unauthorized -");
        app.stop().await;
    }

    async fn the_last_use_is_written_down(app: App) {
        let (builder, clock) = with_admin(app).with_manual_clock();
        let app = builder.start();
        let admin = showing(&app, ADMIN);
        let reader = secret(&admin, wanted("reader", &[TokenScope::Read])).await;
        showing(&app, &reader).get_stats().await.unwrap();
        let used = until("the time of use", || async {
            clock.advance(Duration::from_secs(61));
            admin.list_tokens(None, None).await.unwrap().items[0].last_used_at
        });
        assert_eq!(used.await, "2026-11-25T12:00:00Z".parse().unwrap());
        app.stop().await;
    }
}

async fn app_task(client: &Client, id: Uuid) -> Task {
    client.get_task(id, None).await.unwrap()
}

/// The status of an answer to a path that is sent as it is.
async fn raw_status(port: &str, path: &str, token: Option<&String>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let header = header.unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_replicas_hear_of_tokens() {
    let app = with_admin(Builder::postgres()).start();
    let replica = app.replica(|_| {});
    let admin = showing(&app, ADMIN);
    let token = secret(&admin, wanted("reader", &[TokenScope::Read])).await;
    let there = showing(&replica, &token);
    let get = async || there.get_stats().await;
    until("the token at the replica", || async { get().await.ok() }).await;
    admin.revoke_token("reader").await.unwrap();
    until("its end at the replica", || async { get().await.err() }).await;
    replica.stop().await;
    app.stop().await;
}
