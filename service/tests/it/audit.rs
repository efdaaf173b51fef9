//! The audit log says who did what.

use std::time::Duration;

use nightshift_client::{
    EnqueueOptions,
    types::{ExecutorKind, ExecutorRequest, QueueChange, TaskRequest, TokenScope},
};
use uuid::Uuid;

use crate::support::{
    on_both_engines,
    tokens::{ADMIN, code, secret, showing, wanted, with_admin},
    until,
};

on_both_engines! {
    async fn the_audit_log_has_what_was_done_and_nothing_else(app: App) {
        let (builder, clock) = with_admin(app).with_manual_clock();
        let app = builder.start();
        let admin = showing(&app, ADMIN);
        let web = secret(&admin, wanted("web", &[TokenScope::Enqueue])).await;
        let web = showing(&app, &web);
        let http = ExecutorRequest { kind: ExecutorKind::Worker, task_paths: vec!["*".to_owned()], ..ExecutorRequest::default() };
        admin.put_executor("w", &http).await.unwrap();
        let task = web.create_task(&TaskRequest::new("x"), &EnqueueOptions::default()).await.unwrap();
        let id = task.task.id;
        web.cancel_task(id, false).await.unwrap();
        web.retry_task(id).await.unwrap();
        assert_eq!(code(web.delete_task(id).await), "task_not_finished");
        assert_eq!(code(web.cancel_task(Uuid::nil(), false).await), "task_not_found");
        web.cancel_task(id, false).await.unwrap();
        web.delete_task(id).await.unwrap();
        let pause = QueueChange { paused: Some(true), ..QueueChange::default() };
        admin.update_queue("default", &pause).await.unwrap();
        assert_eq!(code(web.update_queue("default", &pause).await), "forbidden");
        admin.delete_executor("w").await.unwrap();
        assert_eq!(code(admin.delete_executor("w").await), "executor_not_found");
        admin.revoke_token("web").await.unwrap();

        let log = admin.list_audit_entries(None, None).await.unwrap().items;
        assert!(log.iter().all(|entry| entry.address.as_deref() == Some("127.0.0.1")));
        let id = id.to_string();
        let lines: Vec<_> =
            log.iter().map(|e| (e.actor.as_str(), e.action.as_str(), e.object.as_str())).collect();
        let wanted = [
            ("admin_token", "revoke_token", "web"),
            ("admin_token", "delete_executor", "w"),
            ("admin_token", "update_queue", "default"),
            ("web", "delete_task", &*id),
            ("web", "cancel_task", &*id),
            ("web", "retry_task", &*id),
            ("web", "cancel_task", &*id),
            ("admin_token", "put_executor", "w"),
            ("admin_token", "create_token", "web"),
        ];
        assert_eq!(lines, wanted);
        let page = admin.list_audit_entries(None, Some(4)).await.unwrap();
        let rest = admin.list_audit_entries(page.next_cursor.as_deref(), None).await.unwrap();
        assert_eq!((page.items.len(), rest.items.len(), rest.next_cursor), (4, 5, None));

        until("the end of old entries", || async {
            clock.advance(Duration::from_hours(366 * 24));
            let log = admin.list_audit_entries(None, None).await.unwrap();
            log.items.is_empty().then_some(())
        })
        .await;
        app.stop().await;
    }
}
