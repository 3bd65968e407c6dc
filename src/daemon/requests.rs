//! What a client sends, taken apart into requests.

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::wire::{MAX_REQUEST, Request};
use crate::error::{Error, Kind, Result};

/// The requests of one connection.
#[derive(Debug)]
pub struct Requests {
    received: Zeroizing<Vec<u8>>,
}

impl Default for Requests {
    fn default() -> Self {
        // Room for all of it: no copy of a key is left behind by growing.
        let received = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
        Self { received }
    }
}

impl Requests {
    /// The next line that comes from `client`; none when there are no more.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when it is no request, or too long for one. What follows a line that is too long makes no
    /// sense either.
    pub async fn next(&mut self, client: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>> {
        loop {
            if let Some(length) = self.received.iter().position(|byte| *byte == b'\n') {
                let request = parse(self.received.get(..length).unwrap_or_default());
                self.received.drain(..=length);
                return request.map(Some);
            }
            let room = MAX_REQUEST - self.received.len();
            if room == 0 {
                return Err(bad_request("the request is too long"));
            }
            let mut limited = (&mut *client).take(room as u64);
            match limited.read_buf(&mut *self.received).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Request> {
    // The parser's message may quote what it found, a key for example.
    serde_json::from_slice(line).map_err(|_| bad_request("the request is none that this daemon knows"))
}

fn bad_request(why: &'static str) -> Error {
    Error::new(Kind::InvalidArgument, why)
}
