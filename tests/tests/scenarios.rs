//! What operators are promised, shown with the real programs.
//!
//! One file per promise in `scenarios/`. The one rule: a scenario that cannot
//! run here says `SKIPPED` and why.

#[path = "scenarios/actions.rs"]
mod actions;
#[path = "scenarios/assignments.rs"]
mod assignments;
#[path = "scenarios/bootctl.rs"]
mod bootctl;
#[path = "scenarios/disk.rs"]
mod disk;
#[path = "scenarios/durable.rs"]
mod durable;
#[path = "scenarios/events.rs"]
mod events;
#[path = "scenarios/fail_over.rs"]
mod fail_over;
#[path = "scenarios/failing_children.rs"]
mod failing_children;
#[path = "scenarios/health.rs"]
mod health;
#[path = "scenarios/identity.rs"]
mod identity;
#[path = "scenarios/limits.rs"]
mod limits;
#[path = "scenarios/main_job.rs"]
mod main_job;
#[path = "scenarios/notify.rs"]
mod notify;
#[path = "scenarios/old_kernel.rs"]
mod old_kernel;
#[path = "scenarios/own_config.rs"]
mod own_config;
#[path = "scenarios/processes.rs"]
mod processes;
#[path = "scenarios/reexec.rs"]
mod reexec;
#[path = "scenarios/refused_jobs.rs"]
mod refused_jobs;
#[path = "scenarios/refused_packages.rs"]
mod refused_packages;
#[path = "scenarios/rollback.rs"]
mod rollback;
#[path = "scenarios/rollouts.rs"]
mod rollouts;
#[path = "scenarios/secrets.rs"]
mod secrets;
#[path = "scenarios/signatures.rs"]
mod signatures;
#[path = "scenarios/sources.rs"]
mod sources;
#[path = "scenarios/stage.rs"]
mod stage;
#[path = "scenarios/tls.rs"]
mod tls;
#[path = "scenarios/wire.rs"]
mod wire;
