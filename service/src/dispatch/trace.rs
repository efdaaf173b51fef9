//! The trace of one attempt: a span for the attempt, and within it a span for the call of the
//! executor or the run of the plugin.

use crate::{
    domain::{
        Timestamp,
        attempt::Outcome,
        executor::{Executor, Target},
        lease::{Assignment, Claimed},
    },
    executor::Answer,
    metrics::outcome_name,
    traces::{Span, SpanKind, Traces},
};

/// The spans of one attempt: one for the attempt, one for the call within it.
#[derive(Debug)]
pub(super) struct AttemptTrace {
    attempt: Span,
    call: Option<Span>,
}

impl AttemptTrace {
    /// Begins both spans. From here on the assignment carries the call's span as `traceparent`, so
    /// that the executor's own spans appear below it.
    pub(super) fn begin(traces: &Traces, claimed: &mut Claimed, now: Timestamp) -> Self {
        let Claimed { assignment, executor, .. } = claimed;
        traces.waited(assignment, executor);
        let begun = assignment.task.times.last_attempted_at.unwrap_or(now);
        let parent = assignment.traceparent.as_deref();
        let mut attempt = traces.begin("attempt", SpanKind::Internal, parent, begun);
        describe(&mut attempt, assignment, executor);
        let (name, kind) = match executor.registration.target {
            Target::Http { .. } | Target::Worker => ("call executor", SpanKind::Client),
            Target::Wasm { .. } => ("run plugin", SpanKind::Internal),
        };
        let mut call = traces.begin(name, kind, attempt.traceparent().as_deref(), now);
        describe(&mut call, assignment, executor);
        if let Some(traceparent) = call.traceparent() {
            assignment.traceparent = Some(traceparent);
        }
        Self { attempt, call: Some(call) }
    }

    /// Ends the call's span: with the executor's answer, or without one if the attempt ended before
    /// it.
    pub(super) fn called(&mut self, answer: Option<&Answer>, now: Timestamp) {
        let Some(mut call) = self.call.take() else { return };
        let (outcome, well) = match answer {
            Some(Answer::Accepted) => ("accepted", true),
            Some(Answer::Ended(outcome)) => {
                (outcome_name(outcome), matches!(outcome, Outcome::Succeeded(_)))
            }
            None => ("given up", false),
        };
        for span in [&mut call, &mut self.attempt] {
            span.set("attempt.outcome", outcome);
            if !well {
                span.fail();
            }
        }
        call.end(now);
    }

    /// Ends the attempt's span, once its end is recorded.
    pub(super) fn end(self, now: Timestamp) {
        self.attempt.end(now);
    }
}

fn describe(span: &mut Span, assignment: &Assignment, executor: &Executor) {
    span.describe(&assignment.task);
    span.set("attempt.number", i64::from(assignment.attempt()));
    span.set("executor.name", executor.registration.name.to_string());
    span.set("executor.kind", executor.registration.target.kind_name());
}
