//! Running a fleet against a server.
//!
//! Open loop: calls go when they are due, however many are out, as a fleet's
//! would. Closed loop: a fixed number is out at any time, to see what the
//! server can at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bootagent_core::schedule::{Call, Event};
use bootagent_core::time::Uptime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep_until, timeout};

use crate::agenda::Agenda;
use crate::http::{Reuse, TOTAL_TIMEOUT};
use crate::install::{Fetched, fetch};
use crate::orders::Operator;
use crate::post::{Posted, alone, in_turn};
use crate::stop::Stop;
use crate::world::World;

/// Files that are not connections.
const OTHER_FILES: usize = 100;
/// Hosts of one order.
const HOSTS_PER_ORDER: u32 = 500;

/// How long, and what an operator does meanwhile.
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// How often each host calls in closed loop at most.
    pub(crate) passes: Option<u64>,
    /// Jobs ordered per second.
    pub(crate) jobs: f64,
    pub(crate) operator: Option<Operator>,
}

/// Something a task has to tell.
enum Note {
    /// By which worker, and what.
    Posted(usize, Box<Posted>),
    Ordered(Vec<(String, u32)>),
    NotOrdered(anyhow::Error),
    Fetched(Box<Fetched>),
}

/// The orders of an operator, a second's worth at a time.
struct Ordering {
    due: Instant,
    /// Jobs that are owed, with their fraction.
    owed: f64,
}

impl Ordering {
    fn new() -> Self {
        Self {
            due: Instant::now(),
            owed: 0.0,
        }
    }

    fn go(&mut self, plan: &Plan, world: &mut World, notes: &mpsc::UnboundedSender<Note>) {
        self.due += Duration::from_secs(1);
        let Some(operator) = plan.operator.clone().filter(|_| plan.jobs > 0.0) else {
            return;
        };
        self.owed += plan.jobs;
        while self.owed >= 1.0 {
            let all = u32::try_from(world.machines.len()).expect("hosts are counted in 32 bits");
            let count = (self.owed as u32).clamp(1, HOSTS_PER_ORDER).min(all);
            self.owed -= f64::from(count);
            // Neighbours, so that none is named twice.
            let first = world.random.below(all);
            let hosts = (0..count).map(|number| (first + number) % all);
            let hosts = hosts
                .map(|host| (world.machines[host as usize].agentsn, host))
                .collect();
            let (operator, notes) = (operator.clone(), notes.clone());
            tokio::spawn(async move {
                let note = match operator.order(hosts).await {
                    Ok(jobs) => Note::Ordered(jobs),
                    Err(error) => Note::NotOrdered(error),
                };
                let _ = notes.send(note);
            });
        }
    }
}

fn ordered(world: &mut World, jobs: Vec<(String, u32)>) {
    for (job, host) in jobs {
        world.ledger.ordered(job, host);
    }
}

fn not_ordered(error: &anyhow::Error) {
    crate::say(&format!("an order failed: {error:#}"));
}

/// Has packages fetched that jobs bring.
fn run_errands(world: &mut World, notes: &mpsc::UnboundedSender<Note>) {
    for errand in world.errands.drain(..) {
        let (target, notes) = (world.target.clone(), notes.clone());
        tokio::spawn(async move {
            let fetched = fetch(&target, errand).await;
            let _ = notes.send(Note::Fetched(Box::new(fetched)));
        });
    }
}

/// Runs an agenda in open loop. `on_measure` is called when the warm-up ends.
pub(crate) async fn fleet(
    world: &mut World,
    agenda: &mut Agenda,
    plan: &Plan,
    stop: &mut Stop,
    mut on_measure: impl FnMut(),
) {
    let places = Arc::new(Semaphore::new(places()));
    let (notes, mut noted) = mpsc::unbounded_channel();
    let (start, begin) = (Instant::now(), agenda.begin());
    let uptime = |at: Instant| begin + at.saturating_duration_since(start);
    let instant = |at: Uptime| start + at.since(begin);
    let measure_at = start + plan.warm_up;
    let end = measure_at + plan.duration;
    let mut ordering = Ordering::new();
    let mut is_measured = false;
    let mut out = 0_usize;
    loop {
        let now = Instant::now();
        if !is_measured && now >= measure_at {
            is_measured = true;
            world.tally.begin_anew();
            on_measure();
        }
        if now >= end {
            break;
        }
        if now >= ordering.due {
            ordering.go(plan, world, &notes);
        }
        while let Some(due) = agenda.take(uptime(now)) {
            if due.call == Call::Status && world.reboots(due.host) {
                let agentsn = world.machines[due.host as usize].agentsn;
                agenda.restart(due.host, agentsn, uptime(now));
                continue;
            }
            let post = world.say(due.host, due.call, instant(due.at));
            let (target, places, notes) = (world.target.clone(), places.clone(), notes.clone());
            out += 1;
            tokio::spawn(async move {
                let _place = places.acquire().await;
                let posted = alone(&target, post).await;
                let _ = notes.send(Note::Posted(0, Box::new(posted)));
            });
        }
        let next = agenda.deadline().map_or(end, instant);
        let next = next.min(ordering.due).min(end);
        let next = if is_measured {
            next
        } else {
            next.min(measure_at)
        };
        tokio::select! {
            note = noted.recv() => match note.expect("one sender is ours") {
                Note::Posted(_, posted) => {
                    out -= 1;
                    told(world, agenda, *posted, uptime(Instant::now()));
                    run_errands(world, &notes);
                }
                Note::Ordered(jobs) => ordered(world, jobs),
                Note::NotOrdered(error) => not_ordered(&error),
                Note::Fetched(fetched) => {
                    let host = fetched.host();
                    world.fetched(*fetched);
                    run_errands(world, &notes);
                    agenda.tell(host, Event::Urgent, uptime(Instant::now()));
                }
            },
            () = sleep_until(next.into()) => {}
            () = stop.asked() => break,
        }
    }
    drop(notes);
    // What is out counts too: its answers are part of this time.
    while out > 0 {
        match timeout(TOTAL_TIMEOUT, noted.recv()).await {
            Ok(Some(Note::Posted(_, posted))) => {
                out -= 1;
                told(world, agenda, *posted, uptime(Instant::now()));
            }
            Ok(Some(Note::Ordered(jobs))) => ordered(world, jobs),
            Ok(Some(Note::NotOrdered(error))) => not_ordered(&error),
            Ok(Some(Note::Fetched(fetched))) => world.fetched(*fetched),
            Ok(None) | Err(_) => break,
        }
    }
}

