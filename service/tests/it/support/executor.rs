//! An HTTP executor that records its calls and answers what the test says, byte for byte.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use nightshift_client::types::ExecuteMessage;
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use super::soon;

/// One request that the executor got.
#[derive(Clone, Debug)]
pub struct Call {
    pub headers: HashMap<String, String>,
    pub body: String,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Call {
    pub fn message(&self) -> ExecuteMessage {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn is_cancel(&self) -> bool {
        self.body.contains(r#""type":"task.cancel""#)
    }
}

/// What the executor does with a request.
pub enum Reply {
    /// Status, header lines, body.
    Answer(u16, &'static str, String),
    /// These bytes, and then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, and then nothing until the service closes the connection.
    RawThenHang(Vec<u8>),
    /// Nothing, until the service closes the connection.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Another reply, once the gate opens.
    Later(Arc<Semaphore>, Box<Reply>),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer(status, "", String::new())
    }

    pub fn ok(json: &str) -> Self {
        Self::Answer(200, "", json.to_owned())
    }

    pub fn with(status: u16, json: &str) -> Self {
        Self::Answer(status, "", json.to_owned())
    }
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

/// The executor; it stops when it is dropped.
pub struct TestExecutor {
    port: u16,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

struct Seen {
    script: Box<Script>,
    calls: Mutex<Vec<Call>>,
    count: watch::Sender<usize>,
    /// Connections that the service closed while it waited for an answer.
    hung_up: watch::Sender<usize>,
    connections: Mutex<usize>,
    open: Mutex<(usize, usize)>,
}

impl TestExecutor {
    /// Answers each `task.execute` with what the script says; a `task.cancel` gets a 204.
    pub async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen {
            script: Box::new(script),
            calls: Mutex::new(Vec::new()),
            count: watch::Sender::new(0),
            hung_up: watch::Sender::new(0),
            connections: Mutex::new(0),
            open: Mutex::new((0, 0)),
        });
        let accepting = {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let seen = Arc::clone(&seen);
                    connections.spawn(async move { seen.serve(stream).await });
                }
            })
        };
        Self { port, seen, accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/tasks", self.port)
    }

    /// All calls so far, `task.cancel` among them.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().unwrap().clone()
    }

    /// The executions so far.
    pub fn executions(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| !call.is_cancel()).collect()
    }

    /// The calls, once there are so many.
    pub async fn called(&self, times: usize) -> Vec<Call> {
        let mut count = self.seen.count.subscribe();
        soon("a call of the executor", count.wait_for(|count| *count >= times)).await.unwrap();
        self.calls()
    }

    /// The n-th execution (from 1), once it came.
    pub async fn called_for_execution(&self, n: usize) -> Call {
        let mut count = self.seen.count.subscribe();
        soon("an execution", async {
            loop {
                count.borrow_and_update();
                if let Some(call) = self.nth_execution(n) {
                    return call;
                }
                count.changed().await.unwrap();
            }
        })
        .await
    }

    fn nth_execution(&self, n: usize) -> Option<Call> {
        let calls = self.seen.calls.lock().unwrap();
        calls.iter().filter(|call| !call.is_cancel()).nth(n - 1).cloned()
    }

    /// Returns once the service has closed so many connections on which it waited.
    pub async fn hung_up(&self, times: usize) {
        let mut count = self.seen.hung_up.subscribe();
        soon("closing a connection", count.wait_for(|count| *count >= times)).await.unwrap();
    }

    /// The most calls that were open at the same time.
    pub fn most_at_once(&self) -> usize {
        self.seen.open.lock().unwrap().1
    }
}

impl Drop for TestExecutor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Seen {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let connection = {
            let mut connections = self.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        };
        let mut stream = BufReader::new(stream);
        while let Some(call) = read(&mut stream, connection).await {
            let reply = if call.is_cancel() { Reply::status(204) } else { (self.script)(&call) };
            let counts = !call.is_cancel();
            self.calls.lock().unwrap().push(call);
            self.opened(counts);
            self.count.send_modify(|count| *count += 1);
            let goes_on = self.reply(&mut stream, reply).await;
            self.closed(counts);
            if !goes_on {
                return;
            }
        }
    }

    fn opened(&self, counts: bool) {
        let mut open = self.open.lock().unwrap();
        open.0 += usize::from(counts);
        open.1 = open.1.max(open.0);
    }

    fn closed(&self, counts: bool) {
        self.open.lock().unwrap().0 -= usize::from(counts);
    }

    async fn reply(&self, stream: &mut BufReader<TcpStream>, mut reply: Reply) -> bool {
        loop {
            match reply {
                Reply::Later(gate, then) => {
                    tokio::select! {
                        opened = gate.acquire() => opened.unwrap().forget(),
                        () = until_closed(stream) => {
                            self.hung_up.send_modify(|count| *count += 1);
                            return false;
                        }
                    }
                    reply = *then;
                }
                Reply::Hang => {
                    until_closed(stream).await;
                    self.hung_up.send_modify(|count| *count += 1);
                    return false;
                }
                Reply::RawThenHang(bytes) => {
                    stream.get_mut().write_all(&bytes).await.ok();
                    reply = Reply::Hang;
                }
                Reply::Close => return false,
                Reply::Raw(bytes) => {
                    stream.get_mut().write_all(&bytes).await.ok();
                    return false;
                }
                Reply::Answer(status, headers, body) => {
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}\
                         content-length: {length}\r\n\r\n{body}"
                    );
                    return stream.get_mut().write_all(answer.as_bytes()).await.is_ok();
                }
            }
        }
    }
}

async fn until_closed(stream: &mut BufReader<TcpStream>) {
    let mut byte = [0];
    while matches!(stream.read(&mut byte).await, Ok(read) if read > 0) {}
}

async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Call> {
    let mut headers = HashMap::new();
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Call { headers, body: String::from_utf8(body).unwrap(), connection })
}

/// Whether the call of this body is signed by the secret.
pub fn verify(call: &Call, secret: &str, body: &str) -> bool {
    let headers = call.headers.iter().map(|(name, value)| {
        (name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap())
    });
    Webhook::new(secret).unwrap().verify(body.as_bytes(), &headers.collect()).is_ok()
}
