//! Bringing hosts in by the API, as BootAgent does with an enrolment token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bootagent_protocol::RegisterReply;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::http::{Broken, Connection, Reply, Reuse, Target};
use crate::install::Installs;
use crate::machine::{self, Copy, Kind, Machine, Moment, Pending, Secret, UPTIME};
use crate::random::mix;
use crate::stop::Stop;
use crate::world::unix_seconds;

/// How long one host may be refused before the enrolment is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause before a registration that failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often progress is told.
const TELL_EVERY: usize = 50_000;

/// How an enrolment is done.
pub(crate) struct Enrolment {
    pub(crate) target: Arc<Target>,
    /// The enrolment token.
    pub(crate) token: Arc<str>,
    pub(crate) connections: usize,
    /// Most registrations per second; none is as fast as it goes.
    pub(crate) rate: Option<f64>,
}

/// Enrols hosts until there are `wanted`; fewer when it was stopped.
pub(crate) async fn enrol(
    enrolment: Enrolment,
    kind: Kind,
    machines: &mut Vec<Machine>,
    wanted: usize,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let first = machines.len();
    if wanted <= first {
        return Ok(());
    }
    let enrolment = Arc::new(enrolment);
    let next = Arc::new(AtomicUsize::new(first));
    let (done, mut enrolled) = mpsc::unbounded_channel();
    let begun = Instant::now();
    for _ in 0..enrolment.connections.min(wanted - first) {
        let (enrolment, next, done) = (enrolment.clone(), next.clone(), done.clone());
        tokio::spawn(async move {
            let mut connection = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= wanted {
                    return;
                }
                if let Some(rate) = enrolment.rate {
                    let at = Duration::from_secs_f64((index - first) as f64 / rate);
                    tokio::time::sleep_until((begun + at).into()).await;
                }
                let result = one(&enrolment, &mut connection, kind, index).await;
                if done.send((index, result)).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let mut new = vec![None; wanted - first];
    let mut count = 0;
    loop {
        let (index, result) = tokio::select! {
            one = enrolled.recv() => match one {
                Some(one) => one,
                None => break,
            },
            () = stop.asked() => break,
        };
        new[index - first] = Some(result?);
        count += 1;
        if count % TELL_EVERY == 0 {
            let rate =
                f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / begun.elapsed().as_secs_f64();
            crate::say(&format!("{count} hosts enrolled, {rate:.0}/s"));
        }
    }
    // A gap, left by a stop, ends the fleet: hosts are known by their place.
    machines.extend(new.into_iter().map_while(|machine| machine));
    Ok(())
}

async fn one(
    enrolment: &Enrolment,
    connection: &mut Option<Connection>,
    kind: Kind,
    index: usize,
) -> anyhow::Result<Machine> {
    let host = u32::try_from(index).context("hosts are counted in 32 bits")?;
    let bits = mix(kind.seed ^ mix(u64::from(host)));
    let agentsn =
        uuid::Builder::from_random_bytes(Uuid::from_u64_pair(bits, mix(bits)).into_bytes())
            .into_uuid();
    let machine = Machine::new(agentsn, Secret([0; 32]));
    let request = machine::register_request(&kind, &machine, host, Copy::Original);
    let body = serde_json::to_vec(&request).context("writing a registration")?;
    let token = enrolment.token.clone();
    let bearer = |bytes: &mut Vec<u8>| bytes.extend_from_slice(token.as_bytes());
    let request = enrolment
        .target
        .request("POST", "/agent/register", bearer, &body, Reuse::Always);
    let machine = read(&told(enrolment, connection, &request, "registering a host").await?)?;
    // As BootAgent does: it is not in before its first status.
    let status = machine::status_request(
        &kind,
        &machine,
        host,
        Copy::Original,
        &Pending::default(),
        &Installs::default(),
        Moment {
            now: unix_seconds(),
            uptime: UPTIME,
        },
    );
    let body = serde_json::to_vec(&status).context("writing a status")?;
    let bearer = |bytes: &mut Vec<u8>| machine.secret.write_to(bytes);
    let request = enrolment
        .target
        .request("POST", "/agent/status", bearer, &body, Reuse::Always);
    told(enrolment, connection, &request, "a host's first status").await?;
    Ok(machine)
}

/// The body of the answer, once there is a good one.
async fn told(
    enrolment: &Enrolment,
    connection: &mut Option<Connection>,
    request: &[u8],
    what: &str,
) -> anyhow::Result<Vec<u8>> {
    let begun = Instant::now();
    loop {
        let pause = match ask(enrolment, connection, request).await {
            Ok(reply) if reply.status == 200 => return Ok(reply.body),
            Ok(reply) if matches!(reply.status, 429 | 503) => reply.retry_after.unwrap_or(PAUSE),
            Ok(reply) => bail!(
                "{what}: status {} {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            ),
            Err(broken) if begun.elapsed() > PATIENCE => {
                bail!("{what}: {broken:?} for {} s", PATIENCE.as_secs())
            }
            Err(_) => PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn ask(
    enrolment: &Enrolment,
    connection: &mut Option<Connection>,
    request: &[u8],
) -> Result<Reply, Broken> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => enrolment.target.connect().await?,
    };
    let (reply, more) = open.exchange(request).await?;
    *connection = more.then_some(open);
    Ok(reply)
}

fn read(body: &[u8]) -> anyhow::Result<Machine> {
    let reply: RegisterReply =
        serde_json::from_slice(body).context("registering a host: the reply is no JSON")?;
    if reply.status != 0 {
        let why = reply.message.unwrap_or_default();
        bail!(
            "registering a host: status {} in the reply {why}",
            reply.status
        );
    }
    let agentsn = reply.agentsn.as_deref().map(Uuid::try_parse);
    let agentsn = agentsn.context("registering a host: no agentsn in the reply")??;
    let secret = reply.token.as_deref().and_then(Secret::parse);
    let secret =
        secret.context("registering a host: no secret of bootserver's form in the reply")?;
    Ok(Machine::new(agentsn, secret))
}
