//! What comes to mtr-prober's API: any bytes, and how they are read as requests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtr_prober::api::{Read, read};

/// The bound that is told to clients.
const LONGEST: usize = 8 * 1024;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    loop {
        match read(rest) {
            Read::Partial => {
                assert!(rest.len() < LONGEST, "it would be waited for, for ever");
                return;
            }
            Read::Bad(problem) => {
                assert!((400..=599).contains(&problem.status), "{problem:?}");
                assert!(!problem.detail.is_empty());
                return;
            }
            Read::Request(length, outcome) => {
                assert!((1..=LONGEST).contains(&length));
                assert!(
                    !matches!(read(&rest[..length - 1]), Read::Request(..)),
                    "a request is one only when it is whole"
                );
                if let Err(problem) = outcome {
                    assert!((400..=599).contains(&problem.status), "{problem:?}");
                    assert!(!problem.detail.is_empty());
                }
                rest = &rest[length..];
            }
        }
    }
});
