//! POST /api/v1/packages: a package comes in as the body, streamed to where packages are.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use bootagent_protocol::{AgentName, Checksum, SignedAs, Version};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;
use uuid::Uuid;

use super::assignments;
use super::packages::PackageView;
use crate::app::App;
use crate::auth::{May, OperateFleet};
use crate::blob::Finished;
use crate::clock::unix_millis;
use crate::extract::{Params, refuse_compressed};
use crate::fleet::package_choice::{PackageKind, canonical_arch};
use crate::openapi::{Allowed, BadBody, Conflicting, Full};
use crate::package::{InspectError, Inspected, inspect};
use crate::problem::{Problem, chain};
use crate::signature::SignatureError;
use crate::store::audit::By;
use crate::store::package::{PackageInserted, PackageRow};

/// How long an upload may pause.
const IDLE: Duration = Duration::from_secs(30);
/// How long an upload may take in all.
const TOTAL: Duration = Duration::from_secs(3600);

/// What the file is, where it does not say so itself. What is given is checked
/// against the file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadParams {
    /// The agent; read from the file when left out, which a deb packed with xz
    /// or zstd does not allow.
    name: Option<String>,
    /// Its version; likewise.
    version: Option<String>,
    /// `linux` (the default), a distribution such as `debian`, or a release
    /// such as `debian 12`.
    os: Option<String>,
    /// Architecture; read from rpm and deb, otherwise `x86_64`.
    arch: Option<String>,
    /// `rpm`, `deb` or `bundle`; always read from the file.
    kind: Option<String>,
    /// `SHA256:` and 64 hexadecimal digits, as whoever sends the file knows it.
    checksum: Option<String>,
    /// minisign signature, the text of its `.minisig`, which jobs pass on. Its
    /// trusted comment says `name=NAME version=VERSION`.
    signature: Option<String>,
}

/// Uploads a package.
#[utoipa::path(
    operation_id = "upload_package",
    post, path = "/api/v1/packages", tag = "packages", params(UploadParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The very same file was there already", body = PackageView),
        (status = 201, description = "Stored", body = PackageView),
        BadBody, Conflicting, Full, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn upload(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    Params(params): Params<UploadParams>,
    request: Request,
) -> Result<(StatusCode, Json<PackageView>), Problem> {
    refuse_compressed(request.headers())?;
    let max_bytes = app.bounds.max_package_bytes;
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes) {
        return Err(Problem::too_large(max_bytes));
    }
    let _place = app
        .uploads
        .try_acquire()
        .map_err(|_| Problem::unavailable("too many uploads are under way"))?;
    let received = timeout(TOTAL, receive(&app, request.into_body(), max_bytes)).await;
    let finished = received.map_err(|_| Problem::timed_out())??;
    let (mut bytes, again) = (finished.reader()?, finished.reader()?);
    let (keys, signature) = (app.trusted_keys.clone(), params.signature.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let inspected = inspect(&mut bytes).map_err(|error| not_inspected(&error))?;
        let signed = keys.check(signature.as_deref(), again);
        Ok::<_, Problem>((inspected, signed.map_err(|error| not_signed(&error))?))
    });
    let (inspected, signed) = looked.await.map_err(|_| Problem::internal())??;
    let package = described(&params, &inspected, signed.as_ref(), &finished)?;
    // On a task of its own: a caller that hangs up must not leave a row
    // without its blob.
    let app = app.clone();
    let kept = tokio::spawn(async move { keep(&app, finished, package, &operator.by).await });
    kept.await.unwrap_or_else(|_| Err(Problem::internal()))
}

