//! An executor of kind `http`, which obeys only the service that knows its secret:
//! `NIGHTSHIFT_SECRET=whsec_... cargo run -p nightshift-client --features webhook --example
//! executor`, and register it with `nightshift executor put sky --url http://127.0.0.1:9000
//! --secret whsec_... --task-path 'sky.*'`.

use std::{io, net::TcpListener};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    web::{Bytes, Data, post},
};
use nightshift_client::webhook::{Message, Verifier};

async fn execute(request: HttpRequest, body: Bytes, verifier: Data<Verifier>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let message = match verifier.verify(&body, header) {
        Ok(Message::Execute(message)) => message,
        // This one is done before anybody could tell it to stop.
        Ok(Message::Cancel(_)) => return HttpResponse::NoContent().finish(),
        Err(error) => return HttpResponse::Unauthorized().body(error.to_string()),
    };
    match message.data.args.parse_as::<(i64, i64)>() {
        Ok((a, b)) => HttpResponse::Ok().json(a + b),
        // A status from 400 on fails the task, and is not tried again.
        Err(error) => HttpResponse::UnprocessableEntity()
            .json(serde_json::json!({"message": error.to_string()})),
    }
}

/// Answers calls on a socket.
pub fn server(listener: TcpListener, verifier: Verifier) -> io::Result<Server> {
    let verifier = Data::new(verifier);
    let app = move || App::new().app_data(verifier.clone()).route("/", post().to(execute));
    Ok(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run())
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a program of its own")]
    let secret = std::env::var("NIGHTSHIFT_SECRET").map_err(io::Error::other)?;
    let verifier = Verifier::new(&secret).map_err(io::Error::other)?;
    server(TcpListener::bind("127.0.0.1:9000")?, verifier)?.await
}
