//! What a verb has found, for a program (one JSON document) or for a person (columns or lines).

use serde_json::{Map, Value};

/// The result of a verb, or why there is none.
pub(crate) type Answer = Result<Report, Refusal>;

/// What a person or a program is told.
pub(crate) enum Report {
    /// A table: the columns that a person sees, and all rows.
    Table(&'static [&'static str], Vec<Value>),
    /// Facts by name.
    Facts(Value),
    /// Lines as they are.
    Lines(Vec<String>),
    /// For a person several reports, one after the other; for a program one document.
    Page(Vec<Report>, Value),
    /// It is done: a sentence for a person, facts for a program.
    Done(String, Value),
}

/// Why a verb was not obeyed.
pub(crate) enum Refusal {
    /// Not words that mean something.
    Words(String),
    /// Refused or failed: what happened and what to do.
    Failed(String),
}

impl Refusal {
    /// A verb's exit status and its text.
    pub(crate) fn rendered(answer: Answer, json: bool) -> (u8, String) {
        match answer {
            Ok(report) => (0, report.render(json)),
            Err(Self::Failed(why)) => (1, printable(&format!("trousseau: {why}\n"))),
            Err(Self::Words(why)) => (2, printable(&format!("trousseau: {why}\n"))),
        }
    }
}

impl Report {
    /// The text that is shown.
    pub(crate) fn render(self, json: bool) -> String {
        match (self, json) {
            (Self::Table(_, rows), true) => format!("{}\n", Value::Array(rows)),
            (Self::Facts(facts) | Self::Done(_, facts) | Self::Page(_, facts), true) => {
                format!("{facts}\n")
            }
            (Self::Lines(lines), true) => format!("{}\n", Value::from(lines)),
            (Self::Table(columns, rows), false) => table(columns, &rows),
            (Self::Facts(facts), false) => facts.as_object().map(describe).unwrap_or_default(),
            (Self::Lines(lines), false) => lines
                .iter()
                .map(|line| format!("{}\n", one_line(line)))
                .collect(),
            (Self::Page(parts, _), false) => {
                parts.into_iter().map(|part| part.render(false)).collect()
            }
            (Self::Done(sentence, _), false) => printable(&format!("{sentence}\n")),
        }
    }
}

/// Without control characters but the ends of lines: what a service or its client made up must not move a person's cursor.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

fn one_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

/// Left-aligned columns, two spaces apart, no tabs.
fn table(columns: &[&str], rows: &[Value]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| cell(row.get(*column).unwrap_or(&Value::Null)))
                .collect()
        })
        .collect();
    let heads: Vec<String> = columns
        .iter()
        .map(|column| column.to_uppercase().replace('_', " "))
        .collect();
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(&cells) {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn describe(facts: &Map<String, Value>) -> String {
    let width = facts.keys().map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in facts {
        match value {
            Value::Array(items) if items.iter().any(|item| item.is_object()) => {}
            Value::Array(items) if !items.is_empty() => {
                text.push_str(&format!("{}:\n", name.replace('_', " ")));
                text.extend(items.iter().map(|item| format!("  {}\n", cell(item))));
            }
            Value::Array(_) => {}
            value => text.push_str(&format!(
                "{:width$}  {}\n",
                name.replace('_', " "),
                cell(value)
            )),
        }
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => one_line(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        number => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_aligned_and_has_no_tabs() {
        let rows = vec![
            json!({"name": "bus", "pid": 7}),
            json!({"name": "s3-frontend", "pid": null}),
        ];
        let text = Report::Table(&["name", "pid"], rows).render(false);
        assert_eq!(text, "NAME         PID\nbus          7\ns3-frontend  -\n");
    }
}
