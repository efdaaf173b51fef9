use std::sync::Arc;

use super::limits::JSON_DEPTH_MAX;

/// Text that is known to be one JSON value of bounded depth; never parsed into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

/// Nested deeper than [`JSON_DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl JsonText {
    /// Takes the text of one JSON value that a parser has already accepted.
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

/// Counts open brackets outside strings. In valid JSON a quote inside a string is escaped, so
/// one flag and one look at the byte before are enough.
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

#[cfg(test)]
mod tests {
    use super::{JsonText, TooDeep, depth};

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
