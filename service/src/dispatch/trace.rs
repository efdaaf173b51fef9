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

/// The spans of one attempt: of all of it, and of the call within.
#[derive(Debug)]
pub(super) struct AttemptTrace {
    attempt: Span,
    call: Option<Span>,
}

impl AttemptTrace {
    /// From here on the assignment names the call's span, so that what the executor does is below it.
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

    /// The executor answered, or nobody waits for it any more.
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

    /// The end of the attempt is recorded.
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
