//! Any message for the mounter, which is root where it counts: it answers, or ends, and does not panic. Here it is nobody, so
//! that no mount that somebody's bytes ask for comes about.

use std::io::{IoSlice, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::sample::Index;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, recv,
    sendmsg, shutdown, socketpair,
};

use super::kept::Edit;

/// Requests in the spelling of the server's.
const REQUESTS: [&str; 4] = [
    r#"{"Mount":{"mountpoint":[47,120],"make":false,"viewer":{"uid":1000,"gid":1000},"read_only":false,"exec":false}}"#,
    r#"{"Unmount":{"entry":{"identity":{"number":7,"device":[0,7]},"mountpoint":[47,120]},"serial":7,"made":false}}"#,
    r#"{"Adopt":[{"entry":{"identity":{"number":7,"device":[0,7]},"mountpoint":[47,255]},"serial":7,"made":false}]}"#,
    r#"{"Clear":[47,120]}"#,
];

/// What it may do: said first.
const GRANT: &str = r#"{"Sessions":{"places":[47],"read_only":false,"exec":false}}"#;

/// How a mounter ended that was sent a grant and these messages, and what it answered.
fn end_of(grant: &[u8], messages: &[Vec<u8>]) -> (Option<i32>, Vec<String>, String) {
    let (ours, theirs): (OwnedFd, OwnedFd) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut mounter = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([env!("CARGO_BIN_EXE_tenantfs"), "mounter"])
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let all = std::iter::once(grant).chain(messages.iter().map(Vec::as_slice));
    for message in all.filter(|message| !message.is_empty()) {
        // One that was sent nonsense may have ended.
        let nothing = &mut SendAncillaryBuffer::default();
        let _ = sendmsg(&ours, &[IoSlice::new(message)], nothing, SendFlags::NOSIGNAL);
    }
    shutdown(&ours, Shutdown::Write).unwrap();
    let mut said = String::new();
    mounter.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = mounter.wait().unwrap().code();
    let mut answers = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok((length @ 1.., _)) = recv(&ours, &mut buffer, RecvFlags::DONTWAIT) {
        answers.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    (code, answers, said)
}

#[test]
fn whole_requests_are_answered() {
    let requests = REQUESTS.map(|request| request.as_bytes().to_vec());
    let (code, answers, said) = end_of(GRANT.as_bytes(), &requests);
    assert_eq!(
        (code, answers.len()),
        (Some(0), 1 + REQUESTS.len()),
        "{answers:?} {said}"
    );
    assert_eq!(answers[0], r#""Welcome""#);
    assert!(answers[1].starts_with(r#"{"Failed":"#), "{answers:?}");
}

proptest! {
    #![proptest_config(super::bounded(100))]

    #[test]
    fn any_message_is_answered_or_ends_it(
        damaged in prop::collection::vec((any::<Index>(), any::<(Edit, Index, Index)>()), 1..4)
    ) {
        let messages: Vec<_> = damaged
            .iter()
            .map(|(request, (edit, at, end))| {
                let mut message = request.get(&REQUESTS).as_bytes().to_vec();
                edit.make(&mut message, REQUESTS[0].as_bytes(), at, end);
                message
            })
            .collect();
        let (code, answers, said) = end_of(GRANT.as_bytes(), &messages);
        prop_assert!(matches!(code, Some(0 | 5)), "{:?}: {}", code, said);
        prop_assert!(!said.contains("panic"), "{}", said);
        prop_assert!(answers.len() <= 1 + messages.len());
        prop_assert_eq!(code == Some(0), answers.len() == 1 + messages.iter().filter(|message| !message.is_empty()).count());
        let mounted = answers.iter().any(|answer| answer.contains("Mounted"));
        prop_assert!(!mounted, "{:?}", answers);
    }

    #[test]
    fn any_grant_is_answered_and_one_that_makes_no_sense_grants_nothing(
        (edit, at, end) in any::<(Edit, Index, Index)>()
    ) {
        let mut grant = GRANT.as_bytes().to_vec();
        edit.make(&mut grant, REQUESTS[0].as_bytes(), &at, &end);
        let (code, answers, said) = end_of(&grant, &[]);
        prop_assert_eq!(code, Some(0), "{}", said);
        prop_assert!(!said.contains("panic"), "{}", said);
        prop_assert_eq!(answers.len(), usize::from(!grant.is_empty()), "{:?}", answers);
    }
}
