//! Page tokens: places in lists that clients carry from one page to the next.
//!
//! A token is a place and a code: HMAC-SHA-256 of the list and the place, under a key that is part
//! of the replicated state, cut to 16 bytes. So it is good at every node, after restarts, and for as
//! long as the client likes; and one that was made up, or is of another list, is refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use folio_ledger::Order;
use folio_ledger::command::{Command, TokenKey};
use folio_ledger::digest::Digest;
use folio_ledger::state_key::Relationship;
use folio_raft::ReadLevel;

use super::Api;
use super::problem::Problem;

const CODE_BYTES: usize = 16;

/// The list that a place is in: its kind and everything that was asked for, but for the size of a page.
pub(super) struct List(Vec<u8>);

impl List {
    /// The vaults.
    pub(super) fn vaults() -> Self {
        List(vec![1])
    }

    /// The entities of a vault.
    pub(super) fn entities(vault: u64, prefix: &str) -> Self {
        List(vec![2]).number(vault).text(prefix.as_bytes())
    }

    /// The past of an entity.
    pub(super) fn history(vault: u64, key: &[u8]) -> Self {
        List(vec![3]).number(vault).text(key)
    }

    /// The sessions that a client has opened.
    pub(super) fn sessions(client: &str) -> Self {
        List(vec![5]).text(client.as_bytes())
    }

    /// The relationships of a vault, of a resource, relation and subject as far as they are given.
    pub(super) fn relationships(vault: u64, names: [Option<&str>; 3], order: Order) -> Self {
        let list = List(vec![4, u8::from(order == Order::Backwards)]).number(vault);
        names.into_iter().fold(list, |mut list, name| {
            list.0.push(name.is_some().into());
            list.text(name.unwrap_or_default().as_bytes())
        })
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn text(self, text: &[u8]) -> Self {
        let mut list = self.number(text.len() as u64);
        list.0.extend(text);
        list
    }

    /// The token of a place in the list.
    pub(super) fn token(&self, key: &TokenKey, place: &[u8]) -> String {
        let code = self.code(key, place);
        BASE64_URL_SAFE_NO_PAD.encode([&code[..], place].concat())
    }

    /// The place behind a token of this list.
    pub(super) fn place(&self, key: &TokenKey, token: &str) -> Option<Vec<u8>> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (code, place) = bytes.split_first_chunk::<CODE_BYTES>()?;
        // Every byte is looked at, so the time says nothing about where the difference is.
        let expected = self.code(key, place);
        let difference = code
            .iter()
            .zip(expected)
            .fold(0, |all, (a, b)| all | (a ^ b));
        (difference == 0).then(|| place.to_vec())
    }

    fn code(&self, TokenKey(key): &TokenKey, place: &[u8]) -> [u8; CODE_BYTES] {
        let length = (self.0.len() as u64).to_be_bytes();
        let Digest(code) = hmac(key, &[&length, &self.0, place]);
        let mut cut = [0; CODE_BYTES];
        cut.copy_from_slice(&code[..CODE_BYTES]);
        cut
    }
}

/// HMAC-SHA-256 (RFC 2104) with a key of up to one block.
pub(crate) fn hmac(key: &[u8], message: &[&[u8]]) -> Digest {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let (inner, outer) = (block.map(|byte| byte ^ 0x36), block.map(|byte| byte ^ 0x5c));
    let inner = Digest::of(&[&[&inner[..]], message].concat());
    Digest::of(&[&outer, inner.as_bytes()])
}

/// A place in a list of relationships. Names have no control characters but the one that a place
/// may have at the end of a name, so a line break separates them.
pub(super) fn place_of_relationship(place: &Relationship) -> Vec<u8> {
    let names = [&place.resource[..], &place.relation, &place.subject];
    names.join("\n").into_bytes()
}

/// The place of [`place_of_relationship`].
pub(super) fn relationship_of_place(place: &[u8]) -> Option<Relationship> {
    let mut names = str::from_utf8(place).ok()?.split('\n');
    let place = Relationship::new(names.next()?, names.next()?, names.next()?);
    names.next().is_none().then_some(place)
}

