//! Completes the OpenAPI document with facts that cannot be derived from handlers and types.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    IntoResponses,
    openapi::{
        Discriminator, ObjectBuilder, OneOfBuilder, OpenApi as Document, Ref, RefOr, Response,
        Schema,
        extensions::Extensions,
        path::{Operation, Parameter, PathItem},
        schema::{Object, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        server::ServerBuilder,
    },
};

use super::{
    Home,
    responses::{Admitted, Bodiless, Problems, Queried},
};

/// Sets the servers of the document: the place from which it was read, which is right below any
/// path of a proxy, and `public_url`.
pub(super) fn set_servers(document: &mut Document, home: &Home) {
    let here = (".", "Where this document was read");
    let set = home.url().map(|url| (url, "The setting public_url"));
    let servers = std::iter::once(here).chain(set).map(|(url, description)| {
        ServerBuilder::new().url(url).description(Some(description)).build()
    });
    document.servers = Some(servers.collect());
}

/// Completes the document that was derived from the handlers and their types.
pub(super) fn complete(document: &mut Document) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            only_described_parameters(operation);
            without_null_parameters(operation);
            name_events(operation);
            may_be_refused(operation);
            may_hold_too_much(operation);
        }
    }
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A token with the scope that the operation names, or `admin`. Asked for as soon as the \
             service has tokens.",
    ));
    components
        .security_schemes
        .insert("bearer".to_owned(), SecurityScheme::Http(bearer.build()).into());
    one_end_at_most(&mut components.schemas);
    executors_by_kind(&mut components.schemas);
}

/// Adds the problems for inputs that an operation does not have, which are refused (`inputs.rs`).
fn may_hold_too_much(operation: &mut Operation) {
    Problems::<Queried>::add_to(operation);
    if operation.request_body.is_none() {
        Problems::<Bodiless>::add_to(operation);
    }
}

/// Adds the problems of tokens. A token that is not valid is refused even where none is required.
fn may_be_refused(operation: &mut Operation) {
    let open = operation.security == Some(vec![SecurityRequirement::default()]);
    for (status, answer) in Problems::<Admitted>::responses() {
        if !(open && status == "403") {
            operation.responses.responses.entry(status).or_insert(answer);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Removes parameters without a description. They are found a second time, by name alone, in the
/// path that a handler takes.
fn only_described_parameters(operation: &mut Operation) {
    if let Some(parameters) = &mut operation.parameters {
        parameters.retain(|parameter| {
            matches!(parameter, RefOr::T(Parameter { description: Some(_), .. }))
        });
    }
}

/// Removes null from the types of parameters. A parameter may be left out, but a text in a query or
/// a header cannot be null.
fn without_null_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { schema: Some(schema), .. }) = parameter {
            without_null(schema);
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(Object { schema_type: SchemaType::Array(types), .. })) => {
            types.retain(|kind| !matches!(kind, Type::Null));
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.retain(|item| !is_null(item));
            if one_of.items.len() == 1 {
                let only = one_of.items.swap_remove(0);
                *schema = only;
            }
        }
        RefOr::Ref(_) | RefOr::T(_) => {}
    }
    // Write a single type as a text, since older generators cannot read lists of types.
    if let RefOr::T(Schema::Object(object)) = schema
        && let SchemaType::Array(types) = &object.schema_type
        && let [only] = types.as_slice()
    {
        object.schema_type = SchemaType::Type(only.clone());
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = schema else {
        return false;
    };
    matches!(object.schema_type, SchemaType::Type(Type::Null))
}

/// States the schema of the data in an event stream. OpenAPI can do so only from version 3.2 on, so
/// `contentSchema` of JSON Schema is used, which describes any text with an inner format.
fn name_events(operation: &mut Operation) {
    let answers = operation.responses.responses.values_mut();
    for answer in answers {
        let RefOr::T(Response { content, .. }) = answer else { continue };
        let Some(RefOr::T(stream)) = content.get_mut("text/event-stream") else { continue };
        if let Some(RefOr::T(Schema::Object(text))) = &mut stream.schema {
            let event = json!({"$ref": "#/components/schemas/TaskEvent"});
            text.extensions = Some(Extensions::from_iter([("contentSchema", event)]));
        }
    }
}

type Schemas = BTreeMap<String, RefOr<Schema>>;

fn object<'a>(schemas: &'a mut Schemas, name: &str) -> Option<&'a mut Object> {
    match schemas.get_mut(name) {
        Some(RefOr::T(Schema::Object(object))) => Some(object),
        Some(_) | None => None,
    }
}

