//! `wasi:http/outgoing-handler`, with the same connections and rules as `fetch`.

use std::sync::Arc;

use http::{HeaderMap, header};
use http_body_util::{BodyDataStream, BodyExt};
use reqwest::{Client, Request, Url};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{
    limiter::Charge,
    network::{Door, cause, is_for_proxies, is_of_the_connection, root},
};

/// Bytes of a request's body that are buffered until they are sent.
const BODY_CHUNK_BYTES: usize = 16 * 1024;
/// The most bytes that the headers of one request or answer may have.
pub(crate) const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Bytes that an exchange counts against the run's memory: for data that the connection reads
/// ahead, and data that waits to be sent.
const EXCHANGE_BYTES: usize = 512 * 1024;

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Door {
    /// Unlike with `fetch`, a plugin may set `Content-Length`, since the libraries of its language
    /// do. Wasmtime enforces it: it refuses a longer body, and breaks off a request with a shorter
    /// one, together with its connection.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| is_of_the_connection(name) && *name != header::CONTENT_LENGTH)
    }

    /// `Host` is derived from the granted address, as for `fetch`. Wasmtime would derive it from
    /// the whole authority, in which a user name may look like another host.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let admitted = self.admit(&request);
        Box::new(async move {
            let (client, held) = admitted?;
            let sending = client.execute(outgoing(request)?);
            let limit = options.and_then(|options| options.first_byte_timeout);
            let response = match limit {
                None => sending.await,
                Some(limit) => tokio::time::timeout(limit, sending)
                    .await
                    .map_err(|_elapsed| Error::ConnectionReadTimeout)?,
            };
            let response = http::Response::from(response.map_err(|error| wasi_error(&error))?);
            let bytes = header_bytes(response.headers());
            if bytes > HEADER_BYTES_MAX {
                return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(bytes).ok()));
            }
            let response = response.map(|body| {
                let frames = body.map_err(|error| wasi_error(&error)).map_frame(move |frame| {
                    // The exchange counts as long as its body can be read.
                    let _held = &held;
                    frame
                });
                frames.boxed_unsync()
            });
            let nothing_more: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing_more))
        })
    }
}

impl Door {
    /// Checks a request, and returns the client to send it and its charge against the run's memory.
    fn admit(&self, request: &http::Request<WasiBody>) -> Result<(Client, Charge), Error> {
        let url = Url::parse(&request.uri().to_string()).ok();
        if !url.is_some_and(|url| self.may_reach(&url)) {
            return Err(Error::HttpRequestDenied);
        }
        if is_for_proxies(request.method()) {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let client = self.quarters.network.client().map_err(|error| wasi_error(&error))?;
        let held = self.budget.charge(EXCHANGE_BYTES).ok_or_else(|| {
            let why = "the run has not the memory for another request: memory_mib";
            Error::InternalError(Some(why.to_owned()))
        })?;
        Ok((client, held))
    }
}

fn outgoing(request: http::Request<WasiBody>) -> Result<Request, Error> {
    let request = request.map(|body| reqwest::Body::wrap_stream(BodyDataStream::new(body)));
    Request::try_from(request).map_err(|error| wasi_error(&error))
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn wasi_error(error: &reqwest::Error) -> Error {
    if cause(error).is_some() {
        return Error::DestinationIpProhibited;
    }
    if error.is_timeout() {
        return Error::ConnectionTimeout;
    }
    if error.is_connect() {
        return Error::ConnectionRefused;
    }
    Error::InternalError(Some(root(error)))
}
