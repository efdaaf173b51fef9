//! The problems that operations can answer with, for the OpenAPI document: lists of codes, with an
//! example of each as the service would send it.

use std::{collections::BTreeMap, marker::PhantomData};

use nightshift_openapi::ErrorCode;
use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder,
        example::ExampleBuilder,
        path::Operation,
        schema::{SchemaType, Type},
    },
};

use super::Error;

/// The answers for the codes of `T`, which is one of the lists below or a tuple of them.
pub(super) struct Problems<T>(PhantomData<T>);

pub(super) trait Codes {
    fn codes() -> Vec<ErrorCode>;
}

/// Declares lists of codes.
macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident: $($code:ident)*;)*) => {$(
        $(#[$doc])*
        pub(super) enum $name {}

        impl Codes for $name {
            fn codes() -> Vec<ErrorCode> {
                vec![$(ErrorCode::$code),*]
            }
        }
    )*};
}

lists! {
    /// For operations to which nothing in a request can be wrong.
    Failing: Internal;
    /// For operations that report on the process itself.
    Alive: Unavailable;
    /// For operations that read from the store.
    Stored: Internal Unavailable ShuttingDown;
    /// For operations that write to the store.
    Written: Internal Overloaded Unavailable ShuttingDown;
    /// For all operations: their query parameters are checked, even if there are none.
    Queried: InvalidQuery;
    /// For operations without a body.
    Bodiless: UnexpectedBody;
    /// For operations with a cursor among their query parameters.
    Paged: InvalidCursor;
    /// For operations with a JSON body.
    Sent: MalformedJson BodyTimeout BodyTooLarge UnsupportedMediaType UnsupportedEncoding
        InvalidField Overloaded;
    /// For operations with a JSON body of which a too large part is recorded instead of refused.
    Reported: MalformedJson BodyTimeout UnsupportedMediaType UnsupportedEncoding InvalidField
        Overloaded;
    /// For operations whose body is a component.
    Installed: MalformedJson BodyTimeout BodyTooLarge UnsupportedMediaType UnsupportedEncoding
        InvalidField InvalidPlugin Overloaded;
    /// For operations that read headers.
    Headed: InvalidHeader;
    /// For operations that enqueue tasks: one, or many.
    NewTasks: IdConflict UniqueKeyTaken TooDeep;
    OneTask: IdempotencyMismatch;
    ManyTasks: BatchSize;
    NoSuchTask: TaskNotFound;
    NoSuchExecutor: ExecutorNotFound;
    NoSuchPlugin: PluginNotFound;
    NoSuchQueue: QueueNotFound;
    /// For operations that store one more of a kind whose number is limited.
    Counted: LimitReached;
    InUse: PluginInUse;
    NoSuchToken: TokenNotFound;
    NameTaken: TokenNameTaken;
    LastAdmin: AdminTokenNeeded;
    /// For operations that may require a token.
    Admitted: Unauthorized Forbidden TooManyGuesses;
    NotAWorker: ExecutorNotWorker;
    AttemptOver: LeaseLost;
    HasEnded: TaskFinished;
    HasNotEnded: TaskNotFinished;
    NotRetryable: TaskNotRetryable UniqueKeyTaken;
}

/// Implements `Codes` for tuples of lists.
macro_rules! tuples {
    ($(($($list:ident)*))*) => {$(
        impl<$($list: Codes),*> Codes for ($($list,)*) {
            fn codes() -> Vec<ErrorCode> {
                [$($list::codes()),*].concat()
            }
        }
    )*};
}

tuples! { (A B) (A B C) (A B C D) (A B C D E) }

impl<T: Codes> IntoResponses for Problems<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        by_status(&T::codes())
    }
}

impl<T: Codes> Problems<T> {
    /// Adds the codes to those that an operation answers with already.
    pub(super) fn add_to(operation: &mut Operation) {
        let answers = &mut operation.responses.responses;
        let mut codes = T::codes();
        for answer in answers.values() {
            let RefOr::T(Response { content, .. }) = answer else { continue };
            let examples = content.get(PROBLEM).and_then(|content| match content {
                RefOr::T(content) => Some(&content.examples),
                RefOr::Ref(_) => None,
            });
            let named = |code: &&ErrorCode| {
                examples.is_some_and(|examples| examples.contains_key(code.name()))
            };
            codes.extend(ErrorCode::ALL.iter().filter(named));
        }
        answers.extend(by_status(&codes));
    }
}

fn by_status(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    // In the order of docs/ERRORS.md, each code once.
    for code in ErrorCode::ALL.iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    by_status
        .into_iter()
        .map(|(status, codes)| (status.to_string(), response(&codes).into()))
        .collect()
}

/// The media type of problems.
const PROBLEM: &str = "application/problem+json";

