//! What changes, a line per message, until Ctrl-C.

use serde_json::Value;

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::show;
use super::super::words::Said;
use super::query;

pub(in super::super) fn event_follow(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/stream{}", query(&said.query()?));
    client.follow(&path, |data| {
        let text = match said.as_json {
            true => data.to_owned(),
            false => written(data),
        };
        Ok(show::print_now(&format!("{}\n", show::visible(&text)))?)
    })
}

/// A message for a person.
fn written(data: &str) -> String {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    let now = show::time(crate::clock::unix_millis());
    if data["reset"] == true {
        return format!("{now} from here on everything is heard");
    }
    let ids = data["ids"].as_array().into_iter().flatten();
    let ids: Vec<&str> = ids.filter_map(Value::as_str).collect();
    let which = match data["more"] == true {
        true => "several".to_owned(),
        false => ids.join(" "),
    };
    format!("{now} {} {} {which}", text("topic"), text("change"))
}
