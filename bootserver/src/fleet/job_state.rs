//! What a job is, from the few facts a row holds.

use bootagent_protocol::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Not handed out yet.
    Waiting,
    /// In a reply to its host, which has not said that it has it.
    Sent,
    /// The host has it in its journal.
    Accepted,
    /// Done.
    Succeeded,
    /// Ended with an error code.
    Failed,
    /// Withdrawn before it began.
    Cancelled,
    /// Not begun in time.
    Expired,
    /// Nobody knows how it ended; its host may still say.
    Lost,
}

/// The facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobMarks {
    /// When it was first handed out.
    pub sent: Option<i64>,
    /// When its host first said that it has it.
    pub accepted: Option<i64>,
    /// How it ended.
    pub errcode: Option<ErrorCode>,
}

/// The state these facts mean.
pub fn job_state(marks: JobMarks) -> JobState {
    match marks.errcode {
        Some(ErrorCode::SUCCESS) => JobState::Succeeded,
        Some(ErrorCode::CANCELLED) => JobState::Cancelled,
        Some(ErrorCode::EXPIRED) => JobState::Expired,
        Some(ErrorCode::LOST | ErrorCode::RESTORED) => JobState::Lost,
        Some(_) => JobState::Failed,
        None if marks.accepted.is_some() => JobState::Accepted,
        None if marks.sent.is_some() => JobState::Sent,
        None => JobState::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_the_furthest_mark() {
        let check = |sent, accepted, code: Option<u16>| {
            job_state(JobMarks {
                sent,
                accepted,
                errcode: code.map(ErrorCode),
            })
        };
        assert_eq!(check(None, None, None), JobState::Waiting);
        assert_eq!(check(Some(1), None, None), JobState::Sent);
        assert_eq!(check(Some(1), Some(2), None), JobState::Accepted);
        assert_eq!(check(Some(1), Some(2), Some(0)), JobState::Succeeded);
        assert_eq!(check(Some(1), None, Some(3001)), JobState::Failed);
        assert_eq!(check(None, None, Some(1006)), JobState::Cancelled);
        assert_eq!(check(None, None, Some(1005)), JobState::Expired);
        assert_eq!(check(Some(1), Some(2), Some(1007)), JobState::Lost);
        assert_eq!(check(Some(1), Some(2), Some(1008)), JobState::Lost);
    }
}
