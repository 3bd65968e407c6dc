//! Where the metrics are read: `GET /metrics`, by HTTP/1.
//!
//! Whoever may connect may be hostile, and shares a thread with the leases: a connection is for one short request and one
//! answer, and when there are many, the newest count.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::prometheus_text;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Metrics;
use crate::error::{Doing, Result};

/// How long a connection may last, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections there may be at once. One more ends the oldest: who holds connections open keeps nobody out.
const MAX_CONNECTIONS: usize = 16;

/// The longest request, in bytes: the least that the library can be told.
const MAX_REQUEST: usize = 8 << 10;

/// How long accepting rests when it fails: for want of descriptors, for example.
const REST: Duration = Duration::from_millis(100);

/// Where it is listened.
#[derive(Debug)]
pub enum Listener {
    /// On an address of this host.
    Tcp(TcpListener),
    /// On a socket with a path.
    Unix(UnixListener),
}

/// Answers whoever asks for `metrics`, for ever.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) when the listener cannot be waited for.
pub async fn serve(listener: Listener, metrics: Arc<Metrics>) -> Result<Infallible> {
    let doing = "listening for readers of the metrics";
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true).doing(doing)?;
            let listener = tokio::net::TcpListener::from_std(listener).doing(doing)?;
            accept(|| listener.accept(), &metrics).await
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true).doing(doing)?;
            let listener = tokio::net::UnixListener::from_std(listener).doing(doing)?;
            accept(|| listener.accept(), &metrics).await
        }
    }
}

async fn accept<S, A, F>(next: impl Fn() -> F, metrics: &Arc<Metrics>) -> Result<Infallible>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = std::io::Result<(S, A)>>,
{
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match next().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("accepting a reader of the metrics: {error}");
                sleep(REST).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let conversation = converse(stream, Arc::clone(metrics));
        connections.push_back(tokio::spawn(conversation).abort_handle());
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, metrics: Arc<Metrics>) {
    let service = service_fn(|request| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let conversation = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("a reader of the metrics: {error}"),
        Err(_) => log::debug!("a reader of the metrics took longer than {PATIENCE:?}"),
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let is_known = request.uri().path() == "/metrics";
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, content_type, text) = match (is_known, is_reading) {
        (true, true) => (StatusCode::OK, prometheus_text::CONTENT_TYPE, metrics.text()),
        (true, false) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        ),
        (false, _) => (StatusCode::NOT_FOUND, "text/plain", "see /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
