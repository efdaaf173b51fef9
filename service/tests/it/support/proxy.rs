//! Stands between the service and its database, and breaks what goes through.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// What the proxy does with what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Closes connections, and takes no new ones.
    Cut,
    /// Keeps connections open and takes new ones, but nothing goes through.
    BlackHole,
    /// Lets the COMMIT after this statement through to the database, but not the answer; then it
    /// passes again. Seen only where the statement is sent for the first time on its connection.
    LoseCommitAfter(&'static str),
}

/// A proxy before one address; it stops when it is dropped.
pub struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let accepting = tokio::spawn({
            let mode = Arc::clone(&mode);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let Ok(server) = TcpStream::connect(&target).await else { continue };
                    let mode = Arc::clone(&mode);
                    tokio::spawn(async move { carry(client, server, mode).await });
                }
            }
        });
        Self { port, mode, accepting }
    }

    /// Two proxies before this database, and the address that leads there by way of either.
    pub async fn two_before(url: &str) -> ([Self; 2], String) {
        let (first, to_first) = Self::before(url).await;
        let (second, _) = Self::before(url).await;
        let host = format!("127.0.0.1:{}", first.port);
        let hosts = format!("{host},127.0.0.1:{}", second.port);
        ([first, second], to_first.replace(&host, &hosts) + "&connect_timeout=2")
    }

    /// A proxy before this database, and the address that leads there by way of it. It has to see
    /// what goes through.
    pub async fn before(url: &str) -> (Self, String) {
        let (scheme, rest) = url.split_once('@').unwrap();
        let (target, name) = rest.split_once('/').unwrap();
        let proxy = Self::start(target.to_owned()).await;
        let url = format!("{scheme}@127.0.0.1:{}/{name}?sslmode=disable", proxy.port);
        (proxy, url)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until the commit that was to be lost is.
    pub async fn lost_commit(&self) {
        let mut mode = self.mode.subscribe();
        super::soon("a commit", mode.wait_for(|mode| *mode == Mode::Pass)).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// How far a connection is on the way to losing an answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Losing {
    #[default]
    Nothing,
    NextCommit,
    NextAnswer,
}

async fn carry(client: TcpStream, server: TcpStream, mode: Arc<watch::Sender<Mode>>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let losing = Mutex::new(Losing::default());
    let mut modes = mode.subscribe();
    let asks = |chunk: &[u8]| {
        let has = |text: &str| chunk.windows(text.len()).any(|part| part == text.as_bytes());
        let mut losing = losing.lock().unwrap();
        if let Mode::LoseCommitAfter(statement) = *mode.borrow()
            && has(statement)
        {
            *losing = Losing::NextCommit;
        }
        if *losing == Losing::NextCommit && has("COMMIT") {
            *losing = Losing::NextAnswer;
        }
        true
    };
    // The database has answered, so it has committed.
    let answers = |_: &[u8]| *losing.lock().unwrap() != Losing::NextAnswer;
    tokio::select! {
        () = pump(from_client, to_server, mode.subscribe(), asks) => {}
        () = pump(from_server, to_client, mode.subscribe(), answers) => {}
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
    }
    if *losing.lock().unwrap() == Losing::NextAnswer {
        mode.send_replace(Mode::Pass);
    }
}

/// Passes on what `passes` lets through, until it does not.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..length];
        if modes.wait_for(|mode| *mode != Mode::BlackHole).await.is_err() {
            return;
        }
        if !passes(chunk) || to.write_all(chunk).await.is_err() {
            return;
        }
    }
}
