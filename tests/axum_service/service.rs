//! A web service on the library: each user's schedules over HTTP, on the volume that the mounts show.
//!
//! ```text
//! POST   /schedules         201, {"id": "…"}       the body is the record
//! GET    /schedules         200, ["…", "…"]
//! GET    /schedules/{id}    200, the record without its secrets
//! DELETE /schedules/{id}    204
//! ```
//!
//! Every request needs `Authorization: Bearer KEY`; errors are `{"detail": "…"}`. Once it listens it prints its URL. It
//! runs as the account that owns the volume, and speaks plain HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use serde_json::json;
use tenantfs::auth::{ApiKey, Authenticator as _, HttpService, ServiceOptions, Shared};
use tenantfs::error::{self, Doing, Error, Kind};
use tenantfs::event::{LogObserver, Observer};
use tenantfs::layout::Layout;
use tenantfs::name::RecordId;
use tenantfs::seal::SealingKeys;
use tenantfs::store::{Collection, Options, Store};
use tenantfs::volume::Volume;
use tokio::net::TcpListener;

/// Serves each user's schedules over HTTP.
#[derive(Parser)]
struct Args {
    /// The volume's root directory
    #[arg(long, value_name = "DIR")]
    volume: PathBuf,

    /// How directories are arranged on the volume
    #[arg(long, default_value_t)]
    layout: Layout,

    /// The service that says whose a key is
    #[arg(long, value_name = "URL")]
    auth_url: String,

    /// The keys that seal secrets; without them a record with a secret is refused
    #[arg(long, value_name = "FILE")]
    sealing_keys: Option<PathBuf>,

    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

/// What all requests share.
struct Service {
    auth: Shared<HttpService>,
    volume: Volume,
    options: Options,
    observer: Arc<dyn Observer>,
}

impl Service {
    fn new(args: &Args) -> error::Result<Self> {
        Ok(Self {
            auth: Shared::new(HttpService::new(&args.auth_url, ServiceOptions::default())?),
            volume: Volume::open(&args.volume)?,
            options: Options {
                layout: args.layout,
                keys: args
                    .sealing_keys
                    .as_deref()
                    .map(SealingKeys::load)
                    .transpose()?
                    .map(Arc::new),
                ..Options::default()
            },
            observer: Arc::new(LogObserver::default()),
        })
    }
}

/// The schedules of whoever asks. A handler that takes this has no way to anybody else's.
struct Schedules(Collection);

impl FromRequestParts<Arc<Service>> for Schedules {
    type Rejection = Failure;

    async fn from_request_parts(request: &mut Parts, service: &Arc<Service>) -> Result<Self, Failure> {
        let key = api_key(&request.headers).ok_or_else(Failure::unauthorized)?;
        let principal = service.auth.validate(&key).await?.principal;
        let service = Arc::clone(service);
        blocking(move || {
            let Service {
                volume,
                options,
                observer,
                ..
            } = &*service;
            let store = Store::open(volume, &principal, options.clone(), Arc::clone(observer))?;
            store.collection("schedules").map(Self)
        })
        .await
    }
}

fn api_key(headers: &HeaderMap) -> Option<ApiKey> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = scheme.eq_ignore_ascii_case("bearer").then(|| ApiKey::new(key));
    key?.ok()
}

/// Does what waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> error::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Error::new(Kind::Io, "the request's work panicked"))??)
}

/// What could not be done, as HTTP says it.
struct Failure {
    status: StatusCode,
    detail: String,
}

impl Failure {
    fn unauthorized() -> Self {
        let detail = "a valid API key is needed: send the header Authorization: Bearer KEY".to_owned();
        Self {
            status: StatusCode::UNAUTHORIZED,
            detail,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret => StatusCode::BAD_REQUEST,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::AuthenticationRefused => return Self::unauthorized(),
            Kind::AuthenticationUnreachable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::HashCollision => StatusCode::FORBIDDEN,
            Kind::NoSpace | Kind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // What is the operator's to mend is the operator's to read.
        let detail = match status.is_server_error() {
            true => {
                log::error!("{error}");
                status.canonical_reason().unwrap_or_default().to_owned()
            }
            false => error.to_string(),
        };
        Self { status, detail }
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        let (status, detail) = (rejection.status(), rejection.body_text());
        Self { status, detail }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(json!({ "detail": self.detail }));
        match self.status {
            StatusCode::UNAUTHORIZED => (self.status, [(WWW_AUTHENTICATE, "Bearer")], body).into_response(),
            _ => (self.status, body).into_response(),
        }
    }
}

/// The record that a path names. An id that none can have is that of none.
struct Id(RecordId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(request: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(request, state).await.ok();
        let id = path.and_then(|Path(id)| RecordId::new(&id).ok());
        let id = id.ok_or_else(|| Error::new(Kind::NotFound, "there is no such record"))?;
        Ok(Self(id))
    }
}

async fn create(
    Schedules(schedules): Schedules,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Failure> {
    let record = body?;
    let id = blocking(move || {
        let id = RecordId::random()?;
        schedules.save(&id, &record).map(|()| id)
    })
    .await?;
    let location = [(LOCATION, format!("/schedules/{id}"))];
    Ok((StatusCode::CREATED, location, Json(json!({ "id": id.as_str() }))))
}

async fn list(Schedules(schedules): Schedules) -> Result<Json<Vec<String>>, Failure> {
    let ids = blocking(move || schedules.list()).await?;
    Ok(Json(ids.iter().map(RecordId::to_string).collect()))
}

async fn load(Schedules(schedules): Schedules, Id(id): Id) -> Result<impl IntoResponse, Failure> {
    let record = blocking(move || schedules.load(&id)).await?;
    Ok(([(CONTENT_TYPE, "application/json")], record))
}

async fn delete(Schedules(schedules): Schedules, Id(id): Id) -> Result<StatusCode, Failure> {
    blocking(move || schedules.delete(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn serve(args: Args) -> error::Result<()> {
    let service = Service::new(&args)?;
    let limit = usize::try_from(service.options.max_record).unwrap_or(usize::MAX);
    let routes = Router::new()
        .route("/schedules", get(list).post(create))
        .route("/schedules/{id}", get(load).delete(delete))
        .layer(DefaultBodyLimit::max(limit))
        .with_state(Arc::new(service));
    let doing = format!("listening on {}", args.listen);
    let listener = TcpListener::bind(args.listen).await.doing(doing.clone())?;
    println!("http://{}", listener.local_addr().doing(doing.clone())?);
    axum::serve(listener, routes).await.doing(doing)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    env_logger::init_from_env(env_logger::Env::new().filter("TENANTFS_LOG"));
    if let Err(error) = serve(Args::parse()).await {
        eprintln!("axum_service: {error}");
        std::process::exit(1);
    }
}
