//! What arrives where plugins send requests, byte by byte.

use std::sync::{Arc, Mutex};

use nightshift_guests as guests;
use nightshift_sandbox::{Ending, Grants, Plugin, Run, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Anywhere, guest, run, sandbox};

/// Answers whatever looks like the end of a request's head, and keeps what each connection sent.
struct Server {
    authority: String,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<String>>>;

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let heard = Heard::default();
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut heard = hearing.lock().unwrap();
                    heard.push(String::new());
                    heard.len() - 1
                };
                tokio::spawn(serve(stream, Arc::clone(&hearing), number));
            }
        });
        Self { authority, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, heard: Heard, number: usize) {
    let mut answered = 0;
    let mut bytes = [0; 4_096];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        let heads = {
            let mut heard = heard.lock().unwrap();
            let heard = heard.get_mut(number).unwrap();
            heard.push_str(std::str::from_utf8(bytes.get(..read).unwrap()).unwrap());
            heard.matches("\r\n\r\n").count()
        };
        for _ in answered..heads {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
        answered = heads;
    }
}

fn requests(heard: &str) -> usize {
    heard.matches("HTTP/1.1\r\n").count()
}

fn asks(executor: &str, task: &str, args: &str) -> Run {
    let grants = Grants { http: Some(Arc::new(Anywhere)), ..Grants::default() };
    Run { executor: executor.to_owned(), grants, ..run(task, args) }
}

async fn fetched(sandbox: &Sandbox, plugin: &Plugin, run: Run) -> String {
    let ending = sandbox.run(plugin, run).await;
    let Ending::Returned(value) = ending else { panic!("{ending:?}") };
    value
}

#[tokio::test]
async fn no_executor_uses_the_connection_of_another() {
    let server = Server::start().await;
    let sandbox = sandbox();
    let plugin = guest(&sandbox);
    for executor in ["a", "b", "a", "b"] {
        let url = format!(r#"["http://{}/{executor}"]"#, server.authority);
        let answer = fetched(&sandbox, &plugin, asks(executor, "outside", &url)).await;
        assert_eq!(answer, r#""reached""#);
    }
    let heard = server.heard();
    assert_eq!(heard.iter().map(|heard| requests(heard)).sum::<usize>(), 4);
    for heard in heard {
        assert!(!(heard.contains("GET /a ") && heard.contains("GET /b ")), "{heard}");
    }
}

#[tokio::test]
async fn who_promises_a_body_to_fetch_sends_nothing() {
    let server = Server::start().await;
    let sandbox = sandbox();
    let url = format!(r#"["http://{}/"]"#, server.authority);
    let answer = fetched(&sandbox, &guest(&sandbox), asks("a", "bodiless", &url)).await;
    assert_eq!(answer, r#""invalid""#);
    assert_eq!(server.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn wasi_http_sends_bodies_as_long_as_promised_or_breaks_off() {
    const REQUEST_BODY_SIZE: &str = "27";
    let server = Server::start().await;
    let sandbox = sandbox();
    let plugin = sandbox.load(&guests::wasi()).unwrap();
    let args = format!(r#"["{}"]"#, server.authority);
    let posts = |task| fetched(&sandbox, &plugin, asks("a", task, &args));
    assert_eq!(posts("bodiless").await, REQUEST_BODY_SIZE);
    assert_eq!(server.heard(), Vec::<String>::new());

    // The answer may come before the body breaks off, or not.
    posts("truncated").await;
    assert_eq!(posts("honest").await, "0");
    let heard = server.heard();
    assert!(heard.iter().all(|heard| requests(heard) <= 1), "one came after a body: {heard:?}");
    let honest = heard.last().unwrap();
    assert!(honest.starts_with("POST / HTTP/1.1\r\n"), "{honest}");
    assert!(honest.contains("\r\ncontent-length: 5\r\n"), "{honest}");
    assert!(honest.contains(&format!("\r\nhost: {}\r\n", server.authority)), "{honest}");
    assert!(honest.ends_with("\r\n\r\nhello"), "{honest}");
}

#[tokio::test]
async fn wasi_http_chooses_no_host_but_the_granted_one() {
    const FORBIDDEN: &str = "11";
    let server = Server::start().await;
    let sandbox = sandbox();
    let plugin = sandbox.load(&guests::wasi()).unwrap();
    let posts = |task, args: String| {
        let run = asks("a", task, &args);
        let (sandbox, plugin) = (&sandbox, &plugin);
        async move { fetched(sandbox, plugin, run).await }
    };
    assert_eq!(posts("xhost", "[]".to_owned()).await, FORBIDDEN);
    let disguised = format!(r#"["intranet.example:80@{}"]"#, server.authority);
    assert_eq!(posts("honest", disguised).await, "0");
    let heard = server.heard().concat();
    assert!(heard.contains(&format!("\r\nhost: {}\r\n", server.authority)), "{heard}");
    assert!(!heard.contains("intranet"), "{heard}");
}
