//! A worker in ten lines:
//! `cargo run -p nightshift-client --features worker --example worker -- http://127.0.0.1:8700`

use nightshift_client::{
    Client, Error,
    worker::{Context, Failure, Worker},
};

async fn add(_: Context, (a, b): (i64, i64)) -> Result<i64, Failure> {
    a.checked_add(b).ok_or_else(|| Failure::new("sky.Overflow", "too much").retryable(false))
}

/// What takes the tasks of `sky.add`.
pub fn worker(client: Client) -> Worker {
    Worker::new(client, "sky").task("sky.add", add).register()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8700".to_owned());
    worker(Client::new(&server)?).run().await
}
