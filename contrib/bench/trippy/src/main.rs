//! Traces 10.99.0.1 and those after it at once, ten rounds each, each by a tracer of its own, and prints what these were
//! sent and lost, the sum of all round trips in milliseconds, and how many these are.

use std::net::IpAddr;
use std::thread;

use trippy_core::{Builder, Tracer};

/// Rounds of each trace.
const ROUNDS: usize = 10;

fn main() {
    let count: u16 = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(500);
    let traces: Vec<_> = (1..=count)
        .map(|number| thread::spawn(move || trace(number)))
        .collect();
    let (mut sent, mut received, mut millis) = (0, 0, 0.0);
    for trace in traces {
        // One that failed has no numbers.
        let Ok(Some(tracer)) = trace.join() else {
            continue;
        };
        for hop in tracer.snapshot().hops() {
            sent += hop.total_sent();
            received += hop.total_recv();
            millis += hop.avg_ms() * hop.total_recv() as f64;
        }
    }
    println!("{sent} {} {millis} {received}", sent - received);
}

fn trace(number: u16) -> Option<Tracer> {
    let [high, low] = number.to_be_bytes();
    let tracer = Builder::new(IpAddr::from([10, 99, high, low]))
        // Else all of them take each other's answers for their own.
        .trace_identifier(number)
        .max_rounds(Some(ROUNDS))
        .max_ttl(30)
        .build()
        .ok()?;
    tracer.run().ok()?;
    Some(tracer)
}
