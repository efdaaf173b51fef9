//! Text from elsewhere, as it may be shown to people.

use std::{borrow::Cow, fmt::Write};

/// The text on one line, with whatever a terminal would act on, or would not show, written out as
/// JSON would: executors, workers and plugins choose what they say.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || is_hidden(c))
}

/// The same with its line ends. Of a JSON text it is one that says the same: hidden text can
/// only stand in its strings.
pub(super) fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// Text that was put together here, of which a terminal may act on colours only.
pub(super) fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(start);
        let (code, after) = from.split_at(colour_length(from).unwrap_or(0));
        shown.push_str(&visible_lines(before));
        shown.push_str(code);
        rest = after;
        if code.is_empty() {
            shown.push_str("\\u001b");
            rest = after.strip_prefix('\u{1b}').unwrap_or(after);
        }
    }
    shown.push_str(&visible_lines(rest));
    shown
}

/// How long the sequence is with which a text begins, if it only changes colours: `ESC [ 3 1 m`.
fn colour_length(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    numbers.get(end..)?.starts_with('m').then_some(end + 3)
}

/// Controls, and what changes the direction of text or takes no room.
fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if hidden(c) => shown.push_str("\\n"),
            _ if hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(shown, "\\u{unit:04x}").expect("a String takes everything");
                }
            }
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::{coloured, visible, visible_lines};

    #[test]
    fn what_a_terminal_would_act_on_is_written_out() {
        for (text, shown) in [
            ("plain ü 🔭\ttab", "plain ü 🔭\ttab"),
            ("\u{1b}[2J\u{7}\r\u{9b}31m", "\\u001b[2J\\u0007\\u000d\\u009b31m"),
            ("a\nb", "a\\nb"),
            ("photo\u{202e}gnp.exe", "photo\\u202egnp.exe"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("a\n\u{1b}"), "a\n\\u001b");
    }

    #[test]
    fn json_says_the_same_as_before() {
        let text = serde_json::to_string("\u{1b}\u{9b}\u{202e}\u{e0041}\n").unwrap();
        let shown = visible_lines(&text);
        assert!(shown.is_ascii(), "{shown}");
        let read = |text: &str| serde_json::from_str::<String>(text).unwrap();
        assert_eq!(read(&shown), read(&text));
    }

    #[test]
    fn colours_stay_and_nothing_else() {
        let text = "\u{1b}[38;5;10mok\u{1b}[39m \u{1b}]0;title\u{7} \u{1b}[2J\u{1b}";
        let shown = "\u{1b}[38;5;10mok\u{1b}[39m \\u001b]0;title\\u0007 \\u001b[2J\\u001b";
        assert_eq!(coloured(text), shown);
    }
}
