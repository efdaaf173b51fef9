//! Enqueues a task and waits for what it returns:
//! `cargo run -p nightshift-client --example enqueue -- http://127.0.0.1:8700`

use nightshift_client::{Client, WaitError};

/// Asks whoever serves `sky.add` for the sum of two numbers.
pub async fn sum(client: &Client) -> Result<i64, WaitError> {
    client.enqueue("sky.add").args((2, 40)).label("asked-by", "example").wait().await
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what it is for")]
async fn main() -> Result<(), WaitError> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8700".to_owned());
    println!("{}", sum(&Client::new(&server)?).await?);
    Ok(())
}