async fn receive(app: &App, mut body: Body, max_bytes: u64) -> Result<Finished, Problem> {
    let mut upload = app.blobs.begin().await?;
    loop {
        let frame = timeout(IDLE, body.frame())
            .await
            .map_err(|_| Problem::timed_out())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::malformed("the body ended before its length"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if upload.size() + data.len() as u64 > max_bytes {
            return Err(Problem::too_large(max_bytes));
        }
        upload.write(&data).await?;
    }
    Ok(upload.finish().await?)
}

async fn keep(
    app: &App,
    finished: Finished,
    package: PackageRow,
    by: &By,
) -> Result<(StatusCode, Json<PackageView>), Problem> {
    let _held = app.blobs.lock().await;
    if let Some(there) = app.store.package_by_file(&package.file).await? {
        return existing(there, &package);
    }
    let kept = app.blobs.keep(finished).await?;
    match app.store.insert_package(&package, kept.id(), by).await? {
        PackageInserted::Done => {
            kept.done();
            tracing::info!(id = %package.id, file = %package.file, "a package was uploaded");
            assignments::renew(app, &package.name, &package.version).await;
            Ok((StatusCode::CREATED, Json(package.into())))
        }
        PackageInserted::Exists(there) => existing(*there, &package),
    }
}

fn existing(
    there: PackageRow,
    package: &PackageRow,
) -> Result<(StatusCode, Json<PackageView>), Problem> {
    if there.sha256 == package.sha256 {
        if package.signature.is_some() && package.signature != there.signature {
            return Err(Problem::conflict(&format!(
                "the same file is there with another signature, or none, as package {}; delete that \
                 one first",
                there.id
            )));
        }
        return Ok((StatusCode::OK, Json(there.into())));
    }
    Err(Problem::conflict(&format!(
        "another file is there as {}, package {}; give it another version, or delete that one first",
        there.file, there.id
    )))
}

/// Puts together what was given and what the file says; they must agree.
fn described(
    params: &UploadParams,
    inspected: &Inspected,
    signed: Option<&SignedAs>,
    finished: &Finished,
) -> Result<PackageRow, Problem> {
    let mut wrong = Vec::new();
    let kind = inspected.kind;
    if params
        .kind
        .as_deref()
        .is_some_and(|given| PackageKind::parse(given) != Some(kind))
    {
        wrong.push(format!("kind: the file is a {}", kind.as_str()));
    }
    if let Some(given) = &params.checksum {
        match Checksum::parse(given) {
            Ok(sum) if sum.hex() == finished.sha256 => {}
            Ok(_) => wrong.push(format!("checksum: the file has SHA256:{}", finished.sha256)),
            Err(error) => wrong.push(format!("checksum: {error}")),
        }
    }
    let own_name = inspected.name.as_deref().map(agent_name);
    if let (Some(given), Some(own)) = (&params.name, own_name)
        && plain(given) != plain(own)
    {
        wrong.push(format!("name: the file says {own}"));
    }
    let own_version = inspected.version.as_deref();
    if let (Some(given), Some(own)) = (params.version.as_deref(), own_version)
        && !means(given, own)
    {
        wrong.push(format!("version: the file says {own}"));
    }
    let own_arch = inspected.arch.as_deref().map(canonical_arch);
    if let (Some(given), Some(own)) = (params.arch.as_deref(), own_arch)
        && canonical_arch(given) != own
    {
        wrong.push(format!("arch: the file says {own}"));
    }
    let name = params.name.as_deref().or(own_name).unwrap_or_default();
    let version = own_version
        .or(params.version.as_deref())
        .unwrap_or_default();
    let arch = own_arch
        .or(params.arch.as_deref().map(canonical_arch))
        .unwrap_or("x86_64");
    let os = params.os.as_deref().unwrap_or("linux");
    if let Err(error) = AgentName::parse(name) {
        wrong.push(format!("name: {error}; give it as ?name="));
    }
    if let Err(error) = Version::parse(version) {
        wrong.push(format!("version: {error}; give it as ?version="));
    }
    if let Some(signed) = signed {
        let (as_name, as_version) = (signed.name.as_str(), signed.version.to_string());
        if !as_name.eq_ignore_ascii_case(name) {
            wrong.push(format!("signature: it is for the name {as_name}"));
        }
        if !means(&as_version, version) {
            wrong.push(format!("signature: it is for the version {as_version}"));
        }
    }
    if !is_word(arch) {
        wrong.push("arch: a word such as x86_64 is expected".into());
    }
    if os.is_empty() || !os.splitn(2, ' ').all(is_word) {
        wrong.push("os: linux, or words such as debian 12 are expected".into());
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid_list(
            "the package is not what the request says",
            wrong,
        ));
    }
    let extension = kind.extension();
    let os_part = os.replace(' ', "-");
    Ok(PackageRow {
        id: Uuid::now_v7().to_string(),
        name: name.to_owned(),
        version: version.to_owned(),
        os: os.to_owned(),
        arch: arch.to_owned(),
        kind,
        file: format!("{name}/{name}-{version}.{os_part}-{arch}.{extension}"),
        size: i64::try_from(finished.size).unwrap_or(i64::MAX),
        sha256: finished.sha256.clone(),
        created: unix_millis(),
        signature: signed.and(params.signature.clone()),
    })
}

/// Whether a version may be said so: whole, or without its release.
fn means(given: &str, version: &str) -> bool {
    let rest = version.strip_prefix(given);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The agent in a package's name: `bootagent-flux-push` packs `flux-push`.
fn agent_name(package: &str) -> &str {
    package.strip_prefix("bootagent-").unwrap_or(package)
}

/// deb names know neither capitals nor `_`, so these do not count.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

fn not_inspected(error: &InspectError) -> Problem {
    match error {
        InspectError::Io(_) => {
            tracing::error!(error = chain(error), "an upload could not be read back");
            Problem::internal()
        }
        InspectError::NoPackage | InspectError::Damaged { .. } => {
            Problem::invalid(&error.to_string())
        }
    }
}

fn not_signed(error: &SignatureError) -> Problem {
    match error {
        SignatureError::Io(_) => {
            tracing::error!(error = chain(error), "an upload could not be read back");
            Problem::internal()
        }
        SignatureError::Refused(_) => {
            let detail = "the package is not what the request says";
            Problem::invalid_list(detail, vec![error.to_string()])
        }
    }
}
