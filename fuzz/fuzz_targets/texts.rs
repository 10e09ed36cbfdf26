//! Texts that a node reads: a file of clients, an invitation, addresses. Whatever they are, they are refused, or what was
//! read is written as it was read.
//!
//! Run with `cargo +nightly fuzz run texts`.
#![no_main]

use folio_node::access::{Client, Clients, Vaults};
use folio_node::{MemberAddress, SignedInvitation, is_host_and_port};
use libfuzzer_sys::fuzz_target;

/// A line of a file of clients, so that what is wrong with it is not always the digest.
fn with_digests(text: &str) -> String {
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    text.replace('#', digest)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for text in [text.to_owned(), with_digests(text)] {
        if let Ok(clients) = text.parse::<Clients>() {
            let written: String = clients.iter().map(|client| format!("{client}\n")).collect();
            let again: Clients = written.parse().expect("it is as it was read");
            assert!(clients.iter().eq(again.iter()));
        }
        if let Ok(client) = text.parse::<Client>() {
            assert_eq!(client.to_string().parse(), Ok(client));
        }
    }
    if let Ok(Vaults::Some(vaults)) = text.parse() {
        assert!(!vaults.contains(&0));
    }
    let signed = format!("folio-join.{text}");
    for text in [text, &signed] {
        if let Ok(invitation) = text.parse::<SignedInvitation>() {
            let again: SignedInvitation = invitation.to_secret().parse().expect("it is whole");
            assert!(again == invitation);
        }
    }
    assert_eq!(MemberAddress::parse(text).to_string(), text);
    if is_host_and_port(text) {
        assert!(!text.contains([',', '/', ' ', '\n']));
    }
});
