use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::BoxFuture;
use nightshift_openapi::Problem;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result, Retry, retry::Repeat};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take, beside the time that the caller asked the service to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a foreign answer that are shown.
const EXCERPT_BYTES_MAX: usize = 200;

/// Speaks to one service. Clones share its connections.
///
/// A call that fails by what passes by itself is made again where that can do no harm; see
/// [`Retry`].
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    retry: Retry,
    /// `Authorization` of each request.
    authorization: Option<HeaderValue>,
    /// Whether the connections are of the caller's making.
    #[cfg_attr(not(feature = "worker"), expect(dead_code, reason = "only workers make more"))]
    foreign: bool,
    /// The Unix socket that they lead to.
    #[cfg_attr(not(feature = "worker"), expect(dead_code, reason = "only workers make more"))]
    socket: Option<PathBuf>,
}

impl Client {
    /// A client of the service at `base`, such as `http://127.0.0.1:8700`; a path in it stays in
    /// front of every route. `unix:/run/nightshift.sock` is a service that listens on a Unix socket.
    ///
    /// # Errors
    /// [`Error::Address`] for what is no http or https address, and no socket.
    pub fn new(base: &str) -> Result<Self> {
        let socket = base.strip_prefix("unix:").filter(|path| !path.is_empty()).map(PathBuf::from);
        let http = connections(socket.as_deref())?;
        let base = if socket.is_some() { "http://localhost" } else { base };
        Ok(Self { foreign: false, socket, ..Self::with_http(base, http)? })
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
        let (retry, authorization, socket) = (Retry::default(), None, None);
        Ok(Self { http, base: url, retry, authorization, foreign: true, socket })
    }

    /// The same client, which makes calls that failed again as `retry` says.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The same client, which shows this token. It is never shown in an error or a log.
    ///
    /// # Errors
    /// [`Error::Token`] for what no header can hold.
    pub fn with_token(self, token: &str) -> Result<Self> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_odd| Error::Token)?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// The same client with connections of its own, for a thread of its own: where it can make
    /// them.
    #[cfg(feature = "worker")]
    pub(crate) fn separate(&self) -> Result<Self> {
        let http =
            if self.foreign { self.http.clone() } else { connections(self.socket.as_deref())? };
        Ok(Self { http, ..self.clone() })
    }

    /// A request to the route with these segments, each encoded as needed.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        // All but POST say what is to be, our PATCH too: said twice, it comes to the same.
        let repeat = if method == Method::POST { Repeat::IfNotBegun } else { Repeat::Always };
        let mut request = self.http.request(method, url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let secret = None;
        Call { request, wait: Duration::ZERO, repeat, retry: self.retry, secret }
    }
}

fn connections(socket: Option<&Path>) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none());
    #[cfg(unix)]
    if let Some(socket) = socket {
        return builder.unix_socket(socket).build();
    }
    builder.build()
}

/// A request that is being put together.
pub(crate) struct Call {
    request: RequestBuilder,
    wait: Duration,
    repeat: Repeat,
    retry: Retry,
    secret: Option<Secret>,
}

/// What an error is not to show, since it may be logged.
enum Secret {
    /// Where the answer is not Nightshift's, this part of the path, which others like to repeat.
    Token(String),
    /// An answer of the service, though it cannot be read.
    Answer,
}

impl Call {
    /// The service may take so much longer to answer.
    pub(crate) fn waiting(mut self, wait: Option<Duration>) -> Self {
        self.wait = wait.unwrap_or_default();
        self
    }

    /// The token of a lease is in its path.
    pub(crate) fn with_secret(self, token: &str) -> Self {
        Self { secret: Some(Secret::Token(token.to_owned())), ..self }
    }

    /// Tokens or secrets are in the answer.
    pub(crate) fn for_secrets(self) -> Self {
        Self { secret: Some(Secret::Answer), ..self }
    }

    /// Whether being carried out twice does no harm, where the method does not say so.
    pub(crate) fn repeatable(mut self, repeatable: bool) -> Self {
        if repeatable {
            self.repeat = Repeat::Always;
        }
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
        let hidden = matches!(self.secret, Some(Secret::Answer));
        let (status, body) = self.answer().await?;
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok((status, answer)),
            Err(source) if hidden => {
                Err(Error::Unreadable { excerpt: format!("({} bytes)", body.len()), source })
            }
            Err(source) => Err(Error::Unreadable { excerpt: excerpt(&body), source }),
        }
    }

    /// For answers that are no JSON.
    pub(crate) async fn send_for_text(self) -> Result<String> {
        let (_, body) = self.answer().await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// For answers without a body that matters.
    pub(crate) async fn send_for_nothing(self) -> Result<()> {
        self.answer().await.map(drop)
    }

    /// The answer, of which the body is still to come, however long that takes.
    pub(crate) async fn open(self) -> Result<Response> {
        accepted(self.request.send().await?).await
    }

    /// On the heap, since the futures of callers are large enough.
    fn answer(self) -> BoxFuture<'static, Result<(StatusCode, Vec<u8>)>> {
        Box::pin(self.ask_until_answered())
    }

    async fn ask_until_answered(self) -> Result<(StatusCode, Vec<u8>)> {
        let Self { request, wait, repeat, retry, secret } = self;
        let mut request = request.timeout(ANSWER_TIMEOUT + wait);
        let mut pauses = retry.pauses();
        loop {
            let again = request.try_clone();
            let error = match answer(request).await {
                Err(error) if repeat.allows(&error) => error,
                answered => return answered.map_err(|error| without(error, secret.as_ref())),
            };
            match (again, pauses.after(&error)) {
                (Some(again), Some(pause)) => {
                    tokio::time::sleep(pause).await;
                    request = again;
                }
                _ => return Err(without(error, secret.as_ref())),
            }
        }
    }
}

fn without(mut error: Error, secret: Option<&Secret>) -> Error {
    if let (Error::Foreign { excerpt, .. }, Some(Secret::Token(token))) = (&mut error, secret) {
        *excerpt = excerpt.replace(token, "...");
    }
    error
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>)> {
    let answer = accepted(request.send().await?).await?;
    Ok((answer.status(), answer.bytes().await?.to_vec()))
}

/// The answer, or the error that it is.
async fn accepted(answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = retry_after(&answer);
    let body = answer.bytes().await?;
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Error::Problem { problem: Box::new(problem), retry_after },
        Err(_) => Error::Foreign { status: status.as_u16(), excerpt: excerpt(&body), retry_after },
    })
}

/// Seconds, or a date, which is taken against the one of the answer: clocks may differ.
fn retry_after(answer: &Response) -> Option<Duration> {
    let header = |name| answer.headers().get(name)?.to_str().ok();
    let date = |text| jiff::fmt::rfc2822::parse(text).ok();
    let asked = header(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let span = date(asked)?.duration_since(&date(header(DATE)?)?);
    Some(Duration::try_from(span).unwrap_or_default())
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..EXCERPT_BYTES_MAX).unwrap_or(body)).into_owned()
}
