//! The routes of the API, and the OpenAPI document, which is built from the same list.

use std::sync::LazyLock;

use actix_web::{
    App, HttpRequest,
    dev::{Path, ResourceDef},
    guard,
    http::Method,
    web::{self, ServiceConfig},
};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document,
        path::{Operation, PathItem},
    },
};
use utoipa_actix_web::{AppExt, service_config::ServiceConfig as ApiConfig};

use super::{
    Error, audit, batch, docs, document::complete, events, executors, health, leases, list, logs,
    metrics, openapi, plugins, prune, queues, stats, steer, tasks, tokens, webhooks,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nightshift",
        description = "Background tasks for any web stack over plain HTTP.\n\n\
            Errors are problems by RFC 9457 (`application/problem+json`) with a stable `code`. Each \
            operation lists its own; beside them, a path that is not here answers 404 \
            `unknown_route`, and a method that a path does not take 405 `method_not_allowed` with \
            `Allow`; a request that calls the service by a name that is not its own gets 421 \
            `unknown_host`, one that a page of another origin sends to change something 403 \
            `origin_refused`. The `type` of a problem leads to its explanation. HEAD is answered like \
            GET. Fields of bodies, query parameters and bodies that are not listed are refused.\n\n\
            A service that has tokens asks for one: `Authorization: Bearer TOKEN`, of the scope that \
            the operation names, or of `admin`. Without tokens it listens on loopback only.",
        contact(name = "The Nightshift authors"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8700", description = "Where `nightshift serve` listens")),
    // By default a new operation needs the scope admin, if there are tokens.
    security((), ("bearer" = ["admin"])),
    tags(
        (name = "tasks", description = "Enqueue work, ask after it, cancel it"),
        (name = "events", description = "Watch what happens, as it happens"),
        (name = "executors", description = "Who does the work"),
        (name = "leases", description = "How workers get tasks, and executors report"),
        (name = "plugins", description = "WebAssembly components that the service runs itself"),
        (name = "queues", description = "What waits where; pause and limit it"),
        (name = "tokens", description = "Who may ask for what, and who did what"),
        (name = "service", description = "The service itself"),
    ),
    components(schemas(
        wire::ExecuteMessage,
        wire::CancelMessage,
        wire::TaskEvent,
        wire::Problem
    )),
)]
struct Base;

/// Builds the OpenAPI document.
pub fn document() -> Document {
    let app = App::new().into_utoipa_app().openapi(Base::openapi());
    let mut document = app.configure(api).split_for_parts().1;
    document.webhooks = Some(webhooks::webhooks());
    complete(&mut document);
    document
}

/// The routes of the OpenAPI document.
fn api(config: &mut ApiConfig<'_>) {
    config
        .service(batch::create_tasks)
        .service(tasks::create_task)
        .service(list::list_tasks)
        .service(tasks::get_task)
        .service(tasks::get_task_status)
        .service(tasks::get_task_result)
        .service(logs::get_task_logs)
        .service(events::get_task_events)
        .service(events::get_events)
        .service(tasks::explain_task)
        .service(steer::cancel_task)
        .service(steer::retry_task)
        .service(steer::delete_task)
        .service(executors::list_executors)
        .service(executors::get_executor)
        .service(executors::put_executor)
        .service(executors::update_executor)
        .service(executors::delete_executor)
        .service(plugins::list_plugins)
        .service(plugins::get_plugin)
        .service(plugins::put_plugin)
        .service(plugins::roll_back_plugin)
        .service(plugins::delete_plugin)
        .service(queues::list_queues)
        .service(queues::get_queue)
        .service(queues::update_queue)
        .service(leases::lease_tasks)
        .service(leases::finish_leases)
        .service(leases::renew_lease)
        .service(leases::finish_lease)
        .service(leases::release_lease)
        .service(tokens::list_tokens)
        .service(tokens::create_token)
        .service(tokens::revoke_token)
        .service(audit::list_audit_entries)
        .service(stats::get_stats)
        .service(prune::prune_tasks)
        .service(health::get_health)
        .service(health::get_readiness)
        .service(metrics::get_metrics)
        .service(openapi::get_openapi);
}

/// Registers all routes.
pub fn configure(config: &mut ServiceConfig) {
    // This comes before the routes, because `/tasks/{id}` would take `batch` for a task's id.
    let batch = web::resource("/tasks/batch").guard(guard::Not(guard::Post()));
    config.service(batch.to(nowhere));
    api(&mut ApiConfig::new(config));
    docs::configure(config);
    config.default_service(web::route().to(nowhere));
}

/// The paths of the document, each with the methods that it accepts.
static ROUTES: LazyLock<Vec<(ResourceDef, String)>> = LazyLock::new(|| {
    document()
        .paths
        .paths
        .into_iter()
        .map(|(path, item)| (ResourceDef::new(path), methods(&item)))
        .collect()
});

fn methods(item: &PathItem) -> String {
    let mut taken: Vec<Method> = operations(item).map(|(method, _)| method).collect();
    if let Some(get) = taken.iter().position(|method| *method == Method::GET) {
        // HEAD is answered like GET.
        taken.insert(get + 1, Method::HEAD);
    }
    let taken: Vec<&str> = taken.iter().map(Method::as_str).collect();
    taken.join(", ")
}

/// The operations at a path, with their methods.
pub(super) fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

/// The problem for a request without a route: a wrong method, or else a wrong path. The path is
/// compared as it was sent.
pub(super) fn nothing_for(path: &str) -> Error {
    let takes =
        ROUTES.iter().find(|(route, _)| route.capture_match_info(&mut Path::new(path.to_owned())));
    match takes {
        Some((_, methods)) => Error::method_not_allowed(methods.clone()),
        None => Error::new(ErrorCode::UnknownRoute, format!("nothing is at {path}")),
    }
}

async fn nowhere(request: HttpRequest) -> Result<&'static str, Error> {
    Err(nothing_for(request.path()))
}
