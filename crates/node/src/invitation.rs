//! Invitations: texts that let a node become a member of a cluster.
//!
//! An invitation says which cluster it is for, where that is reached, and when it ends, and has a code: HMAC-SHA-256 of
//! all that, under the key of the cluster that is part of its replicated state. So every member can tell whether it is
//! one of theirs, and nobody keeps a list.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use folio_ledger::command::TokenKey;
use serde::{Deserialize, Serialize};

use crate::api::hmac;

/// What an invitation begins with.
const MARK: &str = "folio-join";
/// The first bytes of what the code is of, which no page token begins with.
const DOMAIN: &[u8] = b"folio-join 1\n";
/// No invitation is longer: it names the members of one cluster.
const MAX_LENGTH: usize = 16 << 10;

/// What an invitation says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The name of the cluster.
    pub cluster: String,
    /// Where the APIs of its members are: `http://HOST:PORT` or `https://HOST:PORT`.
    pub apis: Vec<String>,
    /// Until when it is good, in seconds since the Unix epoch.
    pub until: u64,
}

/// An invitation with its code, which only the cluster can check. Whoever has it can become a member: it is written
/// in full by [`to_secret`](Self::to_secret) alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedInvitation {
    /// What it says, for whoever trusts it.
    pub invitation: Invitation,
    encoded: Vec<u8>,
    code: Vec<u8>,
}

impl fmt::Debug for SignedInvitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedInvitation")
            .field(&self.invitation)
            .finish()
    }
}

/// Why a text is no invitation, or no good one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It is not whole.
    #[error("this is no invitation to a cluster: copy all of it, from `folio-join` on")]
    Malformed,
    /// Somebody else made it, or changed it.
    #[error("the invitation is not one of this cluster")]
    Foreign,
    /// It has ended.
    #[error("the invitation has ended: `folio members invite` makes others")]
    Ended,
}

impl SignedInvitation {
    pub(crate) fn new(invitation: Invitation, key: &TokenKey) -> Result<Self, serde_json::Error> {
        let encoded = serde_json::to_vec(&invitation)?;
        let code = code(key, &encoded).to_vec();
        Ok(SignedInvitation {
            invitation,
            encoded,
            code,
        })
    }

    /// Whether it was made with this key and has not ended at `now`, in seconds since the Unix epoch.
    pub(crate) fn check(&self, key: &TokenKey, now: u64) -> Result<(), InvitationError> {
        let expected = code(key, &self.encoded);
        // Every byte is looked at, so the time says nothing about where the difference is.
        let difference = self
            .code
            .iter()
            .zip(expected)
            .fold(0, |all, (a, b)| all | (a ^ b));
        match (self.code.len() == expected.len(), difference) {
            (true, 0) if now < self.invitation.until => Ok(()),
            (true, 0) => Err(InvitationError::Ended),
            _ => Err(InvitationError::Foreign),
        }
    }

    /// The text to hand on.
    pub fn to_secret(&self) -> String {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        format!("{MARK}.{}.{}", text(&self.encoded), text(&self.code))
    }
}

impl FromStr for SignedInvitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let read = || {
            let text = text.trim();
            if text.len() > MAX_LENGTH {
                return None;
            }
            let (encoded, code) = text
                .strip_prefix(MARK)?
                .strip_prefix('.')?
                .split_once('.')?;
            let encoded = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
            Some(SignedInvitation {
                invitation: serde_json::from_slice(&encoded).ok()?,
                encoded,
                code: BASE64_URL_SAFE_NO_PAD.decode(code).ok()?,
            })
        };
        read().ok_or(InvitationError::Malformed)
    }
}

fn code(TokenKey(key): &TokenKey, encoded: &[u8]) -> [u8; 32] {
    *hmac(key, &[DOMAIN, encoded]).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TokenKey = TokenKey([7; 32]);

    fn signed() -> SignedInvitation {
        let invitation = Invitation {
            cluster: "folio".to_owned(),
            apis: vec!["http://127.0.0.1:7001".to_owned()],
            until: 1000,
        };
        SignedInvitation::new(invitation, &KEY).expect("it has a JSON form")
    }

    #[test]
    fn an_invitation_is_good_until_it_ends_and_for_its_own_cluster() {
        let text = signed().to_secret();
        let read: SignedInvitation = text.parse().expect("it is whole");
        assert_eq!(read, signed());
        assert_eq!(read.check(&KEY, 999), Ok(()));
        assert_eq!(read.check(&KEY, 1000), Err(InvitationError::Ended));
        assert_eq!(
            read.check(&TokenKey([8; 32]), 999),
            Err(InvitationError::Foreign)
        );
    }

    #[test]
    fn no_altered_invitation_is_good() {
        let text = signed().to_secret();
        for place in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("it is text");
            if let Ok(read) = other.parse::<SignedInvitation>() {
                assert_eq!(
                    read.check(&KEY, 0),
                    Err(InvitationError::Foreign),
                    "{other}"
                );
            }
        }
        for end in 0..text.len() {
            if let Ok(read) = text[..end].parse::<SignedInvitation>() {
                assert_eq!(read.check(&KEY, 0), Err(InvitationError::Foreign), "{end}");
            }
        }
        let long = format!("{MARK}.{}.", "A".repeat(MAX_LENGTH));
        assert_eq!(
            long.parse::<SignedInvitation>(),
            Err(InvitationError::Malformed)
        );
    }

    #[test]
    fn what_is_written_into_logs_does_not_let_anybody_in() {
        let signed = signed();
        let code = BASE64_URL_SAFE_NO_PAD.encode(&signed.code);
        let shown = format!("{signed:?}");
        assert!(!shown.contains(&code) && !shown.contains(&format!("{:?}", signed.code)));
    }
}
