//! A service that answers what the test says, byte for byte.

use nightshift_client::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// Breaks the connection off instead of answering.
pub const BREAK: &str = "";

/// A client of a service that gives these answers, each on a connection of its own, and then is
/// there no more; and what it was asked.
pub async fn server(
    answers: impl IntoIterator<Item = &'static str>,
) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let answers: Vec<&str> = answers.into_iter().collect();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // All requests here are small, and end with their head or with a JSON object.
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            requests.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (client, served)
}
