//! The least that can be called an HTTP executor: it answers everything with the same result.

use std::time::Duration;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::work::RESULT;

pub(crate) struct Executor {
    port: u16,
    calls: watch::Receiver<u64>,
    accepting: JoinHandle<()>,
}

pub(crate) async fn start() -> anyhow::Result<Executor> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (count, calls) = watch::channel(0);
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                // A connection that broke is the service's business.
                serve(stream, count).await.ok();
            });
        }
    });
    Ok(Executor { port, calls, accepting })
}

impl Executor {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Returns once it was called so often.
    pub(crate) async fn called(&self, times: u64) -> anyhow::Result<()> {
        let mut calls = self.calls.clone();
        let all = calls.wait_for(|calls| *calls >= times);
        tokio::time::timeout(Duration::from_mins(5), all).await.context("calls are missing")??;
        Ok(())
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, count: watch::Sender<u64>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{RESULT}",
        RESULT.len()
    );
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        count.send_modify(|calls| *calls += 1);
        stream.write_all(answer.as_bytes()).await?;
    }
}
