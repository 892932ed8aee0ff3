//! What was said: a verb, its operands and its options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::verb::{Kind, OPTIONS, VERBS, Verb};
use crate::clock::unix_millis;

/// A command line, understood.
#[derive(Debug)]
pub(super) struct Said {
    /// What to do.
    pub(super) verb: &'static Verb,
    /// With what.
    pub(super) operands: Vec<String>,
    /// Options with their values, as they came.
    options: Vec<(&'static str, String)>,
    pub(super) as_json: bool,
    pub(super) server: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

/// Reads it; nothing when the help is wanted.
pub(super) fn parse(words: Vec<OsString>) -> Result<Option<Said>, Failure> {
    use lexopt::prelude::*;
    let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
    let mut parser = lexopt::Parser::from_args(words);
    let (mut as_json, mut server, mut token_file, mut ca_file) = (false, None, None, None);
    let mut plain: Vec<String> = Vec::new();
    let mut options = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        let text = |parser: &mut lexopt::Parser| -> Result<String, Failure> {
            let value = parser.value().map_err(usage)?;
            value.string().map_err(usage)
        };
        match argument {
            Long("json") => as_json = true,
            Long("server") => server = Some(text(&mut parser)?),
            Long("token-file") => token_file = Some(text(&mut parser)?.into()),
            Long("ca-file") => ca_file = Some(text(&mut parser)?.into()),
            Long("token") => {
                let text = "--token-file: a token in a command line can be read by everybody";
                return Err(Failure::Usage(text.into()));
            }
            Short('h') | Long("help") => return Ok(None),
            Short('d') | Long("data") => options.push(("data", text(&mut parser)?)),
            Short('H') | Long("header") => options.push(("header", text(&mut parser)?)),
            Long(name) => match OPTIONS.iter().find(|known| known.name == name) {
                Some(option) if option.kind == Kind::Flag => {
                    options.push((option.name, String::new()));
                }
                Some(option) => options.push((option.name, text(&mut parser)?)),
                None => return Err(usage(Long(name).unexpected())),
            },
            Value(word) => plain.push(word.string().map_err(usage)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let said = plain.iter().map(String::as_str).collect::<Vec<_>>();
    let (verb, taken) = find(&said)?;
    let operands = plain.split_off(taken);
    let (least, most) = verb.operand_bounds();
    if !(least..=most).contains(&operands.len()) {
        return Err(Failure::Usage(format!("expected is: {}", verb.usage())));
    }
    for (name, _) in &options {
        if !verb.options.contains(name) {
            let text = format!("--{name} does not belong to {}", verb.words());
            return Err(Failure::Usage(text));
        }
    }
    Ok(Some(Said {
        verb,
        operands,
        options,
        as_json,
        server,
        token_file,
        ca_file,
    }))
}

/// The verb, and how many words name it.
fn find(said: &[&str]) -> Result<(&'static Verb, usize), Failure> {
    let noun = said.first().copied().unwrap_or_default();
    let verbs = VERBS.iter().filter(|verb| verb.noun == noun);
    let mut known = verbs.clone();
    if let Some(verb) = known.find(|verb| verb.verb.is_empty()) {
        return Ok((verb, 1));
    }
    let word = said.get(1).copied().unwrap_or_default();
    match verbs.clone().find(|verb| verb.verb == word) {
        Some(verb) => Ok((verb, 2)),
        None => {
            let words: Vec<&str> = verbs.map(|verb| verb.verb).collect();
            Err(Failure::Usage(match (noun, &words[..]) {
                ("", _) => "a verb is expected, such as host list".to_owned(),
                (_, []) => format!("{noun:?} is no verb"),
                _ => format!("{noun}: one of {} is expected", words.join(", ")),
            }))
        }
    }
}

impl Said {
    /// The last value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let mut values = self.options.iter().rev();
        let found = values.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of an option that may be repeated.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.options.iter();
        let found = values.filter(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The options that are fields of the API, under their names there.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        for (name, text) in &self.options {
            let known = OPTIONS.iter().find(|option| option.name == *name);
            let Some(option) = known else { continue };
            let value = match option.kind {
                Kind::Own => continue,
                Kind::Text => json!(text),
                Kind::Flag => json!(true),
                Kind::Number => json!(number(name, text)?),
                Kind::Seconds => json!(period(name, text)?.as_secs()),
                Kind::Ago => {
                    let millis = period(name, text)?.as_millis();
                    json!(unix_millis().saturating_sub(i64::try_from(millis).unwrap_or(i64::MAX)))
                }
                Kind::Scope => json!([{ "tags": text }]),
            };
            fields.insert(option.field.to_owned(), value);
        }
        Ok(fields)
    }

    /// The same as a query.
    pub(super) fn query(&self) -> Result<Vec<(String, String)>, Failure> {
        let fields = self.fields()?.into_iter();
        Ok(fields
            .map(|(key, value)| match value {
                Value::String(text) => (key, text),
                other => (key, other.to_string()),
            })
            .collect())
    }

    /// How many rows are wanted.
    pub(super) fn limit(&self, usual: u64) -> Result<u64, Failure> {
        let limit = self.option("limit").map(|text| number("limit", text));
        match limit.transpose()?.unwrap_or(usual) {
            0 => Err(Failure::Usage("--limit: at least 1 is expected".into())),
            limit => Ok(limit),
        }
    }

    /// The revision of a thing that was seen.
    pub(super) fn revision(&self) -> Result<Option<i64>, Failure> {
        let Some(text) = self.option("revision") else {
            return Ok(None);
        };
        let revision = i64::try_from(number("revision", text)?);
        Ok(Some(revision.unwrap_or(i64::MAX)))
    }
}

fn number(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse()
        .map_err(|_| Failure::Usage(format!("--{name}: {text:?} is no whole number")))
}

/// `90`, `90s`, `15m`, `12h` or `7d`.
fn period(name: &str, text: &str) -> Result<Duration, Failure> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    let seconds = digits.parse::<u32>().ok().map(u64::from);
    match seconds.filter(|_| !digits.starts_with('+')) {
        Some(seconds) => Ok(Duration::from_secs(seconds * factor)),
        None => Err(Failure::Usage(format!(
            "--{name}: {text:?} is no time such as 90s, 15m, 12h or 7d"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Said, Failure> {
        let words = text.split(' ').map(OsString::from).collect();
        parse(words).map(|said| said.expect("not the help"))
    }

    #[test]
    fn options_become_fields_of_the_api() {
        let order =
            said("job create install flux-push --host a --host b --expires-in 2h --downgrade")
                .expect("valid");
        assert_eq!(order.operands, ["install", "flux-push"]);
        assert_eq!(order.all("host"), ["a", "b"]);
        let expected = json!({ "expires_in": 7200, "downgrade": true });
        assert_eq!(Value::Object(order.fields().expect("valid")), expected);
        let token = said("token create api ci --role viewer --scope svc=ecs").expect("valid");
        let expected = json!({ "role": "viewer", "scope": [{ "tags": "svc=ecs" }] });
        assert_eq!(Value::Object(token.fields().expect("valid")), expected);
    }

    #[test]
    fn what_was_said_wrongly_is_named() {
        for (text, word) in [
            ("host", "list, show, edit, export, tag, delete"),
            ("host lost", "list, show, edit, export, tag, delete"),
            ("host show", "host show HOST"),
            ("host show a b", "host show HOST"),
            ("host list --role viewer", "--role does not belong"),
            ("host list --colour", "--colour"),
            ("host list --limit", "--limit"),
            ("host list --token x", "--token-file"),
            ("tag unset a", "tag unset HOST KEY"),
            ("group add", "group add GROUP [HOST...]"),
            ("host list -H a:b", "--header does not belong"),
            ("api GET", "api METHOD PATH"),
        ] {
            let failure = said(text).expect_err(text);
            assert_eq!(failure.exit_code(), 2, "{text}");
            assert!(failure.to_string().contains(word), "{text}: {failure}");
        }
        for (text, word) in [
            ("event list --since soon", "--since"),
            ("event list --since 7é", "--since"),
            ("token create api a --expires-in -1", "--expires-in"),
        ] {
            let failure = said(text).expect("words").fields().expect_err(text);
            assert!(failure.to_string().contains(word), "{text}: {failure}");
        }
        assert!(
            said("host list --limit 0")
                .expect("words")
                .limit(9)
                .is_err()
        );
    }
}
