use std::time::Duration;

use nightshift_openapi::Problem;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take, beside the time that the caller asked the service to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a foreign answer that are shown.
const EXCERPT_BYTES_MAX: usize = 200;

/// Speaks to one service. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// A client of the service at `base`, such as `http://127.0.0.1:8700`; a path in it stays in
    /// front of every route.
    ///
    /// # Errors
    /// [`Error::Address`] for what is no http or https address.
    pub fn new(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()?;
        Self::with_http(base, http)
    }

    /// Like [`Client::new`], over connections of the caller's making.
    ///
    /// # Errors
    /// [`Error::Address`] for what is no http or https address.
    pub fn with_http(base: &str, http: reqwest::Client) -> Result<Self> {
        let address = || Error::Address(base.to_owned());
        let mut url = Url::parse(base).map_err(|_invalid| address())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(address());
        }
        url.path_segments_mut().map_err(|()| address())?.pop_if_empty();
        Ok(Self { http, base: url })
    }

    /// A request to the route with these segments, each encoded as needed.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        Call { request: self.http.request(method, url), wait: Duration::ZERO }
    }
}

/// A request that is being put together.
pub(crate) struct Call {
    request: RequestBuilder,
    wait: Duration,
}

impl Call {
    /// The service may take so much longer to answer.
    pub(crate) fn waiting(mut self, wait: Option<Duration>) -> Self {
        self.wait = wait.unwrap_or_default();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.request = self.request.header(name, value);
        }
        self
    }

    pub(crate) fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.request = self.request.query(&[(name, value.to_string())]);
        }
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.request = self.request.header(CONTENT_TYPE, content_type).body(body);
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(Error::Request)?;
        Ok(self.body("application/json", body))
    }

    /// The answer and its status, or the error that it is.
    pub(crate) async fn send<T: DeserializeOwned>(self) -> Result<(StatusCode, T)> {
        let (status, body) = self.answer().await?;
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok((status, answer)),
            Err(_) => Err(foreign(status, &body)),
        }
    }

    /// For answers without a body that matters.
    pub(crate) async fn send_for_nothing(self) -> Result<()> {
        self.answer().await.map(drop)
    }

    /// The answer, of which the body is still to come, however long that takes.
    pub(crate) async fn open(self) -> Result<Response> {
        let answer = self.request.send().await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer).await?)
    }

    async fn answer(self) -> Result<(StatusCode, Vec<u8>)> {
        let answer = self.request.timeout(ANSWER_TIMEOUT + self.wait).send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok((status, answer.bytes().await?.to_vec()));
        }
        Err(refusal(answer).await?)
    }
}

/// The error that an answer is.
async fn refusal(answer: Response) -> Result<Error> {
    let status = answer.status();
    let retry_after = retry_after(&answer);
    let body = answer.bytes().await?;
    Ok(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Error::Problem { problem: Box::new(problem), retry_after },
        Err(_) => foreign(status, &body),
    })
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn foreign(status: StatusCode, body: &[u8]) -> Error {
    let start = body.get(..EXCERPT_BYTES_MAX).unwrap_or(body);
    let excerpt = String::from_utf8_lossy(start).into_owned();
    Error::Foreign { status: status.as_u16(), excerpt }
}
