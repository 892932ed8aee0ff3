//! The handlers, one file per resource. Each authenticates, loads, lets
//! `fleet` decide, stores, and replies.

pub mod api_tokens;
pub mod assignment_draft;
pub mod assignment_orders;
pub mod assignment_view;
pub mod assignments;
pub mod audit;
pub mod bulk;
pub mod download;
pub mod enrolment_tokens;
pub mod errcodes;
pub mod events;
pub mod export;
pub mod groups;
pub mod health;
pub mod host_edit;
pub mod host_query;
pub mod host_standing;
pub mod hosts;
pub mod job_order;
pub mod job_results;
pub mod jobs;
pub mod list;
pub mod metrics;
pub mod packages;
pub mod register;
pub mod rollout_orders;
pub mod rollout_view;
pub mod rollouts;
pub mod scope_view;
pub mod session;
pub mod sessions;
pub mod status;
pub mod stream;
pub mod upload;
pub mod users;
