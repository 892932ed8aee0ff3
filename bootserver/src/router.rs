//! The table of contents: every route, in one place.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{
    api_tokens, assignment_orders, assignments, audit, bulk, download, enrolment_tokens, errcodes,
    events, export, groups, health, host_edit, host_standing, hosts, job_results, jobs, metrics,
    packages, register, rollout_orders, rollouts, session, sessions, status, stream, upload, users,
};
use crate::app::App;
use crate::budget::admit;
use crate::idempotency::once;
use crate::openapi::Base;
use crate::problem::Problem;
use crate::request_log::log;

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Base::openapi())
        // hosts
        .routes(routes!(register::register))
        .routes(routes!(status::status))
        .routes(routes!(download::download))
        // operators
        .routes(routes!(session::sign_in, session::get, session::sign_out))
        .routes(routes!(session::change_password))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::change, users::delete))
        .routes(routes!(users::reset_password))
        .routes(routes!(api_tokens::list, api_tokens::create))
        .routes(routes!(api_tokens::get, api_tokens::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(enrolment_tokens::list, enrolment_tokens::create))
        .routes(routes!(enrolment_tokens::get, enrolment_tokens::revoke))
        .routes(routes!(hosts::list))
        .routes(routes!(bulk::change_hosts))
        .routes(routes!(hosts::get, host_edit::edit, host_standing::delete))
        .routes(routes!(host_standing::counts))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::get, groups::change, groups::delete))
        .routes(routes!(groups::name_hosts))
        .routes(routes!(bulk::change_members))
        .routes(routes!(host_standing::changes))
        .routes(routes!(host_standing::revoke))
        .routes(routes!(host_standing::rotate_secret))
        .routes(routes!(host_edit::set_tags))
        .routes(routes!(packages::list, upload::upload))
        .routes(routes!(packages::get, packages::delete))
        .routes(routes!(jobs::list, jobs::create))
        .routes(routes!(jobs::preview))
        .routes(routes!(jobs::get))
        .routes(routes!(jobs::cancel))
        .routes(routes!(rollouts::list, rollouts::create))
        .routes(routes!(rollouts::preview))
        .routes(routes!(rollouts::get))
        .routes(routes!(rollouts::targets))
        .routes(routes!(rollout_orders::confirm))
        .routes(routes!(rollout_orders::pause))
        .routes(routes!(rollout_orders::resume))
        .routes(routes!(rollout_orders::abort))
        .routes(routes!(rollout_orders::retry))
        .routes(routes!(rollout_orders::revert))
        .routes(routes!(assignments::list, assignments::create))
        .routes(routes!(assignments::preview))
        .routes(routes!(
            assignments::get,
            assignments::change,
            assignments::delete
        ))
        .routes(routes!(assignments::hosts))
        .routes(routes!(assignment_orders::confirm))
        .routes(routes!(assignment_orders::pause))
        .routes(routes!(assignment_orders::resume))
        .routes(routes!(assignment_orders::retry))
        .routes(routes!(job_results::list))
        .routes(routes!(events::list))
        .routes(routes!(stream::follow))
        .routes(routes!(errcodes::list))
        .routes(routes!(export::hosts))
        .routes(routes!(export::events))
        .routes(routes!(export::jobs))
        .routes(routes!(export::audit))
        // load balancers
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        // Prometheus
        .routes(routes!(metrics::metrics))
}

/// The service.
pub fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async || Problem::not_found("path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(app.clone(), pass))
        .with_state(app)
}

/// What every request passes, from the outside in. One layer, because each copies
/// all that is below it for each request.
async fn pass(State(app): State<App>, request: Request, next: Next) -> Response {
    let within = |request| once(&app, request, next);
    let within = |request| deadline(&app, request, within);
    let within = |request| admit(&app, request, within);
    log(&app, request, within).await
}

/// What the routes say of themselves.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

/// Ends requests that take too long to be answered. A body has a deadline of its
/// own for its arrival, an upload has two, and a download is answered before its
/// body is sent: what ends here is our own slowness.
async fn deadline<F: Future<Output = Response>>(
    app: &App,
    request: Request,
    within: impl FnOnce(Request) -> F,
) -> Response {
    let is_upload = request.method() == "POST" && request.uri().path() == "/api/v1/packages";
    if is_upload {
        return within(request).await;
    }
    match timeout(app.bounds.request_timeout * 2, within(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a request was not answered in time");
            Problem::unavailable("the server is too slow just now").into_response()
        }
    }
}
