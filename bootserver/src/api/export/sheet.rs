//! Rows as text: NDJSON for programs, CSV (RFC 4180) for spreadsheets.
//!
//! Pure. The one rule: no cell is a formula, whatever a host calls itself.

use axum::http::HeaderValue;
use serde::Serialize;
use serde_json::Value;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A JSON object a line.
    Ndjson,
    /// A line of column names, and a line each.
    Csv,
}

impl Format {
    /// The word of a query.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// What an Accept asks for first; NDJSON when it names neither.
    pub(super) fn accepted(accept: &str) -> Self {
        let types = accept.split(',').map(|part| part.split(';').next());
        let mut types = types.map(|kind| kind.unwrap_or_default().trim().to_ascii_lowercase());
        let known = types.find_map(|kind| match kind.as_str() {
            "text/csv" => Some(Self::Csv),
            "application/x-ndjson" => Some(Self::Ndjson),
            _ => None,
        });
        known.unwrap_or(Self::Ndjson)
    }

    /// As the header Content-Type says it.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        })
    }

    /// The end of a file's name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// Rows that were written and not sent yet.
#[derive(Debug)]
pub(super) struct Sheet {
    format: Format,
    columns: &'static [&'static str],
    bytes: Vec<u8>,
}

impl Sheet {
    /// One with its head.
    pub(super) fn new(format: Format, columns: &'static [&'static str]) -> Self {
        let mut bytes = Vec::new();
        if format == Format::Csv {
            bytes.extend(columns.join(",").bytes());
            bytes.extend(b"\r\n");
        }
        Self {
            format,
            columns,
            bytes,
        }
    }

    /// How its rows are written.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Writes a row.
    pub(super) fn push(&mut self, row: &impl Serialize) {
        let row = serde_json::to_value(row).expect("views always serialise");
        match self.format {
            Format::Ndjson => {
                self.bytes.extend(row.to_string().bytes());
                self.bytes.push(b'\n');
            }
            Format::Csv => {
                let cells = self.columns.iter().map(|column| cell(&row[column]));
                let line = cells.collect::<Vec<_>>().join(",");
                self.bytes.extend(line.bytes());
                self.bytes.extend(b"\r\n");
            }
        }
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// A value as one cell: a list of texts has a line each, and what has parts is JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let lines: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            quoted(&lines.join("\n"))
        }
        Value::Array(_) | Value::Object(_) => quoted(&value.to_string()),
    }
}

/// A text in quotes. A spreadsheet takes what begins with one of these for a formula,
/// also after blanks, so an apostrophe goes before it, as spreadsheets write it themselves.
fn quoted(text: &str) -> String {
    let first = text.trim_start().chars().next();
    let begins_so = |char: char| text.starts_with(char);
    let is_formula = first.is_some_and(|char| "=+-@＝＋－＠".contains(char))
        || ['\t', '\r', '\n'].into_iter().any(begins_so);
    let apostrophe = if is_formula { "'" } else { "" };
    format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn csv(row: &Value) -> String {
        let mut sheet = Sheet::new(Format::Csv, &["a", "b"]);
        sheet.take();
        sheet.push(row);
        String::from_utf8(sheet.take()).expect("text")
    }

    #[test]
    fn a_cell_is_what_the_value_is() {
        let row = json!({ "a": "x, \"y\"\nz", "b": -7, "c": "not asked for" });
        assert_eq!(csv(&row), "\"x, \"\"y\"\"\nz\",-7\r\n");
        assert_eq!(csv(&json!({ "a": ["1", "2"], "b": null })), "\"1\n2\",\r\n");
        assert_eq!(
            csv(&json!({ "a": { "k": 1 }, "b": true })),
            "\"{\"\"k\"\":1}\",true\r\n"
        );
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in [
            "=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\tx", "\rx", "\nx", "＝1",
        ] {
            let line = csv(&json!({ "a": text, "b": [text] }));
            assert_eq!(line, format!("\"'{text}\",\"'{text}\"\r\n"), "{text:?}");
        }
        assert_eq!(csv(&json!({ "a": "a=1", "b": "" })), "\"a=1\",\"\"\r\n");
    }

    #[test]
    fn what_is_asked_for_first_is_what_comes() {
        for (accept, format) in [
            ("text/csv", Format::Csv),
            ("application/x-ndjson, text/csv", Format::Ndjson),
            ("text/html, TEXT/CSV;q=0.9, */*", Format::Csv),
            ("*/*", Format::Ndjson),
            ("", Format::Ndjson),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn a_line_of_ndjson_is_one_row() {
        let mut sheet = Sheet::new(Format::Ndjson, &["a"]);
        sheet.push(&json!({ "a": "x\ny", "b": "=1" }));
        assert_eq!(sheet.take(), b"{\"a\":\"x\\ny\",\"b\":\"=1\"}\n");
    }
}
