//! JSON that is kept as text: arguments and return values are checked and passed on, and never
//! built into a tree.

use std::{borrow::Cow, sync::Arc};

use super::limits::JSON_DEPTH_MAX;

/// The text of one valid JSON value that is nested at most [`JSON_DEPTH_MAX`] deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

/// The value is nested deeper than [`JSON_DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl JsonText {
    /// Takes the text of one JSON value that a parser has accepted already; only its depth is
    /// checked.
    pub fn from_valid(text: &str) -> Result<Self, TooDeep> {
        if depth(text) > JSON_DEPTH_MAX {
            return Err(TooDeep);
        }
        Ok(Self(text.into()))
    }

    pub fn null() -> Self {
        Self("null".into())
    }

    pub fn empty_array() -> Self {
        Self("[]".into())
    }

    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The greatest number of brackets that are open at once, outside of strings. The text is valid
/// JSON, where a quote inside a string is escaped, so it is enough to remember whether the scan is
/// inside a string and whether the byte before was an escaping backslash.
fn depth(text: &str) -> usize {
    let (mut deepest, mut open, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Replaces each lone half of a surrogate pair (`\ud800` to `\udfff`) by U+FFFD. JSON may hold such
/// halves, but a Rust string cannot, and one odd character should not lose a whole report.
pub fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let pair = surrogate(escape).zip(escape.get(6..).and_then(surrogate));
        let taken = match (surrogate(escape), pair) {
            (_, Some((0xD800..=0xDBFF, 0xDC00..=0xDFFF))) => 12,
            (Some(_), _) => {
                mended.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // A backslash and the character that it escapes.
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (kept, after) = escape.split_at(taken);
        mended.push_str(kept);
        rest = after;
    }
    if mended.is_empty() {
        return Cow::Borrowed(text);
    }
    mended.push_str(rest);
    Cow::Owned(mended)
}

/// The UTF-16 surrogate whose escape `text` begins with, if it begins with one.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    (0xD800..=0xDFFF).contains(&unit).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::{JsonText, TooDeep, depth, without_lone_surrogates};

    #[test]
    fn only_lone_surrogates_are_replaced() {
        let mended = |text| without_lone_surrogates(text).into_owned();
        assert_eq!(mended(r#""\ud83d\ude80 é \n \\ud800""#), r#""\ud83d\ude80 é \n \\ud800""#);
        assert_eq!(mended(r#""\ud800 \udc00\ud83dx""#), r#""\ufffd \ufffd\ufffdx""#);
        assert_eq!(mended(r#""\ud800\ud83d\ude80""#), r#""\ufffd\ud83d\ude80""#);
        assert_eq!(mended("\\"), "\\");
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"[{"a":[]}]"#), 3);
        assert_eq!(depth(r#"["[[[[", "\"[[", "\\"]"#), 1);
    }

    #[test]
    fn the_limit_is_128() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(JsonText::from_valid(&nested(128)).is_ok());
        assert_eq!(JsonText::from_valid(&nested(129)), Err(TooDeep));
    }
}
