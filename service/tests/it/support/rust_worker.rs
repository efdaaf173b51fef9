use std::sync::Arc;

use nightshift_client::{
    Client, Result,
    types::{ExecutorRequest, TaskRequest},
    worker::{Context, Failure, Stop, Worker},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

use super::soon;

/// A worker that runs beside the test.
pub struct Running {
    pub stop: Stop,
    pub ended: JoinHandle<Result<()>>,
}

impl Running {
    pub fn start(worker: Worker) -> Self {
        let stop = Stop::default();
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { worker.run_until(&stop).await }
        });
        Self { stop, ended }
    }

    pub async fn ended(self) -> Result<()> {
        soon("the end of a worker", self.ended).await.unwrap()
    }

    pub async fn drain(self) {
        self.stop.drain();
        self.ended().await.unwrap();
    }
}

/// Registered with leases that are looked after every third of a second.
pub fn worker(client: &Client) -> Worker {
    let request = ExecutorRequest { lease_seconds: Some(1), ..ExecutorRequest::default() };
    Worker::new(client.clone(), "rust").register_as(request)
}

pub fn once(path: &str) -> TaskRequest {
    TaskRequest { max_attempts: Some(1), ..TaskRequest::new(path) }
}

/// Tells when a function that holds it is dropped.
pub struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(()).ok();
        }
    }
}

/// A function that never ends by itself; how often it began, and the end of its first run.
pub fn endless()
-> (impl Fn(Context, ()) -> Endless + Send + Sync, Arc<Semaphore>, oneshot::Receiver<()>) {
    let begun = Arc::new(Semaphore::new(0));
    let (sender, dropped) = oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let function = {
        let begun = Arc::clone(&begun);
        move |_: Context, (): ()| -> Endless {
            let dropped = Dropped(sender.lock().unwrap().take());
            begun.add_permits(1);
            Box::pin(async move {
                let _dropped = dropped;
                std::future::pending().await
            })
        }
    };
    (function, begun, dropped)
}

pub type Endless = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

pub async fn begun(semaphore: &Semaphore) {
    soon("the start of a function", semaphore.acquire()).await.unwrap().forget();
}
