//! The steps that a task has taken, as a text that is short enough to be rewritten with each step.
//!
//! A step is written as `LETTER ATTEMPT @ MICROSECONDS` without spaces, such as
//! `s1@1764000000000001`; steps are separated by spaces, and `+N` at the start counts older steps
//! that were dropped.

use super::{Timestamp, state::Stage};

/// How many steps of one task are kept; when there would be more, the older half is dropped.
pub const STEPS_MAX: usize = 100;

/// The kinds of steps that a task can take after it was enqueued. The letters of `ALL` are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    Started,
    /// An attempt failed, and another one follows.
    AttemptFailed,
    /// An attempt did not begin, or was given back.
    Released,
    CancelRequested,
    Ended(Stage),
    Retried,
}

impl StepKind {
    const ALL: [(Self, char); 8] = [
        (Self::Started, 's'),
        (Self::AttemptFailed, 'f'),
        (Self::Released, 'r'),
        (Self::CancelRequested, 'c'),
        (Self::Ended(Stage::Successful), 'S'),
        (Self::Ended(Stage::Failed), 'F'),
        (Self::Ended(Stage::Cancelled), 'C'),
        (Self::Retried, 'a'),
    ];

    fn letter(self) -> Option<char> {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map(|(_, letter)| *letter)
    }

    fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == letter).map(|(kind, _)| *kind)
    }

    /// Whether the attempt is over after this step.
    pub fn ends_attempt(self) -> bool {
        match self {
            Self::AttemptFailed | Self::Released | Self::Ended(_) => true,
            Self::Started | Self::CancelRequested | Self::Retried => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    pub attempt: u32,
    pub at: Timestamp,
}

/// A task's steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many older steps were dropped.
    pub dropped: u64,
    pub steps: Vec<Step>,
}

impl History {
    /// Reads a text that [`History::note`] has written. `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut history = Self::default();
        for word in text.split_ascii_whitespace() {
            if let Some(dropped) = word.strip_prefix('+') {
                history.dropped = dropped.parse().ok()?;
                continue;
            }
            let mut letters = word.chars();
            let kind = StepKind::from_letter(letters.next()?)?;
            let (attempt, at) = letters.as_str().split_once('@')?;
            let at = Timestamp::from_microsecond(at.parse().ok()?).ok()?;
            history.steps.push(Step { kind, attempt: attempt.parse().ok()?, at });
        }
        Some(history)
    }

    /// Adds a step to the text of a history.
    pub fn note(text: &mut String, step: Step) {
        if text.bytes().filter(|byte| *byte == b'@').count() >= STEPS_MAX {
            *text = Self::halved(text);
        }
        if let Some(letter) = step.kind.letter() {
            let space = if text.is_empty() { "" } else { " " };
            let at = step.at.as_microsecond();
            text.extend([space, &format!("{letter}{}@{at}", step.attempt)]);
        }
    }

    /// The text without the older half of its steps.
    fn halved(text: &str) -> String {
        let mut history = Self::parse(text).unwrap_or_default();
        let gone = history.steps.len() / 2;
        let mut shorter = format!("+{}", history.dropped + gone as u64);
        for step in history.steps.drain(gone..) {
            Self::note(&mut shorter, step);
        }
        shorter
    }
}

#[cfg(test)]
mod tests {
    use super::{History, STEPS_MAX, Stage, Step, StepKind, Timestamp};

    fn step(kind: StepKind, attempt: u32) -> Step {
        Step { kind, attempt, at: Timestamp::from_microsecond(1_764_000_000_000_001).unwrap() }
    }

    #[test]
    fn what_was_noted_is_read_again() {
        let steps: Vec<Step> = StepKind::ALL.iter().map(|(kind, _)| step(*kind, 7)).collect();
        let mut text = String::new();
        for noted in &steps {
            History::note(&mut text, *noted);
        }
        assert_eq!(History::parse(&text), Some(History { dropped: 0, steps }));
        assert_eq!(History::parse(""), Some(History::default()));
        assert_eq!(History::parse("x1@2"), None);
    }

    #[test]
    fn b39_a_history_is_bounded_and_counts_what_it_has_forgotten() {
        let mut text = String::new();
        for attempt in 0..1_000 {
            History::note(&mut text, step(StepKind::Started, attempt));
        }
        History::note(&mut text, step(StepKind::Ended(Stage::Failed), 1_000));
        let history = History::parse(&text).unwrap();
        assert!(history.steps.len() <= STEPS_MAX, "{}", history.steps.len());
        assert_eq!(history.dropped + history.steps.len() as u64, 1_001);
        assert_eq!(history.steps.last(), Some(&step(StepKind::Ended(Stage::Failed), 1_000)));
    }
}