fn told(world: &mut World, agenda: &mut Agenda, posted: Posted, now: Uptime) {
    let host = posted.post.host;
    let heard = world.hear(posted);
    if let Some(agentsn) = heard.agentsn {
        agenda.rename(host, agentsn);
    }
    agenda.tell(host, heard.event, now);
    if heard.is_urgent {
        agenda.tell(host, Event::Urgent, now);
    }
}

/// Keeps `connections` calls out all the time.
pub(crate) async fn saturate(
    world: &mut World,
    connections: usize,
    reuse: Reuse,
    plan: &Plan,
    stop: &mut Stop,
    mut on_measure: impl FnMut(),
) {
    let (notes, mut noted) = mpsc::unbounded_channel();
    // Elsewhere each time, so that no run finds what the one before has warmed.
    let first = world.random.next();
    let mut rotation = Rotation::over(world.machines.len(), first);
    let mut workers = Vec::new();
    for worker in 0..connections {
        let (posts, orders) = mpsc::channel(1);
        let notes = notes.clone();
        let done = move |posted| notes.send(Note::Posted(worker, Box::new(posted))).is_ok();
        tokio::spawn(in_turn(world.target.clone(), reuse, orders, done));
        let post = world.say(rotation.next(), Call::Status, Instant::now());
        let _ = posts.send(post).await;
        workers.push(posts);
    }
    let hosts = world.machines.len() as u64;
    let mut left = plan
        .passes
        .map_or(u64::MAX, |passes| passes.saturating_mul(hosts))
        .saturating_sub(connections as u64);
    let measure_at = Instant::now() + plan.warm_up;
    let end = measure_at + plan.duration;
    let mut ordering = Ordering::new();
    let mut is_measured = false;
    let mut is_over = false;
    let mut out = connections;
    while out > 0 {
        let now = Instant::now();
        if !is_measured && now >= measure_at {
            is_measured = true;
            world.tally.begin_anew();
            on_measure();
        }
        is_over |= now >= end;
        if now >= ordering.due && !is_over {
            ordering.go(plan, world, &notes);
        }
        let wake = if is_over {
            now + TOTAL_TIMEOUT
        } else {
            ordering.due.min(end)
        };
        tokio::select! {
            note = noted.recv() => match note.expect("one sender is ours") {
                Note::Posted(worker, posted) => {
                    world.hear(*posted);
                    run_errands(world, &notes);
                    is_over |= left == 0;
                    left = left.saturating_sub(1);
                    if is_over {
                        out -= 1;
                        continue;
                    }
                    let host = rotation.next();
                    // Without a schedule a boot is only another content.
                    world.reboots(host);
                    let post = world.say(host, Call::Status, Instant::now());
                    let _ = workers[worker].send(post).await;
                }
                Note::Ordered(jobs) => ordered(world, jobs),
                Note::NotOrdered(error) => not_ordered(&error),
                // It says so when its turn comes.
                Note::Fetched(fetched) => {
                    world.fetched(*fetched);
                    run_errands(world, &notes);
                }
            },
            () = sleep_until(wake.into()) => if is_over { break },
            () = stop.asked(), if !is_over => is_over = true,
        }
    }
}

/// Every host once, in an order in which neighbours are far apart; then again.
struct Rotation {
    hosts: u64,
    stride: u64,
    at: u64,
}

impl Rotation {
    fn over(hosts: usize, first: u64) -> Self {
        let hosts = hosts as u64;
        let mut stride = (hosts * 618 / 1000).max(1);
        while common_divisor(stride, hosts) != 1 {
            stride += 1;
        }
        Self {
            hosts,
            stride,
            at: first % hosts,
        }
    }

    fn next(&mut self) -> u32 {
        self.at = (self.at + self.stride) % self.hosts;
        u32::try_from(self.at).expect("hosts are counted in 32 bits")
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// How many connections may be open at once.
fn places() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    // A call may take two.
    (usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES)
        / 2)
    .clamp(1, Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_visits_every_host_once_before_any_twice() {
        for hosts in [1, 2, 3, 10, 100, 127, 1000] {
            let mut rotation = Rotation::over(hosts, 7);
            let mut seen: Vec<u32> = (0..hosts).map(|_| rotation.next()).collect();
            seen.sort_unstable();
            let all: Vec<u32> = (0..u32::try_from(hosts).expect("few")).collect();
            assert_eq!(seen, all);
        }
    }
}