/// The answer for `codes`, which all have the same status.
fn response(codes: &[ErrorCode]) -> Response {
    let words: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.name(), code.title())).collect();
    let examples = codes.iter().map(|code| {
        let problem = serde_json::to_value(example(*code).problem()).unwrap_or_default();
        let example = ExampleBuilder::new().summary(code.title()).value(Some(problem));
        (code.name(), example.build())
    });
    let problem = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    let mut response =
        ResponseBuilder::new().description(words.join("\n\n")).content(PROBLEM, problem);
    if codes.iter().any(|code| matches!(code.status(), 429 | 503)) {
        response = response.header("Retry-After", retry_after());
    }
    if codes.iter().any(|code| code.status() == 401) {
        response = response.header("WWW-Authenticate", www_authenticate());
    }
    if codes.contains(&ErrorCode::UnsupportedEncoding) {
        response = response.header("Accept-Encoding", accept_encoding());
    }
    response.build()
}

fn retry_after() -> Header {
    let seconds = Object::with_type(SchemaType::new(Type::Integer));
    HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait")).build()
}

fn accept_encoding() -> Header {
    let text = Object::with_type(SchemaType::new(Type::String));
    let description = "`identity` after `unsupported_encoding` (RFC 9110)";
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

fn www_authenticate() -> Header {
    let text = Object::with_type(SchemaType::new(Type::String));
    HeaderBuilder::new().schema(Some(text)).description(Some("`Bearer` (RFC 6750)")).build()
}

/// An example of the problem that a client is sent with this code.
fn example(code: ErrorCode) -> Error {
    match code {
        ErrorCode::MalformedJson => of(code, "expected value at line 1 column 16"),
        ErrorCode::InvalidHeader => of(code, "Idempotency-Key needs 1 to 255 characters"),
        ErrorCode::InvalidQuery => of(code, "limit must be 1 to 1000").about("limit"),
        ErrorCode::UnexpectedBody => of(code, "POST /tasks/{id}/cancel takes no body"),
        ErrorCode::InvalidCursor => {
            of(code, "the cursor is not one that an answer held").about("cursor")
        }
        ErrorCode::TaskNotFound => of(code, "no task has this id"),
        ErrorCode::ExecutorNotFound => of(code, "no executor has this name"),
        ErrorCode::PluginNotFound => of(code, "no plugin has this name"),
        ErrorCode::QueueNotFound => of(code, "no queue can have this name"),
        ErrorCode::ExecutorNotWorker => of(code, "the service calls this executor by itself"),
        ErrorCode::TokenNotFound => of(code, "no token has this name"),
        ErrorCode::TokenNameTaken => of(code, "a token has, or had, this name"),
        ErrorCode::AdminTokenNeeded => of(code, "a token of scope admin has to be there"),
        ErrorCode::Unauthorized => of(code, "the request has no token"),
        ErrorCode::Forbidden => of(code, "the token needs the scope admin"),
        ErrorCode::TooManyGuesses => of(code, "too many wrong tokens from this address"),
        ErrorCode::PluginInUse => of(code, "the executor tom runs it"),
        ErrorCode::BodyTimeout => of(code, "the body did not arrive within 30 s"),
        ErrorCode::IdConflict => of(code, "a task with other content has this id").at("/id"),
        ErrorCode::TaskFinished => of(code, "the task ended before it could be cancelled"),
        ErrorCode::TaskNotFinished => of(code, "the task waits or runs"),
        ErrorCode::TaskNotRetryable => of(code, "only a FAILED or CANCELLED task can be retried"),
        ErrorCode::UniqueKeyTaken => of(code, "a waiting or running task has its unique_key"),
        ErrorCode::LeaseLost => of(code, "the lease ran out, or the attempt has ended"),
        ErrorCode::BodyTooLarge => of(code, "the body has more than 4194304 bytes"),
        ErrorCode::UnsupportedMediaType => {
            of(code, "the content type is \"text/plain\", not application/json")
        }
        ErrorCode::UnsupportedEncoding => of(code, "the body is said to be encoded as \"gzip\""),
        ErrorCode::InvalidField => of(code, "priority must be -100 to 100").at("/priority"),
        ErrorCode::TooDeep => of(code, "args is nested more than 128 deep").at("/args"),
        ErrorCode::BatchSize => of(code, "a batch has 1 to 10000 tasks").at("/tasks"),
        ErrorCode::InvalidPlugin => of(code, "the component does not export describe"),
        ErrorCode::IdempotencyMismatch => {
            of(code, "a request with other content had this Idempotency-Key")
        }
        ErrorCode::Internal => of(code, "the cause is in the service's log"),
        ErrorCode::Overloaded => of(code, "too many writes are waiting"),
        ErrorCode::Unavailable => of(code, "the database cannot be used at the moment"),
        ErrorCode::ShuttingDown => of(code, "the service is stopping"),
        ErrorCode::OriginRefused => of(code, "https://a.example is not in cors_origins"),
        ErrorCode::UnknownHost => of(code, "a.example is no name of this service"),
        ErrorCode::UnknownRoute => of(code, "nothing is at /task"),
        ErrorCode::MethodNotAllowed => Error::method_not_allowed("GET, HEAD, DELETE".to_owned()),
        ErrorCode::LimitReached => of(code, "1000 executors are registered, as many as may be"),
        // The list of codes belongs to another crate, and may grow.
        _ => of(code, code.title()),
    }
}

fn of(code: ErrorCode, detail: &str) -> Error {
    Error::new(code, detail)
}
