//! Which plugins run at once, and what becomes of those that wait.

use nightshift_client::types::{ReasonCode, TaskErrorKind, TaskRequest, TaskStatus};

use crate::{
    plugins::{install_guest, register, task},
    support::{on_both_engines, until},
};

on_both_engines! {
    async fn a_task_that_waits_for_a_place_has_not_begun(app: App) {
        let mut app = app;
        app.config.plugin_runs_max = 1;
        let app = app.start();
        install_guest(&app).await;
        register(&app, |_| {}).await;
        let long = TaskRequest { timeout_seconds: Some(2.0), ..task("loop", "[]") };
        let long = app.enqueue_with(long).await.id;
        app.task_when(long, |task| task.status == TaskStatus::Running).await;
        let short = TaskRequest {
            timeout_seconds: Some(1.0),
            max_attempts: Some(1),
            ..task("echo", "[7]")
        };
        let short = app.end(app.enqueue_with(short).await.id).await;
        assert_eq!((short.status, short.attempts), (TaskStatus::Successful, 1));
        assert_eq!(app.end(long).await.errors[0].kind, TaskErrorKind::Timeout);
    }

    async fn no_executor_takes_all_places(app: App) {
        let mut app = app;
        app.config.plugin_runs_max = 4;
        app.config.plugin_memory_mib = 400;
        let app = app.start();
        install_guest(&app).await;
        // Four by their number, three by the share of one; of 128 MiB each, two by memory.
        register(&app, |_| {}).await;
        let mut greedy = Vec::new();
        for _ in 0..4 {
            let long = TaskRequest { timeout_seconds: Some(600.0), ..task("loop", "[]") };
            greedy.push(app.enqueue_with(long).await.id);
        }
        app.task_when(greedy[1], |task| task.status == TaskStatus::Running).await;
        let other = app.end(app.enqueue_with(task("echo", "[7]")).await.id).await;
        assert_eq!(other.status, TaskStatus::Successful);
        assert_eq!(other.executor.as_deref(), Some("guest"));
        for id in &greedy[2..] {
            let waiting = app.client.get_task(*id, None).await.unwrap();
            assert_eq!((waiting.status, waiting.attempts), (TaskStatus::Ready, 0));
            let reasons = app.client.explain_task(*id).await.unwrap().reasons;
            assert_eq!(reasons[0].code, ReasonCode::ProcessFull, "{reasons:?}");
            assert!(reasons[0].detail.contains("plugin_runs_max"), "{reasons:?}");
        }
        // Each end makes room for the next.
        for id in greedy {
            app.task_when(id, |task| task.status == TaskStatus::Running).await;
            app.client.cancel_task(id, false).await.unwrap();
        }
    }

    async fn what_needs_more_memory_than_there_is_says_so(app: App) {
        let mut app = app;
        app.config.plugin_memory_mib = 100;
        let app = app.start();
        install_guest(&app).await;
        let id = app.enqueue_with(task("echo", "[]")).await.id;
        let reason = "a run may have 128 MiB, all plugins here 100 MiB";
        until("the reason", || async {
            let explanation = app.client.explain_task(id).await.unwrap();
            explanation.reasons.into_iter().find(|given| given.detail.contains(reason))
        })
        .await;
    }
}
