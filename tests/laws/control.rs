//! The laws of the control socket, for any bytes that a client sends.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use serde_json::Value;
use tenantfs::auth::ApiKey;
use tenantfs::daemon::{Reply, Request, Requests};
use tenantfs::error::Kind;
use tokio::io::{AsyncRead, ReadBuf};

/// The longest line, in bytes, with its end.
pub(crate) const MAX_LINE: usize = 8 * ApiKey::MAX_LEN;

/// What a client sends, so many bytes at a time.
struct Client<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.at_once.min(self.rest.len()).min(buffer.remaining());
        let (now, later) = self.rest.split_at(length);
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// What becomes of each line, up to the first that is refused: the request, as the server read it.
type Outcomes = Vec<Result<String, String>>;

fn outcomes(sent: &[u8], at_once: usize) -> Outcomes {
    let mut client = Client { rest: sent, at_once };
    let mut requests = Requests::default();
    let mut outcomes = Vec::new();
    loop {
        // A client that always has its bytes ready keeps nobody waiting.
        let next = pin!(requests.next(&mut client)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(next) = next else {
            panic!("it waits for a client that waits for nothing")
        };
        match next {
            Ok(None) => return outcomes,
            Ok(Some(request)) => outcomes.push(Ok(text(&request))),
            Err(error) => {
                assert_eq!(error.kind(), Kind::InvalidArgument);
                outcomes.push(Err(error.to_string()));
                return outcomes;
            }
        }
    }
}

/// A request as this project's client would send it.
pub(crate) fn text(request: &Request) -> String {
    serde_json::to_string(request).unwrap()
}

/// A request as it is read again.
pub(crate) fn again(text: &str) -> String {
    match &outcomes(format!("{text}\n").as_bytes(), usize::MAX)[..] {
        [Ok(request)] => request.clone(),
        other => panic!("{text} is read as {other:?}"),
    }
}

/// All that must hold of what a client sends.
pub(crate) fn check_input(sent: &[u8]) {
    let outcomes_at_once = outcomes(sent, usize::MAX);
    let in_pieces = outcomes(sent, 1 + sent.len() / 5);
    assert_eq!(in_pieces, outcomes_at_once, "it does not matter how it arrives");
    let mut lines: Vec<_> = sent.split(|byte| *byte == b'\n').collect();
    // What has no end is no line.
    lines.pop();
    let refused = outcomes_at_once.iter().filter(|outcome| outcome.is_err()).count();
    assert!(outcomes_at_once.len() <= lines.len());
    assert!(
        refused == 1 || outcomes_at_once.len() == lines.len(),
        "every line has its outcome"
    );
    for (line, outcome) in lines.iter().zip(&outcomes_at_once) {
        check_line(line, outcome);
    }
    // The other way, a client reads what a server says.
    if let Ok(reply) = serde_json::from_slice::<Reply>(sent) {
        let said = serde_json::to_vec(&reply).unwrap();
        assert_eq!(serde_json::from_slice::<Reply>(&said).unwrap(), reply);
    }
}

fn check_line(line: &[u8], outcome: &Result<String, String>) {
    match outcome {
        Ok(request) => {
            assert_eq!(
                &again(request),
                request,
                "a request says the same when it is sent on"
            );
            let [written, read] = [line, request.as_bytes()].map(|text| {
                let text: Value = serde_json::from_slice(text).expect("a request is JSON");
                match text {
                    Value::Object(members) => members.keys().cloned().collect(),
                    text => vec![text.to_string()],
                }
            });
            assert_eq!(written, read, "it is what it is called");
        }
        // Nothing of what a client sends: it may be a key.
        Err(why) => assert_eq!(why, "the request is none that this daemon knows"),
    }
}

/// Whether a request is taken in a line of so many bytes, its end included.
pub(crate) fn taken_in(request: &str, length: usize) -> bool {
    let padding = " ".repeat(length - request.len() - 1);
    match &outcomes(format!("{padding}{request}\n").as_bytes(), usize::MAX)[..] {
        [Ok(read)] => read == request,
        [Err(why)] if why == "the request is too long" => false,
        other => panic!("{request} is read as {other:?}"),
    }
}
