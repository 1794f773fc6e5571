//! A line that a person typed, as the words of a verb. No shell: quotes keep blanks together, and nothing else has a meaning.

use protocol::inspect::{WORD_BYTES_MAX, WORDS_MAX};

/// The longest line in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 4_096;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The words without `--json`.
    pub(crate) words: Vec<String>,
    /// `--json` was among them.
    pub(crate) json: bool,
}

/// Cuts `line` at blanks; `'…'` and `"…"` keep them. Errors are sentences for the person.
pub(crate) fn split(line: &str) -> Result<Said, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("a line has at most {LINE_BYTES_MAX} bytes"));
    }
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if let Some(quote) = quote {
        return Err(format!("a closing {quote} is missing"));
    }
    if words.len() > WORDS_MAX || words.iter().any(|word| word.len() > WORD_BYTES_MAX) {
        return Err(format!(
            "more than {WORDS_MAX} words, or one longer than {WORD_BYTES_MAX} bytes"
        ));
    }
    let all = words.len();
    words.retain(|word| word != "--json");
    Ok(Said {
        json: words.len() < all,
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_part_words_and_quotes_keep_them() {
        let words = |line: &str| split(line).map(|said| said.words);
        let expected = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            words(" caps  --can\tA B "),
            expected(&["caps", "--can", "A", "B"])
        );
        assert_eq!(
            words("key create 'my \"old\" laptop'"),
            expected(&["key", "create", "my \"old\" laptop"])
        );
        assert_eq!(words("a\"b c\"d ''"), expected(&["ab cd", ""]));
        assert_eq!(words(""), expected(&[]));
        assert_eq!(
            words("status; reboot $(id) `id` | cat > x"),
            expected(&["status;", "reboot", "$(id)", "`id`", "|", "cat", ">", "x"])
        );
        assert!(words("key create 'x").is_err());
        assert!(words(&"x".repeat(LINE_BYTES_MAX + 1)).is_err());
        assert!(words(&"x ".repeat(WORDS_MAX + 1)).is_err());
        let said = split("status --json").unwrap();
        assert_eq!((said.json, said.words.len()), (true, 1));
    }

    proptest! {
        #[test]
        fn any_line_gives_bounded_words_or_a_reason(line in "(\\PC|[ '\"a]){0,300}") {
            if let Ok(said) = split(&line) {
                prop_assert!(said.words.len() <= WORDS_MAX);
                prop_assert!(said.words.iter().map(String::len).sum::<usize>() <= line.len());
            }
        }
    }
}
