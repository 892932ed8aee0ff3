//! GET /api/v1/errcodes: the one table, for consoles and scripts.

use axum::Json;
use bootagent_protocol::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::list::List;
use crate::auth::{May, View};
use crate::openapi::Allowed;

/// One error code.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorCodeView {
    /// The number in `errcode`.
    pub code: u16,
    /// What it means.
    pub meaning: &'static str,
}

/// What the numbers in job results mean.
#[utoipa::path(
    operation_id = "list_errcodes",
    get, path = "/api/v1/errcodes", tag = "jobs",
    responses((status = 200, description = "All codes", body = List<ErrorCodeView>), Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(_: May<View>) -> Json<List<ErrorCodeView>> {
    let items = ErrorCode::TABLE
        .iter()
        .map(|row| ErrorCodeView {
            code: row.code.0,
            meaning: row.meaning,
        })
        .collect();
    Json(List {
        items,
        next: None,
        total: None,
    })
}