/// States that a report of an attempt's end has at most one of its three fields. Without any, the
/// attempt succeeded with null. This does not hold for the entries of a list, each of which is
/// answered by itself: there, a wrong one must not refuse the whole request.
fn one_end_at_most(schemas: &mut Schemas) {
    let Some(end) = object(schemas, "FinishRequest") else {
        return;
    };
    end.max_properties = Some(1);
    if let Some(error) = end.properties.get_mut("error") {
        without_null(error);
    }
    if let Some(RefOr::T(Schema::Object(cancelled))) = end.properties.get_mut("cancelled") {
        cancelled.enum_values = Some(vec![true.into()]);
    }
}

/// One kind of executor in the document.
struct Kind {
    name: &'static str,
    schema: &'static str,
    description: &'static str,
    required: &'static [&'static str],
    /// Fields that executors of other kinds do not have.
    fields: &'static [&'static str],
}

const OF_KIND: [Kind; 3] = [
    Kind {
        name: "http",
        schema: "HttpExecutorRequest",
        description: "An executor that the service calls.",
        required: &["kind", "task_paths", "url", "secret"],
        fields: &["url", "secret", "previous_secret", "echoes_task_id"],
    },
    Kind {
        name: "worker",
        schema: "WorkerExecutorRequest",
        description: "An executor whose workers ask for tasks.",
        required: &["kind", "task_paths"],
        fields: &[],
    },
    Kind {
        name: "wasm",
        schema: "WasmExecutorRequest",
        description: "A plugin that the service runs in a sandbox.",
        required: &["kind", "plugin"],
        fields: &["plugin", "memory_mib", "grants"],
    },
];

/// Replaces the schema of an executor's registration by one for each kind. In the code it is one
/// type, which is easier to check and to read; with three schemas, the compilers of clients find
/// fields that do not belong to the kind.
fn executors_by_kind(schemas: &mut Schemas) {
    let Some(RefOr::T(Schema::Object(all))) = schemas.remove("ExecutorRequest") else {
        return;
    };
    let mut either = OneOfBuilder::new().description(all.description.clone());
    let mut discriminator = Discriminator::new("kind");
    for kind in &OF_KIND {
        let reference = Ref::from_schema_name(kind.schema);
        discriminator.mapping.insert(kind.name.to_owned(), reference.ref_location.clone());
        either = either.item(reference);
        schemas.insert(kind.schema.to_owned(), of_kind(all.clone(), kind).into());
    }
    let either = either.discriminator(Some(discriminator)).build();
    schemas.insert("ExecutorRequest".to_owned(), Schema::OneOf(either).into());
}

fn of_kind(mut request: Object, kind: &Kind) -> Schema {
    request.description = Some(kind.description.to_owned());
    request.properties.retain(|field, _| {
        !OF_KIND
            .iter()
            .any(|other| other.name != kind.name && other.fields.contains(&field.as_str()))
    });
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .enum_values(Some([kind.name]))
        .description(Some("How the executor gets its tasks."));
    request.properties.insert("kind".to_owned(), name.into());
    request.required = kind.required.iter().map(|field| (*field).to_owned()).collect();
    for field in kind.required {
        if let Some(schema) = request.properties.get_mut(*field) {
            without_null(schema);
        }
    }
    if kind.required.contains(&"task_paths")
        && let Some(RefOr::T(Schema::Array(paths))) = request.properties.get_mut("task_paths")
    {
        paths.min_items = Some(1);
    }
    Schema::Object(request)
}
