//! The life of flux-push: read at each grid time, keep the point, say so.
//!
//! What a reading means is decided in `series`; here it is only done.
//!
//! The one rule: whatever fails once is tried again at the next grid time,
//! and the traffic until then is in the next difference.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bootagent_kit::clock::{self, Stamp};
use bootagent_kit::notify;

use crate::config::Config;
use crate::read::{self, ReadError};
use crate::series::{self, Mark, Occasion, Point};
use crate::store::Store;
use crate::wait::{Waiter, Wake};

/// Between two tries of the first reading.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until SIGTERM.
pub fn run(config: &Config, state: &Path) -> Result<()> {
    // First, so that a stop is never missed.
    let waiter = Waiter::new().context("preparing to wait")?;
    let mut sampler = Sampler {
        config,
        boot_id: clock::boot_id().context("reading the boot id")?,
        store: Store::open(state, config.keep_days).context("opening the points")?,
        interface: None,
    };
    if sampler.begin(&waiter)? == Wake::Stop {
        return stop();
    }
    loop {
        let planned = series::next_grid(read::now().wall_ms, config.interval);
        match waiter
            .until(planned)
            .context("waiting for the next point")?
        {
            Wake::Stop => return stop(),
            Wake::ClockSet => {
                log::info!("the clock was set, the next point is planned anew");
            }
            // Set back in the last moment: not yet.
            Wake::Reached if read::now().wall_ms / 1000 < planned => {}
            Wake::Reached => sampler.take(Occasion::Grid),
        }
    }
}

fn stop() -> Result<()> {
    log::info!("asked to end");
    tell(notify::stopping());
    Ok(())
}

struct Sampler<'a> {
    config: &'a Config,
    boot_id: String,
    store: Store,
    /// The interface of the last point, kept while the route is away.
    interface: Option<String>,
}

impl Sampler<'_> {
    /// Takes the first point as soon as there is something to read; then we
    /// are up.
    fn begin(&mut self, waiter: &Waiter) -> Result<Wake> {
        loop {
            match self.try_take(Occasion::Start) {
                Ok(point) => {
                    self.report(&point);
                    tell(notify::ready());
                    return Ok(Wake::Reached);
                }
                Err(error) => self.complain(&error),
            }
            if waiter
                .stopped_within(RETRY)
                .context("waiting for an interface")?
            {
                return Ok(Wake::Stop);
            }
        }
    }

    fn take(&mut self, occasion: Occasion) {
        match self.try_take(occasion) {
            Ok(point) => self.report(&point),
            Err(error) => self.complain(&error),
        }
    }

    fn try_take(&mut self, occasion: Occasion) -> Result<Point> {
        let name = self.choose()?;
        let reading = read::read(&name, &self.boot_id)?;
        let point = series::point(self.store.last(), reading, occasion, self.config.interval);
        self.store.append(point.clone())?;
        self.interface = Some(name);
        Ok(point)
    }

    /// While a default route is away its interface still counts.
    fn choose(&self) -> Result<String, ReadError> {
        match (
            read::choose(self.config.interface.as_deref()),
            &self.interface,
        ) {
            (Err(ReadError::NoDefaultRoute), Some(name)) => Ok(name.clone()),
            (chosen, _) => chosen,
        }
    }

    fn report(&self, point: &Point) {
        let Point {
            interface, rx, tx, ..
        } = point;
        let stamp = Stamp::from_unix(point.grid.unwrap_or(point.wall_ms / 1000));
        let delta = match (point.tx_delta, point.rx_delta) {
            (Some(tx), Some(rx)) => format!("+{tx} sent, +{rx} received"),
            _ => "no difference".to_owned(),
        };
        let text = format!(
            "point {} at {stamp}: {} tx {tx} rx {rx}, {delta}",
            point.number, interface.name
        );
        match point.marks.as_slice() {
            [] | [Mark::Start] => log::info!("{text}"),
            marks => log::warn!("{text}, {marks:?}"),
        }
        tell(notify::status(&text));
    }

    fn complain(&self, error: &anyhow::Error) {
        log::error!("no point: {error:#}");
        tell(notify::status(&format!("no point: {error:#}")));
    }
}

/// Whether anybody hears us decides nothing.
fn tell(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("NOTIFY_SOCKET: {error}");
    }
}
