//! Where executors may be called, and what is kept of their secrets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use diesel::{
    Connection, ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SqliteConnection,
};
use nightshift::config::Hidden;
use nightshift_client::types::TaskStatus;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use standardwebhooks::Webhook;

use crate::support::{
    app::{Answer, SECRET, TestApp},
    executor::{Call, Reply, TestExecutor},
    on_both_engines, until,
};

/// Leads every name to one address, which the test may change.
#[derive(Clone)]
struct Leads(Arc<Mutex<SocketAddr>>);

impl Leads {
    fn to(address: [u8; 4], port: u16) -> Self {
        Self(Arc::new(Mutex::new(SocketAddr::from((address, port)))))
    }

    fn now_to(&self, address: [u8; 4]) {
        self.0.lock().unwrap().set_ip(IpAddr::from(address));
    }
}

impl Resolve for Leads {
    fn resolve(&self, _: Name) -> Resolving {
        let found: Addrs = Box::new(std::iter::once(*self.0.lock().unwrap()));
        Box::pin(async { Ok(found) })
    }
}

async fn put(app: &TestApp, url: &str) -> Answer {
    let body = format!(r#"{{"kind":"http","task_paths":["*"],"url":"{url}","secret":"{SECRET}"}}"#);
    let request = app.request("PUT", "/executors/exec").header("content-type", "application/json");
    app.send(request.body(body)).await
}

/// Why the executor is held.
async fn hold(app: &TestApp) -> String {
    until("a delivery that is refused", || async {
        app.client.get_executor("exec").await.unwrap().hold
    })
    .await
    .reason
}

diesel::table! {
    executors (id) {
        id -> BigInt,
        name -> Text,
        secret -> Nullable<Text>,
        previous_secret -> Nullable<Text>,
    }
}

/// What the database holds of the executor's secrets.
fn stored(url: &str) -> (Option<String>, Option<String>) {
    let row = executors::table
        .filter(executors::name.eq("exec"))
        .select((executors::secret, executors::previous_secret));
    match url.strip_prefix("sqlite://") {
        Some(file) => row.first(&mut SqliteConnection::establish(file).unwrap()).unwrap(),
        None => row.first(&mut PgConnection::establish(url).unwrap()).unwrap(),
    }
}

fn signed_with(call: &Call, secret: &str) -> bool {
    let headers = call.headers.iter().map(|(name, value)| {
        (name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap())
    });
    Webhook::new(secret).unwrap().verify(call.body.as_bytes(), &headers.collect()).is_ok()
}

const OLD_SECRET: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
const KEY: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const NEW_KEY: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

on_both_engines! {
    async fn only_hosts_of_the_list_are_registered(app: App) {
        let mut app = app.with_resolver(Leads::to([10, 1, 2, 3], 80));
        app.config.executor_hosts_allowed =
            ["*.obs.example", "10.0.0.0/8"].map(str::to_owned).to_vec();
        let app = app.start();
        for allowed in ["http://tom.obs.example/", "http://10.9.9.9/", "http://leads.example/"] {
            assert!(put(&app, allowed).await.status < 300, "{allowed}");
        }
        for refused in ["http://127.0.0.1/", "http://[::1]/", "http://[::ffff:11.0.0.1]/"] {
            let answer = put(&app, refused).await;
            assert_eq!(answer.problem(), "422 invalid_field /url", "{refused}");
            assert!(answer.text.contains("executor_hosts_allowed"), "{answer:?}");
        }
    }

    async fn b105_a_name_that_leads_to_credentials_cannot_be_registered(app: App) {
        let leads = Leads::to([169, 254, 169, 254], 80);
        let mut app = app.with_resolver(leads.clone());
        // No setting opens it.
        app.config.executor_hosts_allowed =
            ["metadata.example", "0.0.0.0/0"].map(str::to_owned).to_vec();
        let app = app.start();
        for address in [[169, 254, 169, 254], [0, 0, 0, 0], [224, 0, 0, 1], [100, 100, 100, 200]] {
            leads.now_to(address);
            let answer = put(&app, "http://metadata.example/").await;
            assert_eq!(answer.problem(), "422 invalid_field /url", "{address:?}");
            assert!(answer.text.contains("never called"), "{answer:?}");
        }
    }

    async fn b105_a_name_that_leads_to_a_refused_address_fails_for_good(app: App) {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let leads = Leads::to([127, 0, 0, 1], executor.port());
        let app = app.with_resolver(leads.clone()).start();
        let url = format!("http://metadata.test:{}/", executor.port());
        assert_eq!(put(&app, &url).await.status, 201);
        // Refused like the link-local ones, but were it called, it would lead to this machine.
        leads.now_to([0, 0, 0, 0]);
        let id = app.enqueue("a.b").await.id;
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
        assert!(task.errors[0].message.contains("never called"), "{:?}", task.errors);
        assert_eq!(executor.calls().len(), 0);
    }

    async fn a_name_that_leads_elsewhere_later_is_not_called(app: App) {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let leads = Leads::to([127, 0, 0, 2], executor.port());
        let mut app = app.with_resolver(leads.clone());
        app.config.executor_hosts_allowed = vec!["127.0.0.2".to_owned()];
        let app = app.start();
        let url = format!("http://tom.example:{}/", executor.port());
        assert_eq!(put(&app, &url).await.status, 201);
        leads.now_to([127, 0, 0, 1]);
        let id = app.enqueue("a.b").await.id;
        let reason = hold(&app).await;
        assert!(reason.contains("127.0.0.1 is not in executor_hosts_allowed"), "{reason}");
        let task = app.task(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Ready, 0), "{task:?}");
        assert!(executor.calls().is_empty());
    }

    async fn the_list_holds_for_what_was_registered_before_it(app: App) {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let app = app.start();
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        app.end(id).await;
        let mut app = app.stop().await;
        app.config.executor_hosts_allowed = vec!["*.obs.example".to_owned()];
        let app = app.start();
        let id = app.enqueue("a.b").await.id;
        let reason = hold(&app).await;
        assert!(reason.contains("not in executor_hosts_allowed"), "{reason}");
        assert_eq!(app.task(id).await.attempts, 0);
        assert_eq!(executor.calls().len(), 1);
    }

    async fn secrets_are_encrypted_where_they_are_stored(app: App) {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let mut app = app;
        app.config.secrets_key = Some(Hidden::new(KEY));
        let app = app.start();
        let two = |r: &mut nightshift_client::types::ExecutorRequest| {
            r.previous_secret = Some(OLD_SECRET.to_owned());
        };
        app.register_as("exec", &executor, two).await;
        let (secret, previous) = stored(&app.database_url());
        for text in [secret.unwrap(), previous.unwrap()] {
            assert!(text.starts_with("enc1:") && !text.contains("whsec"), "{text}");
        }
        app.run_barrier().await;
        let call = executor.called(1).await.remove(0);
        assert!(signed_with(&call, SECRET) && signed_with(&call, OLD_SECRET));
        for path in ["/executors", "/executors/exec"] {
            let text = app.send(app.request("GET", path)).await.text;
            assert!(text.contains("exec") && !text.contains("whsec_") && !text.contains("enc1:"));
        }
        // Without the key, and with another one, nothing starts.
        let mut app = app.stop().await;
        app.config.secrets_key = None;
        let error = app.start_error();
        assert!(error.contains("executor exec") && error.contains("secrets_key"), "{error}");
        app.config.secrets_key = Some(Hidden::new(NEW_KEY));
        let error = app.start_error();
        assert!(error.contains("executor exec") && error.contains("secrets_key"), "{error}");
        assert!(!format!("{:?}", app.config).contains(NEW_KEY));
    }

    async fn the_start_encrypts_what_is_plain_or_under_an_old_key(app: App) {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let app = app.start();
        app.register(&executor).await;
        let url = app.database_url();
        assert_eq!(stored(&url), (Some(SECRET.to_owned()), None), "as it is, without a key");
        let mut app = app.stop().await;
        app.config.secrets_key = Some(Hidden::new(KEY));
        let app = app.start();
        let (under_old, _) = stored(&url);
        assert!(under_old.as_ref().unwrap().starts_with("enc1:"));

        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), format!("{NEW_KEY}\n{KEY}\n")).unwrap();
        let mut app = app.stop().await;
        app.config.secrets_key = None;
        app.config.secrets_key_file = Some(keys.path().to_owned());
        let app = app.start();
        assert_ne!(stored(&url).0, under_old);
        // Now the old key may go.
        std::fs::write(keys.path(), NEW_KEY).unwrap();
        let app = app.stop().await.start();
        app.run_barrier().await;
        assert!(signed_with(&executor.called(1).await.remove(0), SECRET));
    }
}