impl Api {
    /// The key of the ledger. The first page of a ledger's life that is not the last has the leader make one.
    pub(super) async fn token_key(&self) -> Result<TokenKey, Problem> {
        let ledger = self.node.ledger();
        let stored = |view: &_| folio_ledger::LedgerView::new(view).token_key();
        if let Some(key) = ledger.read(ReadLevel::Local, stored).await?? {
            return Ok(key);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| Problem::internal(format!("no random bytes: {error}")))?;
        let written = ledger.write(Command::set_token_key(TokenKey(key))).await?;
        let stored = ledger
            .read(ReadLevel::AtLeast(written.index), stored)
            .await??;
        stored.ok_or_else(|| Problem::internal("the ledger has no key for page tokens"))
    }

    /// The place behind the token of a request, if it has one.
    pub(super) async fn place(
        &self,
        list: &List,
        token: Option<&str>,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let Some(token) = token else {
            return Ok(None);
        };
        let place = list.place(&self.token_key().await?, token);
        let refused = || Problem::malformed("`after` is not the `next` of a page of this list");
        place.map(Some).ok_or_else(refused)
    }

    /// The token of a place, if there is one to go on from.
    pub(super) async fn token(
        &self,
        list: &List,
        place: Option<Vec<u8>>,
    ) -> Result<Option<String>, Problem> {
        Ok(match place {
            None => None,
            Some(place) => Some(list.token(&self.token_key().await?, &place)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_rfc_4231() {
        assert_eq!(
            hmac(&[0x0b; 20], &[b"Hi There"]).to_string(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]).to_string(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    fn lists() -> Vec<List> {
        let mut lists = vec![
            List::vaults(),
            List::entities(1, ""),
            List::entities(2, ""),
            List::entities(1, "a"),
            List::history(1, b""),
            List::history(1, b"a"),
            List::sessions("a"),
            List::sessions("b"),
        ];
        for order in [Order::Forwards, Order::Backwards] {
            for names in [
                [None, None, None],
                [Some("a"), None, None],
                [Some("a"), Some("b"), None],
                [Some("ab"), Some(""), None],
                [None, Some("a"), None],
                [None, None, Some("a")],
            ] {
                lists.push(List::relationships(1, names, order));
            }
        }
        lists
    }

    #[test]
    fn a_token_is_good_for_its_own_list_and_key_only() {
        let (key, other) = (TokenKey([7; 32]), TokenKey([8; 32]));
        for (number, list) in lists().iter().enumerate() {
            let token = list.token(&key, b"place");
            for (place, list) in lists().iter().enumerate() {
                let found = list.place(&key, &token);
                assert_eq!(found.is_some(), place == number, "{number} in {place}");
                assert_eq!(list.place(&other, &token), None);
            }
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place_and_no_change_of_it_is_accepted() {
        let (list, key) = (List::entities(1, "p"), TokenKey([7; 32]));
        for place in [&b""[..], b"key", b"\xff\x00\n"] {
            let token = list.token(&key, place);
            assert_eq!(list.place(&key, &token), Some(place.to_vec()));
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).expect("its own form");
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1;
                let altered = BASE64_URL_SAFE_NO_PAD.encode(altered);
                assert_eq!(list.place(&key, &altered), None, "byte {at}");
            }
        }
        for forged in ["", "%", "a", "AAAA"] {
            assert_eq!(list.place(&key, forged), None, "{forged:?}");
        }
    }

    #[test]
    fn a_relationship_is_a_place() {
        let place = Relationship::new("car:1", "owner\0", "");
        let bytes = place_of_relationship(&place);
        assert_eq!(relationship_of_place(&bytes), Some(place));
        for wrong in [&b"one\ntwo"[..], b"\xff\n\n", b"1\n2\n3\n4"] {
            assert_eq!(relationship_of_place(wrong), None);
        }
    }
}
