//! Patterns of policies: `*` for any text, `?` for one character, and variables (`${aws:username}`).
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>

/// Whether `text` as a whole is what `pattern` describes. Takes at most the product of both lengths in steps.
pub fn matches(pattern: &str, text: &str) -> bool {
    Pattern::literal(pattern).matches(text)
}

/// A pattern whose variables have their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Character(char),
    One,
    Any,
}

impl Pattern {
    /// Without variables.
    pub(super) fn literal(text: &str) -> Self {
        Self(text.chars().map(Self::piece).collect())
    }

    /// With variables, which `value` answers; `None` if one of them has no value, so that nothing matches. What a value holds is
    /// never a wildcard.
    pub(super) fn with_variables(
        text: &str,
        mut value: impl FnMut(&str) -> Option<String>,
    ) -> Option<Self> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, name, after)) = next_variable(rest) {
            pieces.extend(before.chars().map(Self::piece));
            let text = match name {
                "*" | "?" | "$" => name.to_owned(),
                name => value(name)?,
            };
            pieces.extend(text.chars().map(Piece::Character));
            rest = after;
        }
        pieces.extend(rest.chars().map(Self::piece));
        Some(Self(pieces))
    }

    fn piece(character: char) -> Piece {
        match character {
            '*' => Piece::Any,
            '?' => Piece::One,
            other => Piece::Character(other),
        }
    }

    /// See [`matches`].
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut in_text) = (0, 0);
        // Where the last `*` stands, and how far into the text it reaches so far.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(at), text.get(in_text)) {
                (Some(Piece::Any), _) => {
                    star = Some((at, in_text));
                    at += 1;
                    continue;
                }
                (Some(Piece::One), Some(_)) => {
                    (at, in_text) = (at + 1, in_text + 1);
                    continue;
                }
                (Some(Piece::Character(wanted)), Some(found)) if wanted == found => {
                    (at, in_text) = (at + 1, in_text + 1);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            match star {
                Some((star_at, reach)) if reach < text.len() => {
                    star = Some((star_at, reach + 1));
                    (at, in_text) = (star_at + 1, reach + 1);
                }
                _ => return false,
            }
        }
    }
}

/// The names of the variables in `text`.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some((_, name, after)) = next_variable(rest) {
        names.push(name);
        rest = after;
    }
    names
}

/// What stands before the first `${name}`, the name, and what stands behind.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_match_as_iam_says() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        };
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("*", "anything/at all", true);
        check("a*", "ab", true);
        check("a*", "ba", false);
        check("*a", "ba", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-b-b-", false);
        check("**x**", "x", true);
        check("ü?", "üß", true);
        check("s3:Get*", "s3:GetObject", true);
    }

    #[test]
    fn variables_have_their_value_and_no_wildcards() {
        let check = |pattern: &str, text: &str, expected: bool| {
            let pattern = Pattern::with_variables(pattern, |name| {
                (name == "aws:username").then(|| "a*".to_owned())
            });
            assert_eq!(pattern.is_some_and(|p| p.matches(text)), expected, "{text}");
        };
        check("home/${aws:username}/*", "home/a*/x", true);
        check("home/${aws:username}/*", "home/ab/x", false);
        check("${*}${?}${$}", "*?$", true);
        check("${*}", "x", false);
        check("${unknown}", "", false);
        check("${unfinished", "${unfinished", true);
    }

    /// The slow and obvious way.
    fn matches_slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                matches_slowly(rest, text)
                    || text
                        .split_first()
                        .is_some_and(|(_, t)| matches_slowly(pattern, t))
            }
            (Some(('?', rest)), Some((_, t))) => matches_slowly(rest, t),
            (Some((p, rest)), Some((c, t))) if p == c => matches_slowly(rest, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_slow_way(pattern in "[ab*?]{0,10}", text in "[ab]{0,12}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), matches_slowly(&p, &t));
        }
    }
}
