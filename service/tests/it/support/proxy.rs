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
    /// Lets the next COMMIT through to the database, but not the answer; then it passes again.
    LoseNextCommit,
    /// Keeps connections open, but lets nothing through.
    BlackHole,
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

    pub fn port(&self) -> u16 {
        self.port
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

async fn carry(client: TcpStream, server: TcpStream, mode: Arc<watch::Sender<Mode>>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Set when this connection's next answer is to be lost.
    let losing = Arc::new(Mutex::new(false));
    let mut modes = mode.subscribe();
    tokio::select! {
        () = pump(from_client, to_server, Arc::clone(&mode), Arc::clone(&losing), true) => {}
        () = pump(from_server, to_client, Arc::clone(&mode), losing, false) => {}
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: Arc<watch::Sender<Mode>>,
    losing: Arc<Mutex<bool>>,
    asks: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..length];
        let mut modes = mode.subscribe();
        if modes.wait_for(|mode| *mode != Mode::BlackHole).await.is_err() {
            return;
        }
        let commits = asks && chunk.windows(6).any(|window| window == b"COMMIT");
        if commits && *mode.borrow() == Mode::LoseNextCommit {
            *losing.lock().unwrap() = true;
        }
        if !asks && *losing.lock().unwrap() {
            // The database has answered, so it has committed.
            mode.send_replace(Mode::Pass);
            return;
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}
