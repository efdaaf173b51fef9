//! `/plugins`: installs, lists, rolls back and deletes plugins.

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post, put,
    web::{Path, Payload},
};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    cursor::ByName,
    executors::not_registered,
    extract::{self, Lot, Query, Report},
    params::OfPlugin,
    responses::{Counted, InUse, Installed, NoSuchPlugin, Paged, Problems, Sent, Stored, Written},
};
use crate::{
    access::Caller,
    domain::{
        names::PluginName,
        plugin::{Digest, NewPlugin},
    },
    plugin::{Inspected, Refusal},
    store::{ActivateAnswer, ActivateRequest, UninstallAnswer},
};

fn not_found() -> Error {
    Error::new(ErrorCode::PluginNotFound, "no plugin has this name")
}

/// Parses the name of an existing plugin. A name that is not valid cannot be installed, so it is
/// not found.
fn known_name(name: &str) -> Result<PluginName, Error> {
    name.parse().map_err(|_malformed| not_found())
}

/// List plugins, by name
///
/// With the tasks that each describes, and its versions.
#[utoipa::path(
    tag = "plugins",
    operation_id = "list_plugins",
    security((), ("bearer" = ["read"])),
    params(ByName),
    responses(
        (status = 200, description = "One page", body = wire::PluginList,
            example = json!(wire::examples::plugin_list())),
        Problems<(Paged, Stored)>,
    )
)]
#[get("/plugins")]
pub(super) async fn list_plugins(
    state: Shared,
    query: Query<ByName>,
) -> Result<HttpResponse, Error> {
    let plugins = state.store.plugins().await?;
    let (page, next_cursor) = query.0.page(plugins, |plugin| plugin.name.as_str())?;
    let items = page.iter().map(convert::wire_plugin).collect();
    Ok(HttpResponse::Ok().json(wire::PluginList { items, next_cursor }))
}

/// Read what a plugin describes, and its versions
///
/// The version of `digest` is the one that new attempts run.
#[utoipa::path(
    tag = "plugins",
    operation_id = "get_plugin",
    security((), ("bearer" = ["read"])),
    params(OfPlugin),
    responses(
        (status = 200, description = "The plugin", body = wire::Plugin,
            example = json!(wire::examples::plugin())),
        Problems<(NoSuchPlugin, Stored)>,
    )
)]
#[get("/plugins/{name}")]
pub(super) async fn get_plugin(state: Shared, name: Path<String>) -> Result<HttpResponse, Error> {
    let name = known_name(&name)?.to_string();
    let plugin = state.store.plugin(name).await?.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(convert::wire_plugin(&plugin)))
}

/// Install a plugin
///
/// The body is a WebAssembly component for the world `nightshift:plugin/plugin@0.1.0`. It is
/// compiled and asked for its tasks; if either fails nothing changes. From then on new attempts
/// run it, while those that run go on with the version that they have. Unless an executor has the
/// plugin's name, one of kind `wasm` is registered for the tasks that it describes.
#[utoipa::path(
    tag = "plugins",
    operation_id = "put_plugin",
    params(OfPlugin),
    request_body(content = wire::Component, content_type = "application/wasm"),
    responses(
        (status = 200, description = "Another version runs under the name", body = wire::Plugin,
            example = json!(wire::examples::plugin())),
        (status = 201, description = "The plugin is installed", body = wire::Plugin,
            example = json!(wire::examples::plugin())),
        Problems<(Installed, Counted, Written)>,
    )
)]
#[put("/plugins/{name}")]
pub(super) async fn put_plugin(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Error> {
    let name: PluginName = name.parse()?;
    if !extract::has_type(&request, "application/wasm") {
        return Err(extract::unsupported(&request, "application/wasm"));
    }
    let too_many = || Error::new(ErrorCode::Overloaded, "too many plugins are being installed");
    // Take the permit before the body is read, since components are large.
    let _turn = state.plugins.turn().ok_or_else(too_many)?;
    let lot = Lot::Open(state.limits.plugin_bytes_max);
    let component = extract::read(&request, payload.into_inner(), lot).await?;
    let Inspected { digest, description, plugin } =
        state.plugins.inspect(&component).await.map_err(refused)?;
    let note = caller.note("put_plugin", &name);
    let new = NewPlugin { name, digest, description, component };
    let installed = state.store.install_plugin(new, note).await?.map_err(not_registered)?;
    state.plugins.keep(&installed.plugin.name, digest, plugin);
    let mut answer = if installed.created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(convert::wire_plugin(&installed.plugin)))
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unfit(reason) => Error::new(ErrorCode::InvalidPlugin, reason),
        Refusal::Broken(error) => {
            tracing::error!(error = %format!("{error:#}"), "a component could not be inspected");
            Error::new(ErrorCode::Internal, "the cause is in the service's log")
        }
    }
}

/// Go back to an earlier version of a plugin
///
/// The four versions that were active last before the active one are kept.
#[utoipa::path(
    tag = "plugins",
    operation_id = "roll_back_plugin",
    params(OfPlugin),
    request_body(content = Option<wire::RollbackRequest>, example = json!(wire::examples::rollback_request())),
    responses(
        (status = 200, description = "The version runs from now on", body = wire::Plugin,
            example = json!(wire::examples::rolled_back_plugin())),
        Problems<(Sent, NoSuchPlugin, Written)>,
    )
)]
#[post("/plugins/{name}/rollback")]
pub(super) async fn roll_back_plugin(
    state: Shared,
    caller: Caller,
    name: Path<String>,
    body: Report<wire::RollbackRequest>,
) -> Result<HttpResponse, Error> {
    let name = known_name(&name)?;
    let digest: Option<Digest> = body.0.digest.as_deref().map(str::parse).transpose()?;
    let note = caller.note("roll_back_plugin", &name);
    match state.store.activate_plugin(ActivateRequest { name, digest }, note).await? {
        ActivateAnswer::Done(plugin) => Ok(HttpResponse::Ok().json(convert::wire_plugin(&plugin))),
        ActivateAnswer::NoPlugin => Err(not_found()),
        ActivateAnswer::NoVersion => {
            Err(Error::new(ErrorCode::PluginNotFound, "the plugin has no such version"))
        }
    }
}

/// Forget a plugin
///
/// All its versions go, and the executor of its name. What runs goes on; waiting tasks wait for
/// another executor.
#[utoipa::path(
    tag = "plugins",
    operation_id = "delete_plugin",
    params(OfPlugin),
    responses(
        (status = 204, description = "The plugin is forgotten"),
        Problems<(NoSuchPlugin, InUse, Written)>,
    )
)]
#[delete("/plugins/{name}")]
pub(super) async fn delete_plugin(
    state: Shared,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let name = known_name(&name)?;
    let note = caller.note("delete_plugin", &name);
    match state.store.uninstall_plugin(name.clone(), note).await? {
        UninstallAnswer::Done => {
            state.plugins.forget(&name);
            Ok(HttpResponse::NoContent().finish())
        }
        UninstallAnswer::NoPlugin => Err(not_found()),
        UninstallAnswer::InUse(executor) => {
            let detail = format!("the executor {executor} runs it");
            Err(Error::new(ErrorCode::PluginInUse, detail))
        }
    }
}
