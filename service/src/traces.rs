//! Traces for an OTLP receiver: spans for the waiting and the attempts of a task, in the trace of
//! the request that enqueued it.
//!
//! A thread of its own sends the spans from a bounded queue. If the receiver is slow or away, spans
//! are dropped, and nothing else suffers. No span holds arguments, results, error texts or secrets.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
pub use opentelemetry::trace::SpanKind;
use opentelemetry::{
    Context, Key, KeyValue, Value,
    trace::{
        Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span as SdkSpan,
        SpanData,
    },
};

use crate::domain::{Timestamp, executor::Executor, lease::Assignment, task::Task};

/// Spans that may wait to be sent. If there are more, the newest are dropped.
const SPANS_MAX: usize = 8_192;
/// How long the receiver may take to answer one request with spans.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stopping service waits until the last spans are sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes spans, or none if there is no receiver.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    to: Option<(SdkTracerProvider, SdkTracer)>,
}

impl Traces {
    /// Sends spans to the OTLP receiver at this URL (`http://HOST:4318`), if there is one.
    pub fn new(endpoint: Option<&str>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else {
            return Ok(Self::default());
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(SEND_TIMEOUT)
            .build()
            .context("traces cannot be sent to otlp_endpoint")?;
        let bounds = BatchConfigBuilder::default().with_max_queue_size(SPANS_MAX).build();
        let exporter = SaidOnce { exporter, away: AtomicBool::new(false) };
        let sending = BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(sending)
            .with_resource(resource())
            .build();
        let tracer = provider.tracer("nightshift");
        Ok(Self { to: Some((provider, tracer)) })
    }

    /// Begins a span. Its parent is the span in `parent`, a `traceparent`; without one, it begins a
    /// new trace.
    pub fn begin(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<&str>,
        at: Timestamp,
    ) -> Span {
        let Some((_, tracer)) = &self.to else {
            return Span(None);
        };
        let parent = match parent.and_then(context) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(system_time(at));
        Span(Some(Box::new(builder.start_with_context(tracer, &parent))))
    }

    /// Makes the span of the task's waiting, which is over now that its attempt begins.
    pub fn waited(&self, assignment: &Assignment, executor: &Executor) {
        let task = &assignment.task;
        let begun = task.times.last_attempted_at.unwrap_or(task.times.enqueued_at);
        let since = task.due_at.max(task.times.enqueued_at).min(begun);
        let mut span =
            self.begin("waiting", SpanKind::Internal, assignment.traceparent.as_deref(), since);
        span.describe(task);
        span.set("executor.name", executor.registration.name.to_string());
        span.end(begun);
    }

    /// Sends the spans that are left.
    pub async fn stop(self) {
        let Some((provider, _)) = self.to else { return };
        let flush = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        match tokio::task::spawn_blocking(flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last spans could not be sent"
            ),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "sending spans panicked");
            }
        }
    }
}

/// The resource that the spans belong to: `nightshift`, unless `OTEL_SERVICE_NAME` or
/// `OTEL_RESOURCE_ATTRIBUTES`, which the library reads, have another name.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let found = || Resource::builder().with_attribute(version.clone());
    let name = found().build().get(&Key::new("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return found().build();
    }
    found().with_service_name("nightshift").build()
}

/// A span, or none if there is no receiver. If it is dropped, it ends at that moment.
#[derive(Debug)]
pub struct Span(Option<Box<SdkSpan>>);

impl Span {
    /// The `traceparent` that makes other spans children of this one.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.as_ref()?.span_context();
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        Some(format!("00-{trace}-{span}-{flags:02x}"))
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Adds the attributes that name the task.
    pub fn describe(&mut self, task: &Task) {
        if self.0.is_none() {
            return;
        }
        self.set("task.id", task.id.to_string());
        self.set("task.path", task.content.task_path.to_string());
        self.set("queue.name", task.content.queue_name.to_string());
    }

    /// Marks the span as failed.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(""));
        }
    }

    pub fn end(self, at: Timestamp) {
        if let Some(mut span) = self.0 {
            span.end_with_timestamp(system_time(at));
        }
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_microsecond()).unwrap_or(0))
}

/// The span that a valid `traceparent` names.
fn context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    Some(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

/// Logs once when the receiver cannot be reached, and once when it can be again.
#[derive(Debug)]
struct SaidOnce {
    exporter: SpanExporter,
    away: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for SaidOnce {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(spans).await;
        let was_away = self.away.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_away => tracing::warn!(
                error = error as &dyn std::error::Error,
                "spans cannot be sent; they are dropped until they can"
            ),
            Ok(()) if was_away => tracing::info!("spans can be sent again"),
            Ok(()) | Err(_) => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
