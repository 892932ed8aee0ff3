//! What processes of the host say: children to their notify socket, bootctl to
//! the control socket; and the lists of servers that people type.
#![no_main]

use bootagent::control::Request;
use bootagent::notification::{self, Notification};
use bootagent_kit::servers::ServerList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for said in notification::parse(data) {
        if let Notification::Status(text) = said {
            assert!(text.len() <= 256 && !text.contains('\0'), "{text:?}");
        }
    }
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let text = serde_json::to_vec(&request).expect("keys are strings");
        let again: Request = serde_json::from_slice(&text).expect("what bootctl writes");
        assert!(again == request);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(list) = ServerList::parse(text) {
        let words: Vec<String> = list.iter().map(ToString::to_string).collect();
        let again = ServerList::parse(&words.join(",")).expect("as the status shows them");
        assert!(again.iter().eq(list.iter()), "{text:?}");
    }
});
