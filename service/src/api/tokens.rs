//! `/tokens`: makes, lists and revokes access tokens.

use actix_web::{HttpResponse, delete, get, post, web::Path};
use nightshift_openapi as wire;
use nightshift_openapi::ErrorCode;

use super::{
    Error, Shared, convert,
    cursor::ByName,
    extract::{Body, Query},
    params::OfToken,
    responses::{LastAdmin, NameTaken, NoSuchToken, Paged, Problems, Sent, Stored, Written},
};
use crate::{
    access::Caller,
    domain::token::Secret,
    store::{CreateTokenAnswer, CreateTokenRequest, RevokeTokenAnswer, RevokeTokenRequest},
};

fn not_found() -> Error {
    Error::new(ErrorCode::TokenNotFound, "no token has this name")
}

fn admin_needed() -> Error {
    let detail = "a token of scope admin that does not expire has to be there, or else an \
                  admin_token in the settings";
    Error::new(ErrorCode::AdminTokenNeeded, detail)
}

/// Make a token
///
/// From the first token on, every request needs one. So the first has to be of scope `admin`,
/// unless the settings have an `admin_token`. The secret is in the answer and nowhere else.
#[utoipa::path(
    tag = "tokens",
    operation_id = "create_token",
    request_body(content = wire::TokenRequest, example = json!(wire::examples::token_request())),
    responses(
        (status = 201, description = "The token, with its secret", body = wire::CreatedToken,
            example = json!(wire::examples::created_token())),
        Problems<(Sent, NameTaken, LastAdmin, Written)>,
    )
)]
#[post("/tokens")]
pub(super) async fn create_token(
    state: Shared,
    caller: Caller,
    body: Body<wire::TokenRequest>,
) -> Result<HttpResponse, Error> {
    let secret = Secret::new(state.entropy.bytes());
    let token = convert::new_token(body.0, secret.hash(), state.clock.now())?;
    let note = caller.note("create_token", &token.name);
    let request = CreateTokenRequest { token, admin_elsewhere: state.access.admin_elsewhere() };
    let token = match state.store.create_token(request, note).await? {
        CreateTokenAnswer::Created(token) => token,
        CreateTokenAnswer::NameTaken => {
            let detail = "a token has, or had, this name";
            return Err(Error::new(ErrorCode::TokenNameTaken, detail));
        }
        CreateTokenAnswer::AdminNeeded => return Err(admin_needed()),
    };
    // Before the answer, so that the client can use the token at once.
    state.access.refresh(&state.store).await?;
    Ok(HttpResponse::Created()
        .json(wire::CreatedToken { secret: secret.into_text(), token: convert::wire_token(token) }))
}

/// List tokens, by name
///
/// Revoked and expired ones too.
#[utoipa::path(
    tag = "tokens",
    operation_id = "list_tokens",
    params(ByName),
    responses(
        (status = 200, description = "One page", body = wire::TokenList,
            example = json!(wire::examples::token_list())),
        Problems<(Paged, Stored)>,
    )
)]
#[get("/tokens")]
pub(super) async fn list_tokens(
    state: Shared,
    query: Query<ByName>,
) -> Result<HttpResponse, Error> {
    let mut tokens = state.store.all_tokens().await?;
    // Sort by bytes, as cursors assume. The database may sort in another order.
    tokens.sort_by(|a, b| a.name.cmp(&b.name));
    let (page, next_cursor) = query.0.page(tokens, |token| token.name.as_str())?;
    let items = page.into_iter().map(convert::wire_token).collect();
    Ok(HttpResponse::Ok().json(wire::TokenList { items, next_cursor }))
}

/// Revoke a token
///
/// It holds no more: at once in the process that answers, within a second or two in the others.
/// It stays in the list, and its name stays taken.
#[utoipa::path(
    tag = "tokens",
    operation_id = "revoke_token",
    params(OfToken),
    responses(
        (status = 204, description = "The token does not hold"),
        Problems<(NoSuchToken, LastAdmin, Written)>,
    )
)]
#[delete("/tokens/{name}")]
pub(super) async fn revoke_token(
    state: Shared,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let name = name.parse().map_err(|_malformed| not_found())?;
    let note = caller.note("revoke_token", &name);
    let request = RevokeTokenRequest { name, admin_elsewhere: state.access.admin_elsewhere() };
    match state.store.revoke_token(request, note).await? {
        RevokeTokenAnswer::Revoked | RevokeTokenAnswer::Unchanged => {}
        RevokeTokenAnswer::NotFound => return Err(not_found()),
        RevokeTokenAnswer::AdminNeeded => return Err(admin_needed()),
    }
    // Before the answer, after which this process must not accept the token.
    state.access.refresh(&state.store).await?;
    Ok(HttpResponse::NoContent().finish())
}
