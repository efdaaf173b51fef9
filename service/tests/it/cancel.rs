//! Cancelling what waits, what runs, and what is just about to end.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use nightshift_client::{
    Client,
    types::{
        ErrorCode, ErrorReport, FinishRequest, RenewRequest, TaskBatch, TaskErrorKind, TaskRequest,
        TaskStatus,
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{
    app::json,
    executor::{Reply, TestExecutor},
    on_both_engines,
};

on_both_engines! {
    async fn c37_b27_an_executor_in_its_request_is_cut_off_and_told(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::Hang).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        executor.called(1).await;
        let answer = app.post(&format!("/tasks/{id}/cancel"), "").await;
        assert_eq!(answer.status, 202);
        assert!(answer.json()["cancel_requested_at"].is_string());
        executor.hung_up(1).await;
        let told = executor.called(2).await;
        assert!(told[1].is_cancel());
        assert!(told[1].body.contains(&id.to_string()));
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Cancelled, 1));
        assert_eq!(task.errors[0].kind, TaskErrorKind::Cancelled);
        assert_eq!(executor.calls().len(), 2, "told once");
        let again = app.post(&format!("/tasks/{id}/cancel"), "").await;
        assert_eq!((again.status, &again.json()["status"]), (200, &"CANCELLED".into()));
    }

    async fn c37_a_result_after_the_cancel_changes_nothing(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        app.client.cancel_task(id, false).await.unwrap();
        let renewal = app.client.renew_lease(&token, &RenewRequest::default()).await.unwrap();
        assert!(renewal.cancel_requested);
        let finish = FinishRequest { return_value: json("7"), ..FinishRequest::default() };
        let task = app.client.finish_lease(&token, &finish).await.unwrap();
        assert_eq!((task.status, task.return_value), (TaskStatus::Cancelled, None));
        let late = app.client.finish_lease(&token, &finish).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
    }

    async fn b26_after_a_cancel_there_is_no_further_attempt(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        app.client.cancel_task(id, false).await.unwrap();
        let finish = FinishRequest { error: Some(ErrorReport::default()), ..FinishRequest::default() };
        let task = app.client.finish_lease(&token, &finish).await.unwrap();
        assert_eq!(task.status, TaskStatus::Cancelled);
        app.run_barrier_as(&executor).await;
        assert_eq!(app.task(id).await.attempts, 1);
    }

    async fn b30_an_executor_that_ignores_the_cancel_is_fenced_off(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
            "ignores" => Reply::status(202),
            _ => Reply::ok("1"),
        }).await;
        app.register_as("exec", &executor, |r| {
            r.concurrency = Some(1);
            r.lease_seconds = Some(3600);
        }).await;
        let id = app.enqueue("ignores").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        app.task_when(id, |task| task.last_renewed_at.is_some()).await;
        let next = app.enqueue("next").await.id;
        app.client.cancel_task(id, false).await.unwrap();
        // Not even a heartbeat keeps it alive.
        app.client.renew_lease(&token, &RenewRequest::default()).await.unwrap();
        clock.advance(Duration::from_secs(10));
        assert_eq!(app.end(id).await.status, TaskStatus::Cancelled);
        assert_eq!(app.end(next).await.status, TaskStatus::Successful, "the place is free");
        let late = app.client.renew_lease(&token, &RenewRequest::default()).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
    }

    async fn b31_force_ends_it_now(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let token = executor.called(1).await[0].message().data.lease.token;
        let task = app.client.cancel_task(id, true).await.unwrap();
        assert_eq!(task.status, TaskStatus::Cancelled);
        let finish = FinishRequest { return_value: json("7"), ..FinishRequest::default() };
        let late = app.client.finish_lease(&token, &finish).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
        assert!(executor.called(2).await[1].is_cancel());
    }

    async fn c38_a_finished_task_is_not_cancelled(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let before = app.end(id).await;
        let answer = app.post(&format!("/tasks/{id}/cancel"), "").await;
        assert_eq!(answer.problem(), "409 task_finished -");
        assert_eq!(app.task(id).await, before);
        app.run_barrier().await;
    }

    async fn b25_of_cancel_and_finish_one_wins_for_everybody(app: App) {
        const RACES: usize = 1_000;
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(50)).await;
        let tasks = (0..RACES).map(|_| TaskRequest::new("a.b")).collect();
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        let client = app.client.clone();
        let races = stream::iter(0..RACES).map(|n| {
            let (client, executor) = (client.clone(), &executor);
            async move {
                let data = executor.called_for_execution(n + 1).await.message().data;
                race(&client, data.task_id, &data.lease.token).await
            }
        });
        let winners: Vec<TaskStatus> = races.buffer_unordered(16).collect().await;
        assert_eq!(winners.len(), RACES);
    }

    async fn b25_of_cancel_and_answer_one_wins_for_everybody(app: App) {
        const RACES: usize = 200;
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        for n in 0..RACES {
            let id = app.enqueue("a.b").await.id;
            executor.called_for_execution(n + 1).await;
            gate.add_permits(1);
            let accepted = app.client.cancel_task(id, false).await.is_ok();
            let end = app.end(id).await.status;
            // A gate that the cut connection left open is closed again.
            gate.forget_permits(1);
            let expected = if accepted { TaskStatus::Cancelled } else { TaskStatus::Successful };
            assert_eq!(end, expected, "race {n}");
        }
    }
}

/// Finishes and cancels at once, and returns the one end that everybody saw.
async fn race(client: &Client, id: Uuid, token: &str) -> TaskStatus {
    let finish = FinishRequest { return_value: json("7"), ..FinishRequest::default() };
    let (finished, cancelled) =
        tokio::join!(client.finish_lease(token, &finish), client.cancel_task(id, false));
    let end = client.get_task(id, Some(Duration::from_secs(30))).await.unwrap();
    let finished = finished.unwrap();
    if let Err(error) = cancelled {
        // The finish came first.
        assert_eq!(error.code(), Some(ErrorCode::TaskFinished));
        assert_eq!(finished.status, TaskStatus::Successful);
        assert_eq!(end.status, TaskStatus::Successful);
        assert_eq!(end.return_value.as_ref().unwrap().as_str(), "7");
        assert!(end.errors.is_empty() && end.cancel_requested_at.is_none());
    } else {
        assert_eq!(finished.status, TaskStatus::Cancelled);
        assert_eq!((end.status, &end.return_value), (TaskStatus::Cancelled, &None));
        assert_eq!(end.errors[0].kind, TaskErrorKind::Cancelled);
    }
    end.status
}
