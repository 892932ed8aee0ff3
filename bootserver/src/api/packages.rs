//! /api/v1/packages: the files hosts install. The upload is in `upload`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, OperateFleet, View};
use crate::extract::{Params, PathId};
use crate::fleet::package_choice::PackageKind;
use crate::openapi::{Allowed, BadQuery, Conflicting, Missing};
use crate::problem::{Problem, chain};
use crate::store::audit::By;
use crate::store::package::{PackageDeleted, PackageQuery, PackageRow};

/// One package file.
#[derive(Debug, Serialize, ToSchema)]
pub struct PackageView {
    /// Its id.
    id: String,
    /// The agent.
    name: String,
    /// Its version.
    version: String,
    /// `linux`, a distribution such as `debian`, or a release such as `debian 12`.
    os: String,
    /// Its architecture.
    arch: String,
    /// What the file is.
    kind: PackageKind,
    /// Bytes.
    size: i64,
    /// Its SHA-256, as jobs carry it.
    #[schema(example = "SHA256:4a34b8d7d3009bb9ef9475fbf33e7bbe4a1e8db003aefc578a241c2f51c2c2f2")]
    checksum: String,
    /// Where hosts fetch it, relative to this server.
    #[schema(example = "/packages/flux-push/flux-push-0.1.0-1.linux-x86_64.tar.gz")]
    url: String,
    /// Its minisign signature, which jobs pass on.
    signature: Option<String>,
    /// When it was uploaded, in unix milliseconds.
    created: i64,
}

impl From<PackageRow> for PackageView {
    fn from(row: PackageRow) -> Self {
        let url = row.url();
        let PackageRow {
            id,
            name,
            version,
            os,
            arch,
            kind,
            size,
            sha256,
            created,
            signature,
            ..
        } = row;
        let checksum = format!("SHA256:{sha256}");
        Self {
            id,
            name,
            version,
            os,
            arch,
            kind,
            size,
            checksum,
            url,
            signature,
            created,
        }
    }
}

/// Which packages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PackageParams {
    /// Only of this agent (indexed).
    name: Option<String>,
    /// Only of this version.
    version: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Packages, newest first.
#[utoipa::path(
    operation_id = "list_packages",
    get, path = "/api/v1/packages", tag = "packages", params(PackageParams),
    responses((status = 200, description = "One page", body = List<PackageView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    _: May<View>,
    State(app): State<App>,
    Params(params): Params<PackageParams>,
) -> Result<Json<List<PackageView>>, Problem> {
    let query = PackageQuery {
        name: params.name,
        version: params.version,
        after: list::id_cursor(params.cursor)?,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.packages(&query).await?;
    Ok(Json(page.map(PackageView::from).into()))
}

/// One package.
#[utoipa::path(
    operation_id = "get_package",
    get, path = "/api/v1/packages/{id}", tag = "packages",
    params(("id" = String, Path, description = "The package")),
    responses((status = 200, description = "The package", body = PackageView), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(
    _: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<PackageView>, Problem> {
    let package = app.store.package(&id).await?;
    let package = package.ok_or_else(|| Problem::not_found("package"))?;
    Ok(Json(package.into()))
}

/// Deletes a package no open job needs.
#[utoipa::path(
    operation_id = "delete_package",
    delete, path = "/api/v1/packages/{id}", tag = "packages",
    params(("id" = String, Path, description = "The package")),
    responses((status = 204, description = "It is gone"), Missing, Conflicting, Allowed),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn delete(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    // On a task of its own: a caller that hangs up must not leave a blob
    // without its row.
    let done = tokio::spawn(async move { delete_whole(&app, &id, &operator.by).await });
    done.await.unwrap_or_else(|_| Err(Problem::internal()))
}

async fn delete_whole(app: &App, id: &str, by: &By) -> Result<StatusCode, Problem> {
    let _held = app.blobs.lock().await;
    match app.store.delete_package(id, by).await? {
        PackageDeleted::Done { orphan } => {
            if let Some(sha256) = orphan
                && let Err(error) = app.blobs.remove(&sha256).await
            {
                // The package is gone all the same; only its space is not.
                tracing::warn!(error = chain(&error), "a deleted package left its bytes");
            }
            tracing::info!(id, "a package was deleted");
            Ok(StatusCode::NO_CONTENT)
        }
        PackageDeleted::InUse { job } => Err(Problem::conflict(&format!(
            "the open job {job} needs this package; wait for its result or cancel it"
        ))),
        PackageDeleted::InRollout { rollout } => Err(Problem::conflict(&format!(
            "the rollout {rollout} needs this package; wait for its end or abort it"
        ))),
        PackageDeleted::Assigned { assignment } => Err(Problem::conflict(&format!(
            "the assignment {assignment} needs this package; assign another version, or delete it"
        ))),
        PackageDeleted::Unknown => Err(Problem::not_found("package")),
    }
}
